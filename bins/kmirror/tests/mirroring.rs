//! Runs mirrors as an operator does, between fake clusters on loopback: the documented
//! walk-through with its flags and files, kmirror's own file, signals, the window over HTTP, and
//! the demonstration.

mod common;
#[path = "common/zookeeper.rs"]
mod zookeeper;

use std::io::{BufRead, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use common::{Fake, Ran, kmirror};
use kmirror_fake::{Action, ApiKey, ResponseError};
use tempfile::TempDir;

/// How often something is looked at before it counts as failed: after a minute.
const LOOKS_MAX: u32 = 3_000;

fn poll(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..LOOKS_MAX {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{what}");
}

/// Two clusters and the files that name them.
struct Pair {
    source: Fake,
    destination: Fake,
    files: TempDir,
}

impl Pair {
    fn start(name: &str) -> Self {
        let source = Fake::start(&format!("{name}-source"), &[("testtopic", 8), ("other", 1)]);
        let destination = Fake::start(&format!("{name}-destination"), &[]);
        let pair = Self { source, destination, files: tempfile::tempdir().unwrap() };
        let servers = pair.source.cluster.bootstrap();
        pair.write("consumer.properties", &format!("bootstrap.servers={servers}\ngroup.id=g\n"));
        let servers = pair.destination.cluster.bootstrap();
        pair.write("producer.properties", &format!("bootstrap.servers={servers}\n"));
        pair
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.files.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn produce(&self, topic: &str, lines: std::ops::Range<u32>) {
        let text: String = lines.map(|number| format!("k{number}\tv{number}\n")).collect();
        let arguments = ["produce", "--topic", topic, "--property", "parse.key=true"];
        self.source.kmirror_with_input(&arguments, &text).succeeded();
    }

    fn mirror_maker(&self, arguments: &[&str]) -> Command {
        self.mirror("testtopic", arguments)
    }

    /// Mirrors the topic `other` until it is caught up.
    fn mirror_other(&self, arguments: &[&str]) -> Command {
        self.mirror("other", &[&["--until-caught-up"], arguments].concat())
    }

    fn mirror(&self, topic: &str, arguments: &[&str]) -> Command {
        let mut command = kmirror();
        command.current_dir(self.files.path()).arg("kafka.tools.MirrorMaker");
        command.args(["--consumer.config", "consumer.properties"]);
        command.args(["--producer.config", "producer.properties", "--whitelist", topic]);
        command.args(arguments);
        command
    }

    fn values(&self, end: &Fake, topic: &str) -> Vec<String> {
        let mut values = end.values(topic);
        values.sort_unstable();
        values
    }

    fn assert_mirrored(&self, topic: &str, count: usize) {
        let wanted = self.values(&self.source, topic);
        assert_eq!(wanted.len(), count);
        assert_eq!(self.values(&self.destination, topic), wanted);
    }
}

fn finish(mut child: Child) -> Ran {
    drop(child.stdin.take());
    Ran::from(child.wait_with_output().unwrap())
}

fn interrupt(child: &Child) {
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn the_documented_walk_through_mirrors_what_was_typed() {
    let pair = Pair::start("walk");
    pair.produce("testtopic", 0..200);
    pair.produce("other", 0..3);
    let child = pair.mirror_maker(&["--num.streams", "4"]).spawn().unwrap();
    poll("the first records arrive", || pair.destination.values("testtopic").len() == 200);
    pair.produce("testtopic", 200..300);
    poll("later records arrive", || pair.destination.values("testtopic").len() == 300);
    interrupt(&child);
    let ran = finish(child);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    pair.assert_mirrored("testtopic", 300);
    assert_eq!(pair.destination.kmirror(&["topics", "--list"]).succeeded(), "testtopic\n");
    for partition in 0..8 {
        let keys = |end: &Fake| -> Vec<_> {
            let records = end.cluster.records("testtopic", partition);
            records.into_iter().map(|record| record.key).collect()
        };
        assert_eq!(keys(&pair.source), keys(&pair.destination), "partition {partition}");
    }
    let described = pair.source.kmirror(&["groups", "--describe", "--group", "g"]).succeeded();
    let lag = described.lines().skip(2).map(|row| row.split_whitespace().nth(5).unwrap());
    assert!(lag.clone().count() == 8 && lag.clone().all(|lag| lag == "0"), "{described}");
}

/// A ZooKeeper in which the source's brokers are registered below `/kafka`.
fn registered(pair: &Pair, more: &[(&str, &str)]) -> String {
    let mut nodes = std::collections::BTreeMap::new();
    nodes.insert("/kafka/brokers/ids".to_owned(), String::new());
    for broker in pair.source.cluster.brokers() {
        let (host, port) = pair.source.cluster.address(broker).unwrap();
        let data = format!(r#"{{"endpoints":["PLAINTEXT://{host}:{port}"],"version":4}}"#);
        nodes.insert(format!("/kafka/brokers/ids/{broker}"), data);
    }
    nodes.extend(more.iter().map(|(path, data)| ((*path).to_owned(), (*data).to_owned())));
    format!("{}/kafka", zookeeper::serve(nodes))
}

#[test]
fn the_brokers_of_the_source_are_found_in_zookeeper() {
    let pair = Pair::start("zookeeper");
    pair.produce("testtopic", 0..30);
    let connect = registered(&pair, &[]);
    let file = format!("zookeeper.connect={connect}\ngroup.id=g\n");
    pair.write("consumer.properties", &file);
    let ran = finish(pair.mirror_maker(&["--until-caught-up"]).spawn().unwrap());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    pair.assert_mirrored("testtopic", 30);
    let found = kmirror()
        .args(["discover", "brokers", "--from", "zookeeper", "--zookeeper", &connect])
        .output();
    let found = Ran::from(found.unwrap()).succeeded();
    assert_eq!(found.trim().split(',').count(), pair.source.cluster.brokers().len());
}

#[test]
fn positions_that_an_old_consumer_kept_in_zookeeper_are_taken_over_once() {
    let pair = Pair::start("takeover");
    pair.produce("other", 0..20);
    let connect = registered(
        &pair,
        &[
            ("/kafka/consumers/g/offsets", ""),
            ("/kafka/consumers/g/offsets/other", ""),
            ("/kafka/consumers/g/offsets/other/0", "15"),
        ],
    );
    let file = format!("zookeeper.connect={connect}\ngroup.id=g\n");
    pair.write("consumer.properties", &file);
    for mirrored in [5, 8] {
        let ran = finish(pair.mirror_other(&[]).spawn().unwrap());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!(pair.destination.values("other").len(), mirrored, "{}", ran.stderr);
        pair.produce("other", 20..23);
    }
}

#[test]
fn a_take_over_that_cannot_be_committed_yet_is_waited_for() {
    let pair = Pair::start("takeover-later");
    pair.produce("other", 0..20);
    let nodes = [("/kafka/consumers/g/offsets", ""), ("/kafka/consumers/g/offsets/other", "")];
    let nodes = [&nodes[..], &[("/kafka/consumers/g/offsets/other/0", "15")]].concat();
    let file = format!("zookeeper.connect={}\ngroup.id=g\n", registered(&pair, &nodes));
    pair.write("consumer.properties", &file);
    let loading = pair.source.cluster.intercept(ApiKey::OffsetCommit, |_| {
        Action::Error(ResponseError::CoordinatorLoadInProgress)
    });
    let mut child = pair.mirror_other(&[]).spawn().unwrap();
    let log = child.stderr.take().unwrap();
    let mut told = std::io::BufReader::new(log).lines().map(Result::unwrap);
    let waits = told.find(|line| line.contains("COORDINATOR_LOAD_IN_PROGRESS"));
    drop(loading);
    let rest: Vec<String> = told.collect();
    let ran = finish(child);
    assert_eq!(ran.code, 0, "{rest:?}");
    assert_eq!(pair.destination.values("other").len(), 5, "{rest:?}");
    assert!(waits.is_some_and(|line| line.contains("trying again")));
}

#[test]
fn a_mirror_that_is_started_again_goes_on_where_it_was() {
    let pair = Pair::start("again");
    for round in 1..=2 {
        pair.produce("testtopic", 0..50);
        let ran = finish(pair.mirror_maker(&["--until-caught-up"]).spawn().unwrap());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        pair.assert_mirrored("testtopic", 50 * round);
    }
}

#[test]
fn a_file_with_two_flows_runs_both_and_renames() {
    let pair = Pair::start("native");
    pair.produce("testtopic", 0..40);
    pair.produce("other", 0..7);
    let file = pair.write(
        "kmirror.toml",
        &format!(
            "[clusters.a]\nbootstrap = \"{}\"\n[clusters.b]\nbootstrap = \"{}\"\n\
             [[flows]]\nsource = \"a\"\ndestination = \"b\"\ntopics = \"testtopic\"\n\
             until_caught_up = true\n\
             [[flows]]\nname = \"two\"\nsource = \"a\"\ndestination = \"b\"\ntopics = [\"oth.*\"]\n\
             prefix = \"a.\"\nuntil_caught_up = true\nownership = \"alone\"\n",
            pair.source.cluster.bootstrap(),
            pair.destination.cluster.bootstrap()
        ),
    );
    let child = kmirror().arg("run").arg(file).spawn().unwrap();
    let ran = finish(child);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    pair.assert_mirrored("testtopic", 40);
    assert_eq!(pair.values(&pair.destination, "a.other"), pair.values(&pair.source, "other"));
}

fn ask(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn status(port: u16) -> serde_json::Value {
    let answer = ask(port, "/status").unwrap_or_default();
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).unwrap_or_default()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn metrics_and_status_are_served_while_it_runs() {
    let pair = Pair::start("http");
    pair.produce("testtopic", 0..20);
    let port = free_port();
    let child = pair.mirror_maker(&["--http", &port.to_string()]).spawn().unwrap();
    poll("it is ready", || {
        ask(port, "/ready").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    });
    assert!(ask(port, "/live").unwrap().contains("live"));
    poll("its status counts the records", || status(port)["flows"]["g"]["totals"]["records"] == 20);
    let metrics = ask(port, "/metrics").unwrap();
    assert!(metrics.contains("kmirror_") && metrics.trim_end().ends_with("# EOF"), "{metrics}");
    interrupt(&child);
    assert_eq!(finish(child).code, 0);
}

#[test]
fn a_second_signal_ends_at_once_and_loses_nothing() {
    let pair = Pair::start("abort");
    pair.produce("testtopic", 0..10);
    let port = free_port();
    let child = pair.mirror_maker(&["--http", &port.to_string()]).spawn().unwrap();
    poll("the first records arrive", || pair.destination.values("testtopic").len() == 10);
    for broker in pair.destination.cluster.brokers() {
        pair.destination.cluster.freeze_broker(broker).unwrap();
    }
    pair.produce("testtopic", 10..20);
    interrupt(&child);
    poll("it drains", || status(port)["flows"]["g"]["phase"] == "draining");
    interrupt(&child);
    let ran = finish(child);
    assert_eq!(ran.code, 130, "{}", ran.stderr);
    assert!(ran.stderr.contains("help: nothing is lost"), "{}", ran.stderr);
    for broker in pair.destination.cluster.brokers() {
        pair.destination.cluster.thaw_broker(broker).unwrap();
    }
    let ran = finish(pair.mirror_maker(&["--until-caught-up"]).spawn().unwrap());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let mut mirrored = pair.values(&pair.destination, "testtopic");
    mirrored.dedup();
    assert_eq!(mirrored, pair.values(&pair.source, "testtopic"));
}

/// A pair whose position was overtaken: offsets 20 to 29 of `other` were never mirrored and are
/// gone.
fn overtaken(name: &str) -> Pair {
    let pair = Pair::start(name);
    pair.produce("other", 0..20);
    let mirrored = finish(pair.mirror_other(&[]).spawn().unwrap());
    assert_eq!(mirrored.code, 0, "{}", mirrored.stderr);
    pair.produce("other", 20..40);
    pair.source.cluster.delete_records("other", 0, 30).unwrap();
    pair
}

#[test]
fn records_lost_to_retention_stop_the_drop_in_with_the_exact_range() {
    let pair = overtaken("lost");
    let ran = finish(pair.mirror_other(&[]).spawn().unwrap());
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    assert!(ran.stderr.contains("offsets 20 to 29 are gone"), "{}", ran.stderr);
    assert_eq!(pair.destination.values("other").len(), 20);
}

#[test]
fn a_reset_that_the_file_names_goes_on_past_lost_records_and_names_them() {
    let pair = overtaken("reset");
    let servers = pair.source.cluster.bootstrap();
    let reset = "auto.offset.reset=earliest";
    let file = format!("bootstrap.servers={servers}\ngroup.id=g\n{reset}\n");
    pair.write("consumer.properties", &file);
    let ran = finish(pair.mirror_other(&[]).spawn().unwrap());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(pair.destination.values("other").len(), 30);
    assert!(ran.stderr.contains("kmirror::ledger"), "{}", ran.stderr);
    assert!(ran.stderr.contains("offsets 20 to 29 are gone"), "{}", ran.stderr);
}

#[test]
fn a_partition_that_stopped_alone_is_named_by_the_exit_code() {
    let pair = overtaken("alone");
    let file = pair.write(
        "kmirror.toml",
        &format!(
            "[clusters.a]\nbootstrap = \"{}\"\n[clusters.b]\nbootstrap = \"{}\"\n\
             [[flows]]\nsource = \"a\"\ndestination = \"b\"\ntopics = \"other|test.*\"\n\
             group = \"g\"\nuntil_caught_up = true\n",
            pair.source.cluster.bootstrap(),
            pair.destination.cluster.bootstrap()
        ),
    );
    pair.produce("testtopic", 0..10);
    let ran = finish(kmirror().arg("run").arg(file).spawn().unwrap());
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    assert!(ran.stderr.contains("other-0: offsets 20 to 29 are gone"), "{}", ran.stderr);
    pair.assert_mirrored("testtopic", 10);
}

#[test]
fn a_cluster_is_not_mirrored_onto_itself() {
    let pair = Pair::start("same");
    let servers = pair.source.cluster.bootstrap();
    pair.write("producer.properties", &format!("bootstrap.servers={servers}\n"));
    let ran = finish(pair.mirror_maker(&[]).spawn().unwrap());
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("are the same cluster same-source"), "{}", ran.stderr);
}

#[test]
fn the_demonstration_verifies_every_record_and_finds_a_lost_one() {
    let demo = |arguments: &[&str]| {
        finish(kmirror().args(["demo", "--records", "6000"]).args(arguments).spawn().unwrap())
    };
    let told = demo(&[]).succeeded();
    assert!(told.contains("verified 6000 records"), "{told}");
    let told = demo(&["--faults"]).succeeded();
    assert!(told.contains("verified 6000 records"), "{told}");
    let tampered = demo(&["--tamper"]);
    assert_eq!(tampered.code, 3, "{}{}", tampered.stdout, tampered.stderr);
    assert!(tampered.stderr.contains("orders-0: "), "{}", tampered.stderr);
}

#[test]
fn positions_that_cannot_be_committed_at_the_end_fail_it_and_are_named() {
    let pair = Pair::start("uncommitted");
    pair.produce("other", 0..10);
    let refusal = Action::Error(ResponseError::TopicAuthorizationFailed);
    let _refused = pair.source.cluster.intercept(ApiKey::OffsetCommit, move |_| refusal.clone());
    let ran = finish(pair.mirror_other(&[]).spawn().unwrap());
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("could not be committed at the end: other-0 at 10"),
        "{}",
        ran.stderr
    );
    pair.assert_mirrored("other", 10);
}
