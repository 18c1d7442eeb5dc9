//! Host names from the files of an HDInsight node, as its documentation reads them.
//!
//! ZooKeeper servers stand in YARN's configuration; brokers in the newest command file that the
//! Ambari agent keeps. Files are read whole, up to [`FILE_LEN_MAX`], and never written.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::Value;

use crate::address::{self, Address};
use crate::{KAFKA_PORT, ZOOKEEPER_PORT};

/// Where HDInsight keeps YARN's configuration.
pub const YARN_SITE: &str = "/etc/hadoop/conf/yarn-site.xml";

/// Where the Ambari agent keeps the commands it was given.
pub const AGENT_DATA: &str = "/var/lib/ambari-agent/data";

/// The longest file read.
pub const FILE_LEN_MAX: u64 = 64 << 20;

/// The ZooKeeper servers that YARN's configuration at `yarn_site` names.
///
/// The value of a property known to hold them is taken, otherwise the first value that is a list of
/// `host:2181`, which is what the documented `grep` finds.
///
/// # Errors
/// [`Error::Read`] or [`Error::NoServers`].
pub fn zookeeper_servers(yarn_site: &Path) -> Result<Vec<Address>, Error> {
    let bytes = read(yarn_site)?;
    let properties = properties(&String::from_utf8_lossy(&bytes));
    let named = QUORUM_PROPERTIES
        .iter()
        .filter_map(|wanted| properties.iter().find(|(name, _)| name == wanted))
        .find_map(|(_, value)| server_list(value));
    let found = named.or_else(|| properties.iter().find_map(|(_, value)| server_list(value)));
    found.ok_or_else(|| Error::NoServers { path: yarn_site.to_owned() })
}

/// The Kafka brokers that the newest `command-N.json` below `agent_data` names.
///
/// Not every command carries the list of hosts, so older files are tried in turn, newest first,
/// up to [`COMMANDS_MAX`] of them.
///
/// # Errors
/// [`Error::NoCommands`] where there is no such file, [`Error::NoBrokers`] where none names a
/// broker.
pub fn brokers(agent_data: &Path) -> Result<Vec<Address>, Error> {
    let commands = commands(agent_data)?;
    let Some(newest) = commands.first() else {
        return Err(Error::NoCommands { path: agent_data.to_owned() });
    };
    for command in commands.iter().take(COMMANDS_MAX) {
        let json: Value = match serde_json::from_slice(&read(command)?) {
            Ok(json) => json,
            Err(cause) => return Err(Error::Json { path: command.clone(), source: cause.into() }),
        };
        let hosts = json.pointer("/clusterHostInfo/kafka_broker_hosts").and_then(Value::as_array);
        let Some(hosts) = hosts.filter(|hosts| !hosts.is_empty()) else { continue };
        return hosts
            .iter()
            .map(|host| {
                let name = host.as_str().unwrap_or_default();
                Address::parse(name, KAFKA_PORT)
                    .map_err(|source| Error::Host { path: command.clone(), source })
            })
            .collect();
    }
    Err(Error::NoBrokers { path: newest.clone(), tried: commands.len().min(COMMANDS_MAX) })
}

/// How many command files are read before giving up.
pub const COMMANDS_MAX: usize = 50;

/// Why the files named no hosts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file or directory could not be read.
    #[error("read {}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is longer than [`FILE_LEN_MAX`].
    #[error("{} is longer than {FILE_LEN_MAX} bytes", path.display())]
    TooLong {
        /// Which one.
        path: PathBuf,
    },
    /// The configuration names no ZooKeeper servers.
    #[error("{} names no zookeeper servers", path.display())]
    NoServers {
        /// The file read.
        path: PathBuf,
    },
    /// There are no command files.
    #[error(
        "{} holds no command-N.json; is this a node of the cluster, and may you read it (sudo)?",
        path.display()
    )]
    NoCommands {
        /// The directory read.
        path: PathBuf,
    },
    /// A command file is not JSON.
    #[error("{} is not JSON", path.display())]
    Json {
        /// The file read.
        path: PathBuf,
        /// Where it goes wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A host name in a command file is malformed.
    #[error("{} names a malformed host", path.display())]
    Host {
        /// The file read.
        path: PathBuf,
        /// What is wrong with it.
        source: address::Error,
    },
    /// No command file names a broker.
    #[error("neither {} nor older files ({tried} read) name a kafka broker", path.display())]
    NoBrokers {
        /// The newest file.
        path: PathBuf,
        /// How many were read.
        tried: usize,
    },
}

impl Error {
    /// Never: a file does not change by waiting. Kept so that every error answers the question.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// The properties that hold a ZooKeeper quorum in YARN's configuration, best first.
const QUORUM_PROPERTIES: [&str; 3] =
    ["hadoop.registry.zk.quorum", "yarn.resourcemanager.zk-address", "hadoop.zk.address"];

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let file = fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(FILE_LEN_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_LEN_MAX {
        return Err(Error::TooLong { path: path.to_owned() });
    }
    Ok(bytes)
}

/// The command files, newest first by modification time, then by name.
fn commands(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::Read { path: directory.to_owned(), source };
    let mut found: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let Some(number) = name.to_str().and_then(command_number) else { continue };
        let modified = entry.metadata().and_then(|metadata| metadata.modified()).map_err(failed)?;
        found.push((modified, number, entry.path()));
    }
    found.sort_by(|left, right| right.cmp(left));
    Ok(found.into_iter().map(|(_, _, path)| path).collect())
}

/// `command-[0-9]*.json` of the documented shell pattern: a digit, then anything.
fn command_number(name: &str) -> Option<u64> {
    let rest = name.strip_prefix("command-")?.strip_suffix(".json")?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    (digits > 0).then(|| rest[..digits].parse().unwrap_or(u64::MAX))
}

/// The name and value of every `<property>`. Comments are skipped; the five entities are resolved.
fn properties(xml: &str) -> Vec<(String, String)> {
    let mut text = String::with_capacity(xml.len());
    let mut rest = xml;
    while let Some((before, after)) = rest.split_once("<!--") {
        text.push_str(before);
        rest = after.split_once("-->").map_or("", |(_, after)| after);
    }
    text.push_str(rest);
    text.split("<property>")
        .skip(1)
        .filter_map(|property| Some((element(property, "name")?, element(property, "value")?)))
        .collect()
}

fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    let plain = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
    Some(plain.replace("&apos;", "'").replace("&amp;", "&").trim().to_owned())
}

/// A list of `host:port` where every port is ZooKeeper's; anything else is not one.
fn server_list(value: &str) -> Option<Vec<Address>> {
    let hosts = value.split('/').next().unwrap_or_default();
    let mut servers = Vec::new();
    for text in hosts.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        let named_port = text.ends_with(&format!(":{ZOOKEEPER_PORT}"));
        servers.push(Address::parse(text, ZOOKEEPER_PORT).ok().filter(|_| named_port)?);
    }
    (!servers.is_empty()).then_some(servers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yarn_site(content: &str) -> Result<String, Error> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("yarn-site.xml");
        fs::write(&path, content).unwrap();
        zookeeper_servers(&path).map(|servers| crate::join(&servers))
    }

    #[test]
    fn the_quorum_of_yarn_site_is_found_by_its_property() {
        let xml = "<?xml version=\"1.0\"?><configuration>
            <!-- <property><name>hadoop.registry.zk.quorum</name>
            <value>old:2181</value></property> -->
            <property><name>yarn.nodemanager.address</name><value>wn0:45454</value></property>
            <property><name>other</name><value>zk9:2181</value></property>
            <property>
              <name>yarn.resourcemanager.zk-address</name>
              <value> zk0-a.internal:2181,zk1-a.internal:2181, zk2-a.internal:2181 </value>
            </property></configuration>";
        assert_eq!(
            yarn_site(xml).unwrap(),
            "zk0-a.internal:2181,zk1-a.internal:2181,zk2-a.internal:2181"
        );
    }

    #[test]
    fn any_value_that_lists_zookeeper_servers_will_do() {
        let xml = "<property><name>x</name><value>wn0:8080</value></property>
            <property><name>y</name><value>zk0:2181,zk1:2181/yarn</value></property>";
        assert_eq!(yarn_site(xml).unwrap(), "zk0:2181,zk1:2181");
    }

    #[test]
    fn a_configuration_without_a_quorum_is_an_error_naming_the_file() {
        let error = yarn_site("<configuration/>").unwrap_err();
        assert!(error.to_string().ends_with("yarn-site.xml names no zookeeper servers"), "{error}");
    }

    #[test]
    fn brokers_come_from_the_newest_command_that_names_them() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, seconds: u64, content: &str| {
            let path = directory.path().join(name);
            fs::write(&path, content).unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        };
        let hosts =
            |list: &str| format!(r#"{{"clusterHostInfo":{{"kafka_broker_hosts":{list}}}}}"#);
        write("command-9.json", 100, &hosts(r#"["old"]"#));
        write("command-12.json", 200, &hosts(r#"["wn0-k","wn1-k"]"#));
        write("command-13.json", 300, &hosts("[]"));
        write("command-14.json", 300, "{}");
        write("command-status.json", 400, "not json");
        write("output-15.json", 400, &hosts(r#"["wrong"]"#));
        assert_eq!(crate::join(&brokers(directory.path()).unwrap()), "wn0-k:9092,wn1-k:9092");
    }

    #[test]
    fn a_directory_without_commands_says_what_to_check() {
        let directory = tempfile::tempdir().unwrap();
        let error = brokers(directory.path()).unwrap_err();
        assert!(error.to_string().contains("holds no command-N.json"), "{error}");
        assert!(matches!(brokers(&directory.path().join("x")), Err(Error::Read { .. })));
    }

    #[test]
    fn a_command_that_is_not_json_is_named() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("command-1.json"), "{").unwrap();
        assert!(matches!(brokers(directory.path()), Err(Error::Json { .. })));
    }
}
