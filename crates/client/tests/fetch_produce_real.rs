//! Producing and fetching against a real broker: what goes in comes out, bit for bit, and what a
//! real broker refuses, forgets or deletes is told as it should be.
//!
//! They need KMIRROR_SOURCE (a bootstrap server of a one-broker cluster) and KMIRROR_JARS (Kafka's
//! jars) and are run by `cargo xtask test brokers`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest, ProduceRequest, ProducerId,
    TopicName, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use kmirror_client::admin::{Admin, At, NewTopic};
use kmirror_client::batch::rebuild::Builder;
use kmirror_client::batch::{Codec, Compressor, Decompressor, Entry, Outgoing, Record, Stamp};
use kmirror_client::budget::Budget;
use kmirror_client::fetch::{self, Event, Fetcher, Position, Trouble};
use kmirror_client::produce::{self, BatchProducer, Decision, Rejection};
use kmirror_client::{Broker, Client, Config, ErrorCode, Isolation, Lane, TopicPartition, clock};

const DEADLINE: Duration = Duration::from_secs(60);

async fn client() -> Client {
    let bootstrap = std::env::var("KMIRROR_SOURCE").expect("KMIRROR_SOURCE names a broker");
    let config = Config::new(&bootstrap).expect("KMIRROR_SOURCE is host:port");
    let config = config.with_metadata_age_max(Duration::from_secs(1));
    Client::connect(config).await.expect("the broker answers")
}

/// A name no other test or run uses.
fn unique(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{name}-{}-{count}-{}", std::process::id(), clock::unix_ms())
}

async fn create(client: &Client, topic: NewTopic) -> Arc<str> {
    let name = Arc::clone(&topic.name);
    let created = Admin::new(client.clone()).create_topics(&[topic]).await.expect("asked");
    created[&name].clone().expect("created");
    name
}

fn new_topic(name: &str, partitions: i32) -> NewTopic {
    NewTopic::new(unique(name)).with_partitions(partitions).with_replication_factor(1)
}

fn batch(codec: Codec, values: &[String]) -> Outgoing {
    let mut builder = Builder::new(codec);
    for value in values {
        let record = Record::new(Some(b"key"), Some(value.as_bytes()));
        builder.push(&record.with_timestamp(clock::unix_ms())).expect("fits");
    }
    builder.finish(&mut Compressor::default()).expect("builds")
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} takes too long"),
    }
}

fn fetcher(client: &Client, isolation: Isolation) -> Fetcher {
    let config = fetch::Config { isolation, ..fetch::Config::default() };
    Fetcher::new(client.clone(), config, Budget::new(64 << 20))
}

/// Reads partitions until they stand at these offsets.
async fn read(fetcher: &Fetcher, ends: &BTreeMap<i32, i64>) -> BTreeMap<i32, Vec<Entry>> {
    let mut found: BTreeMap<i32, Vec<Entry>> = ends.keys().map(|p| (*p, Vec::new())).collect();
    let mut stands: BTreeMap<i32, i64> = BTreeMap::new();
    while ends.iter().any(|(number, end)| stands.get(number).is_none_or(|next| next < end)) {
        match soon("an event", fetcher.next()).await {
            Event::Fetched(fetched) => {
                let number = fetched.partition.partition;
                if let Some(next) = stands.insert(number, fetched.next_offset) {
                    assert_eq!(fetched.fetch_offset, next);
                }
                found.get_mut(&number).expect("assigned").extend(fetched.entries);
            }
            other => panic!("{other:?}"),
        }
    }
    found
}

async fn trouble(fetcher: &Fetcher) -> Trouble {
    soon("trouble", async {
        loop {
            if let Event::Trouble { kind, .. } = fetcher.next().await {
                return kind;
            }
        }
    })
    .await
}

fn values(entries: &[Entry]) -> Vec<String> {
    let mut decompressor = Decompressor::new(64 << 20);
    let mut values = Vec::new();
    let text =
        |value: Option<&[u8]>| String::from_utf8(value.unwrap_or_default().to_vec()).expect("text");
    for entry in entries {
        match entry {
            Entry::Batch(batch) => {
                let records = batch.records(&mut decompressor).expect("readable");
                values.extend(records.map(|record| text(record.expect("readable").value)));
            }
            Entry::Legacy(set) => {
                let records = set.records(&mut decompressor).expect("readable");
                values.extend(records.map(|record| text(record.expect("readable").value)));
            }
        }
    }
    values
}

/// Writes lines with Kafka's own console producer.
fn write_with_java(topic: &str, codec: &str, lines: &[String]) {
    let jars = std::env::var("KMIRROR_JARS").expect("KMIRROR_JARS names Kafka's jars");
    let bootstrap = std::env::var("KMIRROR_SOURCE").expect("KMIRROR_SOURCE names a broker");
    let mut child = Command::new("java")
        .args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"])
        .arg(PathBuf::from(jars).join("*"))
        .arg("kafka.tools.ConsoleProducer")
        .args(["--bootstrap-server", &bootstrap, "--topic", topic])
        .args(["--compression-codec", codec, "--producer-property", "enable.idempotence=false"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("java runs");
    let mut input = child.stdin.take().expect("invariant: standard input is piped");
    input.write_all(lines.join("\n").as_bytes()).expect("java reads");
    drop(input);
    assert!(child.wait().expect("java ends").success());
}

/// On brokers before 0.11 this reads the formats they had, by the versions of Fetch they have.
#[tokio::test]
#[ignore = "needs a broker: KMIRROR_SOURCE and KMIRROR_JARS"]
async fn what_java_wrote_is_read() {
    let client = client().await;
    for codec in ["none", "gzip", "snappy", "lz4"] {
        let topic = unique("java");
        let lines: Vec<String> = (0..500).map(|n| format!("{codec}-{n}")).collect();
        write_with_java(&topic, codec, &lines);
        let partition = TopicPartition::new(topic, 0);
        let config = fetch::Config { partition_bytes_max: 300, ..fetch::Config::default() };
        let fetcher = Fetcher::new(client.clone(), config, Budget::new(64 << 20));
        fetcher.assign(&partition, Position::at(0));
        let found = read(&fetcher, &BTreeMap::from([(0, 500)])).await;
        assert_eq!(values(&found[&0]), lines, "{codec}");
        let admin = Admin::new(client.clone());
        for (at, expected) in [(At::Earliest, 0), (At::Latest, 500), (At::Time(0), 0)] {
            let wanted = BTreeMap::from([(partition.clone(), at)]);
            let listed = admin.list_offsets(&wanted, Isolation::ReadUncommitted).await;
            let found = listed.expect("asked")[&partition].clone().expect("known");
            assert_eq!(found.offset, Some(expected), "{at:?}");
        }
        fetcher.assign(&partition, Position::at(1_000));
        let expected = Trouble::OutOfRange { log_start_offset: 0, log_end_offset: 500 };
        assert_eq!(trouble(&fetcher).await, expected);
    }
}

#[tokio::test]
#[ignore = "needs a broker: KMIRROR_SOURCE"]
async fn what_is_produced_is_fetched_back_bit_for_bit() {
    let client = client().await;
    let producer =
        BatchProducer::try_new(client.clone(), produce::Config::default()).expect("sound");
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4] {
        let topic = create(&client, new_topic("bits", 3)).await;
        let mut sent: BTreeMap<i32, Vec<Bytes>> = BTreeMap::new();
        let mut deliveries = Vec::new();
        for round in 0..120 {
            let number = round % 3;
            let texts: Vec<String> = (0..20).map(|n| format!("{round}-{n}")).collect();
            let batch = batch(codec, &texts);
            sent.entry(number).or_default().push(batch.payload().clone());
            let partition = TopicPartition::new(Arc::clone(&topic), number);
            deliveries.push(producer.send(&partition, batch).await);
        }
        for delivery in deliveries {
            let acked = soon("a delivery", delivery).await.expect("written");
            assert_eq!(acked.base_offset.map(|offset| offset % 20), Some(0));
        }
        let fetcher = fetcher(&client, Isolation::ReadCommitted);
        fetcher.assign_all(
            (0..3).map(|number| (TopicPartition::new(Arc::clone(&topic), number), Position::at(0))),
        );
        let found = read(&fetcher, &(0..3).map(|number| (number, 800)).collect()).await;
        for (number, entries) in found {
            let payloads: Vec<Bytes> = entries
                .iter()
                .map(|entry| match entry {
                    Entry::Batch(batch) => batch.payload(),
                    Entry::Legacy(_) => panic!("an old message set"),
                })
                .collect();
            assert_eq!(payloads, sent[&number], "{codec:?} partition {number}");
        }
    }
}

#[tokio::test]
#[ignore = "needs a broker: KMIRROR_SOURCE"]
async fn a_burst_into_a_topic_just_created_loses_nothing() {
    let client = client().await;
    let producer =
        BatchProducer::try_new(client.clone(), produce::Config::default()).expect("sound");
    for _ in 0..10 {
        let topic = create(&client, new_topic("burst", 2)).await;
        let mut deliveries = Vec::new();
        for round in 0..40 {
            let partition = TopicPartition::new(Arc::clone(&topic), round % 2);
            let batch = batch(Codec::None, &[(round / 2).to_string()]);
            deliveries.push(producer.send(&partition, batch).await);
        }
        for (round, delivery) in deliveries.into_iter().enumerate() {
            let acked = soon("a delivery", delivery).await.expect("written");
            assert_eq!(acked.base_offset, i64::try_from(round / 2).ok());
        }
    }
}

#[tokio::test]
#[ignore = "needs a broker: KMIRROR_SOURCE"]
async fn a_batch_the_broker_finds_too_large_is_replaced_in_its_place() {
    let client = client().await;
    let topic = new_topic("large", 1).with_config("max.message.bytes", "2000");
    let topic = create(&client, topic).await;
    let partition = TopicPartition::new(topic, 0);
    let halves = |_: &TopicPartition, _: &Outgoing, rejection: &Rejection| {
        assert_eq!(rejection.code, ErrorCode::MESSAGE_TOO_LARGE);
        let half = |name: &str| batch(Codec::None, &[name.to_owned()]);
        Decision::Replace(vec![half("1a"), half("1b")])
    };
    let config = produce::Config { on_rejected: Arc::new(halves), ..produce::Config::default() };
    let producer = BatchProducer::try_new(client.clone(), config).expect("sound");
    let mut deliveries = Vec::new();
    for value in ["0".to_owned(), "x".repeat(5000), "2".to_owned(), "3".to_owned()] {
        deliveries.push(producer.send(&partition, batch(Codec::None, &[value])).await);
    }
    let mut offsets = Vec::new();
    for delivery in deliveries {
        offsets.push(soon("a delivery", delivery).await.expect("written").base_offset);
    }
    assert_eq!(offsets, [Some(0), Some(1), Some(3), Some(4)]);
    let fetcher = fetcher(&client, Isolation::ReadCommitted);
    fetcher.assign(&partition, Position::at(0));
    let found = read(&fetcher, &BTreeMap::from([(0, 5)])).await;
    assert_eq!(values(&found[&0]), ["0", "1a", "1b", "2", "3"]);
}

#[tokio::test]
#[ignore = "needs a broker: KMIRROR_SOURCE"]
async fn what_was_deleted_is_told_with_both_ends_of_the_log() {
    let client = client().await;
    let topic = create(&client, new_topic("deleted", 1)).await;
    let partition = TopicPartition::new(topic, 0);
    let producer =
        BatchProducer::try_new(client.clone(), produce::Config::default()).expect("sound");
    for value in 0..10 {
        let delivery = producer.send(&partition, batch(Codec::None, &[value.to_string()])).await;
        soon("a delivery", delivery).await.expect("written");
    }
    let before = BTreeMap::from([(partition.clone(), 6)]);
    let deleted = Admin::new(client.clone()).delete_records(&before).await.expect("asked");
    deleted[&partition].clone().expect("deleted");
    let fetcher = fetcher(&client, Isolation::ReadCommitted);
    fetcher.assign(&partition, Position::at(2));
    let expected = Trouble::OutOfRange { log_start_offset: 6, log_end_offset: 10 };
    assert_eq!(trouble(&fetcher).await, expected);
    fetcher.assign(&partition, Position::at(6));
    let found = read(&fetcher, &BTreeMap::from([(0, 10)])).await;
    assert_eq!(values(&found[&0]), ["6", "7", "8", "9"]);
}

/// A transactional producer of one request at a time.
struct Transactional {
    broker: Broker,
    id: TransactionalId,
    producer_id: ProducerId,
    epoch: i16,
    sequence: i32,
}

impl Transactional {
    async fn begin(client: &Client) -> Self {
        let id = TransactionalId(StrBytes::from_string(unique("t")));
        let broker = client.any_broker().await.expect("reachable");
        let request = || {
            InitProducerIdRequest::default()
                .with_transactional_id(Some(id.clone()))
                .with_transaction_timeout_ms(60_000)
        };
        let identity = soon("a producer id", async {
            loop {
                // The coordinator may be loading or not be there yet.
                let find = kafka_protocol::messages::FindCoordinatorRequest::default()
                    .with_key(id.0.clone())
                    .with_key_type(1);
                broker.call(Lane::Control, 1..=3, |_| find).await.expect("answered");
                let answer = broker.call(Lane::Control, 0..=3, |_| request()).await;
                let answer = answer.expect("answered").body;
                if answer.error_code == 0 {
                    return answer;
                }
                clock::sleep(Duration::from_millis(100)).await;
            }
        })
        .await;
        let (producer_id, epoch) = (identity.producer_id, identity.producer_epoch);
        Self { broker, id, producer_id, epoch, sequence: 0 }
    }

    async fn send(&mut self, partition: &TopicPartition, value: &str) {
        let topic = TopicName(StrBytes::from_string(partition.topic.to_string()));
        let added = AddPartitionsToTxnTopic::default()
            .with_name(topic.clone())
            .with_partitions(vec![partition.partition]);
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(self.id.clone())
            .with_v3_and_below_producer_id(self.producer_id)
            .with_v3_and_below_producer_epoch(self.epoch)
            .with_v3_and_below_topics(vec![added]);
        soon("adding", async {
            loop {
                let answer = self.broker.call(Lane::Control, 0..=3, |_| request.clone()).await;
                let answer = answer.expect("answered").body;
                let result = &answer.results_by_topic_v3_and_below[0].results_by_partition[0];
                if result.partition_error_code == 0 {
                    return;
                }
                // An earlier transaction may still be ending.
                clock::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        let batch = batch(Codec::None, &[value.to_owned()]);
        let stamp = Stamp {
            producer_id: self.producer_id.0,
            producer_epoch: self.epoch,
            base_sequence: self.sequence,
            is_transactional: true,
        };
        self.sequence += 1;
        let mut records = BytesMut::from(&batch.stamped(stamp)[..]);
        records.extend_from_slice(batch.payload());
        let data = PartitionProduceData::default()
            .with_index(partition.partition)
            .with_records(Some(records.freeze()));
        let topic = TopicProduceData::default().with_name(topic).with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_transactional_id(Some(self.id.clone()))
            .with_acks(-1)
            .with_timeout_ms(30_000)
            .with_topic_data(vec![topic]);
        let answer = self.broker.call(Lane::Control, 3..=9, |_| request).await;
        let answer = answer.expect("answered").body;
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    }

    async fn end(&self, commits: bool) {
        let request = EndTxnRequest::default()
            .with_transactional_id(self.id.clone())
            .with_producer_id(self.producer_id)
            .with_producer_epoch(self.epoch)
            .with_committed(commits);
        let answer = self.broker.call(Lane::Control, 0..=3, |_| request).await;
        assert_eq!(answer.expect("answered").body.error_code, 0);
    }
}

/// Waits until no transaction is open: markers are written after the end of one is acknowledged.
async fn decided(client: &Client, partition: &TopicPartition) {
    let admin = Admin::new(client.clone());
    let latest = BTreeMap::from([(partition.clone(), At::Latest)]);
    let end = async |isolation| {
        let listed = admin.list_offsets(&latest, isolation).await.expect("asked");
        listed[partition].clone().expect("known").offset
    };
    soon("the markers", async {
        while end(Isolation::ReadCommitted).await != end(Isolation::ReadUncommitted).await {
            clock::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a broker: KMIRROR_SOURCE"]
async fn only_committed_records_are_read_and_open_ones_are_waited_for() {
    let client = client().await;
    let topic = create(&client, new_topic("transactions", 1)).await;
    let partition = TopicPartition::new(topic, 0);
    let mut first = Transactional::begin(&client).await;
    let mut second = Transactional::begin(&client).await;
    for round in 0..6 {
        first.send(&partition, &format!("first-{round}")).await;
        second.send(&partition, &format!("second-{round}")).await;
        first.end(round % 2 == 0).await;
        second.end(round % 3 == 0).await;
        decided(&client, &partition).await;
    }
    first.send(&partition, "open").await;
    let reader = fetcher(&client, Isolation::ReadCommitted);
    reader.assign(&partition, Position::at(0));
    // Six rounds of two records and two markers; the open transaction begins after them.
    let found = read(&reader, &BTreeMap::from([(0, 24)])).await;
    let committed = ["first-0", "second-0", "first-2", "second-3", "first-4"];
    assert_eq!(values(&found[&0]), committed);
    let everything = fetcher(&client, Isolation::ReadUncommitted);
    everything.assign(&partition, Position::at(0));
    let found = read(&everything, &BTreeMap::from([(0, 25)])).await;
    assert_eq!(values(&found[&0]).len(), 13);
    first.end(true).await;
    let found = read(&reader, &BTreeMap::from([(0, 26)])).await;
    assert_eq!(values(&found[&0]), ["open"]);
}

#[tokio::test]
#[ignore = "needs a broker: KMIRROR_SOURCE"]
async fn a_topic_made_anew_is_told() {
    // While it is read, and while it is not.
    for is_paused in [false, true] {
        let client = client().await;
        let topic = create(&client, new_topic("anew", 1)).await;
        let partition = TopicPartition::new(Arc::clone(&topic), 0);
        write(&client, &partition, "old", 3).await;
        let fetcher = fetcher(&client, Isolation::ReadCommitted);
        fetcher.assign(&partition, Position::at(0));
        read(&fetcher, &BTreeMap::from([(0, 3)])).await;
        let has_ids = client.view().topic(&topic).is_some_and(|topic| topic.id.is_some());
        if is_paused {
            fetcher.pause(&partition);
        }
        make_anew(&client, &topic).await;
        write(&client, &partition, "new", 10).await;
        fetcher.resume(&partition);
        // Without ids by its records, or because it ends before the position.
        match trouble(&fetcher).await {
            Trouble::Recreated { before, .. } => assert_eq!(before.is_some(), has_ids),
            other => panic!("{other:?}"),
        }
        fetcher.assign(&partition, Position::at(0));
        let found = read(&fetcher, &BTreeMap::from([(0, 10)])).await;
        assert_eq!(values(&found[&0]).len(), 10, "all of the new one");
    }
}

/// Writes so many batches of one record.
async fn write(client: &Client, partition: &TopicPartition, value: &str, count: usize) {
    let producer =
        BatchProducer::try_new(client.clone(), produce::Config::default()).expect("sound");
    for _ in 0..count {
        let delivery = producer.send(partition, batch(Codec::None, &[value.to_owned()])).await;
        soon("a delivery", delivery).await.expect("written");
    }
}

/// Deletes a topic and creates it again.
async fn make_anew(client: &Client, topic: &Arc<str>) {
    let admin = Admin::new(client.clone());
    let deleted = admin.delete_topics(std::slice::from_ref(topic)).await.expect("asked");
    deleted[topic].clone().expect("deleted");
    soon("making it anew", async {
        loop {
            let again = NewTopic::new(Arc::clone(topic)).with_partitions(1);
            let again = [again.with_replication_factor(1)];
            let created = admin.create_topics(&again).await.expect("asked");
            if created[topic].is_ok() {
                return;
            }
            // It is still being deleted.
            clock::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
}
