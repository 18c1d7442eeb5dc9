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

#[test]
fn groups_are_described_in_the_columns_and_with_the_flags_of_kafkas_tool() {
    let fake = Fake::start("columns", &[("t", 2), ("u", 1)]);
    for topic in ["t", "u"] {
        fake.kmirror_with_input(&["produce", "--topic", topic], "one\ntwo\n").succeeded();
    }
    let reset = ["groups", "--reset-offsets", "--group", "g", "--topic", "t", "--topic", "u"];
    fake.kmirror(&[&reset[..], &["--to-earliest", "--execute"]].concat()).succeeded();
    let describe = |more: &[&str]| {
        let described = fake.kmirror(&[&["groups", "--describe", "--all-groups"], more].concat());
        let described = described.succeeded();
        let rows = described.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
        rows.map(|row| row.join(" ")).collect::<Vec<_>>()
    };
    assert_eq!(
        describe(&[])[0],
        "GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID HOST CLIENT-ID"
    );
    assert!(describe(&["--offsets"]).contains(&"g u 0 0 2 2 - - -".to_owned()));
    assert_eq!(describe(&["--members"]), ["GROUP CONSUMER-ID HOST CLIENT-ID #PARTITIONS"]);
    assert!(describe(&["--state"])[1].contains(" Empty 0"), "{:?}", describe(&["--state"]));
    let listed = fake.kmirror(&["groups", "--list", "--state", "stable"]).succeeded();
    assert_eq!(listed.lines().count(), 1, "{listed}");
    let all = ["groups", "--reset-offsets", "--all-groups", "--all-topics"];
    let shown = fake.kmirror(&[&all[..], &["--to-latest", "--dry-run"]].concat());
    assert!(shown.stderr.contains("nothing was changed"), "{}", shown.stderr);
    let time = ["--to-datetime", "2001-01-31T12:30:00.000", "--execute"];
    let back = fake.kmirror(&[&all[..], &time].concat()).succeeded();
    let rows: Vec<_> = back.lines().skip(1).collect();
    assert!(rows.len() == 3 && rows.iter().all(|row| row.ends_with(" 0")), "{back}");
    let stay = fake.kmirror(&[&all[..], &["--to-current", "--execute"]].concat()).succeeded();
    assert_eq!(stay, back);
    fake.kmirror(&["groups", "--delete", "--all-groups"]).succeeded();
    assert_eq!(fake.kmirror(&["groups", "--list"]).succeeded(), "");
}

#[test]
fn the_flags_that_kafkas_console_tools_are_called_with_are_taken() {
    let fake = Fake::start("habits", &[("t", 1)]);
    let produce = ["produce", "--topic", "t", "--request-required-acks", "1", "--sync"];
    let properties = ["--producer-property", "compression.type=lz4"];
    let reader = ["--line-reader", "kafka.tools.ConsoleProducer$LineMessageReader"];
    let arguments = [&produce[..], &properties, &reader].concat();
    let ran = fake.kmirror_with_input(&arguments, "one\ntwo\n");
    assert!(ran.stderr.contains("always all in-sync replicas"), "{}", ran.stderr);
    ran.succeeded();
    let consume = ["consume", "--topic", "t", "--max-messages", "2"];
    let properties =
        ["--consumer-property", "auto.offset.reset=earliest", "--consumer-property", "group.id=g"];
    let formatter = ["--formatter", "kafka.tools.DefaultMessageFormatter"];
    let ran = fake.kmirror(&[&consume[..], &properties, &formatter].concat());
    assert_eq!(ran.succeeded(), "one\ntwo\n");
    assert_eq!(fake.kmirror(&["groups", "--list"]).succeeded(), "g\n");
    let nothing = ["--from-beginning", "--formatter", "kafka.tools.NoOpMessageFormatter"];
    let ran = fake.kmirror(&[&consume[..], &nothing].concat());
    assert!(ran.stderr.contains("Processed a total of 2 messages"), "{}", ran.stderr);
    assert_eq!(ran.succeeded(), "");
    let refused = fake.kmirror(&[&consume[..], &["--formatter", "com.example.Mine"]].concat());
    assert!(refused.code == 2 && refused.stderr.contains("Java class"), "{}", refused.stderr);
    let healthy = ["topics", "--describe", "--under-replicated-partitions"];
    assert_eq!(fake.kmirror(&healthy).succeeded(), "");
    let overridden = fake.kmirror(&["topics", "--describe", "--topics-with-overrides"]);
    assert_eq!(overridden.succeeded(), "");
}

#[test]
fn what_can_be_a_topics_name_is_never_a_pattern() {
    let fake = Fake::start("literal", &[("axb", 1), ("ayb", 1)]);
    let gone = fake.kmirror(&["topics", "--delete", "--topic", "a.b"]);
    assert!(gone.code == 1 && gone.stderr.contains("there is no topic a.b"), "{}", gone.stderr);
    fake.kmirror(&["topics", "--delete", "--topic", "a.b", "--if-exists"]).succeeded();
    assert_eq!(fake.kmirror(&["topics", "--list"]).succeeded(), "axb\nayb\n");
    fake.kmirror(&["topics", "--delete", "--topic", "a.+"]).succeeded();
    assert_eq!(fake.kmirror(&["topics", "--list"]).succeeded(), "");
}

#[test]
fn a_record_for_a_topic_that_is_missing_says_what_to_do() {
    let fake = Fake::start("missing", &[]);
    let produce = ["produce", "--topic", "nope", "--timeout", "1s"];
    // One record is refused when it is sent, the other when all are waited for.
    for arguments in [&[][..], &["--batch-size", "1"]] {
        let ran = fake.kmirror_with_input(&[&produce[..], arguments].concat(), "one\ntwo\n");
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        assert!(ran.stderr.contains("help: create it with kmirror topics"), "{}", ran.stderr);
    }
}
