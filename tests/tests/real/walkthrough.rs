//! The documented way to mirror between two managed clusters, step by step, with the same inputs:
//! where the source has a ZooKeeper, nothing but its address is told to the mirror.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use kmirror_tests::{
    Java, MirrorMaker, Pair, clusters::pair, eventually, kmirror, records::assert_same_partitions,
};

use crate::arrived;

const TOPIC: &str = "testtopic";
const GROUP: &str = "mirrorgroup";

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn the_documented_walkthrough_works_step_by_step() {
    // Replication factor 2 needs two brokers at each end; the versions are those under test.
    let versions = [&pair().source, &pair().destination].map(|end| end.version.to_string());
    let pair = Pair::start(&versions[0], &versions[1], 2, &[]);
    let mut java = Java::start();
    find_the_brokers(&pair);
    create_and_list_the_topic(&mut java, &pair);

    let maker = maker(&pair);
    let mut mirror = maker.start();
    let mut typed = vec!["this is the first message", "and this the second", "", "the end"];
    type_lines(&pair, &typed);
    arrived(&mut java, &pair, TOPIC, typed.len());
    assert!(mirror.interrupt().success(), "Ctrl-C ends in order");

    let destination = ["--bootstrap-server", &pair.destination.bootstrap];
    assert!(listed(&succeed(&[&["topics"], &destination[..], &["--list"]].concat()), TOPIC));
    assert_eq!(java.topics(&pair.destination)[TOPIC], (8, 2), "partitions and replication factor");
    assert_eq!(read_back(&pair, typed.len()), sorted(&typed));

    // Mirroring now and then, as the document says: the second run brings only what is new.
    let mut mirror = maker.start();
    type_lines(&pair, &["later"]);
    typed.push("later");
    arrived(&mut java, &pair, TOPIC, typed.len());
    let described = [source(&pair), vec!["--describe", "--group", GROUP]].concat();
    let described = eventually("the mirror's group without lag", || {
        let text = succeed(&[vec!["groups"], described.clone()].concat());
        text.contains(TOPIC).then_some(text)
    });
    assert!(mirror.terminate().success(), "{described}");
    let (written, found) = (java.dump(&pair.source, TOPIC), java.dump(&pair.destination, TOPIC));
    assert_eq!(found.len(), typed.len(), "nothing was repeated");
    assert_same_partitions(&written, &found);
}

/// The flags that name the source: by its ZooKeeper where it has one.
fn source(pair: &Pair) -> Vec<&str> {
    match &pair.source.zookeeper {
        Some(zookeeper) => vec!["--zookeeper", zookeeper],
        None => vec!["--bootstrap-server", &pair.source.bootstrap],
    }
}

fn maker(pair: &Pair) -> MirrorMaker {
    let maker = MirrorMaker::new(pair, GROUP, TOPIC)
        .with_streams(4)
        .with_producer("compression.type", "none");
    if pair.source.zookeeper.is_some() { maker.with_zookeeper(&pair.source) } else { maker }
}

fn find_the_brokers(pair: &Pair) {
    let Some(zookeeper) = &pair.source.zookeeper else { return };
    let found = succeed(&["discover", "brokers", "--from", "zookeeper", "--zookeeper", zookeeper]);
    let found: Vec<&str> = found.trim().split(',').collect();
    let wanted: Vec<&str> = pair.source.bootstrap.split(',').collect();
    assert_eq!(sorted(&found), sorted(&wanted));
}

fn create_and_list_the_topic(java: &mut Java, pair: &Pair) {
    let create = vec!["--create", "--topic", TOPIC, "--partitions", "8"];
    let factor = vec!["--replication-factor", "2"];
    succeed(&[vec!["topics"], source(pair), create, factor].concat());
    // Another broker than the one that created the topic learns of it a moment later.
    eventually("the topic in the list of the source", || {
        let topics = succeed(&[vec!["topics"], source(pair), vec!["--list"]].concat());
        listed(&topics, TOPIC).then_some(())
    });
    eventually("the topic as it was asked for", || {
        (java.topics(&pair.source).get(TOPIC) == Some(&(8, 2))).then_some(())
    });
}

fn listed(lines: &str, name: &str) -> bool {
    lines.lines().any(|line| line == name)
}

/// What `kmirror consume` reads from the beginning, in the order of the text.
fn read_back(pair: &Pair, count: usize) -> Vec<String> {
    let (count, destination) = (count.to_string(), pair.destination.bootstrap.as_str());
    let read = succeed(&[
        "consume",
        "--bootstrap-server",
        destination,
        "--topic",
        TOPIC,
        "--from-beginning",
        "--max-messages",
        &count,
    ]);
    sorted(&read.lines().collect::<Vec<_>>())
}

fn sorted(lines: &[&str]) -> Vec<String> {
    let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    lines.sort_unstable();
    lines
}

fn succeed(arguments: &[&str]) -> String {
    let output = kmirror::run(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "kmirror {arguments:?}: {}\n{errors}", output.status);
    String::from_utf8(output.stdout).expect("kmirror prints text")
}

fn type_lines(pair: &Pair, lines: &[&str]) {
    let mut child = Command::new(kmirror::binary())
        .args(["produce", "--bootstrap-server", &pair.source.bootstrap, "--topic", TOPIC])
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
