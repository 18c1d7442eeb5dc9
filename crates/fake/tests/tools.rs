//! Other people's clients use the fake: kcat (librdkafka) and the tools in Kafka's own jars.
//!
//! Ignored by default because the tools must be installed: `cargo test -- --ignored`. They fail,
//! not skip, without them. The Java tests read the folder of Kafka's jars from `KMIRROR_JARS`.

use std::process::{Output, Stdio};
use std::time::Duration;

use kmirror_fake::{Cluster, Codec};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// A JVM on a busy machine takes a while.
const PATIENCE: Duration = Duration::from_secs(90);

/// Runs a program to its end with this input; fails the test unless it succeeds.
async fn run(mut command: Command, input: &str) -> String {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().expect("the program is installed");
    let mut stdin = child.stdin.take().unwrap();
    let feed = async {
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
    };
    let both = async { tokio::join!(feed, child.wait_with_output()).1 };
    let output = tokio::time::timeout(PATIENCE, both).await.expect("ends in time").unwrap();
    let Output { status, stdout, stderr } = output;
    let (stdout, stderr) =
        (String::from_utf8(stdout).unwrap(), String::from_utf8_lossy(&stderr).into_owned());
    assert!(status.success(), "{command:?}: {stdout}\n{stderr}");
    stdout
}

fn kcat(cluster: &Cluster, arguments: &[&str]) -> Command {
    let mut command = Command::new("kcat");
    command.args(["-b", &cluster.bootstrap(), "-q"]).args(arguments);
    command
}

fn java(cluster: &Cluster, class: &str, arguments: &[&str]) -> Command {
    let libs =
        std::env::var("KMIRROR_JARS").expect("KMIRROR_JARS names the folder of Kafka's jars");
    let mut command = Command::new("java");
    command.env("CLASSPATH", format!("{libs}/*")).args(["-Xmx256m", class]);
    command.args(["--bootstrap-server", &cluster.bootstrap()]).args(arguments);
    command
}

fn lines(count: usize) -> String {
    (0..count).map(|n| format!("key-{n}:value {n}\n")).collect()
}

#[tokio::test]
#[ignore = "needs kcat"]
async fn kcat_reads_back_what_it_wrote_in_every_codec() {
    let cluster = Cluster::builder().brokers(3).start().await.unwrap();
    for (name, codec) in [
        ("none", Codec::None),
        ("gzip", Codec::Gzip),
        ("snappy", Codec::Snappy),
        ("lz4", Codec::Lz4),
        ("zstd", Codec::Zstd),
    ] {
        cluster.create_topic(name, 1);
        let header = ["-H", "twice=1", "-H", "twice=2"];
        let mut produce = kcat(&cluster, &["-P", "-t", name, "-K:", "-z", name]);
        produce.args(header);
        run(produce, &lines(3000)).await;
        let consume = ["-C", "-t", name, "-o", "beginning", "-e", "-f", "%k:%s\n"];
        assert_eq!(run(kcat(&cluster, &consume), "").await, lines(3000), "{name}");
        // librdkafka sends a small batch as it is when compressing would not shrink it.
        let batches = cluster.batches(name, 0);
        assert!(batches.iter().any(|batch| batch.header.codec() == Ok(codec)), "{name}");
        assert_eq!(cluster.records(name, 0)[7].headers.len(), 2);
    }
}

#[tokio::test]
#[ignore = "needs kcat"]
async fn kcat_consumes_in_a_group_and_commits() {
    let cluster = Cluster::builder().brokers(2).topic("t", 2).start().await.unwrap();
    run(kcat(&cluster, &["-P", "-t", "t", "-K:"]), &lines(500)).await;
    let consume = ["-G", "g", "-X", "auto.offset.reset=earliest", "-e", "t"];
    let read = run(kcat(&cluster, &consume), "").await;
    assert_eq!(read.lines().count(), 500);
    let committed = |p| cluster.committed_offset("g", "t", p).unwrap_or(0);
    assert_eq!(committed(0) + committed(1), 500);
    assert_eq!(cluster.group("g").unwrap().state, "Empty");
}

#[tokio::test]
#[ignore = "needs kcat"]
async fn kcat_follows_a_moving_leader_and_a_transactional_producer() {
    let cluster = Cluster::builder().brokers(3).topic("t", 1).start().await.unwrap();
    run(kcat(&cluster, &["-P", "-t", "t", "-K:"]), &lines(10)).await;
    let (leader, _) = cluster.leader("t", 0).unwrap();
    cluster.stop_broker(leader).unwrap();
    let produce = ["-P", "-t", "t", "-K:", "-X", "enable.idempotence=true"];
    run(kcat(&cluster, &produce), &lines(10)).await;
    let produce = ["-P", "-t", "t", "-K:", "-X", "transactional.id=tx"];
    run(kcat(&cluster, &produce), &lines(10)).await;
    let consume = ["-C", "-t", "t", "-o", "beginning", "-e"];
    assert_eq!(run(kcat(&cluster, &consume), "").await.lines().count(), 30);
    assert_eq!(cluster.committed_records("t", 0).len(), 30);
}

#[tokio::test]
#[ignore = "needs java and Kafka's jars"]
async fn kafkas_own_tools_create_produce_consume_and_describe() {
    let cluster = Cluster::builder().brokers(3).start().await.unwrap();
    let topics = "org.apache.kafka.tools.TopicCommand";
    let create = ["--create", "--topic", "t", "--partitions", "4", "--replication-factor", "2"];
    run(java(&cluster, topics, &create), "").await;
    assert_eq!(cluster.partition_count("t"), 4);
    let described = run(java(&cluster, topics, &["--describe", "--topic", "t"]), "").await;
    assert!(described.contains("PartitionCount: 4\tReplicationFactor: 2"), "{described}");

    let produce = ["--topic", "t", "--compression-codec", "zstd"];
    run(java(&cluster, "kafka.tools.ConsoleProducer", &produce), &lines(400)).await;
    let consumer = "org.apache.kafka.tools.consumer.ConsoleConsumer";
    let consume = ["--topic", "t", "--from-beginning", "--group", "g", "--max-messages", "400"];
    let read = run(java(&cluster, consumer, &consume), "").await;
    let mut read: Vec<&str> = read.lines().collect();
    read.sort_unstable();
    let written = lines(400);
    let mut written: Vec<&str> = written.lines().collect();
    written.sort_unstable();
    assert_eq!(read, written);

    let ends = run(java(&cluster, "org.apache.kafka.tools.GetOffsetShell", &["--topic", "t"]), "");
    let total: i64 = ends.await.lines().map(end_offset).sum();
    assert_eq!(total, 400);
    let groups = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
    let described = run(java(&cluster, groups, &["--describe", "--group", "g"]), "").await;
    let rows = described.lines().filter(|line| line.starts_with("g "));
    assert_eq!(rows.count(), 4, "{described}");
    let listed = run(java(&cluster, groups, &["--list", "--state"]), "").await;
    assert!(listed.lines().any(|l| l.starts_with('g') && l.contains("Empty")), "{listed}");
}

fn end_offset(line: &str) -> i64 {
    line.rsplit(':').next().unwrap().parse().unwrap()
}

#[tokio::test]
#[ignore = "needs java and Kafka's jars"]
async fn kafkas_own_tools_change_settings_offsets_and_records() {
    let cluster = Cluster::builder().topic("t", 1).start().await.unwrap();
    let lines: Vec<kmirror_fake::Record> =
        (0..20).map(|n| kmirror_fake::Record::value(n.to_string())).collect();
    for line in lines {
        cluster.produce_direct("t", 0, line).unwrap();
    }
    cluster.commit_offset("g", "t", 0, 20).unwrap();
    let configs = "kafka.admin.ConfigCommand";
    let topic = ["--entity-type", "topics", "--entity-name", "t"];
    let mut alter = java(&cluster, configs, &["--alter", "--add-config", "retention.ms=1234"]);
    alter.args(topic);
    run(alter, "").await;
    assert_eq!(cluster.topic_config("t", "retention.ms").as_deref(), Some("1234"));
    let mut describe = java(&cluster, configs, &["--describe"]);
    describe.args(topic);
    assert!(run(describe, "").await.contains("retention.ms=1234"));

    let groups = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
    let reset =
        ["--group", "g", "--topic", "t", "--reset-offsets", "--to-offset", "5", "--execute"];
    run(java(&cluster, groups, &reset), "").await;
    assert_eq!(cluster.committed_offset("g", "t", 0), Some(5));

    let folder = std::env::temp_dir().join(format!("kmirror-fake-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("delete.json");
    let plan = r#"{"partitions":[{"topic":"t","partition":0,"offset":7}],"version":1}"#;
    std::fs::write(&file, plan).unwrap();
    let delete = ["--offset-json-file", file.to_str().unwrap()];
    run(java(&cluster, "org.apache.kafka.tools.DeleteRecordsCommand", &delete), "").await;
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(cluster.offsets("t", 0).unwrap().start, 7);

    run(java(&cluster, groups, &["--delete", "--group", "g"]), "").await;
    assert_eq!(cluster.group("g"), None);
    let topics = "org.apache.kafka.tools.TopicCommand";
    run(java(&cluster, topics, &["--alter", "--topic", "t", "--partitions", "3"]), "").await;
    assert_eq!(cluster.partition_count("t"), 3);
    run(java(&cluster, topics, &["--delete", "--topic", "t"]), "").await;
    assert_eq!(cluster.topics(), [""; 0]);
}
