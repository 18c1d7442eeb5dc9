//! Memberships against real brokers, with Java consumers in the same groups.
//!
//! They need KMIRROR_SOURCE (a bootstrap server of a one-broker cluster) and KMIRROR_JARS (Kafka's
//! jars) and are run by `cargo xtask test brokers`.

mod group_support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use group_support::{
    DEADLINE, Java, Member, add_partitions, all, client, create_topic, delete_topic, described,
    drive, is_divided, unique, until,
};
use kmirror_client::group::slot::{Place, Slot};
use kmirror_client::group::{Assignor, Config, Instance, OffsetAndMetadata};
use kmirror_client::{ErrorCode, TopicPartition, clock};

const ASSIGNORS: [Assignor; 4] =
    [Assignor::Range, Assignor::RoundRobin, Assignor::Sticky, Assignor::CooperativeSticky];

/// A member that notices everything quickly.
fn quick(group: &str, topic: &str, assignor: Assignor) -> Config {
    let mut config = Config::new(group).with_topics([topic]).with_assignors([assignor]);
    config.heartbeat_interval = Duration::from_millis(500);
    config.rebalance_timeout = Duration::from_secs(20);
    config.patience = Duration::from_secs(2);
    config
}

fn positions(
    partitions: &BTreeSet<TopicPartition>,
    next: i64,
) -> BTreeMap<TopicPartition, OffsetAndMetadata> {
    partitions.iter().map(|p| (p.clone(), OffsetAndMetadata::new(next, -1))).collect()
}

#[tokio::test]
#[ignore = "needs a broker: KMIRROR_SOURCE"]
async fn members_divide_a_topic_and_take_over_from_one_that_leaves() {
    let client = client().await;
    for assignor in ASSIGNORS {
        let (topic, group) = (unique("divide"), unique("g"));
        create_topic(&client, &topic, 6).await;
        let whole = all(&topic, 6);
        let mut first = Member::join(quick(&group, &topic, assignor)).await;
        drive("the first to own all", &mut [&mut first], |owned| *owned[0] == whole).await;
        let mut second = Member::join(quick(&group, &topic, assignor)).await;
        let mut third = Member::join(quick(&group, &topic, assignor)).await;
        let members = &mut [&mut first, &mut second, &mut third];
        drive("three shares", members, |owned| is_divided(&whole, owned)).await;
        assert!(members.iter().all(|member| member.owned.len() == 2), "{assignor} is balanced");
        first.membership.leave().await;
        let left = clock::now();
        let members = &mut [&mut second, &mut third];
        drive("two shares", members, |owned| is_divided(&whole, owned)).await;
        assert!(left.elapsed() < Duration::from_secs(8), "leaving does not wait for a session");
        assert_eq!(second.losses + third.losses, 0);
    }
}

/// Whether the coordinator says that `count` members divide `whole`, and `ours` of it are ours.
async fn agreed(
    group: &str,
    whole: &BTreeSet<TopicPartition>,
    ours: &[&Member],
    count: usize,
) -> bool {
    let Some(given) = described(&client().await, group).await else { return false };
    let shares: Vec<&BTreeSet<TopicPartition>> = given.values().collect();
    given.len() == count
        && is_divided(whole, &shares)
        && ours.iter().all(|member| given.values().any(|share| *share == member.owned))
}

async fn agree(
    what: &str,
    group: &str,
    whole: &BTreeSet<TopicPartition>,
    mut ours: Vec<&mut Member>,
    count: usize,
) {
    let deadline = clock::now() + DEADLINE;
    loop {
        for member in &mut ours {
            member.step().await;
        }
        let seen: Vec<&Member> = ours.iter().map(|member| &**member).collect();
        if agreed(group, whole, &seen, count).await {
            return;
        }
        let owned: Vec<_> = seen.iter().map(|member| &member.owned).collect();
        assert!(clock::now() < deadline, "waited {DEADLINE:?} for {what}; ours: {owned:?}");
    }
}

#[tokio::test]
#[ignore = "needs a broker: KMIRROR_SOURCE and KMIRROR_JARS"]
async fn java_consumers_share_a_group_whoever_leads_with_every_assignor() {
    let client = client().await;
    for assignor in ASSIGNORS {
        let (topic, group) = (unique("java"), unique("g"));
        create_topic(&client, &topic, 5).await;
        let whole = all(&topic, 5);

        let mut ours = Member::join(quick(&group, &topic, assignor)).await;
        drive("ours to lead", &mut [&mut ours], |owned| *owned[0] == whole).await;
        let java = Java::consume(&group, &topic, assignor);
        let what = format!("{assignor}: a Java follower");
        agree(&what, &group, &whole, vec![&mut ours], 2).await;
        ours.membership.leave().await;
        until(&format!("{assignor}: the Java consumer alone"), async || {
            let given = described(&client, &group).await?;
            (given.len() == 1 && given.values().all(|share| *share == whole)).then_some(())
        })
        .await;

        let mut second = Member::join(quick(&group, &topic, assignor)).await;
        let what = format!("{assignor}: a Java leader");
        agree(&what, &group, &whole, vec![&mut second], 2).await;
        let mut third = Member::join(quick(&group, &topic, assignor)).await;
        let what = format!("{assignor}: a Java leader of three");
        agree(&what, &group, &whole, vec![&mut second, &mut third], 3).await;
        drop(java);
        let what = format!("{assignor}: ours after the Java leader died");
        agree(&what, &group, &whole, vec![&mut second, &mut third], 2).await;
    }
}

#[tokio::test]
#[ignore = "needs a broker: KMIRROR_SOURCE"]
async fn added_partitions_and_topics_are_given_out() {
    let client = client().await;
    for assignor in [Assignor::Range, Assignor::CooperativeSticky] {
        let (topic, group) = (unique("grow"), unique("g"));
        create_topic(&client, &topic, 2).await;
        let mut first = Member::join(quick(&group, &topic, assignor)).await;
        let mut second = Member::join(quick(&group, &topic, assignor)).await;
        let whole = all(&topic, 2);
        let members = &mut [&mut first, &mut second];
        drive("two shares", members, |owned| is_divided(&whole, owned)).await;
        add_partitions(&client, &topic, 5).await;
        let whole = all(&topic, 5);
        drive("the new partitions", members, |owned| is_divided(&whole, owned)).await;

        let other = unique("other");
        create_topic(&client, &other, 2).await;
        let topics: BTreeSet<_> = [topic.as_str().into(), other.as_str().into()].into();
        first.membership.subscribe(topics.clone()).await.unwrap();
        second.membership.subscribe(topics).await.unwrap();
        let whole: BTreeSet<_> = whole.union(&all(&other, 2)).cloned().collect();
        let members = &mut [&mut first, &mut second];
        drive("the new topic", members, |owned| is_divided(&whole, owned)).await;
    }
}

#[tokio::test]
#[ignore = "needs a broker: KMIRROR_SOURCE"]
async fn commits_are_read_back_and_refused_for_what_is_not_owned() {
    let client = client().await;
    let (topic, group) = (unique("commit"), unique("g"));
    create_topic(&client, &topic, 3).await;
    let whole = all(&topic, 3);
    let mut member = Member::join(quick(&group, &topic, Assignor::CooperativeSticky)).await;
    drive("all", &mut [&mut member], |owned| *owned[0] == whole).await;

    let before = member.membership.committed().of(whole.clone()).await.unwrap();
    assert!(before.offsets.is_empty() && before.refused.is_empty());
    let mut offsets = positions(&whole, 42);
    let one = TopicPartition::new(topic.as_str(), 1);
    offsets.insert(
        one.clone(),
        OffsetAndMetadata { metadata: "note".into(), ..OffsetAndMetadata::new(7, 0) },
    );
    let foreign = TopicPartition::new(unique("foreign"), 0);
    offsets.insert(foreign.clone(), OffsetAndMetadata::new(1, -1));
    let report = member.committer.commit(&offsets).await.unwrap();
    assert_eq!(report.not_owned, [foreign].into());
    assert!(report.refused.is_empty());

    let after = member.membership.committed().of(whole.clone()).await.unwrap();
    assert_eq!(after.offsets.len(), 3);
    assert_eq!((after.offsets[&one].next_offset, &*after.offsets[&one].metadata), (7, "note"));
}

#[tokio::test]
#[ignore = "needs a broker: KMIRROR_SOURCE"]
async fn a_deleted_topic_does_not_keep_the_others_from_being_committed() {
    let client = client().await;
    let (kept, gone, group) = (unique("kept"), unique("gone"), unique("g"));
    create_topic(&client, &kept, 1).await;
    create_topic(&client, &gone, 1).await;
    let whole: BTreeSet<_> = all(&kept, 1).union(&all(&gone, 1)).cloned().collect();
    let mut config = quick(&group, &kept, Assignor::CooperativeSticky);
    config.topics = [kept.as_str().into(), gone.as_str().into()].into();
    // Long enough for the topic to go while it is still owned.
    config.patience = Duration::from_secs(60);
    let mut member = Member::join(config).await;
    drive("both", &mut [&mut member], |owned| *owned[0] == whole).await;
    delete_topic(&client, &gone).await;
    until("the topic to be gone", async || {
        let view = client.refresh(client.view().generation).await.ok()?;
        view.topic(&gone).is_none_or(|topic| topic.partitions.is_empty()).then_some(())
    })
    .await;
    let report = member.committer.commit(&positions(&whole, 5)).await.unwrap();
    let lost = TopicPartition::new(gone.as_str(), 0);
    assert!(report.not_owned.is_empty());
    // Brokers before 3.x take the commit of a deleted topic for a while.
    let expected = [(lost, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)].into();
    assert!(report.refused == expected || report.is_complete(), "{report:?}");
    let read = member.membership.committed().of(all(&kept, 1)).await.unwrap();
    assert_eq!(read.offsets.values().map(|at| at.next_offset).collect::<Vec<_>>(), [5]);
}

#[tokio::test]
#[ignore = "needs a broker: KMIRROR_SOURCE"]
async fn partitions_may_be_committed_while_they_are_handed_back_and_not_after() {
    use kmirror_client::group::{Event, Membership};
    let client = client().await;
    for assignor in [Assignor::Range, Assignor::CooperativeSticky] {
        let (topic, group) = (unique("flush"), unique("g"));
        create_topic(&client, &topic, 2).await;
        let config = quick(&group, &topic, assignor);
        let (mut membership, mut committer) = Membership::join(&client, config.clone()).unwrap();
        assert!(matches!(membership.next().await.unwrap(), Event::Assigned { .. }));
        let _second = Member::join(config).await;
        let (partitions, hand_back) = loop {
            match membership.next().await.unwrap() {
                Event::Revoking { partitions, hand_back, .. } => break (partitions, hand_back),
                Event::Assigned { .. } => {}
                other => panic!("unexpected {other:?}"),
            }
        };
        // Longer than several heartbeats: the coordinator has been waiting for us all the while.
        clock::sleep(Duration::from_secs(3)).await;
        let report = committer.commit(&positions(&partitions, 11)).await.unwrap();
        assert!(report.is_complete(), "{assignor}: {report:?}");
        hand_back.done();
        // An eager member gets some of them back.
        let given_up = until("the partitions to be given up", async || {
            let report = committer.commit(&positions(&partitions, 11)).await.unwrap();
            Some(report.not_owned).filter(|given_up| !given_up.is_empty())
        });
        let given_up = given_up.await;
        let report = committer.commit(&positions(&given_up, 12)).await.unwrap();
        let given_up = report.not_owned;
        let read = membership.committed().of(given_up).await.unwrap();
        assert!(read.offsets.values().all(|at| at.next_offset == 11), "{assignor}: {read:?}");
    }
}

/// This test binary again, as a member in a process of its own.
struct Process {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Process {
    fn start(directory: &Path, group: &str, topic: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "a_member_in_a_process_of_its_own", "--nocapture"])
            .env("MEMBER_DIRECTORY", directory)
            .env("MEMBER_GROUP", group)
            .env("MEMBER_TOPIC", topic)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Waits until it reports `count` partitions.
    fn wait_for(&mut self, count: usize) {
        let wanted = format!("owned {count}");
        let found = self.lines.by_ref().any(|line| line.unwrap().ends_with(&wanted));
        assert!(found, "the member ended without owning {count} partitions");
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[tokio::test]
#[ignore = "the other half of a_killed_member_is_back_within_seconds, which starts it"]
async fn a_member_in_a_process_of_its_own() {
    let Ok(directory) = std::env::var("MEMBER_DIRECTORY") else { return };
    let (group, topic) =
        (std::env::var("MEMBER_GROUP").unwrap(), std::env::var("MEMBER_TOPIC").unwrap());
    let place =
        Place { group_id: &group, cluster_id: None, directory: Some(Path::new(&directory)) };
    let slot = Slot::take(place).unwrap();
    let config = quick(&group, &topic, Assignor::CooperativeSticky);
    let mut member = Member::join(config.with_instance(Instance::Slot { slot, stream: 0 })).await;
    let mut reported = usize::MAX;
    loop {
        member.step().await;
        if member.owned.len() != reported {
            reported = member.owned.len();
            eprintln!("owned {reported}");
            use std::io::Write;
            writeln!(std::io::stdout(), "owned {reported}").unwrap();
        }
    }
}

#[tokio::test]
#[ignore = "needs a broker: KMIRROR_SOURCE"]
async fn a_killed_member_is_back_within_seconds_without_a_rebalance() {
    let client = client().await;
    let directory = tempfile::tempdir().unwrap();
    let (topic, group) = (unique("killed"), unique("g"));
    create_topic(&client, &topic, 4).await;
    let whole = all(&topic, 4);
    let mut steady = Member::join(quick(&group, &topic, Assignor::CooperativeSticky)).await;
    drive("all", &mut [&mut steady], |owned| *owned[0] == whole).await;
    let mut process = Process::start(directory.path(), &group, &topic);
    drive("half", &mut [&mut steady], |owned| owned[0].len() == 2).await;
    let process = tokio::task::spawn_blocking(move || {
        process.wait_for(2);
        process
    })
    .await
    .unwrap();
    let before = described(&client, &group).await.expect("the group is at rest");

    process.kill();
    let killed = clock::now();
    let mut again = Process::start(directory.path(), &group, &topic);
    let again = tokio::task::spawn_blocking(move || {
        again.wait_for(2);
        again
    })
    .await
    .unwrap();
    let took = killed.elapsed();
    eprintln!("back {took:?} after SIGKILL");
    assert!(took < Duration::from_secs(5), "took {took:?}; the session is 45 s");
    let after = described(&client, &group).await.expect("the group is at rest");
    let shares = |given: BTreeMap<String, BTreeSet<TopicPartition>>| {
        given.into_values().collect::<BTreeSet<_>>()
    };
    assert_eq!(shares(before), shares(after), "everybody has what he had");
    assert_eq!(steady.losses, 0);

    // Two on one host live side by side.
    let mut other = Process::start(directory.path(), &group, &topic);
    drive("a third", &mut [&mut steady], |owned| owned[0].len() <= 2).await;
    let other = tokio::task::spawn_blocking(move || {
        other.wait_for(1);
        other
    })
    .await
    .unwrap();
    until("three members", async || {
        steady.step().await;
        let given = described(&client, &group).await?;
        let shares: Vec<&BTreeSet<TopicPartition>> = given.values().collect();
        (given.len() == 3 && is_divided(&whole, &shares)).then_some(())
    })
    .await;
    other.kill();
    again.kill();
}

#[tokio::test]
#[ignore = "needs a broker: KMIRROR_SOURCE"]
async fn a_lone_static_member_that_comes_back_sees_partitions_added_meanwhile() {
    let client = client().await;
    let directory = tempfile::tempdir().unwrap();
    let (topic, group) = (unique("lone"), unique("g"));
    create_topic(&client, &topic, 2).await;
    let join = async || {
        let place = Place { group_id: &group, cluster_id: None, directory: Some(directory.path()) };
        let slot = Slot::take(place).unwrap();
        let config = quick(&group, &topic, Assignor::Range);
        Member::join(config.with_instance(Instance::Slot { slot, stream: 0 })).await
    };
    let mut member = join().await;
    drive("all", &mut [&mut member], |owned| *owned[0] == all(&topic, 2)).await;
    drop(member);
    add_partitions(&client, &topic, 3).await;
    let back = clock::now();
    let mut member = join().await;
    drive("the new one too", &mut [&mut member], |owned| *owned[0] == all(&topic, 3)).await;
    eprintln!("owned the new partition {:?} after coming back", back.elapsed());

    // Growth while it runs: before KIP-814 it is not the leader of its own group.
    add_partitions(&client, &topic, 4).await;
    drive("growth", &mut [&mut member], |owned| *owned[0] == all(&topic, 4)).await;
}
