//! A running cluster: started from [`Options`](super::Options), hurt node by node, stopped with all
//! it wrote.
//!
//! The value is plain data (it is what the state file holds). A process is only ever signalled if
//! its command line names the directory of its node.

mod guard;
mod start;

use std::{fs, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

pub use self::guard::Guarded;
use super::{
    Error, Mode, Runtime, Version, config,
    container::Launcher,
    probe,
    process::{self, Signal},
};
use crate::clock;

const POLL: Duration = Duration::from_millis(100);
const STOP_DEADLINE: Duration = Duration::from_secs(20);
const SESSION: Duration = Duration::from_millis(config::SESSION_MS);

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
            self.remove_container(&self.nodes[index])?;
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
            self.remove_container(node)?;
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

    /// A container that ended is removed a moment later; only then is its name free.
    fn remove_container(&self, node: &Node) -> Result<(), Error> {
        let Some(remove) = self.launcher.container(&["rm", "-f"], &node.container) else {
            return Ok(());
        };
        match process::run(remove, "rm") {
            Err(Error::Failed { output, .. }) if output.contains("o such container") => Ok(()),
            outcome => outcome,
        }
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

/// Whether the broker at `port` knows at least `brokers` brokers and a controller.
fn is_ready(port: u16, brokers: usize) -> bool {
    probe::ask(&format!("127.0.0.1:{port}"))
        .is_some_and(|answer| answer.brokers >= brokers && answer.has_controller)
}
