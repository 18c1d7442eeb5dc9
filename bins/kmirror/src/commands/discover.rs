//! `kmirror discover`: prints the ZooKeeper servers or the brokers of a cluster, as one
//! `host:port,host:port` line that can go straight into a properties file.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use kmirror_discovery::http::{Credentials, Url};
use kmirror_discovery::{Address, KAFKA_PORT, ZOOKEEPER_PORT, ambari, hdinsight, zookeeper};

use crate::exit::Failure;
use crate::plan::units::parse_duration;
use crate::{output, runtime};

/// Find ZooKeeper servers or brokers in ZooKeeper, Ambari or the files of an HDInsight node
#[derive(Debug, ClapArgs)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

const EXAMPLES: &str = "\
Examples:
  The ZooKeeper servers, on a node of an HDInsight cluster:
    kmirror discover zookeeper
  The brokers, from ZooKeeper:
    kmirror discover brokers --from zookeeper --zookeeper zk0:2181,zk1:2181
  The brokers, on a node of an HDInsight cluster (the agent's files need sudo):
    sudo kmirror discover brokers
  The brokers, from Ambari; the password is read from a file, never from the command line:
    kmirror discover brokers --from ambari --ambari-url http://headnodehost:8080 \\
      --ambari-user admin --ambari-password-file ~/.ambari";

#[derive(Debug, Subcommand)]
enum What {
    /// Print the ZooKeeper servers
    Zookeeper {
        /// Where they are looked up
        #[arg(long, value_enum, default_value = "yarn-site")]
        from: ZookeeperPlace,

        /// Hadoop's YARN configuration
        #[arg(long, value_name = "FILE", default_value = hdinsight::YARN_SITE)]
        yarn_site: PathBuf,

        #[command(flatten)]
        common: Common,
    },
    /// Print the Kafka brokers
    Brokers {
        /// Where they are looked up
        #[arg(long, value_enum, default_value = "agent")]
        from: BrokerPlace,

        /// The ZooKeeper servers and chroot, for --from zookeeper
        #[arg(long, value_name = "HOST:PORT,...[/CHROOT]", required_if_eq("from", "zookeeper"))]
        zookeeper: Option<String>,

        /// Hadoop's YARN configuration, whose ZooKeeper servers --from yarn-site asks
        #[arg(long, value_name = "FILE", default_value = hdinsight::YARN_SITE)]
        yarn_site: PathBuf,

        /// The directory of the Ambari agent's command files, for --from agent
        #[arg(long, value_name = "DIRECTORY", default_value = hdinsight::AGENT_DATA)]
        agent_data: PathBuf,

        /// Which listener of a broker, where several are registered
        #[arg(long, value_name = "PROTOCOL", default_value = "PLAINTEXT")]
        security_protocol: String,

        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ZookeeperPlace {
    /// The YARN configuration of this node
    YarnSite,
    /// Ambari's REST interface
    Ambari,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum BrokerPlace {
    /// The newest command file of this node's Ambari agent
    Agent,
    /// Ambari's REST interface
    Ambari,
    /// The brokers registered in ZooKeeper
    Zookeeper,
    /// The brokers registered in the ZooKeeper that this node's YARN configuration names
    YarnSite,
}

#[derive(Debug, ClapArgs)]
struct Common {
    /// Print one address a line
    #[arg(long)]
    lines: bool,

    /// How long the look-up may take
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    timeout: Duration,

    /// Ambari's address; plain HTTP only, TLS is not spoken
    #[arg(long, value_name = "URL", default_value = "http://headnodehost:8080")]
    ambari_url: String,

    /// The cluster's name in Ambari; needed where it manages several
    #[arg(long, value_name = "NAME")]
    ambari_cluster: Option<String>,

    /// Who asks Ambari
    #[arg(long, value_name = "USER", default_value = "admin")]
    ambari_user: String,

    /// The file whose first line is the password; KMIRROR_AMBARI_PASSWORD is read otherwise. It
    /// crosses the network unencrypted
    #[arg(long, value_name = "FILE")]
    ambari_password_file: Option<PathBuf>,
}

/// Looks up and prints.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let (found, lines) = match args.what {
        What::Zookeeper { from, yarn_site, common } => {
            let found = match from {
                ZookeeperPlace::YarnSite => {
                    hdinsight::zookeeper_servers(&yarn_site).map_err(Failure::runtime)?
                }
                ZookeeperPlace::Ambari => common.ask_ambari(Wanted::Zookeeper)?,
            };
            (found, common.lines)
        }
        What::Brokers { from, zookeeper, yarn_site, agent_data, security_protocol, common } => {
            let found = match from {
                BrokerPlace::Agent => hdinsight::brokers(&agent_data).map_err(Failure::runtime)?,
                BrokerPlace::Ambari => common.ask_ambari(Wanted::Brokers)?,
                BrokerPlace::Zookeeper => {
                    let connect = zookeeper.unwrap_or_default();
                    ask_zookeeper(&connect, &security_protocol, common.timeout)?
                }
                BrokerPlace::YarnSite => {
                    let servers =
                        hdinsight::zookeeper_servers(&yarn_site).map_err(Failure::runtime)?;
                    let connect = kmirror_discovery::join(&servers);
                    ask_zookeeper(&connect, &security_protocol, common.timeout)?
                }
            };
            (found, common.lines)
        }
    };
    if lines {
        return found.iter().try_for_each(output::line);
    }
    output::line(kmirror_discovery::join(&found))
}

#[derive(Debug, Clone, Copy)]
enum Wanted {
    Brokers,
    Zookeeper,
}

impl Common {
    fn ask_ambari(&self, wanted: Wanted) -> Result<Vec<Address>, Failure> {
        let server = ambari::Server {
            url: Url::parse(&self.ambari_url).map_err(Failure::usage)?,
            credentials: self
                .password()?
                .map(|password| Credentials::new(self.ambari_user.clone(), password)),
            cluster: self.ambari_cluster.clone(),
            timeout: self.timeout,
        };
        runtime::block_on(async {
            let asked = match wanted {
                Wanted::Brokers => server.brokers(KAFKA_PORT).await,
                Wanted::Zookeeper => server.zookeeper_servers(ZOOKEEPER_PORT).await,
            };
            asked.map_err(|error| match &error {
                ambari::Error::WhichCluster { .. } => {
                    Failure::usage(error).with_help("choose one with --ambari-cluster")
                }
                _ => Failure::runtime(error),
            })
        })
    }

    fn password(&self) -> Result<Option<String>, Failure> {
        let Some(path) = &self.ambari_password_file else {
            return Ok(std::env::var("KMIRROR_AMBARI_PASSWORD").ok());
        };
        let text = std::fs::read_to_string(path)
            .map_err(|cause| Failure::usage(format!("read {}: {cause}", path.display())))?;
        Ok(Some(text.lines().next().unwrap_or_default().to_owned()))
    }
}

fn ask_zookeeper(
    connect: &str,
    security_protocol: &str,
    timeout: Duration,
) -> Result<Vec<Address>, Failure> {
    let brokers = runtime::block_on(async {
        zookeeper::brokers(connect, timeout).await.map_err(Failure::runtime)
    })?;
    zookeeper::addresses(&brokers, security_protocol).map_err(|error| {
        Failure::runtime(error).with_help("choose another listener with --security-protocol")
    })
}
