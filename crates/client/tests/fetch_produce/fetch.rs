//! A fetcher against a cluster in which things go wrong: every batch once, in order, and where that
//! cannot be kept, one partition that says exactly why it stopped.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kmirror_client::budget::Budget;
use kmirror_client::fetch::{Config, Event, Fetched, Fetcher, Position, Trouble};
use kmirror_client::{Isolation, TopicPartition};
use kmirror_fake::intercept::Action;
use kmirror_fake::{ApiKey, BatchBuilder, Cluster, Record, ResponseError};

use crate::support::{
    TOPIC, client, cluster, fetching, partition, restart, soon, until, values, versions_seen,
};

const BUDGET: usize = 8 << 20;

async fn fetcher(cluster: &Cluster, config: Config) -> Fetcher {
    Fetcher::new(client(cluster).await, config, Budget::new(BUDGET))
}

/// Writes one batch of each value.
pub(crate) fn write(cluster: &Cluster, number: i32, range: std::ops::Range<usize>) {
    for value in range {
        let record = Record::value(value.to_string());
        cluster.produce_direct(TOPIC, number, BatchBuilder::new([record])).expect("written");
    }
}

pub(crate) fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|value| value.to_string()).collect()
}

async fn fetched(fetcher: &Fetcher) -> Fetched {
    match soon("an event", fetcher.next()).await {
        Event::Fetched(fetched) => fetched,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn trouble(fetcher: &Fetcher) -> (TopicPartition, Position, Trouble) {
    soon("trouble", async {
        loop {
            if let Event::Trouble { partition, position, kind } = fetcher.next().await {
                return (partition, position, kind);
            }
        }
    })
    .await
}

/// Reads until every partition stands at its end, and checks that nothing is missing or twice.
pub(crate) async fn read(
    fetcher: &Fetcher,
    ends: BTreeMap<i32, i64>,
) -> BTreeMap<i32, Vec<String>> {
    let mut found: BTreeMap<i32, Vec<String>> = ends.keys().map(|p| (*p, Vec::new())).collect();
    let mut stands: BTreeMap<i32, i64> = BTreeMap::new();
    while ends.iter().any(|(number, end)| stands.get(number).is_none_or(|next| next < end)) {
        let fetched = fetched(fetcher).await;
        let number = fetched.partition.partition;
        if let Some(next) = stands.insert(number, fetched.next_offset) {
            assert_eq!(fetched.fetch_offset, next, "nothing is skipped or read twice");
        }
        found.get_mut(&number).expect("assigned").extend(values(&fetched.entries));
    }
    found
}

fn from_zero(fetcher: &Fetcher, count: i32) {
    fetcher.assign_all((0..count).map(|number| (partition(number), Position::at(0))));
}

#[tokio::test]
async fn partitions_are_read_in_order_from_all_brokers() {
    let cluster = cluster(6).await;
    for number in 0..6 {
        write(&cluster, number, 0..50);
    }
    let fetcher = fetcher(&cluster, fetching()).await;
    from_zero(&fetcher, 6);
    let found = read(&fetcher, (0..6).map(|number| (number, 50)).collect()).await;
    assert!(found.values().all(|found| *found == numbers(0..50)));
    for number in 0..6 {
        write(&cluster, number, 50..60);
    }
    let found = read(&fetcher, (0..6).map(|number| (number, 60)).collect()).await;
    assert!(found.values().all(|found| *found == numbers(50..60)));
}

#[tokio::test]
async fn every_fetch_version_is_understood() {
    for version in 4..=17 {
        let cluster = cluster(2).await;
        cluster.lower_max_version(ApiKey::Fetch, version);
        write(&cluster, 0, 0..10);
        write(&cluster, 1, 0..10);
        let fetcher = fetcher(&cluster, fetching()).await;
        from_zero(&fetcher, 2);
        let found = read(&fetcher, BTreeMap::from([(0, 10), (1, 10)])).await;
        assert!(found.values().all(|found| *found == numbers(0..10)), "version {version}");
        assert!(versions_seen(&cluster, ApiKey::Fetch).iter().all(|seen| *seen == version));
    }
}

#[tokio::test]
async fn an_idle_session_asks_for_nothing_again() {
    let cluster = Cluster::builder().topic(TOPIC, 50).start().await.expect("starts");
    let fetcher = fetcher(&cluster, fetching()).await;
    from_zero(&fetcher, 50);
    for _ in 0..50 {
        let fetched = fetched(&fetcher).await;
        assert_eq!((fetched.next_offset, fetched.entries.len()), (0, 0));
    }
    until("several fetches", || cluster.request_count(ApiKey::Fetch) >= 4).await;
    let sizes: Vec<usize> = cluster
        .requests()
        .iter()
        .filter(|seen| seen.api == ApiKey::Fetch)
        .map(|seen| seen.size_bytes)
        .collect();
    assert!(sizes[0] > 1000, "the first names 50 partitions: {sizes:?}");
    assert!(sizes[2..].iter().all(|size| *size < 100), "later ones name none: {sizes:?}");
}

#[tokio::test]
async fn a_session_the_broker_forgot_is_begun_anew() {
    let cluster = cluster(1).await;
    let fetcher = fetcher(&cluster, fetching()).await;
    from_zero(&fetcher, 1);
    for round in 0..5 {
        write(&cluster, 0, round..round + 1);
        let found = read(&fetcher, BTreeMap::from([(0, round as i64 + 1)])).await;
        assert_eq!(found[&0], numbers(round..round + 1));
        cluster.evict_fetch_sessions();
    }
}

/// Reads 60 batches while `action` befalls a fifth of the requests.
async fn survives(name: &str, action: Action) {
    let cluster = cluster(2).await;
    write(&cluster, 0, 0..60);
    write(&cluster, 1, 0..60);
    let chosen = action.clone();
    let _rule = cluster.intercept(ApiKey::Fetch, move |context| {
        if context.nth % 5 == 2 { chosen.clone() } else { Action::Continue }
    });
    let config = Config { fetch_bytes_max: 300, partition_bytes_max: 150, ..fetching() };
    let fetcher = fetcher(&cluster, config).await;
    from_zero(&fetcher, 2);
    let found = read(&fetcher, BTreeMap::from([(0, 60), (1, 60)])).await;
    assert!(found.values().all(|found| *found == numbers(0..60)), "{name}: {found:?}");
}

#[tokio::test]
async fn order_survives_whatever_befalls_requests() {
    let failures = [
        ("not the leader", Action::Error(ResponseError::NotLeaderOrFollower)),
        ("epoch fenced", Action::Error(ResponseError::FencedLeaderEpoch)),
        ("epoch unknown", Action::Error(ResponseError::UnknownLeaderEpoch)),
        ("offset not available", Action::Error(ResponseError::OffsetNotAvailable)),
        ("disk trouble", Action::Error(ResponseError::KafkaStorageError)),
        ("server trouble", Action::Error(ResponseError::UnknownServerError)),
        ("wrongly out of range", Action::Error(ResponseError::OffsetOutOfRange)),
        ("session unknown", Action::Error(ResponseError::FetchSessionIdNotFound)),
        ("connection lost", Action::Disconnect),
        ("answer lost", Action::HandleThenDisconnect),
        ("answer cut", Action::Truncate(30)),
        ("garbage", Action::Garbage(Bytes::from_static(b"HTTP/1.1 400 Bad Request\r\n\r\n"))),
    ];
    for (name, action) in failures {
        survives(name, action).await;
    }
}

#[tokio::test]
async fn order_survives_leaders_that_move_and_brokers_that_die() {
    let cluster = cluster(3).await;
    let fetcher = fetcher(&cluster, fetching()).await;
    from_zero(&fetcher, 3);
    for round in 0..6usize {
        let broker = 1 + (round % 3) as i32;
        for number in 0..3 {
            write(&cluster, number, round * 10..round * 10 + 10);
            cluster.move_leader(TOPIC, number, broker).expect("moves");
        }
        let end = (round as i64 + 1) * 10;
        let found = read(&fetcher, (0..3).map(|number| (number, end)).collect()).await;
        let expected = numbers(round * 10..round * 10 + 10);
        assert!(found.values().all(|found| *found == expected), "round {round}: {found:?}");
        restart(&cluster, broker).await;
    }
    assert!(cluster.request_count(ApiKey::OffsetForLeaderEpoch) > 0, "new leaders are asked");
}

#[tokio::test]
async fn a_new_leader_that_lacks_what_was_read_stops_the_partition() {
    let cluster = cluster(2).await;
    write(&cluster, 0, 0..10);
    write(&cluster, 1, 0..10);
    let fetcher = fetcher(&cluster, fetching()).await;
    from_zero(&fetcher, 2);
    read(&fetcher, BTreeMap::from([(0, 10), (1, 10)])).await;
    cluster.truncate(TOPIC, 0, 6).expect("cut");
    write(&cluster, 0, 100..110);
    let (stopped, position, kind) = trouble(&fetcher).await;
    assert_eq!((stopped, position.next_offset), (partition(0), 10));
    assert_eq!(kind, Trouble::Truncated { end_offset: 6, leader_epoch: 0 });
    write(&cluster, 1, 10..12);
    let found = read(&fetcher, BTreeMap::from([(1, 12)])).await;
    assert_eq!(found[&1], numbers(10..12), "the other goes on");
    fetcher.assign(&partition(0), Position::at(6));
    let found = read(&fetcher, BTreeMap::from([(0, 16)])).await;
    assert_eq!(found[&0], numbers(100..110));
}

#[tokio::test]
async fn what_retention_deleted_is_told_exactly() {
    let cluster = cluster(2).await;
    write(&cluster, 0, 0..20);
    write(&cluster, 1, 0..3);
    cluster.delete_records(TOPIC, 0, 7).expect("deleted");
    let fetcher = fetcher(&cluster, fetching()).await;
    fetcher.assign(&partition(0), Position::at(2));
    fetcher.assign(&partition(1), Position::at(0));
    let (stopped, position, kind) = trouble(&fetcher).await;
    assert_eq!((stopped, position.next_offset), (partition(0), 2));
    assert_eq!(kind, Trouble::OutOfRange { log_start_offset: 7, log_end_offset: 20 });
    fetcher.assign(&partition(0), Position::at(7));
    let found = read(&fetcher, BTreeMap::from([(0, 20)])).await;
    assert_eq!(found[&0], numbers(7..20));
}

#[tokio::test]
async fn a_position_after_the_end_is_told() {
    let cluster = cluster(1).await;
    write(&cluster, 0, 0..5);
    let fetcher = fetcher(&cluster, fetching()).await;
    fetcher.assign(&partition(0), Position::at(9));
    let (_, _, kind) = trouble(&fetcher).await;
    assert_eq!(kind, Trouble::OutOfRange { log_start_offset: 0, log_end_offset: 5 });
}

#[tokio::test]
async fn a_topic_created_anew_is_not_read_as_if_it_were_the_old_one() {
    let cluster = cluster(1).await;
    write(&cluster, 0, 0..5);
    let fetcher = fetcher(&cluster, fetching()).await;
    from_zero(&fetcher, 1);
    read(&fetcher, BTreeMap::from([(0, 5)])).await;
    cluster.delete_topic(TOPIC).expect("deleted");
    cluster.create_topic(TOPIC, 1);
    write(&cluster, 0, 100..110);
    let (_, position, kind) = trouble(&fetcher).await;
    assert_eq!(position.next_offset, 5);
    assert!(matches!(kind, Trouble::Recreated { .. }), "{kind:?}");
}

#[tokio::test]
async fn a_topic_that_is_gone_is_told_and_others_go_on() {
    let cluster = cluster(1).await;
    cluster.create_topic("gone", 1);
    write(&cluster, 0, 0..1);
    let config = Config { missing_after: Duration::from_millis(300), ..fetching() };
    let fetcher = fetcher(&cluster, config).await;
    let gone = TopicPartition::new("gone", 0);
    fetcher.assign_all([(gone.clone(), Position::at(0)), (partition(0), Position::at(0))]);
    read(&fetcher, BTreeMap::from([(0, 1)])).await;
    cluster.delete_topic("gone").expect("deleted");
    let (stopped, _, kind) = trouble(&fetcher).await;
    assert_eq!((stopped, kind), (gone, Trouble::Missing));
    write(&cluster, 0, 1..2);
    let found = read(&fetcher, BTreeMap::from([(0, 2)])).await;
    assert_eq!(found[&0], numbers(1..2));
}

#[tokio::test]
async fn a_damaged_batch_is_fetched_again_and_then_stops_its_partition_alone() {
    let cluster = cluster(2).await;
    write(&cluster, 0, 0..3);
    let mut damaged = BatchBuilder::new([Record::value("damaged")]).build(1).to_vec();
    *damaged.last_mut().expect("not empty") ^= 1;
    cluster.append_unchecked(TOPIC, 0, &Bytes::from(damaged)).expect("appended");
    write(&cluster, 1, 0..3);
    let fetcher = fetcher(&cluster, fetching()).await;
    from_zero(&fetcher, 2);
    let (stopped, position, kind) = trouble(&fetcher).await;
    assert_eq!((stopped, position.next_offset), (partition(0), 3));
    assert!(matches!(kind, Trouble::Corrupt { source: Some(_) }), "{kind:?}");
    write(&cluster, 1, 3..5);
    soon("the other", async {
        while fetcher.position(&partition(1)).map(|position| position.next_offset) != Some(5) {
            fetcher.next().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_topic_that_may_not_be_read_is_told() {
    let cluster = cluster(1).await;
    let _rule = cluster
        .intercept(ApiKey::Fetch, |_| Action::Error(ResponseError::TopicAuthorizationFailed));
    let fetcher = fetcher(&cluster, fetching()).await;
    from_zero(&fetcher, 1);
    let (_, _, kind) = trouble(&fetcher).await;
    assert_eq!(kind, Trouble::Unauthorized);
}

/// A batch of a transaction.
fn transactional(id: i64, sequence: i32, value: &str) -> BatchBuilder {
    BatchBuilder::new([Record::value(value.to_owned())])
        .with_producer(id, 0, sequence)
        .with_transactional()
}

/// The control batch that ends a transaction.
fn marker(id: i64, commits: bool) -> Bytes {
    const CONTROL: i16 = 0b11_0000;
    let kind = u8::from(commits);
    let record = Record::new(vec![0, 0, 0, kind], vec![0, 0, 0, 0, 0, 0]);
    BatchBuilder::new([record]).with_producer(id, 0, -1).with_attributes(CONTROL).build(1)
}

#[tokio::test]
async fn control_batches_are_left_out_and_passed() {
    let cluster = cluster(1).await;
    write(&cluster, 0, 0..2);
    cluster.append_unchecked(TOPIC, 0, &transactional(7, 0, "taken").build(1)).expect("appended");
    cluster.append_unchecked(TOPIC, 0, &marker(7, true)).expect("appended");
    for isolation in [Isolation::ReadCommitted, Isolation::ReadUncommitted] {
        let fetcher = fetcher(&cluster, Config { isolation, ..fetching() }).await;
        from_zero(&fetcher, 1);
        let end = cluster.offsets(TOPIC, 0).expect("known").next;
        let found = read(&fetcher, BTreeMap::from([(0, end)])).await;
        assert_eq!(found[&0], ["0", "1", "taken"], "{isolation:?}");
    }
}

#[tokio::test]
async fn one_batch_larger_than_the_budget_passes() {
    let cluster = cluster(1).await;
    let value = "x".repeat(500_000);
    for _ in 0..3 {
        let record = Record::value(value.clone());
        cluster.produce_direct(TOPIC, 0, BatchBuilder::new([record])).expect("written");
    }
    let budget = Budget::new(100_000);
    let config = Config { fetch_bytes_max: 50_000, partition_bytes_max: 20_000, ..fetching() };
    let fetcher = Fetcher::new(client(&cluster).await, config, budget.clone());
    from_zero(&fetcher, 1);
    let mut read = 0;
    while read < 3 {
        let fetched = fetched(&fetcher).await;
        for found in values(&fetched.entries) {
            assert_eq!(found.len(), value.len());
            read += 1;
        }
        assert!(budget.used() >= fetched.lease.bytes());
    }
    drop(fetcher);
    until("all memory is given back", || budget.used() == 0).await;
}

#[tokio::test]
async fn memory_stays_within_the_budget_whatever_the_number_of_partitions() {
    let cluster = cluster(30).await;
    let value = "x".repeat(5_000);
    for number in 0..30 {
        for _ in 0..20 {
            let record = Record::value(value.clone());
            cluster.produce_direct(TOPIC, number, BatchBuilder::new([record])).expect("written");
        }
    }
    let budget = Budget::new(120_000);
    let config = Config { fetch_bytes_max: 60_000, partition_bytes_max: 30_000, ..fetching() };
    let fetcher = Fetcher::new(client(&cluster).await, config, budget.clone());
    from_zero(&fetcher, 30);
    // Somebody else is done with it a little later.
    let (held, mut done) = tokio::sync::mpsc::channel(1000);
    let releasing = kmirror_client::task::spawn("release", async move {
        while let Some(lease) = done.recv().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
            drop(lease);
        }
    });
    let mut records = 0;
    while records < 600 {
        let fetched = fetched(&fetcher).await;
        records += values(&fetched.entries).len();
        held.send(fetched.lease).await.expect("taken");
    }
    drop(releasing);
    assert!(budget.peak() <= budget.limit(), "{} of {}", budget.peak(), budget.limit());
}

#[tokio::test]
async fn a_partition_whose_data_nobody_frees_does_not_keep_the_memory_of_the_others() {
    let cluster = Cluster::builder().topic(TOPIC, 20).start().await.expect("starts");
    let value = "x".repeat(1_000);
    for number in 0..20 {
        for _ in 0..200 {
            let record = Record::value(value.clone());
            cluster.produce_direct(TOPIC, number, BatchBuilder::new([record])).expect("written");
        }
    }
    let budget = Budget::new(200_000);
    let config = Config { fetch_bytes_max: 40_000, partition_bytes_max: 2_000, ..fetching() };
    let fetcher = Fetcher::new(client(&cluster).await, config, budget);
    from_zero(&fetcher, 20);
    let (mut stuck, mut records) = (Vec::new(), 0);
    while records < 19 * 200 {
        let fetched = fetched(&fetcher).await;
        if fetched.partition == partition(0) {
            stuck.push(fetched);
        } else {
            records += values(&fetched.entries).len();
        }
    }
    let count = |stuck: &[Fetched]| stuck.iter().map(|f| values(&f.entries).len()).sum::<usize>();
    let mut found = count(&stuck);
    assert!(found < 200, "the stuck one has not been read on");
    stuck.clear();
    while found < 200 {
        found += values(&fetched(&fetcher).await.entries).len();
    }
}

#[tokio::test]
async fn only_fetchers_that_read_share_the_memory() {
    let cluster = cluster(2).await;
    let (client, budget) = (client(&cluster).await, Budget::new(1 << 20));
    let fetcher = || Fetcher::new(client.clone(), fetching(), budget.clone());
    let fetchers = [fetcher(), fetcher()];
    let parts = |count: usize| {
        let budget = budget.clone();
        until("the parts are told", move || budget.part_bytes() == (1 << 20) / count)
    };
    fetchers[0].assign(&partition(0), Position::at(0));
    parts(1).await;
    fetchers[1].assign(&partition(1), Position::at(0));
    parts(2).await;
    fetchers[0].remove(&partition(0));
    parts(1).await;
}

#[tokio::test]
async fn nothing_more_is_fetched_while_nobody_takes_what_there_is() {
    let cluster = cluster(1).await;
    let value = "x".repeat(10_000);
    for _ in 0..100 {
        let record = Record::value(value.clone());
        cluster.produce_direct(TOPIC, 0, BatchBuilder::new([record])).expect("written");
    }
    let budget = Budget::new(10 << 20);
    let config = Config { fetch_bytes_max: 50_000, partition_bytes_max: 50_000, ..fetching() };
    let fetcher = Fetcher::new(client(&cluster).await, config, budget.clone());
    from_zero(&fetcher, 1);
    until("something waits", || budget.used() >= 50_000).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(budget.used() <= 100_000, "{} bytes wait", budget.used());
    let found = read(&fetcher, BTreeMap::from([(0, 100)])).await;
    assert_eq!(found[&0].len(), 100);
}

#[tokio::test]
async fn a_paused_partition_waits_and_goes_on_where_it_stood() {
    let cluster = cluster(2).await;
    write(&cluster, 0, 0..5);
    write(&cluster, 1, 0..5);
    let fetcher = fetcher(&cluster, fetching()).await;
    from_zero(&fetcher, 2);
    fetcher.pause(&partition(0));
    let found = read(&fetcher, BTreeMap::from([(1, 5)])).await;
    assert_eq!(found[&1].len(), 5);
    let position = fetcher.position(&partition(0)).expect("assigned");
    assert_eq!(position.next_offset, 0);
    fetcher.resume(&partition(0));
    let found = read(&fetcher, BTreeMap::from([(0, 5)])).await;
    assert_eq!(found[&0], numbers(0..5));
}

#[tokio::test]
async fn what_was_fetched_under_an_older_assignment_is_dropped() {
    let cluster = cluster(2).await;
    write(&cluster, 0, 0..10);
    write(&cluster, 1, 0..1);
    let budget = Budget::new(BUDGET);
    let fetcher = Fetcher::new(client(&cluster).await, fetching(), budget.clone());
    fetcher.assign(&partition(0), Position::at(0));
    let end = || fetcher.position(&partition(0)).map(|position| position.next_offset);
    until("the first fetch", || end() == Some(10)).await;
    fetcher.assign(&partition(0), Position::at(4));
    let found = read(&fetcher, BTreeMap::from([(0, 10)])).await;
    assert_eq!(found[&0], numbers(4..10));
    fetcher.remove(&partition(0));
    fetcher.assign(&partition(1), Position::at(0));
    write(&cluster, 0, 10..20);
    let found = read(&fetcher, BTreeMap::from([(1, 1)])).await;
    assert_eq!(found[&1], numbers(0..1));
}

#[tokio::test]
async fn waiting_for_an_event_may_be_given_up_at_any_time() {
    let cluster = cluster(1).await;
    let fetcher = fetcher(&cluster, fetching()).await;
    from_zero(&fetcher, 1);
    write(&cluster, 0, 0..30);
    let mut found = Vec::new();
    soon("all values", async {
        while found.len() < 30 {
            let waited = tokio::time::timeout(Duration::from_micros(50), fetcher.next()).await;
            if let Ok(Event::Fetched(fetched)) = waited {
                found.extend(values(&fetched.entries));
            }
        }
    })
    .await;
    assert_eq!(found, numbers(0..30));
}
