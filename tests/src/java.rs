//! Kafka's own Java client, as the producer and the oracle of the suites: one process that obeys
//! `tests/java/Tool.java`, compiled when first used.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::OnceLock,
};

use serde_json::{Value, json};
use xtask::{
    brokers::{Home, Jars, java},
    workspace,
};

use crate::{End, Record};

/// A version whose clients speak to every broker from 0.10 to 4.x.
const VERSION: &str = "3.9.1";

/// The Java process.
#[derive(Debug)]
pub struct Java {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// What is done around the records of a transactional producer.
#[derive(Clone, Debug)]
pub enum Step {
    /// Send a record.
    Send(Record),
    /// Begin a transaction.
    Begin,
    /// Commit it.
    Commit,
    /// Abort it, once all its records are at the broker.
    Abort,
    /// Wait until all is acknowledged, so that a batch ends here.
    Flush,
}

/// Numbered records for [`Java::load`].
#[derive(Clone, Debug)]
pub struct Load {
    /// The first number.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// How many in a second; 0 as fast as they go.
    pub rate: u64,
    /// Over how many keys; record `n` has key `key-(n mod keys)`.
    pub keys: u64,
    /// Bytes of value after the number.
    pub size: usize,
}

impl Java {
    /// Starts the process.
    ///
    /// # Panics
    /// When Java, Maven or the compiler is missing.
    #[must_use]
    pub fn start() -> Self {
        let (jars, classes) = compiled();
        let mut child = jars
            .command(Some(classes), "512m", "Tool")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("java starts");
        let input = child.stdin.take().expect("invariant: standard input is piped");
        let output = child.stdout.take().expect("invariant: standard output is piped");
        Self { child, input, output: BufReader::new(output) }
    }

    /// Asks for something and gives the lines of the answer.
    ///
    /// # Panics
    /// When the answer is an error.
    pub fn ask(&mut self, ask: &Value) -> Vec<Value> {
        writeln!(self.input, "{ask}").expect("the Java process reads");
        let mut lines = Vec::new();
        for line in (&mut self.output).lines() {
            let line: Value = serde_json::from_str(&line.expect("the Java process answers"))
                .expect("the Java process answers in JSON");
            if let Some(error) = line.get("error") {
                panic!("{}: {error}", ask["do"]);
            }
            if line.get("done").is_some() {
                return lines;
            }
            lines.push(line);
        }
        panic!("{}: the Java process ended", ask["do"]);
    }

    /// Creates a topic with topic-level `config` and waits until every partition has a leader.
    pub fn create(&mut self, end: &End, topic: &str, partitions: i32, config: &[(&str, &str)]) {
        let config: BTreeMap<_, _> = config.iter().copied().collect();
        self.ask(&json!({
            "do": "create", "bootstrap": end.bootstrap, "topic": topic,
            "partitions": partitions, "config": config,
        }));
    }

    /// Deletes a topic.
    pub fn delete(&mut self, end: &End, topic: &str) {
        self.ask(&json!({ "do": "delete", "bootstrap": end.bootstrap, "topic": topic }));
    }

    /// Adds partitions to a topic until it has `partitions`.
    pub fn grow(&mut self, end: &End, topic: &str, partitions: i32) {
        self.ask(&json!({
            "do": "grow", "bootstrap": end.bootstrap, "topic": topic, "partitions": partitions,
        }));
    }

    /// Deletes the records of a partition before an offset, as retention does.
    pub fn truncate(&mut self, end: &End, topic: &str, partition: i32, before: i64) {
        self.ask(&json!({
            "do": "truncate", "bootstrap": end.bootstrap, "topic": topic,
            "partition": partition, "before": before,
        }));
    }

    /// Denies everybody one operation on a topic (`Read`, `Describe`) and allows all others.
    pub fn deny(&mut self, end: &End, topic: &str, operation: &str) {
        self.ask(&json!({
            "do": "deny", "bootstrap": end.bootstrap, "topic": topic, "operation": operation,
        }));
    }

    /// Denies everybody one operation on the cluster (`ClusterAction`) and allows all others.
    pub fn deny_cluster(&mut self, end: &End, operation: &str) {
        let bootstrap = &end.bootstrap;
        self.ask(&json!({ "do": "deny", "bootstrap": bootstrap, "operation": operation }));
    }

    /// Moves a partition to another broker, as its only replica, and waits until it is there.
    pub fn move_to(&mut self, end: &End, topic: &str, partition: i32, broker: u16) {
        self.ask(&json!({
            "do": "move", "bootstrap": end.bootstrap, "topic": topic, "partition": partition,
            "to": broker,
        }));
    }

    /// Name, partitions and replication factor of every topic.
    pub fn topics(&mut self, end: &End) -> HashMap<String, (i64, i64)> {
        let lines = self.ask(&json!({ "do": "topics", "bootstrap": end.bootstrap }));
        let number = |line: &Value, name: &str| line[name].as_i64().unwrap_or(-1);
        let topic = |line: &Value| {
            let name = line["topic"].as_str().unwrap_or_default().to_owned();
            (name, (number(line, "partitions"), number(line, "replicas")))
        };
        lines.iter().map(topic).collect()
    }

    /// Every configuration value of a topic.
    pub fn topic_config(&mut self, end: &End, topic: &str) -> HashMap<String, String> {
        let lines =
            self.ask(&json!({ "do": "config", "bootstrap": end.bootstrap, "topic": topic }));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        lines.iter().map(|line| (text(&line["name"]), text(&line["value"]))).collect()
    }

    /// Produces records with producer `config`; where each went.
    pub fn produce(
        &mut self,
        end: &End,
        topic: &str,
        config: &[(&str, &str)],
        records: &[Record],
    ) -> Vec<(i32, i64)> {
        let steps: Vec<Step> = records.iter().cloned().map(Step::Send).collect();
        self.produce_steps(end, topic, config, &steps)
    }

    /// Produces records and ends transactions in the order of `steps`; where each record went.
    pub fn produce_steps(
        &mut self,
        end: &End,
        topic: &str,
        config: &[(&str, &str)],
        steps: &[Step],
    ) -> Vec<(i32, i64)> {
        let config: BTreeMap<_, _> = config.iter().copied().collect();
        let records: Vec<Value> = steps.iter().map(Step::to_json).collect();
        let lines = self.ask(&json!({
            "do": "produce", "bootstrap": end.bootstrap, "topic": topic,
            "config": config, "records": records,
        }));
        let place = |line: &Value| {
            let partition = line["partition"].as_i64().and_then(|number| number.try_into().ok());
            (partition.expect("a partition"), line["offset"].as_i64().expect("an offset"))
        };
        lines.iter().map(place).collect()
    }

    /// Produces numbered records and returns when all are acknowledged.
    pub fn load(&mut self, end: &End, topic: &str, config: &[(&str, &str)], load: &Load) {
        let config: BTreeMap<_, _> = config.iter().copied().collect();
        self.ask(&json!({
            "do": "load", "bootstrap": end.bootstrap, "topic": topic, "config": config,
            "first": load.first, "count": load.count, "rate": load.rate, "keys": load.keys,
            "size": load.size,
        }));
    }

    /// Every record of a topic that a consumer of committed records sees.
    pub fn dump(&mut self, end: &End, topic: &str) -> Vec<Record> {
        let config = json!({ "isolation.level": end.isolation() });
        let lines = self.ask(&json!({
            "do": "dump", "bootstrap": end.bootstrap, "topic": topic, "config": config,
        }));
        lines.iter().map(Record::from_json).collect()
    }

    /// First and end offset of each partition of a topic; nothing if there is no such topic.
    pub fn ends(&mut self, end: &End, topic: &str) -> BTreeMap<i64, (i64, i64)> {
        let config = json!({ "isolation.level": "read_uncommitted" });
        let lines = self.ask(&json!({
            "do": "ends", "bootstrap": end.bootstrap, "topic": topic, "config": config,
        }));
        let number = |line: &Value, name: &str| line[name].as_i64().unwrap_or(-1);
        let one = |line: &Value| {
            (number(line, "partition"), (number(line, "first"), number(line, "end")))
        };
        lines.iter().map(one).collect()
    }

    /// How many offsets a topic holds, all partitions together.
    pub fn length(&mut self, end: &End, topic: &str) -> i64 {
        self.ends(end, topic).values().map(|(first, end)| end - first).sum()
    }

    /// The committed next offset of each partition of `topic` in a group.
    pub fn committed(&mut self, end: &End, group: &str, topic: &str) -> BTreeMap<i64, i64> {
        let ask = json!({ "do": "committed", "bootstrap": end.bootstrap, "group": group });
        let lines = self.ask(&ask);
        let number = |line: &Value, name: &str| line[name].as_i64().unwrap_or(-1);
        let of_topic = lines.iter().filter(|line| line["topic"] == topic);
        of_topic.map(|line| (number(line, "partition"), number(line, "next_offset"))).collect()
    }

    /// How many partitions each member of a group has, in no order.
    pub fn members(&mut self, end: &End, group: &str) -> Vec<i64> {
        let ask = json!({ "do": "members", "bootstrap": end.bootstrap, "group": group });
        let lines = self.ask(&ask);
        lines.iter().map(|line| line["partitions"].as_i64().unwrap_or(-1)).collect()
    }

    /// Is a member of a group for `milliseconds`; the most partitions it had and what it read.
    pub fn member(
        &mut self,
        end: &End,
        topic: &str,
        config: &[(&str, &str)],
        milliseconds: u64,
    ) -> (i64, i64) {
        let config: BTreeMap<_, _> = config.iter().copied().collect();
        let lines = self.ask(&json!({
            "do": "member", "bootstrap": end.bootstrap, "topic": topic, "config": config,
            "ms": milliseconds,
        }));
        let number = |name: &str| lines[0][name].as_i64().unwrap_or(-1);
        (number("partitions"), number("records"))
    }
}

impl Drop for Java {
    fn drop(&mut self) {
        // It ends by itself when its standard input closes; nobody waits for that in a test.
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("end the Java process: {error}");
        }
    }
}

impl Step {
    fn to_json(&self) -> Value {
        match self {
            Self::Send(record) => record.to_json(),
            Self::Begin => json!({ "do": "begin" }),
            Self::Commit => json!({ "do": "commit" }),
            Self::Abort => json!({ "do": "abort" }),
            Self::Flush => json!({ "do": "flush" }),
        }
    }
}

/// The jars, and the directory of the compiled tool.
fn compiled() -> &'static (Jars, PathBuf) {
    static COMPILED: OnceLock<(Jars, PathBuf)> = OnceLock::new();
    COMPILED.get_or_init(|| {
        let version = VERSION.parse().expect("invariant: a version");
        let jars = Jars::fetch(&Home::from_environment(), &version)
            .unwrap_or_else(|error| panic!("{error}"));
        let classes = workspace::target_directory().join("kmirror-tests-java");
        compile(&jars, &classes);
        (jars, classes)
    })
}

fn compile(jars: &Jars, classes: &Path) {
    let source = workspace::root().join("tests/java/Tool.java");
    let class = classes.join("Tool.class");
    let modified = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
    if modified(&class) > modified(&source) {
        return;
    }
    // Compiled beside and moved, because another test process may do the same now.
    let partial = classes.with_extension(std::process::id().to_string());
    fs::create_dir_all(&partial).expect("the build directory can be written");
    fs::create_dir_all(classes).expect("the build directory can be written");
    let output = Command::new(java().with_file_name("javac"))
        .args(["-encoding", "UTF-8", "-cp", &jars.class_path(), "-d"])
        .arg(&partial)
        .arg(&source)
        .output()
        .expect("javac is installed (a JDK, not only a Java runtime)");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} does not compile:\n{errors}", source.display());
    for entry in fs::read_dir(&partial).expect("javac wrote classes") {
        let entry = entry.expect("javac wrote classes");
        fs::rename(entry.path(), classes.join(entry.file_name())).expect("classes can be moved");
    }
    fs::remove_dir_all(&partial).expect("the build directory can be written");
}
