//! What the source does not grant: it is named, the rest is mirrored, and the exit code says that
//! something was left.

use kmirror_tests::{End, Java, MirrorMaker, Pair, Record, eventually, unique};

use crate::arrived;

const FAILURE: i32 = 1;
const HALTED: i32 = 4;

fn guarded() -> Pair {
    let authorizer = "org.apache.kafka.metadata.authorizer.StandardAuthorizer";
    let rules = [("authorizer.class.name", authorizer), ("allow.everyone.if.no.acl.found", "true")];
    let destination = End::start("destination", "4.3.0", 1, &[]);
    Pair { source: End::start("source", "3.9.1", 1, &rules), destination }
}

fn fill(java: &mut Java, pair: &Pair, topic: &str) {
    java.create(&pair.source, topic, 2, &[]);
    let records: Vec<Record> =
        (0..10).map(|number| Record::new(&format!("key-{number}"), "value")).collect();
    java.produce(&pair.source, topic, &[], &records);
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn topics_that_are_not_granted_are_named_and_the_others_flow() {
    let pair = guarded();
    let mut java = Java::start();
    let (open, unread, hidden) = (unique("open"), unique("unread"), unique("hidden"));
    for topic in [&open, &unread, &hidden] {
        fill(&mut java, &pair, topic);
    }
    java.deny(&pair.source, &unread, "Read");
    java.deny(&pair.source, &hidden, "Describe");

    let names = format!("{open},{unread},{hidden}");
    let mut mirror = MirrorMaker::new(&pair, &unique("denied"), &names).start();
    arrived(&mut java, &pair, &open, 10);
    eventually("both are refused", || {
        let unread = mirror.tells(&[&unread, "not authorized to read"]);
        (unread && mirror.tells(&[&hidden, "does not grant this topic"])).then_some(())
    });
    mirror.assert_running();
    let status = mirror.terminate();
    let log = mirror.log();
    assert_eq!(status.code(), Some(HALTED), "{log}");
    let end = log.lines().find(|line| line.contains("could not be mirrored"));
    let end = end.unwrap_or_else(|| panic!("no last word:\n{log}"));
    assert!(end.contains(&unread) && end.contains(&hidden) && !end.contains(&open), "{end}");

    for topic in [&unread, &hidden] {
        let mut mirror = MirrorMaker::new(&pair, &unique("denied"), topic).start();
        let status = mirror.wait();
        let log = mirror.log();
        assert_eq!(status.code(), Some(FAILURE), "{log}");
        assert!(log.contains(topic.as_str()) && log.contains("grant"), "{log}");
    }
}
