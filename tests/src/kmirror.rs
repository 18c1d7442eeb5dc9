//! kmirror as its users run it: a process with flags and files.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::Duration,
};

use xtask::{clock, workspace};

use crate::{End, PATIENCE, Pair};

/// How much of its log is shown when a test fails.
const LOG_LINES: usize = 60;

/// The binary: `KMIRROR_BIN`, or the one of the build directory.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn binary() -> PathBuf {
    let built = || workspace::target_directory().join("debug/kmirror");
    let path = std::env::var_os("KMIRROR_BIN").map_or_else(built, PathBuf::from);
    assert!(path.exists(), "{} is missing: cargo build -p kmirror-cli", path.display());
    path
}

/// Runs kmirror with `arguments` to its end.
///
/// # Panics
/// When it cannot be started, or does not end in time.
#[must_use]
pub fn run(arguments: &[&str]) -> Output {
    let mut child = Command::new(binary())
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kmirror starts");
    let ended = clock::poll(PATIENCE, Duration::from_millis(20), || match child.try_wait() {
        Ok(None) => None,
        ended => Some(ended),
    });
    if ended.is_none() {
        child.kill().expect("a process can be killed");
        let output = child.wait_with_output().expect("a killed process ends");
        let said = String::from_utf8_lossy(&output.stderr);
        panic!("kmirror {arguments:?} did not end by itself:\n{said}");
    }
    child.wait_with_output().expect("an ended process can be read")
}

/// `kmirror mirror-maker`, before it is started.
#[derive(Clone, Debug)]
pub struct MirrorMaker {
    /// Properties of the consumer file.
    pub consumer: BTreeMap<String, String>,
    /// Properties of the producer file.
    pub producer: BTreeMap<String, String>,
    /// The topics.
    pub whitelist: String,
    /// The streams.
    pub streams: usize,
    /// Further flags.
    pub flags: Vec<String>,
}

impl MirrorMaker {
    /// From the source to the destination of `pair`, in consumer group `group`.
    #[must_use]
    pub fn new(pair: &Pair, group: &str, whitelist: &str) -> Self {
        let mut consumer = pair.source.properties();
        consumer.insert("group.id".to_owned(), group.to_owned());
        Self {
            consumer,
            producer: pair.destination.properties(),
            whitelist: whitelist.to_owned(),
            streams: 1,
            flags: Vec::new(),
        }
    }

    /// The same with this many streams.
    #[must_use]
    pub fn with_streams(mut self, streams: usize) -> Self {
        self.streams = streams;
        self
    }

    /// The same with one consumer property.
    #[must_use]
    pub fn with_consumer(mut self, key: &str, value: &str) -> Self {
        self.consumer.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The same with one producer property.
    #[must_use]
    pub fn with_producer(mut self, key: &str, value: &str) -> Self {
        self.producer.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The same with one more flag.
    #[must_use]
    pub fn with_flag(mut self, flag: &str, value: &str) -> Self {
        self.flags.extend([flag.to_owned(), value.to_owned()]);
        self
    }

    /// The same, asking ZooKeeper for the brokers of the source, as the first MirrorMaker did.
    ///
    /// # Panics
    /// When the source has no ZooKeeper.
    #[must_use]
    pub fn with_zookeeper(mut self, source: &End) -> Self {
        let zookeeper = source.zookeeper.clone().expect("a source with ZooKeeper");
        self.consumer.remove("bootstrap.servers");
        self.consumer.insert("zookeeper.connect".to_owned(), zookeeper);
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(&self) -> Kmirror {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (consumer, producer) = self.write(directory.path());
        let mut command = Command::new(binary());
        command.arg("mirror-maker");
        command.arg("--consumer.config").arg(consumer);
        command.arg("--producer.config").arg(producer);
        command.args(["--whitelist", &self.whitelist]);
        command.args(["--num.streams", &self.streams.to_string()]).args(&self.flags);
        Kmirror::start(command, directory)
    }

    fn write(&self, directory: &Path) -> (PathBuf, PathBuf) {
        let write = |name: &str, properties: &BTreeMap<String, String>| {
            let lines: Vec<String> =
                properties.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
            let path = directory.join(name);
            fs::write(&path, lines.concat()).expect("a properties file");
            path
        };
        let consumer = write("consumer.properties", &self.consumer);
        (consumer, write("producer.properties", &self.producer))
    }
}

/// `kmirror run` with a file of one flow.
#[derive(Clone, Debug)]
pub struct Flow {
    lines: Vec<String>,
}

impl Flow {
    /// From the source to the destination of `pair`, in consumer group `group`.
    #[must_use]
    pub fn new(pair: &Pair, group: &str, topics: &str) -> Self {
        let (source, destination) = (&pair.source.bootstrap, &pair.destination.bootstrap);
        let lines = [
            "[clusters.source]".to_owned(),
            format!("bootstrap = '{source}'"),
            "[clusters.destination]".to_owned(),
            format!("bootstrap = '{destination}'"),
            "[[flows]]".to_owned(),
            "source = 'source'".to_owned(),
            "destination = 'destination'".to_owned(),
            format!("topics = '{topics}'"),
            format!("group = '{group}'"),
        ];
        Self { lines: lines.to_vec() }
    }

    /// The same with one more option; `value` is written as TOML.
    #[must_use]
    pub fn with(mut self, option: &str, value: &str) -> Self {
        self.lines.push(format!("{option} = {value}"));
        self
    }

    /// The same with a pinned cluster id at the source or the destination.
    #[must_use]
    pub fn with_pinned(mut self, end: &str, cluster_id: &str) -> Self {
        let table = format!("[clusters.{end}]");
        let place = self.lines.iter().position(|line| *line == table);
        let place = place.expect("invariant: both clusters have a table") + 1;
        self.lines.insert(place, format!("cluster_id = '{cluster_id}'"));
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(&self) -> Kmirror {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("kmirror.toml");
        fs::write(&file, self.lines.join("\n") + "\n").expect("a configuration file");
        let mut command = Command::new(binary());
        command.arg("run").arg(file);
        Kmirror::start(command, directory)
    }
}

/// A running kmirror.
#[derive(Debug)]
pub struct Kmirror {
    child: Child,
    directory: tempfile::TempDir,
    ended: bool,
}

impl Kmirror {
    fn start(mut command: Command, directory: tempfile::TempDir) -> Self {
        let log = directory.path().join("log");
        let open = || File::options().create(true).append(true).open(&log).expect("a log file");
        command.stdin(Stdio::null()).stdout(open()).stderr(open());
        let child = command.spawn().expect("kmirror starts");
        Self { child, directory, ended: false }
    }

    /// What it printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Whether one line of what it printed has all of `words`.
    #[must_use]
    pub fn tells(&self, words: &[&str]) -> bool {
        self.log().lines().any(|line| words.iter().all(|word| line.contains(word)))
    }

    /// Panics if it ended by itself.
    ///
    /// # Panics
    /// With its log, if it is not running.
    pub fn assert_running(&mut self) {
        let ended = self.child.try_wait().expect("a child can be asked");
        assert!(ended.is_none(), "kmirror ended with {ended:?}:\n{}", self.log());
    }

    /// Asks it to end (SIGTERM) and waits until it did.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn terminate(&mut self) -> ExitStatus {
        self.assert_running();
        self.signal("TERM");
        self.wait()
    }

    /// Presses Ctrl-C once (SIGINT) and waits until it ended.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn interrupt(&mut self) -> ExitStatus {
        self.assert_running();
        self.signal("INT");
        self.wait()
    }

    /// Ends it at once (SIGKILL).
    pub fn kill(&mut self) {
        self.signal("KILL");
        self.wait();
    }

    /// Stops it in its tracks (SIGSTOP).
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on (SIGCONT).
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn wait(&mut self) -> ExitStatus {
        let ended = clock::poll(PATIENCE, Duration::from_millis(20), || {
            self.child.try_wait().expect("a child can be asked")
        });
        self.ended = ended.is_some();
        ended.unwrap_or_else(|| panic!("kmirror does not end:\n{}", self.log()))
    }

    fn signal(&self, name: &str) {
        let command = format!("kill -s {name} {}", self.child.id());
        let status = Command::new("sh").arg("-c").arg(command).status().expect("a shell");
        assert!(status.success(), "SIG{name} could not be sent");
    }
}

impl Drop for Kmirror {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
            eprintln!("--- the end of what kmirror printed:\n{}", last.join("\n"));
        }
        if !self.ended
            && let Err(error) = self.child.kill().and_then(|()| self.child.wait())
        {
            eprintln!("end kmirror: {error}");
        }
    }
}
