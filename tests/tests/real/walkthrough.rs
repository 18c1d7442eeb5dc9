//! The documented way to mirror between two managed clusters, step by step, with the same inputs.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use kmirror_tests::{
    Java, MirrorMaker, Pair,
    clusters::pair,
    eventually, kmirror,
    records::{assert_same_partitions, by_key},
};

use crate::arrived;

const TOPIC: &str = "testtopic";

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn the_documented_walkthrough_works_step_by_step() {
    // Replication factor 2 needs two brokers at each end; the versions are those under test.
    let versions = [&pair().source, &pair().destination].map(|end| end.version.to_string());
    let pair = Pair::start(&versions[0], &versions[1], 2, &[]);
    let mut java = Java::start();
    let source = pair.source.bootstrap.as_str();
    let destination = pair.destination.bootstrap.as_str();

    let create = ["--partitions", "8", "--replication-factor", "2"];
    let create =
        [&["topics", "--bootstrap-server", source, "--create", "--topic", TOPIC], &create[..]];
    succeed(&create.concat());
    let listed = succeed(&["topics", "--bootstrap-server", source, "--list"]);
    assert!(listed.lines().any(|line| line == TOPIC), "{listed}");
    assert_eq!(java.topics(&pair.source)[TOPIC], (8, 2));

    let mut maker = MirrorMaker::new(&pair, "mirrorgroup", TOPIC)
        .with_streams(4)
        .with_producer("compression.type", "none");
    if pair.source.zookeeper.is_some() {
        maker = maker.with_zookeeper(&pair.source);
    }
    let mirror = maker.start();

    let typed = ["this is the first message", "and this the second", "", "the end"];
    type_lines(source, &typed);
    arrived(&mut java, &pair, TOPIC, typed.len());
    assert!(mirror.terminate().success());

    let listed = succeed(&["topics", "--bootstrap-server", destination, "--list"]);
    assert!(listed.lines().any(|line| line == TOPIC), "{listed}");
    assert_eq!(java.topics(&pair.destination)[TOPIC], (8, 2), "partitions and replication factor");
    let read = ["consume", "--bootstrap-server", destination, "--topic", TOPIC, "--from-beginning"];
    let count = typed.len().to_string();
    let read = succeed(&[&read[..], &["--max-messages", &count]].concat());
    let (mut read, mut typed) = (read.lines().collect::<Vec<_>>(), typed.to_vec());
    read.sort_unstable();
    typed.sort_unstable();
    assert_eq!(read, typed);
    let written = java.dump(&pair.source, TOPIC);
    let found = java.dump(&pair.destination, TOPIC);
    assert_same_partitions(&written, &found);
    assert_eq!(by_key(&written).len(), by_key(&found).len());

    // Mirroring now and then, as the document says: the second run brings only what is new.
    let mirror = maker.start();
    type_lines(source, &["later"]);
    arrived(&mut java, &pair, TOPIC, typed.len() + 1);
    let group = eventually("the group is listed", || {
        let groups = succeed(&["groups", "--bootstrap-server", source, "--list"]);
        groups.lines().any(|line| line.contains("mirrorgroup")).then_some(groups)
    });
    assert!(mirror.terminate().success());
    assert_eq!(java.dump(&pair.destination, TOPIC).len(), typed.len() + 1, "{group}");
}

fn succeed(arguments: &[&str]) -> String {
    let output = kmirror::run(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "kmirror {arguments:?}: {}\n{errors}", output.status);
    String::from_utf8(output.stdout).expect("kmirror prints text")
}

fn type_lines(source: &str, lines: &[&str]) {
    let mut child = Command::new(kmirror::binary())
        .args(["produce", "--bootstrap-server", source, "--topic", TOPIC])
        .stdin(Stdio::piped())
        .spawn()
        .expect("kmirror starts");
    let mut input = child.stdin.take().expect("invariant: standard input is piped");
    for line in lines {
        writeln!(input, "{line}").expect("kmirror reads");
    }
    drop(input);
    assert!(child.wait().expect("kmirror ends").success());
}
