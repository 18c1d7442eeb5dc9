//! Runs the binary against fake clusters that listen on loopback: the tools around a mirror.

mod common;

use common::Fake;

#[test]
fn a_topic_is_created_described_changed_and_deleted() {
    let fake = Fake::start("topics", &[]);
    let create = ["topics", "--create", "--topic", "testtopic", "--partitions", "8"];
    let made = fake.kmirror(&[&create[..], &["--replication-factor", "2"]].concat());
    assert_eq!(made.succeeded(), "Created topic testtopic.\n");
    let again = fake.kmirror(&create);
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains("help: say --if-not-exists"), "{}", again.stderr);
    fake.kmirror(&[&create[..], &["--if-not-exists"]].concat()).succeeded();
    assert_eq!(fake.kmirror(&["topics", "--list"]).succeeded(), "testtopic\n");
    let config = ["--config", "retention.ms=1000", "--partitions", "9"];
    let alter = ["topics", "--alter", "--topic", "testtopic"];
    fake.kmirror(&[&alter[..], &config[..]].concat()).succeeded();
    let described = fake.kmirror(&["topics", "--describe", "--topic", "test.*"]).succeeded();
    let head = described.lines().next().unwrap();
    assert!(head.contains("PartitionCount: 9\tReplicationFactor: 2"), "{head}");
    assert!(head.ends_with("Configs: retention.ms=1000"), "{head}");
    assert_eq!(described.lines().count(), 10);
    fake.kmirror(&["topics", "--delete", "--topic", "testtopic"]).succeeded();
    let gone = fake.kmirror(&["topics", "--describe", "--topic", "testtopic"]);
    assert_eq!(gone.code, 1);
    assert!(gone.stderr.contains("there is no topic testtopic"), "{}", gone.stderr);
}

#[test]
fn lines_become_records_with_keys_and_headers() {
    let fake = Fake::start("produce", &[("t", 1)]);
    let plain = fake.kmirror_with_input(&["produce", "--topic", "t"], "one\ntwo\n");
    plain.succeeded();
    assert_eq!(fake.values("t"), ["one", "two"]);
    let properties = ["--property", "parse.key=true", "--property", "parse.headers=true"];
    let arguments = [&["produce", "--topic", "t", "--compression-codec", "zstd"], &properties[..]];
    fake.kmirror_with_input(&arguments.concat(), "h:1,h:2\tk\tv\n").succeeded();
    let record = fake.cluster.records("t", 0).pop().unwrap();
    assert_eq!(record.key.as_deref(), Some(b"k".as_slice()));
    assert_eq!(record.headers.len(), 2);
    let wrong = fake.kmirror_with_input(&arguments.concat(), "v\n");
    assert_eq!(wrong.code, 2);
    assert!(wrong.stderr.contains("line 1 has no headers delimiter"), "{}", wrong.stderr);
}

#[test]
fn records_are_printed_from_the_beginning_up_to_a_number_or_a_time_out() {
    let fake = Fake::start("consume", &[("t", 1)]);
    let input = "k1\tone\nk2\ttwo\nk3\tthree\n";
    let with_keys = ["--property", "parse.key=true"];
    fake.kmirror_with_input(&[&["produce", "--topic", "t"], &with_keys[..]].concat(), input)
        .succeeded();
    let consume = ["consume", "--topic", "t"];
    let two = [&consume[..], &["--from-beginning", "--max-messages", "2"]].concat();
    assert_eq!(fake.kmirror(&two).succeeded(), "one\ntwo\n");
    let at = ["--partition", "0", "--offset", "1", "--timeout-ms", "300"];
    let shown = ["--property", "print.key=true", "--property", "print.offset=true"];
    let ran = fake.kmirror(&[&consume[..], &at[..], &shown[..]].concat());
    assert!(ran.stderr.contains("Processed a total of 2 messages"), "{}", ran.stderr);
    assert_eq!(ran.succeeded(), "Offset:1\tk2\ttwo\nOffset:2\tk3\tthree\n");
    let missing = fake.kmirror(&["consume", "--topic", "nope", "--from-beginning"]);
    assert_eq!(missing.code, 1);
    assert!(missing.stderr.contains("there is no topic nope"), "{}", missing.stderr);
}

#[test]
fn a_group_goes_on_where_it_was_and_shows_its_lag() {
    let fake = Fake::start("groups", &[("t", 1)]);
    fake.kmirror_with_input(&["produce", "--topic", "t"], "one\ntwo\nthree\n").succeeded();
    let read = |count: &str| {
        let group = ["--group", "g", "--from-beginning", "--max-messages", count];
        fake.kmirror(&[&["consume", "--topic", "t"], &group[..]].concat()).succeeded()
    };
    assert_eq!(read("2"), "one\ntwo\n");
    assert_eq!(fake.kmirror(&["groups", "--list"]).succeeded(), "g\n");
    let described = fake.kmirror(&["groups", "--describe", "--group", "g"]).succeeded();
    let row: Vec<_> = described.lines().nth(2).unwrap().split_whitespace().collect();
    assert_eq!(row[..6], ["g", "t", "0", "2", "3", "1"], "{described}");
    assert_eq!(read("1"), "three\n");
    let reset = ["groups", "--reset-offsets", "--group", "g", "--topic", "t", "--to-earliest"];
    let shown = fake.kmirror(&reset);
    assert!(shown.stderr.contains("nothing was changed"), "{}", shown.stderr);
    fake.kmirror(&[&reset[..], &["--execute"]].concat()).succeeded();
    assert_eq!(read("3"), "one\ntwo\nthree\n");
    fake.kmirror(&["groups", "--delete", "--group", "g"]).succeeded();
    let gone = fake.kmirror(&["groups", "--describe", "--group", "g"]);
    assert!(gone.stderr.contains("there is no group g"), "{}", gone.stderr);
}
