//! How a mirror starts, as an operator sees it: where partitions begin, clusters that do not answer
//! yet, and what the window over HTTP says meanwhile.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Fake, Ran, kmirror};
use tempfile::TempDir;

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(60);

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let mut looks = PATIENCE.as_millis() / LOOK.as_millis();
    while !is_so() {
        assert!(looks > 0, "{what}");
        looks -= 1;
        std::thread::sleep(LOOK);
    }
}

/// Where nobody listens.
const NOBODY: &str = "127.0.0.1:1";

const LOOK: Duration = Duration::from_millis(20);

/// A directory with the two files of a mirror.
struct Files(TempDir);

impl Files {
    fn new(source: &str, destination: &str, consumer: &str) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        let consumer = format!("bootstrap.servers={source}\ngroup.id=g\n{consumer}\n");
        std::fs::write(files.0.path().join("consumer.properties"), consumer).unwrap();
        let producer = format!("bootstrap.servers={destination}\n");
        std::fs::write(files.0.path().join("producer.properties"), producer).unwrap();
        files
    }

    fn mirror(&self, arguments: &[&str]) -> Child {
        let mut command = kmirror();
        command.current_dir(self.0.path()).arg("mirror-maker").args(["--include", "t"]);
        command.args(["--consumer.config", "consumer.properties"]);
        command.args(["--producer.config", "producer.properties"]).args(arguments);
        command.spawn().unwrap()
    }
}

fn finish(mut child: Child) -> Ran {
    drop(child.stdin.take());
    Ran::from(child.wait_with_output().unwrap())
}

/// What the child writes to its standard error, as it comes.
fn log_of(child: &mut Child) -> Arc<Mutex<String>> {
    let logged = Arc::new(Mutex::new(String::new()));
    let (stderr, shared) = (child.stderr.take().unwrap(), Arc::clone(&logged));
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines() {
            let mut logged = shared.lock().unwrap();
            logged.push_str(&line.unwrap());
            logged.push('\n');
        }
    });
    logged
}

/// Passes connections to a port on to a broker.
fn forward(port: u16, broker: (String, u16)) {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    std::thread::spawn(move || {
        for from in listener.incoming() {
            let (from, to) = (from.unwrap(), TcpStream::connect((&*broker.0, broker.1)).unwrap());
            for (mut from, mut to) in
                [(from.try_clone().unwrap(), to.try_clone().unwrap()), (to, from)]
            {
                std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            }
        }
    });
}

fn interrupt(child: &Child) {
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn ask(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn fill(fake: &Fake, records: std::ops::Range<u32>) {
    let text: String = records.map(|number| format!("{number}\n")).collect();
    fake.kmirror_with_input(&["produce", "--topic", "t"], &text).succeeded();
}

#[test]
fn every_word_of_auto_offset_reset_means_what_it_means_to_kafkas_consumer() {
    // The word, how many of ten records arrive without a position, and how many of 20 when the
    // first 15 are gone and the position is 10; none: the partition stops.
    for (word, fresh, overtaken) in [
        ("earliest", Some(10), Some(15)),
        ("smallest", Some(10), Some(15)),
        ("latest", Some(0), Some(5)),
        ("none", None, None),
    ] {
        let source = Fake::start(&format!("{word}-source"), &[("t", 1)]);
        let destination = Fake::start(&format!("{word}-destination"), &[]);
        let (from, to) = (source.cluster.bootstrap(), destination.cluster.bootstrap());
        let mirror = |word: &str| {
            let files = Files::new(&from, &to, &format!("auto.offset.reset={word}"));
            finish(files.mirror(&["--until-caught-up"]))
        };
        let arrived = || destination.values("t").len();
        fill(&source, 0..10);
        let ran = mirror(word);
        assert_eq!(ran.code == 0, fresh.is_some(), "{word}: {}", ran.stderr);
        assert_eq!(ran.stderr.contains("no position is kept"), fresh.is_none(), "{word}");
        assert_eq!(arrived(), fresh.unwrap_or(0), "{word}");
        // A position for all of them, from which the source's retention takes a part away.
        if fresh.is_none() {
            let reset = ["groups", "--reset-offsets", "--group", "g", "--topic", "t"];
            source.kmirror(&[&reset[..], &["--to-latest", "--execute"]].concat()).succeeded();
        }
        let before = arrived();
        fill(&source, 10..20);
        source.cluster.delete_records("t", 0, 15).unwrap();
        let ran = mirror(word);
        assert_eq!(ran.code == 0, overtaken.is_some(), "{word}: {}", ran.stderr);
        assert!(ran.stderr.contains("offsets 10 to 14 are gone"), "{word}: {}", ran.stderr);
        assert_eq!(arrived(), before + overtaken.map_or(0, |_| 5), "{word}");
    }
}

#[test]
fn clusters_that_do_not_answer_are_waited_for_and_named() {
    let source = Fake::start("late-source", &[("t", 1)]);
    let destination = Fake::start("late-destination", &[]);
    fill(&source, 0..10);
    let later = free_port();
    let servers = format!("127.0.0.1:{later}");
    let files = Files::new(&servers, &destination.cluster.bootstrap(), "");
    let port = free_port();
    let mut child = files.mirror(&["--until-caught-up", "--http", &port.to_string()]);
    let logged = log_of(&mut child);
    until("it says what it waits for", || {
        ask(port, "/ready").is_some_and(|answer| {
            answer.starts_with("HTTP/1.1 503") && answer.contains("source cluster: reach the clu")
        })
    });
    assert!(ask(port, "/live").unwrap().starts_with("HTTP/1.1 200"));
    assert!(ask(port, "/status").unwrap().contains(r#""phase":"connecting""#));
    assert!(ask(port, "/metrics").unwrap().starts_with("HTTP/1.1 200"));
    until("it is logged", || logged.lock().unwrap().contains("clusters not reached yet"));
    forward(later, source.cluster.address(1).unwrap());
    let code = finish(child).code;
    let logged = logged.lock().unwrap();
    assert_eq!(code, 0, "{logged}");
    assert_eq!(destination.values("t").len(), 10);
    let line = logged.lines().find(|line| line.contains("clusters not reached yet")).unwrap();
    for told in [&servers, "waited_seconds", "source cluster: reach the cluster", "help"] {
        assert!(line.contains(told), "{told}: {line}");
    }
}

#[test]
fn one_signal_ends_the_wait_for_a_cluster() {
    for (arguments, code) in [(&[][..], 0), (&["--until-caught-up"][..], 4)] {
        let files = Files::new(NOBODY, NOBODY, "");
        let port = free_port();
        let child = files.mirror(&[arguments, &["--http", &port.to_string()]].concat());
        until("it waits", || ask(port, "/ready").is_some());
        interrupt(&child);
        let ran = finish(child);
        assert_eq!(ran.code, code, "{}", ran.stderr);
    }
}

#[test]
fn the_wait_for_a_cluster_has_the_bound_that_was_asked_for() {
    let ran = finish(Files::new(NOBODY, NOBODY, "").mirror(&["--connect-timeout", "2s"]));
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let told = [
        "error: flow g: not connected within 2s: source cluster: ",
        "Connection refused",
        "help: ",
    ];
    told.iter().for_each(|told| assert!(ran.stderr.contains(told), "{told}: {}", ran.stderr));
}

#[test]
fn what_does_not_speak_kafka_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let servers = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4];
            let _ = stream.read_exact(&mut request);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let ran = finish(Files::new(&servers, &servers, "").mirror(&[]));
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("does not speak plain Kafka"), "{}", ran.stderr);
}

#[test]
fn a_flow_whose_cluster_is_away_does_not_keep_the_others_from_starting() {
    let source = Fake::start("two-source", &[("t", 1)]);
    let destination = Fake::start("two-destination", &[]);
    fill(&source, 0..10);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("kmirror.toml");
    let text = format!(
        "[clusters.away]\nbootstrap = \"{NOBODY}\"\n[clusters.a]\nbootstrap = \"{}\"\n\
         [clusters.b]\nbootstrap = \"{}\"\n\
         [[flows]]\nname = \"waits\"\nsource = \"away\"\ndestination = \"b\"\ntopics = \"t\"\n\
         [[flows]]\nname = \"flows\"\nsource = \"a\"\ndestination = \"b\"\ntopics = \"t\"\n",
        source.cluster.bootstrap(),
        destination.cluster.bootstrap()
    );
    std::fs::write(&file, text).unwrap();
    let port = free_port();
    let child =
        kmirror().arg("run").arg(&file).args(["--http", &port.to_string()]).spawn().unwrap();
    until("the second flow mirrors", || destination.values("t").len() == 10);
    let answer = ask(port, "/ready").unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("flow waits: "), "{answer}");
    interrupt(&child);
    assert_eq!(finish(child).code, 0);
}

#[test]
fn a_mirror_is_ready_once_its_partitions_have_begun_and_not_before() {
    let source = Fake::start("ready-source", &[("t", 1)]);
    let destination = Fake::start("ready-destination", &[]);
    let held = source.cluster.intercept(kmirror_fake::ApiKey::JoinGroup, |_| {
        kmirror_fake::Action::Error(kmirror_fake::ResponseError::CoordinatorLoadInProgress)
    });
    let (from, to) = (source.cluster.bootstrap(), destination.cluster.bootstrap());
    let files = Files::new(&from, &to, "");
    let port = free_port();
    let child = files.mirror(&["--http", &port.to_string()]);
    until("it runs", || ask(port, "/status").is_some_and(|it| it.contains(r#""phase":"running""#)));
    until("it knows its topics", || {
        ask(port, "/ready").is_some_and(|answer| answer.contains("streams own nothing yet"))
    });
    assert!(ask(port, "/ready").unwrap().starts_with("HTTP/1.1 503"));
    drop(held);
    until("it is ready", || {
        ask(port, "/ready").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    });
    assert!(ask(port, "/status").unwrap().contains(r#""state":"running""#));
    interrupt(&child);
    assert_eq!(finish(child).code, 0);
}

#[test]
fn half_sent_requests_do_not_keep_others_from_an_answer() {
    let port = free_port();
    let files = Files::new(NOBODY, NOBODY, "");
    let child = files.mirror(&["--http", &port.to_string()]);
    until("it listens", || ask(port, "/live").is_some());
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let half_sent: Vec<_> = (0..80)
        .map(|_| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET /live HT").unwrap();
            stream
        })
        .collect();
    let (answered, answer) = sync_channel(1);
    std::thread::spawn(move || answered.send(ask(port, "/live")));
    // A connection may last for a minute; those that send no request may not.
    let answer = answer.recv_timeout(Duration::from_secs(40)).unwrap();
    assert!(answer.unwrap().starts_with("HTTP/1.1 200"));
    drop(half_sent);
    interrupt(&child);
    finish(child);
}
