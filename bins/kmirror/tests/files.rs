//! Files and command lines that MirrorMaker was run with, from its first version to its last: each
//! is read without a refusal, and nothing in it is unknown. Keys and values are those of Kafka's
//! own samples, its wiki, and the guides of those who shipped it; addresses are made up.

use std::process::{Command, Output};

/// A way that MirrorMaker was run: the consumers' files, the producer's, and the flags.
#[derive(Clone, Copy)]
struct Case<'text> {
    name: &'text str,
    consumers: &'text [&'text str],
    producer: &'text str,
    flags: &'text [&'text str],
}

const CASES: &[Case<'static>] = &[
    Case {
        name: "Kafka's wiki: two sources, one destination",
        consumers: &[
            "zookeeper.connect=zk1:2181\nzookeeper.connection.timeout.ms=1000000\n\
             group.id=test-consumer-group\n",
            "zookeeper.connect=zk2:2181/kafka\ngroup.id=test-consumer-group\n\
             consumer.timeout.ms=-1\n",
        ],
        producer: "metadata.broker.list=localhost:9092\nproducer.type=async\n\
                   compression.codec=none\nserializer.class=kafka.serializer.DefaultEncoder\n\
                   queue.enqueueTimeout.ms=-1\n",
        flags: &["--num.streams", "2", "--whitelist=.*"],
    },
    Case {
        name: "Kafka 0.8's own samples",
        consumers: &["zookeeper.connect=127.0.0.1:2181\nzookeeper.connection.timeout.ms=6000\n\
                      group.id=test-consumer-group\nconsumer.timeout.ms=5000\n"],
        producer: "metadata.broker.list=localhost:9092\n\
                   partitioner.class=kafka.producer.DefaultPartitioner\nproducer.type=sync\n\
                   compression.codec=0\nserializer.class=kafka.serializer.DefaultEncoder\n\
                   compressed.topics=\nqueue.buffering.max.ms=5000\n\
                   queue.buffering.max.messages=10000\nqueue.enqueue.timeout.ms=-1\n\
                   batch.num.messages=200\n",
        flags: &["--num.producers", "2", "--queue.size", "10000", "--blacklist", "secret.*"],
    },
    Case {
        name: "no data loss, 0.8.2 to 0.10",
        consumers: &["zookeeper.connect=zk:2181\ngroup.id=mirror\nauto.commit.enabled=false\n\
                      auto.offset.reset=smallest\nfetch.message.max.bytes=2097152\n\
                      socket.receive.buffer.bytes=1048576\nsocket.send.buffer.bytes=1048576\n\
                      rebalance.max.retries=10\nshallow.iterator.enable=true\n\
                      offsets.storage=kafka\ndual.commit.enabled=false\n"],
        producer: "bootstrap.servers=b:9092\nblock.on.buffer.full=true\nretries=2147483647\n\
                   max.in.flight.requests.per.connection=1\nacks=all\ntimeout.ms=30000\n\
                   metadata.fetch.timeout.ms=60000\nrequest.timeout.ms=2147483647\n",
        flags: &["--new.producer", "--abort.on.send.failure", "True", "--whitelist", "a,b"],
    },
    HDINSIGHT,
    Case {
        name: "Kafka 1 and 2's own samples, with the new consumer",
        consumers: &["bootstrap.servers=localhost:9092\ngroup.id=test-consumer-group\n\
                      auto.offset.reset=latest\nexclude.internal.topics=true\n\
                      client.id=mirror_maker_consumer\nenable.auto.commit=false\n\
                      partition.assignment.strategy=\
                      org.apache.kafka.clients.consumer.RoundRobinAssignor\n"],
        producer: "bootstrap.servers=localhost:9092\ncompression.type=none\npartitioner.class=\n\
                   request.timeout.ms=30000\nmax.block.ms=60000\nlinger.ms=0\n\
                   max.request.size=1048576\nbatch.size=16384\nbuffer.memory=33554432\n\
                   retry.backoff.ms=0\nreconnect.backoff.max.ms=0\n",
        flags: &["--new.consumer", "--whitelist", "\".*\"", "--offset.commit.interval.ms", "5000"],
    },
    Case {
        name: "filled in from a form: both lists, one of them empty",
        consumers: &["bootstrap.servers=a:9092\ngroup.id=g\n"],
        producer: "bootstrap.servers=b:9092\n",
        flags: &["--whitelist", "orders.*", "--blacklist", "", "--abort.on.send.failure=FALSE"],
    },
    Case {
        name: "Kafka 3, at what Java takes at most",
        consumers: &["bootstrap.servers=PLAINTEXT://a:9092\ngroup.id=g\n\
                      max.poll.interval.ms=2147483647\nfetch.max.wait.ms=2147483647\n\
                      fetch.max.bytes=2147483647\nfetch.min.bytes=2147483647\n\
                      max.partition.fetch.bytes=2147483647\nmetadata.max.age.ms=0\n"],
        producer: "bootstrap.servers=b:9092\ndelivery.timeout.ms=2147483647\n\
                   request.timeout.ms=2147483647\nmax.block.ms=9223372036854775807\n\
                   max.request.size=2147483647\nmax.in.flight.requests.per.connection=100\n",
        flags: &["--include", "orders|payments"],
    },
];

impl Case<'_> {
    fn check(&self) -> Output {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_kmirror"));
        command.current_dir(directory.path()).args(["kafka.tools.MirrorMaker", "--check"]);
        for (number, text) in self.consumers.iter().enumerate() {
            let name = format!("consumer{number}.properties");
            std::fs::write(directory.path().join(&name), text).unwrap();
            command.args(["--consumer.config", &name]);
        }
        std::fs::write(directory.path().join("producer.properties"), self.producer).unwrap();
        command.args(["--producer.config", "producer.properties"]).args(self.flags);
        command.output().unwrap()
    }
}

#[test]
fn whatever_mirror_maker_was_run_with_is_read_without_a_refusal() {
    for case in CASES {
        let output = case.check();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{}: {told}", case.name);
        assert!(!told.contains("unknown"), "{}: {told}", case.name);
        let plan = String::from_utf8_lossy(&output.stdout);
        assert_eq!(plan.matches("flow ").count(), case.consumers.len(), "{}: {plan}", case.name);
    }
}

#[test]
fn what_is_refused_is_named_by_file_line_and_property() {
    for (consumer, told) in [
        (
            "heartbeat.interval.ms=70000",
            "consumer0.properties:3: heartbeat.interval.ms: 70s is not",
        ),
        (
            "security.protocol=SASL_SSL",
            "consumer0.properties:3: security.protocol is not supported",
        ),
        ("fetch.min.bytes=many", "consumer0.properties:3: fetch.min.bytes must be a whole number"),
    ] {
        let consumer = format!("bootstrap.servers=a:9092\ngroup.id=g\n{consumer}\n");
        let output = Case { consumers: &[&consumer], ..HDINSIGHT }.check();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(&format!("error: {told}")), "{told}: {stderr}");
    }
}

#[test]
fn an_empty_list_of_topics_names_none() {
    let case = Case { flags: &["--whitelist", "", "--blacklist", ""], ..HDINSIGHT };
    let output = case.check();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no topic is named"));
}

const HDINSIGHT: Case<'static> = Case {
    name: "HDInsight",
    consumers: &["zookeeper.connect=zk0-source:2181,zk1-source:2181\ngroup.id=mirrorgroup\n"],
    producer: "bootstrap.servers=wn0-dest:9092,wn1-dest:9092\ncompression.type=none\n",
    flags: &["--whitelist", "testtopic", "--num.streams", "4"],
};

#[test]
fn the_version_is_told_as_mirror_maker_does() {
    let output = Command::new(env!("CARGO_BIN_EXE_kmirror"))
        .args(["kafka.tools.MirrorMaker", "--version"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn variables_of_kafkas_launcher_are_named_as_without_effect() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    std::fs::write(&path, "bootstrap.servers=a:9092\ngroup.id=g\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_kmirror"))
        .env("KAFKA_HEAP_OPTS", "-Xmx4G")
        .args(["kafka.tools.MirrorMaker", "--check", "--include", "t"])
        .args(["--consumer.config".as_ref(), path.as_os_str()])
        .args(["--producer.config".as_ref(), path.as_os_str()])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("KAFKA_HEAP_OPTS") && stderr.contains("--memory"), "{stderr}");
}
