//! What cannot be used is refused before anything is read, with a message that names it and an exit
//! code that says so.

use std::{fs, io::Write as _, net::TcpListener, thread};

use kmirror_tests::{Flow, clusters::pair, kmirror};

const USAGE: i32 = 2;

fn refused(consumer: Option<&str>, producer: &str, flags: &[&str]) -> String {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    if let Some(text) = consumer {
        fs::write(path("consumer.properties"), text).expect("a file");
    }
    fs::write(path("producer.properties"), producer).expect("a file");
    let (consumer, producer) = (path("consumer.properties"), path("producer.properties"));
    let files = ["--consumer.config", &consumer, "--producer.config", &producer];
    let output = kmirror::run(&[&["mirror-maker"], &files[..], flags].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(USAGE), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

fn good_consumer() -> String {
    format!("bootstrap.servers={}\ngroup.id=input\n", pair().source.bootstrap)
}

fn good_producer() -> String {
    format!("bootstrap.servers={}\n", pair().destination.bootstrap)
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn a_missing_file_is_named() {
    let said = refused(None, &good_producer(), &["--whitelist", "t"]);
    assert!(said.contains("consumer.properties"), "{said}");
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn a_file_without_brokers_or_group_is_refused_by_the_missing_key() {
    let said = refused(Some("group.id=g\n"), &good_producer(), &["--whitelist", "t"]);
    assert!(said.contains("bootstrap.servers"), "{said}");
    let said = refused(Some(&good_consumer()), "", &["--whitelist", "t"]);
    assert!(said.contains("bootstrap.servers"), "{said}");
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn a_regular_expression_that_is_none_is_shown() {
    let said = refused(Some(&good_consumer()), &good_producer(), &["--whitelist", "a[b"]);
    assert!(said.contains("a[b"), "{said}");
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn a_flag_that_is_none_or_a_number_that_is_none_is_shown() {
    let flags = ["--whitelist", "t", "--no-such-flag"];
    let said = refused(Some(&good_consumer()), &good_producer(), &flags);
    assert!(said.contains("--no-such-flag"), "{said}");
    let flags = ["--whitelist", "t", "--num.streams", "many"];
    let said = refused(Some(&good_consumer()), &good_producer(), &flags);
    assert!(said.contains("many"), "{said}");
    let said = refused(Some(&good_consumer()), &good_producer(), &[]);
    assert!(said.contains("--include") || said.contains("--whitelist"), "{said}");
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn a_value_of_the_wrong_kind_is_refused_with_its_key() {
    let consumer = good_consumer() + "session.timeout.ms=soon\n";
    let said = refused(Some(&consumer), &good_producer(), &["--whitelist", "t"]);
    assert!(said.contains("session.timeout.ms") && said.contains(":3"), "{said}");
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn a_source_that_is_also_the_destination_is_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let source = &pair().source.bootstrap;
    fs::write(path("c"), format!("bootstrap.servers={source}\ngroup.id=g\n")).expect("a file");
    fs::write(path("p"), format!("bootstrap.servers={source}\n")).expect("a file");
    let (consumer, producer) = (path("c"), path("p"));
    let output = kmirror::run(&[
        "mirror-maker",
        "--consumer.config",
        &consumer,
        "--producer.config",
        &producer,
        "--whitelist",
        "t",
    ]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("same cluster") || said.contains("itself"), "{said}");
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn another_cluster_than_the_pinned_one_is_refused_at_either_end() {
    for end in ["source", "destination"] {
        let flow = Flow::new(pair(), "input", "t").with_pinned(end, "another-cluster");
        let mut mirror = flow.start();
        let status = mirror.wait();
        let said = mirror.log();
        assert!(!status.success(), "{said}");
        assert!(said.contains(end) && said.contains("not another-cluster"), "{said}");
    }
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn a_port_where_nobody_speaks_kafka_is_refused_by_its_address() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // Whoever asked may be gone.
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        }
    });
    let output = kmirror::run(&["topics", "--list", "--bootstrap-server", &address]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    assert!(said.contains(&address), "{said}");
}
