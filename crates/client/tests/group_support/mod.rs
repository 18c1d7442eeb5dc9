//! What the group tests against real brokers share: topics, other members, what the coordinator
//! says.
//!
//! Everything waits with a deadline and says what it waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::{
    ConsumerProtocolAssignment, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest,
    DescribeGroupsRequest, GroupId, TopicName,
};
use kafka_protocol::protocol::{Decodable, StrBytes};
use kmirror_client::group::{self, Assignor, Committer, Event, Membership};
use kmirror_client::{Client, Config, Error, ErrorCode, Lane, TopicPartition, clock};

/// How long anything may take. A dynamic member that died is waited for for 10 s.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The brokers that `cargo xtask test brokers` started.
pub(crate) fn bootstrap() -> String {
    std::env::var("KMIRROR_SOURCE").expect("KMIRROR_SOURCE names the brokers to test against")
}

pub(crate) async fn client() -> Client {
    let config = Config::new(&bootstrap()).expect("KMIRROR_SOURCE is host:port");
    let config = config.with_metadata_age_max(Duration::from_secs(1));
    Client::connect(config).await.expect("the brokers answer")
}

/// A name no other test or run uses.
pub(crate) fn unique(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{name}-{}-{count}-{}", std::process::id(), clock::unix_ms())
}

/// Repeats `probe` until it gives something, or fails naming `what`.
pub(crate) async fn until<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = clock::now() + DEADLINE;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(clock::now() < deadline, "waited {DEADLINE:?} for {what}");
        clock::sleep(Duration::from_millis(100)).await;
    }
}

fn name(text: &str) -> TopicName {
    TopicName(StrBytes::from_string(text.to_owned()))
}

pub(crate) async fn create_topic(client: &Client, topic: &str, partitions: i32) {
    let controller = client.controller().await.unwrap();
    let build = |_| {
        let topic = CreatableTopic::default()
            .with_name(name(topic))
            .with_num_partitions(partitions)
            .with_replication_factor(1);
        CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000)
    };
    match controller.call(Lane::Control, 2..=5, build).await {
        Ok(answer) => {
            assert_eq!(ErrorCode(answer.body.topics[0].error_code), ErrorCode::NONE);
        }
        // Before 1.0 with versions that the message structs do not have.
        Err(Error::UnsupportedVersion { .. }) => create_topic_by_java(topic, partitions),
        Err(error) => panic!("create topic {topic}: {error}"),
    }
    client.watch_topics([Arc::from(topic)]);
    until("the new topic", async || {
        let view = client.refresh(client.view().generation).await.ok()?;
        (view.topic(topic)?.partitions.len() == usize::try_from(partitions).unwrap()).then_some(())
    })
    .await;
}

fn create_topic_by_java(topic: &str, partitions: i32) {
    let status = java()
        .arg("org.apache.kafka.tools.TopicCommand")
        .args(["--bootstrap-server", &bootstrap(), "--create", "--topic", topic])
        .args(["--partitions", &partitions.to_string(), "--replication-factor", "1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(status.expect("java runs").success(), "the topic command made no topic {topic}");
}

/// Java with Kafka's jars.
fn java() -> Command {
    let jars = std::env::var("KMIRROR_JARS").expect("KMIRROR_JARS names Kafka's jars");
    let mut command = Command::new("java");
    command.args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
    command.arg(PathBuf::from(jars).join("*"));
    command
}

pub(crate) async fn add_partitions(client: &Client, topic: &str, count: i32) {
    let controller = client.controller().await.unwrap();
    let build = |_| {
        let topic = CreatePartitionsTopic::default()
            .with_name(name(topic))
            .with_count(count)
            .with_assignments(None);
        CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000)
    };
    let answer = controller.call(Lane::Control, 0..=1, build).await.unwrap();
    assert_eq!(ErrorCode(answer.body.results[0].error_code), ErrorCode::NONE);
}

pub(crate) async fn delete_topic(client: &Client, topic: &str) {
    let controller = client.controller().await.unwrap();
    let build = |_| {
        DeleteTopicsRequest::default().with_topic_names(vec![name(topic)]).with_timeout_ms(10_000)
    };
    let answer = controller.call(Lane::Control, 1..=5, build).await.unwrap();
    assert_eq!(ErrorCode(answer.body.responses[0].error_code), ErrorCode::NONE);
}

/// All partitions of a topic.
pub(crate) fn all(topic: &str, count: i32) -> BTreeSet<TopicPartition> {
    (0..count).map(|number| TopicPartition::new(topic, number)).collect()
}

/// A member of ours that keeps what it is given and hands back what it is asked for.
pub(crate) struct Member {
    pub(crate) membership: Membership,
    pub(crate) committer: Committer,
    pub(crate) owned: BTreeSet<TopicPartition>,
    pub(crate) losses: usize,
}

impl Member {
    pub(crate) async fn join(config: group::Config) -> Self {
        let (membership, committer) = Membership::join(&client().await, config).unwrap();
        Self { membership, committer, owned: BTreeSet::new(), losses: 0 }
    }

    /// Takes in one event, if one comes within a moment.
    pub(crate) async fn step(&mut self) {
        let moment = Duration::from_millis(50);
        let Ok(event) = tokio::time::timeout(moment, self.membership.next()).await else { return };
        match event.expect("the membership goes on") {
            Event::Assigned { added, owned, .. } => {
                self.owned.extend(added);
                assert!(self.owned.is_subset(&owned));
            }
            Event::Revoking { partitions, hand_back, .. } => {
                self.owned.retain(|partition| !partitions.contains(partition));
                hand_back.done();
            }
            Event::Lost { partitions, .. } => {
                self.losses += 1;
                self.owned.retain(|partition| !partitions.contains(partition));
            }
            Event::Refused { error } => panic!("nothing is refused here: {error}"),
        }
    }
}

/// Drives `members` until `done` with what they own.
pub(crate) async fn drive(
    what: &str,
    members: &mut [&mut Member],
    done: impl Fn(&[&BTreeSet<TopicPartition>]) -> bool,
) {
    let deadline = clock::now() + DEADLINE;
    loop {
        for member in members.iter_mut() {
            member.step().await;
        }
        let owned: Vec<&BTreeSet<TopicPartition>> = members.iter().map(|m| &m.owned).collect();
        if done(&owned) {
            return;
        }
        assert!(clock::now() < deadline, "waited {DEADLINE:?} for {what}; owned: {owned:?}");
    }
}

/// Whether `shares` are all of `whole`, each with one, and nobody with nothing.
pub(crate) fn is_divided(
    whole: &BTreeSet<TopicPartition>,
    shares: &[&BTreeSet<TopicPartition>],
) -> bool {
    let total: usize = shares.iter().map(|share| share.len()).sum();
    let union: BTreeSet<TopicPartition> = shares.iter().flat_map(|s| (*s).clone()).collect();
    union == *whole && total == whole.len() && shares.iter().all(|share| !share.is_empty())
}

/// What the coordinator says each member (by client id) of a group at rest was given; `None` while
/// the group is not at rest.
pub(crate) async fn described(
    client: &Client,
    group: &str,
) -> Option<BTreeMap<String, BTreeSet<TopicPartition>>> {
    let wanted = || GroupId(StrBytes::from_string(group.to_owned()));
    // One broker: it is every group's coordinator.
    let broker = client.any_broker().await.unwrap();
    let build = |_| DescribeGroupsRequest::default().with_groups(vec![wanted()]);
    let answer = broker.call(Lane::Control, 0..=5, build).await.ok()?;
    let group = answer.body.groups.into_iter().next()?;
    if group.group_state.as_str() != "Stable" {
        return None;
    }
    let given = group.members.into_iter().map(|member| {
        let mut bytes = member.member_assignment.slice(2..);
        let assignment = ConsumerProtocolAssignment::decode(&mut bytes, 0).unwrap();
        let partitions = assignment.assigned_partitions.into_iter().flat_map(|topic| {
            let name: Arc<str> = topic.topic.as_str().into();
            topic.partitions.into_iter().map(move |p| TopicPartition::new(Arc::clone(&name), p))
        });
        (member.member_id.to_string(), partitions.collect())
    });
    Some(given.collect())
}

/// A Java consumer in a group, killed when dropped.
pub(crate) struct Java(Child);

impl Java {
    pub(crate) fn consume(group: &str, topic: &str, assignor: Assignor) -> Self {
        let class = match assignor {
            Assignor::Range => "RangeAssignor",
            Assignor::RoundRobin => "RoundRobinAssignor",
            Assignor::Sticky => "StickyAssignor",
            Assignor::CooperativeSticky => "CooperativeStickyAssignor",
        };
        let strategy =
            format!("partition.assignment.strategy=org.apache.kafka.clients.consumer.{class}");
        let child = java()
            .arg("org.apache.kafka.tools.consumer.ConsoleConsumer")
            .args(["--bootstrap-server", &bootstrap(), "--topic", topic, "--group", group])
            .args(["--consumer-property", &strategy])
            .args(["--consumer-property", "session.timeout.ms=6000"])
            .args(["--consumer-property", "heartbeat.interval.ms=500"])
            .args(["--consumer-property", "metadata.max.age.ms=1000"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("java runs");
        Self(child)
    }
}

impl Drop for Java {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
