//! Both clusters' listings in, plans and actions out.

use kmirror_client::config::Config as Cluster;

use super::*;
use crate::policy::filter::{Pattern, Selection};
use crate::policy::naming::Naming;

fn config(pattern: &str) -> Config {
    let cluster = || Cluster::new("localhost:9092").unwrap();
    Config::new(cluster(), cluster(), Selection::new(Pattern::try_new(pattern).unwrap()))
}

fn listing(topics: &[(&str, i32)]) -> Listing {
    let listed = |(name, partitions): &(&str, i32)| {
        let name: Arc<str> = (*name).into();
        let listed = Listed {
            name: Arc::clone(&name),
            partitions: *partitions,
            internal: false,
            replication_factor: 3,
            id: None,
        };
        (name, listed)
    };
    topics.iter().map(listed).collect()
}

fn create(name: &str, partitions: i32, replication_factor: i16) -> Action {
    Action::Create { source: name.into(), destination: name.into(), partitions, replication_factor }
}

#[test]
fn a_missing_topic_is_created_with_the_sources_partitions_and_no_more_replicas_than_brokers() {
    let mut memory = Memory::default();
    let source = listing(&[("a", 8), ("other", 2)]);
    let config = config("a");
    let (plan, actions) = draw(&config, (&source, &listing(&[])), &mut memory, 2);
    assert_eq!(actions, BTreeSet::from([create("a", 8, 2)]));
    assert_eq!(plan.topics.len(), 1);
    assert_eq!(plan.topics["a"].mapping(0, &config), Mapping::Missing);
}

#[test]
fn a_kept_topic_grows_with_its_source_and_waits_until_it_has() {
    let mut memory = Memory::default();
    let config = config(".*");
    let eight = listing(&[("a", 8)]);
    let (_, actions) = draw(&config, (&eight, &eight), &mut memory, 3);
    assert!(actions.is_empty());
    let twelve = listing(&[("a", 12)]);
    let (plan, actions) = draw(&config, (&twelve, &eight), &mut memory, 3);
    assert_eq!(actions, BTreeSet::from([Action::Grow { destination: "a".into(), partitions: 12 }]));
    assert_eq!(plan.topics["a"].mapping(0, &config), Mapping::Missing);
    let (plan, _) = draw(&config, (&twelve, &twelve), &mut memory, 3);
    assert_eq!(plan.topics["a"].mapping(11, &config), Mapping::Fixed(11));
}

#[test]
fn unequal_counts_hash_keys_and_never_grow_by_themselves() {
    let mut memory = Memory::default();
    let config = config(".*");
    let sides = (&listing(&[("a", 12)]), &listing(&[("a", 4)]));
    let (plan, actions) = draw(&config, sides, &mut memory, 3);
    assert!(actions.is_empty());
    assert_eq!(plan.topics["a"].mapping(11, &config), Mapping::Keys(4));
}

#[test]
fn preserve_grows_a_smaller_destination() {
    let mut memory = Memory::default();
    let mut config = config(".*");
    config.partitioning = Partitioning::Preserve;
    let sides = (&listing(&[("a", 12)]), &listing(&[("a", 4)]));
    let (_, actions) = draw(&config, sides, &mut memory, 3);
    assert_eq!(actions, BTreeSet::from([Action::Grow { destination: "a".into(), partitions: 12 }]));
    config.topic.grow = false;
    let (plan, actions) = draw(&config, sides, &mut memory, 3);
    assert!(actions.is_empty());
    assert!(plan.topics["a"].why().is_some());
}

#[test]
fn within_one_cluster_outcomes_are_not_mirrored_again() {
    let mut memory = Memory { same_cluster: true, ..Memory::default() };
    let config = config(".*").with_naming(Naming::Prefix("copy.".into()));
    let topics = listing(&[("a", 1), ("copy.a", 1)]);
    let (plan, actions) = draw(&config, (&topics, &topics), &mut memory, 1);
    assert!(actions.is_empty());
    assert_eq!(plan.topics.keys().map(|name| &**name).collect::<Vec<_>>(), ["a"]);
}

fn fail(memory: &mut Memory, destination: &str, failure: Failure) {
    let now = kmirror_client::clock::now();
    let first = std::time::Duration::from_secs(5);
    memory.attempts.fail(&destination.into(), failure, (now, first));
}

#[test]
fn a_failed_creation_is_named_and_stays_called_for() {
    for is_final in [false, true] {
        let mut memory = Memory::default();
        let failure = Failure { why: "POLICY_VIOLATION".to_owned(), is_final };
        fail(&mut memory, "a", failure);
        let sides = (&listing(&[("a", 1)]), &listing(&[]));
        let (plan, actions) = draw(&config(".*"), sides, &mut memory, 1);
        assert_eq!(actions.len(), 1);
        assert!(plan.topics["a"].blocked().unwrap().contains("POLICY_VIOLATION"));
        assert_eq!(plan.topics["a"].is_refused(), is_final);
    }
}

#[test]
fn what_only_an_operator_can_do_is_said_to_be_his() {
    let mut config = config(".*");
    config.topic.create = false;
    config.topic.grow = false;
    config.partitioning = Partitioning::Preserve;
    let sides = (&listing(&[("a", 1), ("b", 2)]), &listing(&[("b", 1)]));
    let (plan, actions) = draw(&config, sides, &mut Memory::default(), 1);
    assert!(actions.is_empty());
    assert!(plan.topics["a"].blocked().unwrap().contains("create_topics"));
    assert!(plan.topics["b"].blocked().unwrap().contains("grow_partitions"));
}

#[test]
fn nothing_is_remembered_of_a_topic_that_left_the_plan() {
    let mut memory = Memory::default();
    let config = config(".*");
    let (eight, none) = (listing(&[("a", 8)]), listing(&[]));
    draw(&config, (&eight, &eight), &mut memory, 1);
    memory.source_traits.insert("a".into(), Traits::default());
    memory.destination_traits.insert("a".into(), Traits::default());
    fail(&mut memory, "a", Failure::passing("no".to_owned()));
    draw(&config, (&none, &eight), &mut memory, 1);
    assert!(memory.kept.is_empty() && memory.attempts.failure("a").is_none());
    assert!(memory.source_traits.is_empty() && memory.destination_traits.is_empty());
    // The next topic of that name is another one: its number of partitions is its own.
    let (plan, actions) = draw(&config, (&listing(&[("a", 12)]), &eight), &mut memory, 1);
    assert!(actions.is_empty());
    assert_eq!(plan.topics["a"].mapping(0, &config), Mapping::Keys(8));
}

#[test]
fn what_holds_a_topic_up_is_told_once_and_again_when_it_is_something_else() {
    let config = config(".*");
    let (missing, there) = (listing(&[]), listing(&[("a", 1)]));
    let mut memory = Memory::default();
    let mut before = Plan::default();
    let mut told = Vec::new();
    for why in ["one", "one", "two", "one"] {
        fail(&mut memory, "a", Failure::passing(why.to_owned()));
        let (plan, _) = draw(&config, (&there, &missing), &mut memory, 1);
        told.push(plan.newly_blocked(&before).count());
        assert_eq!(plan.newly_free(&before).count(), 0);
        before = plan;
    }
    assert_eq!(told, [1, 0, 1, 1]);
    let (plan, _) = draw(&config, (&there, &there), &mut memory, 1);
    assert_eq!((plan.newly_blocked(&before).count(), plan.newly_free(&before).count()), (0, 1));
}

#[test]
fn what_was_there_at_the_first_look_is_remembered_until_it_is_gone() {
    let mut memory = Memory::default();
    let mut at_first = |topics: &[(&str, i32)]| {
        let topics = listing(topics);
        let (plan, _) = draw(&config(".*"), (&topics, &topics), &mut memory, 1);
        let counts = plan.topics.values().map(|topic| topic.source_partitions_at_first);
        counts.collect::<Vec<_>>()
    };
    assert_eq!(at_first(&[("a", 2), ("unknown", 0)]), [2, i32::MAX]);
    assert_eq!(at_first(&[("a", 4), ("b", 1), ("unknown", 3)]), [2, 0, i32::MAX]);
    assert_eq!(at_first(&[("b", 1)]), [0]);
    assert_eq!(at_first(&[("a", 2), ("b", 1)]), [0, 0], "it was created again");
}

#[test]
fn a_destination_is_another_one_only_if_that_is_known() {
    let destination = |cluster: Option<&str>, topic: Option<u128>| Destination {
        cluster_id: cluster.map(Into::into),
        topic_id: topic.map(Uuid::from_u128),
    };
    let full = destination(Some("one"), Some(1));
    for (other, differs) in [
        (full.clone(), false),
        (destination(None, None), false),
        (destination(Some("one"), None), false),
        (destination(Some("other"), None), true),
        (destination(None, Some(2)), true),
        (destination(Some("other"), Some(1)), true),
    ] {
        assert_eq!(full.differs(&other), differs, "{other:?}");
        assert_eq!(other.differs(&full), differs, "{other:?}");
    }
}
