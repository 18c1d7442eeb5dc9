//! `cargo xtask brokers`: real Kafka clusters by hand, for a session at the keyboard or around one
//! command.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use clap::{Args, Subcommand, ValueEnum};
use xtask::brokers::{Cluster, Error, Guarded, Home, Jars, Mode, Options, Runtime, State, Version};

use super::Outcome;
use crate::say;

/// Start, hurt and stop real Apache Kafka clusters.
///
/// A cluster is called `source` or `destination`. With the default runtime each broker is a Java
/// process of this machine; its jars come from Maven once for each version and are kept in
/// `target/brokers` (another directory: KMIRROR_BROKERS_DIR). Tried: 0.10.2.2, 1.1.1, 2.4.1, 3.2.3,
/// 3.9.1, 4.3.0; other versions of those lines follow the same rules.
///
/// Examples:
///
///   cargo xtask brokers up                                  # source 3.9.1, destination 4.3.0
///
///   cargo xtask brokers up --source 2.4.1 --nodes 3         # one cluster of three brokers
///
///   cargo xtask brokers run --source 2.4.1 --destination 3.2.3 -- sh -c 'echo $KMIRROR_SOURCE'
///
///   eval "$(cargo xtask brokers env)"                       # what runs, as shell variables
///
///   cargo xtask brokers kill source 1 ; cargo xtask brokers restart source 1
///
///   cargo xtask brokers down
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// The file that says what runs.
    #[arg(long, global = true, value_name = "FILE")]
    state: Option<PathBuf>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Start clusters and leave them running.
    Up(Up),
    /// Start clusters, run a command that finds them in its environment, and stop them.
    Run {
        #[command(flatten)]
        up: Up,
        /// The command: it gets KMIRROR_SOURCE, KMIRROR_DESTINATION (bootstrap servers), and for
        /// each also _ZOOKEEPER and _VERSION, and KMIRROR_BROKERS_STATE.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Stop all and remove their data.
    Down,
    /// Say what runs.
    Status,
    /// Print what runs as shell variables.
    Env,
    /// Fetch the jars of a version and print where they are.
    Jars {
        /// The version of Kafka.
        version: Version,
    },
    /// End a broker at once (SIGKILL).
    Kill(Which),
    /// Ask a broker to end (SIGTERM) and wait until it did.
    Terminate(Which),
    /// Stop a broker in its tracks (SIGSTOP).
    Freeze(Which),
    /// Let a frozen broker go on (SIGCONT).
    Thaw(Which),
    /// Start a broker again with the data it had.
    Restart(Which),
}

#[derive(Args)]
struct Which {
    /// The cluster: `source` or `destination`.
    cluster: String,
    /// The broker, from 1.
    node: u16,
}

/// What to start.
#[derive(Args, Clone)]
pub(crate) struct Up {
    /// Version of the source cluster [without --source and --destination: 3.9.1].
    #[arg(long, value_name = "VERSION")]
    source: Option<Version>,
    /// Version of the destination cluster [without --source and --destination: 4.3.0].
    #[arg(long, value_name = "VERSION")]
    destination: Option<Version>,
    /// Brokers of each cluster.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: u16,
    /// ZooKeeper or KRaft [by version: KRaft from 3.7].
    #[arg(long, value_enum)]
    mode: Option<CliMode>,
    /// A broker property of both clusters.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    both: Vec<(String, String)>,
    /// A broker property of the source.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    source_set: Vec<(String, String)>,
    /// A broker property of the destination.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    destination_set: Vec<(String, String)>,
    /// Where the processes come from.
    #[arg(long, value_enum, default_value = "jars")]
    runtime: CliRuntime,
    /// The container image of both clusters [default: apache/kafka:VERSION]; it must have `java`
    /// on its path and the jars in /opt/kafka/libs.
    #[arg(long)]
    image: Option<String>,
    /// Use the brokers that already run here as the source.
    #[arg(long, value_name = "HOST:PORT,...")]
    source_bootstrap: Option<String>,
    /// Use the brokers that already run here as the destination.
    #[arg(long, value_name = "HOST:PORT,...")]
    destination_bootstrap: Option<String>,
    /// Java heap of each broker.
    #[arg(long, default_value = "256m")]
    heap: String,
    /// Flag for each broker's Java virtual machine, instead of those that make it start fast;
    /// to measure, use --jvm-flag=-XX:+UseG1GC --heap 1g.
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    jvm_flag: Vec<String>,
    /// Seconds that a cluster may take to answer.
    #[arg(long, default_value_t = 120)]
    deadline: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum CliMode {
    Zookeeper,
    Kraft,
}

#[derive(Clone, Copy, ValueEnum)]
enum CliRuntime {
    Jars,
    Podman,
    Docker,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((pair.0.to_owned(), pair.1.to_owned()))
}

pub(crate) fn run(arguments: Arguments) -> Outcome {
    let home = Home::from_environment();
    let path = arguments.state.unwrap_or_else(|| home.state_file());
    match arguments.action {
        Action::Up(up) => up_and_stay(&home, &path, &up),
        Action::Run { up, command } => around(&home, &up, &command),
        Action::Down => {
            if let Some(state) = State::read(&path)? {
                state.down(&path)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Action::Status => status(&path),
        Action::Env => {
            for (key, value) in running(&path)?.environment() {
                say::result(&format!("export {key}='{value}'"));
            }
            Ok(ExitCode::SUCCESS)
        }
        Action::Jars { version } => {
            say::result(&Jars::fetch(&home, &version)?.directory().display().to_string());
            Ok(ExitCode::SUCCESS)
        }
        Action::Kill(which) => on_node(&path, &which, Cluster::kill),
        Action::Terminate(which) => on_node(&path, &which, Cluster::terminate),
        Action::Freeze(which) => on_node(&path, &which, |cluster, id| cluster.freeze(id)),
        Action::Thaw(which) => on_node(&path, &which, |cluster, id| cluster.thaw(id)),
        Action::Restart(which) => on_node(&path, &which, Cluster::restart),
    }
}

/// Clusters that end with this process.
pub(crate) struct Running {
    guards: Vec<Guarded>,
    environment: BTreeMap<String, String>,
    path: PathBuf,
}

impl Running {
    /// The variables that tell a command where the clusters are.
    pub(crate) fn environment(&self) -> BTreeMap<String, String> {
        let mut environment = self.environment.clone();
        let path = self.path.display().to_string();
        environment.insert("KMIRROR_BROKERS_STATE".to_owned(), path);
        environment
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.guards.clear();
        if let Err(error) = std::fs::remove_file(&self.path) {
            eprintln!("remove {}: {error}", self.path.display());
        }
    }
}

impl Up {
    /// Whether anything is said about which clusters are wanted.
    pub(crate) fn names_versions(&self) -> bool {
        self.source.is_some()
            || self.destination.is_some()
            || self.source_bootstrap.is_some()
            || self.destination_bootstrap.is_some()
    }

    /// Why these versions cannot be started with this runtime, if so.
    pub(crate) fn impossible(&self) -> Option<String> {
        if matches!(self.runtime, CliRuntime::Jars) || self.image.is_some() {
            return None;
        }
        let versions = [&self.source, &self.destination].into_iter().flatten();
        let without: Vec<String> = versions
            .filter(|version| version.image().is_none())
            .map(|version| format!("no image of Kafka {version} is published"))
            .collect();
        (!without.is_empty()).then(|| without.join(", "))
    }

    /// Asks for these versions.
    pub(crate) fn set_versions(&mut self, source: Version, destination: Version) {
        self.source = Some(source);
        self.destination = Some(destination);
    }

    /// Which clusters, in a few words.
    pub(crate) fn title(&self) -> String {
        let end = |version: &Option<Version>, bootstrap: &Option<String>| {
            let version = version.as_ref().map(Version::to_string);
            bootstrap.clone().or(version).unwrap_or_else(|| "none".to_owned())
        };
        let source = end(&self.source, &self.source_bootstrap);
        format!("{source} to {}", end(&self.destination, &self.destination_bootstrap))
    }

    /// Starts the clusters; they end with this process.
    pub(crate) fn guarded(&self, home: &Home) -> Result<Running, Error> {
        let state = self.start(home)?;
        let path = home.state_file().with_extension(format!("{}.json", std::process::id()));
        let environment = state.environment();
        state.write(&path)?;
        let clusters = state.clusters.into_values();
        let guards = clusters.map(Cluster::guarded).collect::<Result<Vec<_>, _>>()?;
        Ok(Running { guards, environment, path })
    }

    /// The clusters to start (or to take as they are), in order.
    fn plan(&self) -> Result<Vec<Plan>, Error> {
        let default = |version: &str| (!self.names_versions()).then(|| version.parse()).transpose();
        let ends = [
            End {
                name: "source",
                version: self.source.clone().or(default("3.9.1")?),
                bootstrap: self.source_bootstrap.as_deref(),
                properties: &self.source_set,
            },
            End {
                name: "destination",
                version: self.destination.clone().or(default("4.3.0")?),
                bootstrap: self.destination_bootstrap.as_deref(),
                properties: &self.destination_set,
            },
        ];
        ends.iter().filter_map(|end| self.plan_end(end)).collect()
    }

    fn plan_end(&self, end: &End<'_>) -> Option<Result<Plan, Error>> {
        if let Some(bootstrap) = end.bootstrap {
            // The version of brokers that already run matters to nobody here but the suites.
            let version = end.version.clone().map_or_else(|| "3.9.1".parse(), Ok);
            return Some(
                version.map(|version| Plan::Use(Cluster::external(end.name, version, bootstrap))),
            );
        }
        let mut options = Options::new(end.name, end.version.clone()?);
        options.nodes = self.nodes;
        options.mode = self.mode.map(|mode| match mode {
            CliMode::Zookeeper => Mode::Zookeeper,
            CliMode::Kraft => Mode::Kraft,
        });
        options.runtime = match self.runtime {
            CliRuntime::Jars => Runtime::Jars,
            CliRuntime::Podman => Runtime::Podman,
            CliRuntime::Docker => Runtime::Docker,
        };
        options.properties = self.both.iter().chain(end.properties).cloned().collect();
        options.image.clone_from(&self.image);
        options.heap.clone_from(&self.heap);
        if !self.jvm_flag.is_empty() {
            options.jvm_flags.clone_from(&self.jvm_flag);
        }
        options.deadline = Duration::from_secs(self.deadline);
        Some(Ok(Plan::Start(options)))
    }

    fn start(&self, home: &Home) -> Result<State, Error> {
        let mut state = State { clusters: BTreeMap::new() };
        for plan in self.plan()? {
            let started = match plan {
                Plan::Start(options) => Cluster::start(home, &options),
                Plan::Use(cluster) if cluster.is_up() => Ok(cluster),
                Plan::Use(cluster) => Err(Error::NoAnswer { bootstrap: cluster.bootstrap }),
            };
            match started {
                Ok(cluster) => {
                    state.clusters.insert(cluster.name.clone(), cluster);
                }
                Err(error) => {
                    for cluster in state.clusters.values_mut() {
                        cluster.stop()?;
                    }
                    return Err(error);
                }
            }
        }
        Ok(state)
    }
}

struct End<'a> {
    name: &'static str,
    version: Option<Version>,
    bootstrap: Option<&'a str>,
    properties: &'a [(String, String)],
}

enum Plan {
    Start(Options),
    Use(Cluster),
}

fn up_and_stay(home: &Home, path: &Path, up: &Up) -> Outcome {
    if let Some(state) = State::read(path)? {
        if state.clusters.values().any(Cluster::is_up) {
            return Err(format!(
                "brokers are already up (see `cargo xtask brokers status`; state file {})",
                path.display()
            )
            .into());
        }
        state.down(path)?;
    }
    let state = up.start(home)?;
    state.write(path)?;
    status(path)
}

fn around(home: &Home, up: &Up, command: &[String]) -> Outcome {
    let running = up.guarded(home)?;
    let status = Command::new(&command[0]).args(&command[1..]).envs(running.environment()).status();
    drop(running);
    let status = status.map_err(|source| Error::Start { program: command[0].clone(), source })?;
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}

fn running(path: &Path) -> Result<State, Box<dyn std::error::Error>> {
    State::read(path)?.ok_or_else(|| {
        let path = path.display();
        format!("nothing was started (no state file {path}): cargo xtask brokers up").into()
    })
}

fn status(path: &Path) -> Outcome {
    let state = running(path)?;
    for cluster in state.clusters.values() {
        let alive = if cluster.is_up() { "up" } else { "not all up" };
        let (name, version) = (&cluster.name, &cluster.version);
        say::result(&format!("{name}: Kafka {version}, {alive}, {}", cluster.bootstrap));
        if let Some(zookeeper) = &cluster.zookeeper {
            say::result(&format!("  zookeeper {zookeeper}"));
        }
        for node in &cluster.nodes {
            let pid = node.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
            let log = node.log();
            say::result(&format!(
                "  node {} port {} pid {pid} log {}",
                node.id,
                node.port,
                log.display()
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn on_node(
    path: &Path,
    which: &Which,
    act: impl FnOnce(&mut Cluster, u16) -> Result<(), Error>,
) -> Outcome {
    let mut state = running(path)?;
    let cluster = state
        .clusters
        .get_mut(&which.cluster)
        .ok_or_else(|| format!("there is no cluster {:?}", which.cluster))?;
    act(cluster, which.node)?;
    state.write(path)?;
    Ok(ExitCode::SUCCESS)
}
