//! A running cluster: started from [`Options`], hurt node by node, stopped with all it wrote.
//!
//! The value is plain data (it is what the state file holds). A process is only ever signalled if
//! its command line names the directory of its node.

use std::{
    fs,
    hash::{BuildHasher, RandomState},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    Error, Home, Mode, Options, Runtime, Version, config,
    container::{Launcher, Program},
    ports, probe,
    process::{self, Signal},
};
use crate::clock;

const POLL: Duration = Duration::from_millis(100);
const STOP_DEADLINE: Duration = Duration::from_secs(20);
const SESSION: Duration = Duration::from_millis(config::SESSION_MS);
const PROGRESS: Duration = Duration::from_secs(5);

/// A started cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cluster {
    /// Its name: `source`, `destination`.
    pub name: String,
    /// The version of Kafka.
    pub version: Version,
    /// ZooKeeper or KRaft; unknown for brokers that were already running.
    pub mode: Option<Mode>,
    /// Where the processes come from.
    pub runtime: Runtime,
    /// `host:port` of each broker, with commas between.
    pub bootstrap: String,
    /// `host:port` of ZooKeeper, where there is one.
    pub zookeeper: Option<String>,
    /// All that the cluster writes is below this directory.
    pub directory: PathBuf,
    /// The ZooKeeper, if there is one, then the brokers.
    pub nodes: Vec<Node>,
    launcher: Launcher,
    flags: Vec<String>,
    deadline_ms: u64,
}

/// One process of a cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Node {
    /// The broker id, from 1; 0 is the ZooKeeper.
    pub id: u16,
    /// The port it listens on.
    pub port: u16,
    /// Its process (of the container program, if it runs in a container).
    pub pid: Option<u32>,
    /// The name of its container, if it runs in one.
    pub container: String,
    /// Its properties, data and log.
    pub directory: PathBuf,
}

impl Node {
    /// Where it logs.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// Where a broker keeps its data.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn is_alive(&self) -> bool {
        self.pid.is_some_and(|pid| process::is_alive(pid, &self.directory))
    }

    fn title(&self, cluster: &str) -> String {
        match self.id {
            0 => format!("{cluster} zookeeper"),
            id => format!("{cluster} broker {id}"),
        }
    }
}

impl Cluster {
    /// Brokers that already run at `bootstrap`; they are never stopped or hurt.
    #[must_use]
    pub fn external(name: &str, version: Version, bootstrap: &str) -> Self {
        Self {
            name: name.to_owned(),
            version,
            mode: None,
            runtime: Runtime::External,
            bootstrap: bootstrap.to_owned(),
            zookeeper: None,
            directory: PathBuf::new(),
            nodes: Vec::new(),
            launcher: Launcher::Nothing,
            flags: Vec::new(),
            deadline_ms: 10_000,
        }
    }

    /// Starts a cluster and waits until every broker of it knows every other and a controller.
    /// What was started is stopped again if that fails.
    ///
    /// # Errors
    /// When the jars or the image are missing, a process ends, or the deadline passes.
    pub fn start(home: &Home, options: &Options) -> Result<Self, Error> {
        let mut cluster = Self::prepare(home, options)?;
        let started = cluster.start_processes(options);
        if let Err(error) = started {
            if let Err(left) = cluster.stop() {
                eprintln!("{left}");
            }
            return Err(error);
        }
        Ok(cluster)
    }

    fn prepare(home: &Home, options: &Options) -> Result<Self, Error> {
        let mode = options.resolved_mode()?;
        let launcher = Launcher::new(home, options)?;
        let count = usize::from(options.nodes);
        let ports = ports::free(2 * count + 1)?;
        let (own, brokers) = (ports[2 * count], &ports[..count]);
        let directory = home.run().join(format!("{}-{own}", options.name));
        let ids: Vec<u16> = match mode {
            Mode::Zookeeper => (0..=options.nodes).collect(),
            Mode::Kraft => (1..=options.nodes).collect(),
        };
        let node = |id: u16| Node {
            id,
            port: if id == 0 { own } else { brokers[usize::from(id) - 1] },
            pid: None,
            container: format!("kmirror-{}-{own}-{id}", options.name),
            directory: directory.join(format!("node-{id}")),
        };
        let nodes: Vec<Node> = ids.into_iter().map(node).collect();
        let address = |port: &u16| format!("127.0.0.1:{port}");
        let cluster = Self {
            name: options.name.clone(),
            version: options.version.clone(),
            mode: Some(mode),
            runtime: options.runtime,
            bootstrap: brokers.iter().map(address).collect::<Vec<_>>().join(","),
            zookeeper: (mode == Mode::Zookeeper).then(|| address(&own)),
            directory,
            nodes,
            launcher,
            flags: [vec![format!("-Xmx{}", options.heap)], options.jvm_flags.clone()].concat(),
            deadline_ms: u64::try_from(options.deadline.as_millis()).unwrap_or(u64::MAX),
        };
        cluster.write_files(options, mode, &ports[count..2 * count])?;
        Ok(cluster)
    }

    fn write_files(
        &self,
        options: &Options,
        mode: Mode,
        controller_ports: &[u16],
    ) -> Result<(), Error> {
        let voters: Vec<String> = controller_ports
            .iter()
            .zip(1..)
            .map(|(port, id): (_, u16)| format!("{id}@127.0.0.1:{port}"))
            .collect();
        let quorum = self.zookeeper.clone().unwrap_or_else(|| voters.join(","));
        let (logging_name, logging_text) = config::logging(&self.version);
        for node in &self.nodes {
            let data = node.data();
            fs::create_dir_all(&data).map_err(Error::file("create", &data))?;
            let text = if node.id == 0 {
                config::zookeeper_properties(node.port, &data)
            } else {
                config::server_properties(&config::Broker {
                    version: &self.version,
                    mode,
                    id: node.id,
                    port: node.port,
                    quorum: &quorum,
                    controller_port: controller_ports[usize::from(node.id) - 1],
                    nodes: options.nodes,
                    data: &data,
                    overrides: &options.properties,
                })
            };
            for (name, text) in [("properties", text.as_str()), (logging_name, logging_text)] {
                let path = node.directory.join(name);
                fs::write(&path, text).map_err(Error::file("write", &path))?;
            }
        }
        Ok(())
    }

    fn start_processes(&mut self, options: &Options) -> Result<(), Error> {
        let begin = clock::now();
        eprintln!("starting {} (Kafka {}, {:?})", self.name, self.version, self.runtime);
        if self.mode == Some(Mode::Kraft) {
            self.format()?;
        }
        for index in 0..self.nodes.len() {
            self.launch(index)?;
            if self.nodes[index].id == 0 {
                self.wait_for(&[0], |node| {
                    std::net::TcpStream::connect(("127.0.0.1", node.port)).is_ok()
                })?;
            }
        }
        let (ids, nodes): (Vec<u16>, usize) = ((1..=options.nodes).collect(), options.nodes.into());
        self.wait_for(&ids, |node| is_ready(node.port, nodes))?;
        eprintln!(
            "{} is ready at {} after {} s",
            self.name,
            self.bootstrap,
            begin.elapsed().as_secs()
        );
        Ok(())
    }

    /// Formats the storage of every node at once; each is a Java program of its own.
    fn format(&self) -> Result<(), Error> {
        let id = new_cluster_id();
        let mut running = Vec::new();
        for node in &self.nodes {
            let properties = node.directory.join("properties").display().to_string();
            let main = ["kafka.tools.StorageTool", "format", "-t", &id, "-c", properties.as_str()];
            let mut command = self.java(node, &main)?;
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
            let program = command.get_program().display().to_string();
            running.push(command.spawn().map_err(|source| Error::Start { program, source })?);
        }
        for child in running {
            finish_format(child)?;
        }
        Ok(())
    }

    fn java(&self, node: &Node, main: &[&str]) -> Result<Command, Error> {
        let mut flags = self.flags.clone();
        flags.push(config::logging_flag(&self.version, &node.directory));
        let directory = &node.directory;
        let program = Program { name: &node.container, directory, flags: &flags, main };
        self.launcher.command(&self.version, &program)
    }

    fn launch(&mut self, index: usize) -> Result<(), Error> {
        let node = &self.nodes[index];
        let properties = node.directory.join("properties").display().to_string();
        let class = match node.id {
            0 => "org.apache.zookeeper.server.quorum.QuorumPeerMain",
            _ => "kafka.Kafka",
        };
        let command = self.java(node, &[class, &properties])?;
        let pid = process::spawn(command, &node.log())?;
        let path = node.directory.join("pid");
        fs::write(&path, pid.to_string()).map_err(Error::file("write", &path))?;
        self.nodes[index].pid = Some(pid);
        Ok(())
    }

    fn wait_for(&self, ids: &[u16], is_ready: impl Fn(&Node) -> bool) -> Result<(), Error> {
        let deadline = Duration::from_millis(self.deadline_ms);
        let begin = clock::now();
        let mut said = begin;
        for node in self.nodes.iter().filter(|node| ids.contains(&node.id)) {
            while !is_ready(node) {
                let waited = begin.elapsed();
                let not_ready = |reason: String| Error::NotReady {
                    name: node.title(&self.name),
                    reason,
                    path: node.log(),
                    log: process::log_tail(&node.log()),
                };
                if !node.is_alive() {
                    return Err(not_ready("the process ended".to_owned()));
                }
                if waited > deadline {
                    return Err(not_ready(format!("no answer in {} s", deadline.as_secs())));
                }
                if said.elapsed() > PROGRESS {
                    said = clock::now();
                    let (title, waited) = (node.title(&self.name), waited.as_secs());
                    eprintln!("waiting for {title}: {waited} s of {}", deadline.as_secs());
                }
                std::thread::sleep(POLL);
            }
        }
        Ok(())
    }

    /// The brokers (without the ZooKeeper).
    pub fn brokers(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.id > 0)
    }

    /// Ends broker `id` at once (SIGKILL) and waits until it is gone.
    ///
    /// # Errors
    /// When there is no such node, or the signal cannot be sent.
    pub fn kill(&mut self, id: u16) -> Result<(), Error> {
        self.signal(id, Signal::Kill)?;
        let node = self.node(id)?;
        clock::poll(STOP_DEADLINE, POLL, || (!node.is_alive()).then_some(()));
        Ok(())
    }

    /// Asks broker `id` to end (SIGTERM) and waits until it did.
    ///
    /// # Errors
    /// When there is no such node, or the signal cannot be sent.
    pub fn terminate(&mut self, id: u16) -> Result<(), Error> {
        self.signal(id, Signal::Terminate)?;
        let node = self.node(id)?;
        clock::poll(STOP_DEADLINE, POLL, || (!node.is_alive()).then_some(()));
        self.kill(id)
    }

    /// Stops broker `id` in its tracks (SIGSTOP): its connections stay open and nothing answers.
    ///
    /// # Errors
    /// When there is no such node, or the signal cannot be sent.
    pub fn freeze(&self, id: u16) -> Result<(), Error> {
        self.signal(id, Signal::Stop)
    }

    /// Lets broker `id` go on after [`Cluster::freeze`].
    ///
    /// # Errors
    /// When there is no such node, or the signal cannot be sent.
    pub fn thaw(&self, id: u16) -> Result<(), Error> {
        self.signal(id, Signal::Continue)
    }

    /// Starts broker `id` again, with the data it had, and waits until it answers.
    ///
    /// # Errors
    /// When there is no such node, or it does not become ready.
    pub fn restart(&mut self, id: u16) -> Result<(), Error> {
        let index = self.nodes.iter().position(|node| node.id == id);
        let index = index.ok_or_else(|| self.no_node(id))?;
        if self.nodes[index].is_alive() {
            self.terminate(id)?;
        }
        let begin = clock::now();
        loop {
            self.launch(index)?;
            let outcome = self.wait_for(&[id], |node| is_ready(node.port, 1));
            // After a kill, ZooKeeper keeps the dead broker's place until its session has run out,
            // and a broker that finds its place taken ends at once.
            let taken = self.zookeeper.is_some() && !self.nodes[index].is_alive();
            if outcome.is_ok() || !taken || begin.elapsed() > SESSION * 3 {
                return outcome;
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    /// Stops every process and removes all that they wrote. Brokers that were already running
    /// when this tool was told of them are left alone.
    ///
    /// # Errors
    /// When a signal cannot be sent or the directory cannot be removed.
    pub fn stop(&mut self) -> Result<(), Error> {
        for node in &self.nodes {
            if let Some(remove) = self.launcher.container(&["rm", "-f"], &node.container) {
                process::run(remove, "rm")?;
            }
            if let Some(pid) = node.pid {
                process::send(pid, &node.directory, Signal::Kill)?;
            }
        }
        for node in &self.nodes {
            clock::poll(STOP_DEADLINE, POLL, || (!node.is_alive()).then_some(()));
        }
        if self.directory.exists() {
            let removed = fs::remove_dir_all(&self.directory);
            removed.map_err(Error::file("remove", &self.directory))?;
        }
        Ok(())
    }

    /// Whether every node runs, and every broker of an external cluster answers.
    #[must_use]
    pub fn is_up(&self) -> bool {
        match self.runtime {
            Runtime::External => self.bootstrap.split(',').any(|one| probe::ask(one).is_some()),
            _ => self.nodes.iter().all(Node::is_alive),
        }
    }

    /// Hands the cluster to a guard that stops it when this process ends, however it ends.
    ///
    /// # Errors
    /// When the guard cannot be started.
    pub fn guarded(self) -> Result<Guarded, Error> {
        let mut script = "cat >/dev/null\n".to_owned();
        for node in &self.nodes {
            if let Some(remove) = self.launcher.container(&["rm", "-f"], &node.container) {
                script.push_str(&format!("{remove:?} >/dev/null 2>&1\n"));
            }
        }
        let directory = self.directory.display();
        script.push_str(&format!(
            "for file in '{directory}'/*/pid; do test -f \"$file\" && kill -9 $(cat \"$file\"); \
             done\nsleep 1\nrm -rf '{directory}'\n"
        ));
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).stdin(Stdio::piped()).stderr(Stdio::null());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let guard =
            command.spawn().map_err(|source| Error::Start { program: "sh".to_owned(), source })?;
        Ok(Guarded { cluster: self, guard })
    }

    fn signal(&self, id: u16, signal: Signal) -> Result<(), Error> {
        let node = self.node(id)?;
        let action = ["kill", "-s", signal.name()];
        if let Some(command) = self.launcher.container(&action, &node.container) {
            return process::run(command, "kill");
        }
        node.pid.map_or(Ok(()), |pid| process::send(pid, &node.directory, signal))
    }

    fn node(&self, id: u16) -> Result<&Node, Error> {
        self.nodes.iter().find(|node| node.id == id).ok_or_else(|| self.no_node(id))
    }

    fn no_node(&self, node: u16) -> Error {
        Error::NoNode { cluster: self.name.clone(), node }
    }
}

/// A cluster that ends with this process, or when it is dropped.
#[derive(Debug)]
pub struct Guarded {
    cluster: Cluster,
    guard: Child,
}

impl std::ops::Deref for Guarded {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl std::ops::DerefMut for Guarded {
    fn deref_mut(&mut self) -> &mut Cluster {
        &mut self.cluster
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Err(error) = self.cluster.stop() {
            eprintln!("{error}");
        }
        drop(self.guard.stdin.take());
        // The guard ends by itself a second after its standard input is closed.
        if let Err(error) = self.guard.wait() {
            eprintln!("{error}");
        }
    }
}

/// Whether the broker at `port` knows at least `brokers` brokers and a controller.
fn is_ready(port: u16, brokers: usize) -> bool {
    probe::ask(&format!("127.0.0.1:{port}"))
        .is_some_and(|answer| answer.brokers >= brokers && answer.has_controller)
}

fn finish_format(child: Child) -> Result<(), Error> {
    let program = "kafka.tools.StorageTool".to_owned();
    let output = child
        .wait_with_output()
        .map_err(|source| Error::Start { program: program.clone(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Error::Failed { program, status: output.status.to_string(), output: text })
}

/// A new cluster id: 16 bytes in base 64 without padding, as Kafka wants it. Each cluster has its
/// own, because a mirror refuses to copy a cluster to itself.
fn new_cluster_id() -> String {
    const DIGITS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut bits = [RandomState::new().hash_one(0), RandomState::new().hash_one(1)];
    let mut id: String = (0..21)
        .map(|index: usize| {
            let word = &mut bits[index % 2];
            let digit = usize::try_from(*word % 32).expect("invariant: below 32");
            *word /= 32;
            char::from(DIGITS[digit])
        })
        .collect();
    id.push('Q'); // the last digit of 16 bytes holds two bits
    id
}
