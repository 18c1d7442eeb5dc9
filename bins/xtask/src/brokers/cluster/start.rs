//! How a cluster comes up: its files are written, its storage formatted, its processes started, and
//! then every broker is asked until it knows all the others.

use std::{
    fs,
    hash::{BuildHasher, RandomState},
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{Cluster, Node, POLL, is_ready};
use crate::{
    brokers::{
        Error, Home, Mode, Options, config,
        container::{Launcher, Program},
        ports, process,
    },
    clock,
};

const PROGRESS: Duration = Duration::from_secs(5);

impl Cluster {
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

    pub(super) fn java(&self, node: &Node, main: &[&str]) -> Result<Command, Error> {
        let mut flags = self.flags.clone();
        flags.extend(config::logging_flags(&self.version, &node.directory, "WARN"));
        let directory = &node.directory;
        let program = Program { name: &node.container, directory, flags: &flags, main };
        self.launcher.command(&self.version, &program)
    }

    pub(super) fn launch(&mut self, index: usize) -> Result<(), Error> {
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

    pub(super) fn wait_for(
        &self,
        ids: &[u16],
        is_ready: impl Fn(&Node) -> bool,
    ) -> Result<(), Error> {
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
