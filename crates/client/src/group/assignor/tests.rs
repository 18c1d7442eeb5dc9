//! Tests of the assignors: Kafka's documented examples, and properties over random groups.

use proptest::prelude::*;

use super::*;

const ALL: [Assignor; 4] =
    [Assignor::Range, Assignor::RoundRobin, Assignor::Sticky, Assignor::CooperativeSticky];

fn member(id: &str, topics: &[&str]) -> Member {
    Member {
        id: id.into(),
        topics: topics.iter().map(|topic| Arc::from(*topic)).collect(),
        ..Member::default()
    }
}

fn owning(id: &str, topics: &[&str], generation: i32, owned: &[&str]) -> Member {
    let partitions = owned.iter().map(|name| parse(name)).collect();
    let prior = Prior { partitions, generation: Some(generation) };
    Member { prior, ..member(id, topics) }
}

fn parse(name: &str) -> TopicPartition {
    let (topic, number) = name.rsplit_once('-').unwrap();
    TopicPartition::new(topic, number.parse().unwrap())
}

fn counts(topics: &[(&str, i32)]) -> Counts {
    topics.iter().map(|(topic, count)| (Arc::from(*topic), *count)).collect()
}

fn shown(plan: &Plan, id: &str) -> Vec<String> {
    plan[id].iter().map(ToString::to_string).collect()
}

#[test]
fn range_gives_javas_documented_result() {
    let counts = counts(&[("t0", 3), ("t1", 3)]);
    let members = [member("C1", &["t0", "t1"]), member("C0", &["t0", "t1"])];
    let plan = Assignor::Range.assign(&counts, &members);
    assert_eq!(shown(&plan, "C0"), ["t0-0", "t0-1", "t1-0", "t1-1"]);
    assert_eq!(shown(&plan, "C1"), ["t0-2", "t1-2"]);
}

#[test]
fn round_robin_gives_javas_documented_results() {
    let topics = ["t0", "t1"];
    let members = [member("C0", &topics), member("C1", &topics)];
    let plan = Assignor::RoundRobin.assign(&counts(&[("t0", 3), ("t1", 3)]), &members);
    assert_eq!(shown(&plan, "C0"), ["t0-0", "t0-2", "t1-1"]);
    assert_eq!(shown(&plan, "C1"), ["t0-1", "t1-0", "t1-2"]);

    let members =
        [member("C0", &["t0"]), member("C1", &["t0", "t1"]), member("C2", &["t0", "t1", "t2"])];
    let plan = Assignor::RoundRobin.assign(&counts(&[("t0", 1), ("t1", 2), ("t2", 3)]), &members);
    assert_eq!(shown(&plan, "C0"), ["t0-0"]);
    assert_eq!(shown(&plan, "C1"), ["t1-0"]);
    assert_eq!(shown(&plan, "C2"), ["t1-1", "t2-0", "t2-1", "t2-2"]);
}

#[test]
fn static_members_come_first_and_in_the_order_of_their_instance_ids() {
    let fixed = |id: &str, instance: &str| Member {
        instance_id: Some(instance.into()),
        ..member(id, &["t"])
    };
    let members = [member("a", &["t"]), fixed("z", "i1"), fixed("b", "i2")];
    let plan = Assignor::Range.assign(&counts(&[("t", 4)]), &members);
    assert_eq!(shown(&plan, "z"), ["t-0", "t-1"]);
    assert_eq!(shown(&plan, "b"), ["t-2"]);
    assert_eq!(shown(&plan, "a"), ["t-3"]);
}

#[test]
fn a_topic_without_partitions_or_subscribers_is_passed_over() {
    let members = [member("a", &["gone", "t"])];
    for assignor in ALL {
        let plan = assignor.assign(&counts(&[("t", 1), ("unwanted", 5)]), &members);
        assert_eq!(shown(&plan, "a"), ["t-0"], "{assignor}");
        assert!(assignor.assign(&counts(&[("t", 1)]), &[]).is_empty(), "{assignor}");
    }
}

#[test]
fn sticky_gives_a_newcomer_its_share_and_leaves_the_rest_where_it_was() {
    let members = [
        owning("a", &["t"], 1, &["t-0", "t-1", "t-2"]),
        owning("b", &["t"], 1, &["t-3", "t-4", "t-5"]),
        member("c", &["t"]),
    ];
    let plan = Assignor::Sticky.assign(&counts(&[("t", 6)]), &members);
    assert_eq!(plan["a"].len(), 2);
    assert!(plan["a"].iter().all(|p| members[0].prior.partitions.contains(p)));
    assert!(plan["b"].iter().all(|p| members[1].prior.partitions.contains(p)));
    assert_eq!(plan["c"].len(), 2);
}

#[test]
fn sticky_believes_the_higher_generation_and_nobody_when_they_are_equal() {
    let topics = ["t"];
    let members = [
        owning("old", &topics, 4, &["t-0", "t-1"]),
        owning("new", &topics, 5, &["t-0", "t-1"]),
        member("third", &topics),
    ];
    let plan = Assignor::Sticky.assign(&counts(&[("t", 3)]), &members);
    assert!(plan["new"].iter().all(|p| ["t-0", "t-1"].contains(&p.to_string().as_str())));

    let members = [owning("a", &topics, 5, &["t-0"]), owning("b", &topics, 5, &["t-0"])];
    let plan = Assignor::CooperativeSticky.assign(&counts(&[("t", 1)]), &members);
    assert_eq!(plan.values().map(Vec::len).sum::<usize>(), 0, "contested, so revoked first");
}

#[test]
fn cooperative_moves_a_partition_in_two_rounds() {
    let counts = counts(&[("t", 4)]);
    let owned = ["t-0", "t-1", "t-2", "t-3"];
    let first = [owning("a", &["t"], 1, &owned), member("b", &["t"])];
    let plan = Assignor::CooperativeSticky.assign(&counts, &first);
    assert_eq!((plan["a"].len(), plan["b"].len()), (2, 0), "b waits until a has revoked");

    let kept: Vec<String> = shown(&plan, "a");
    let kept: Vec<&str> = kept.iter().map(String::as_str).collect();
    let second = [owning("a", &["t"], 2, &kept), owning("b", &["t"], 2, &[])];
    let plan = Assignor::CooperativeSticky.assign(&counts, &second);
    assert_eq!(shown(&plan, "a"), kept);
    assert_eq!(plan["b"].len(), 2);
}

#[test]
fn sticky_reads_its_user_data_and_cooperative_the_subscription() {
    let prior = Prior { partitions: vec![parse("t-1")], generation: Some(4) };
    let subscription = |user_data: Option<Bytes>| Subscription {
        topics: vec!["t".into(), "t".into()],
        user_data,
        owned: vec![parse("t-2")],
        ..Subscription::default()
    };
    let sticky = Assignor::Sticky;
    let read = Member::new(sticky, "m".into(), None, subscription(sticky.user_data(&prior)));
    assert_eq!(read.prior, prior);
    assert_eq!(read.topics.len(), 1);

    let cooperative = Assignor::CooperativeSticky;
    let sent = subscription(cooperative.user_data(&prior));
    let read = Member::new(cooperative, "m".into(), None, sent);
    assert_eq!(read.prior, Prior { partitions: vec![parse("t-2")], generation: Some(4) });
}

#[test]
fn assignors_are_found_by_protocol_name_and_by_java_class() {
    for assignor in ALL {
        assert_eq!(Assignor::from_name(assignor.name()), Some(assignor));
    }
    let class = "org.apache.kafka.clients.consumer.CooperativeStickyAssignor";
    assert_eq!(Assignor::from_name(class), Some(Assignor::CooperativeSticky));
    assert_eq!(Assignor::from_name("com.example.RackAssignor"), None);
}

/// Random topics and members with random subscriptions and claims, some of them false.
fn group(equal: bool) -> impl Strategy<Value = (Counts, Vec<Member>)> {
    let topics = proptest::collection::vec(0i32..9, 1..5);
    let members = proptest::collection::vec(
        (
            any::<u8>(),
            any::<bool>(),
            0i32..3,
            proptest::collection::vec((0usize..6, 0i32..10), 0..12),
        ),
        1..7,
    );
    (topics, members).prop_map(move |(sizes, members)| {
        let name = |index: usize| -> Arc<str> { format!("t{index}").into() };
        let counts = sizes.iter().enumerate().map(|(i, count)| (name(i), *count)).collect();
        let members =
            members.into_iter().enumerate().map(|(index, (wants, fixed, age, claims))| {
                let topics = (0..sizes.len()).filter(|i| equal || wants >> i & 1 == 1).map(name);
                let partitions = claims.into_iter().map(|(t, p)| TopicPartition::new(name(t), p));
                Member {
                    id: format!("member-{index}").into(),
                    instance_id: fixed.then(|| format!("instance-{index}").into()),
                    topics: topics.collect(),
                    prior: Prior { partitions: partitions.collect(), generation: Some(age) },
                }
            });
        (counts, members.collect())
    })
}

/// Every partition somebody wants, once, with somebody who wants it; nothing else.
fn check_valid(counts: &Counts, members: &[Member], plan: &Plan, whole: bool) {
    let mut given = BTreeSet::new();
    assert_eq!(plan.len(), members.len());
    for member in members {
        for partition in &plan[&member.id] {
            assert!(given.insert(partition.clone()), "{partition} is given twice");
            assert!(member.topics.contains(&partition.topic), "{partition} is not wanted");
            assert!((0..counts[&partition.topic]).contains(&partition.partition));
        }
    }
    let wanted = counts.iter().filter(|(t, _)| members.iter().any(|m| m.topics.contains(*t)));
    let wanted: i32 = wanted.map(|(_, count)| *count).sum();
    assert!(!whole || given.len() == usize::try_from(wanted).unwrap(), "something is left over");
}

fn check_balanced(members: &[Member], plan: &Plan) {
    for from in members {
        for to in members {
            let (high, low) = (plan[&from.id].len(), plan[&to.id].len());
            let movable = plan[&from.id].iter().any(|p| to.topics.contains(&p.topic));
            assert!(high < low + 2 || !movable, "{} could give to {}", from.id, to.id);
        }
    }
}

/// The claims as the next rebalance would make them after `plan`.
fn after(members: &[Member], plan: &Plan, generation: i32) -> Vec<Member> {
    let own = |member: &Member| Member {
        prior: Prior { partitions: plan[&member.id].clone(), generation: Some(generation) },
        ..member.clone()
    };
    members.iter().map(own).collect()
}

proptest! {
    #[test]
    fn every_wanted_partition_is_given_once((counts, members) in group(false)) {
        for assignor in [Assignor::Range, Assignor::RoundRobin, Assignor::Sticky] {
            check_valid(&counts, &members, &assignor.assign(&counts, &members), true);
        }
        let plan = Assignor::CooperativeSticky.assign(&counts, &members);
        check_valid(&counts, &members, &plan, false);
    }

    #[test]
    fn sticky_is_balanced((counts, members) in group(false)) {
        check_balanced(&members, &Assignor::Sticky.assign(&counts, &members));
    }

    #[test]
    fn sticky_repeats_itself_when_nothing_changes((counts, members) in group(false)) {
        let plan = Assignor::Sticky.assign(&counts, &members);
        let again = Assignor::Sticky.assign(&counts, &after(&members, &plan, 9));
        prop_assert_eq!(plan, again);
    }

    #[test]
    fn sticky_keeps_as_many_as_any_balanced_plan_could((counts, members) in group(true)) {
        // Members whose claims are true: what an earlier plan gave to some of them.
        let before = Assignor::Sticky.assign(&counts, &members[..members.len().div_ceil(2)]);
        let members: Vec<Member> = members.into_iter().map(|member| {
            let partitions = before.get(&member.id).cloned().unwrap_or_default();
            Member { prior: Prior { partitions, generation: Some(1) }, ..member }
        }).collect();
        let plan = Assignor::Sticky.assign(&counts, &members);
        let kept = |m: &Member| {
            plan[&m.id].iter().filter(|p| m.prior.partitions.contains(p)).count()
        };
        let kept: usize = members.iter().map(kept).sum();

        let total: usize = plan.values().map(Vec::len).sum();
        let mut owned: Vec<usize> = members.iter().map(|m| m.prior.partitions.len()).collect();
        owned.sort_unstable_by(|a, b| b.cmp(a));
        let quota = |rank: usize| total / members.len() + usize::from(rank < total % members.len());
        let best: usize = owned.iter().enumerate().map(|(rank, n)| (*n).min(quota(rank))).sum();
        prop_assert_eq!(kept, best);
    }

    #[test]
    fn cooperative_never_gives_away_what_another_still_claims((counts, members) in group(false)) {
        let plan = Assignor::CooperativeSticky.assign(&counts, &members);
        for member in &members {
            for partition in &plan[&member.id] {
                let mine = member.prior.partitions.contains(partition);
                let others = members.iter().any(|other| {
                    other.id != member.id && other.prior.partitions.contains(partition)
                });
                prop_assert!(mine || !others, "{} is still in use", partition);
            }
        }
    }

    #[test]
    fn cooperative_settles_in_two_rounds((counts, members) in group(false)) {
        let first = Assignor::CooperativeSticky.assign(&counts, &members);
        let members = after(&members, &first, 5);
        let second = Assignor::CooperativeSticky.assign(&counts, &members);
        let members = after(&members, &second, 6);
        let third = Assignor::CooperativeSticky.assign(&counts, &members);
        check_valid(&counts, &members, &third, true);
        check_balanced(&members, &third);
        let fourth = Assignor::CooperativeSticky.assign(&counts, &after(&members, &third, 7));
        prop_assert_eq!(third, fourth);
    }
}
