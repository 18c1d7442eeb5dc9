//! The files that a ZooKeeper and a broker read. Pure: values in, text out.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use super::version::Logging;
use super::{Mode, Version};

/// How long a dead broker is thought to be alive.
pub(super) const SESSION_MS: u64 = 6_000;

/// What the properties of one broker depend on.
pub(super) struct Broker<'a> {
    pub(super) version: &'a Version,
    pub(super) mode: Mode,
    pub(super) id: u16,
    pub(super) port: u16,
    /// `host:port` of ZooKeeper, or the controller voters `1@host:port,...`.
    pub(super) quorum: &'a str,
    pub(super) controller_port: u16,
    pub(super) nodes: u16,
    pub(super) data: &'a Path,
    pub(super) overrides: &'a BTreeMap<String, String>,
}

/// `server.properties`.
pub(super) fn server_properties(broker: &Broker<'_>) -> String {
    let mut properties = common(broker);
    match broker.mode {
        Mode::Zookeeper => zookeeper_mode(broker, &mut properties),
        Mode::Kraft => kraft_mode(broker, &mut properties),
    }
    for (key, value) in broker.overrides {
        properties.insert(key.clone(), with_ports(broker, value));
    }
    render(&properties)
}

/// Ports are chosen when a cluster starts: in a property's value `{port}` stands for the broker's
/// own, and `{second_port}` for another free one, for a listener of its own.
fn with_ports(broker: &Broker<'_>, value: &str) -> String {
    let second = broker.controller_port.to_string();
    value.replace("{port}", &broker.port.to_string()).replace("{second_port}", &second)
}

/// Settings for a small broker that is thrown away: few internal partitions, small buffers, no
/// waiting for members, and records kept whatever their timestamps are.
fn common(broker: &Broker<'_>) -> BTreeMap<String, String> {
    let replicas = broker.nodes.min(3).to_string();
    let in_sync = if broker.nodes >= 3 { "2" } else { "1" };
    let mut properties = BTreeMap::new();
    let mut set = |key: &str, value: &str| properties.insert(key.to_owned(), value.to_owned());
    set("log.dirs", &broker.data.display().to_string());
    set("default.replication.factor", &replicas);
    set("offsets.topic.replication.factor", &replicas);
    set("offsets.topic.num.partitions", "8");
    set("transaction.state.log.replication.factor", &replicas);
    set("transaction.state.log.min.isr", in_sync);
    set("transaction.state.log.num.partitions", "4");
    set("group.initial.rebalance.delay.ms", "0");
    set("log.retention.ms", "-1");
    set("log.cleaner.dedupe.buffer.size", "8388608");
    set("log.cleaner.backoff.ms", "1000");
    set("num.network.threads", "2");
    set("num.io.threads", "4");
    set("delete.topic.enable", "true");
    set("controlled.shutdown.enable", "true");
    if broker.version.at_least(4, 0) {
        set("share.coordinator.state.topic.replication.factor", &replicas);
        set("share.coordinator.state.topic.min.isr", in_sync);
    }
    properties
}

fn zookeeper_mode(broker: &Broker<'_>, properties: &mut BTreeMap<String, String>) {
    let mut set = |key: &str, value: String| properties.insert(key.to_owned(), value);
    set("broker.id", broker.id.to_string());
    set("listeners", format!("PLAINTEXT://127.0.0.1:{}", broker.port));
    set("zookeeper.connect", broker.quorum.to_owned());
    set("zookeeper.connection.timeout.ms", "30000".to_owned());
    set("zookeeper.session.timeout.ms", SESSION_MS.to_string());
}

fn kraft_mode(broker: &Broker<'_>, properties: &mut BTreeMap<String, String>) {
    let mut set = |key: &str, value: String| properties.insert(key.to_owned(), value);
    let (port, controller) = (broker.port, broker.controller_port);
    set("node.id", broker.id.to_string());
    set("process.roles", "broker,controller".to_owned());
    set("broker.session.timeout.ms", SESSION_MS.to_string());
    set("broker.heartbeat.interval.ms", "1000".to_owned());
    set("controller.quorum.voters", broker.quorum.to_owned());
    set("controller.listener.names", "CONTROLLER".to_owned());
    set("inter.broker.listener.name", "PLAINTEXT".to_owned());
    let listeners = format!("PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}");
    set("listeners", listeners);
    set("advertised.listeners", format!("PLAINTEXT://127.0.0.1:{port}"));
    let protocols = "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,\
                     SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL";
    set("listener.security.protocol.map", protocols.to_owned());
}

/// `zookeeper.properties`.
pub(super) fn zookeeper_properties(port: u16, data: &Path) -> String {
    format!(
        "dataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\nmaxClientCnxns=0\n\
         admin.enableServer=false\n",
        data.display()
    )
}

/// Name and text of the file that quietens a version's logging.
pub(super) fn logging(version: &Version) -> (&'static str, &'static str) {
    match version.logging() {
        Logging::Log4j1 => ("log4j.properties", LOG4J1),
        Logging::Log4j2 => ("log4j2.properties", LOG4J2),
    }
}

/// The flags that name such a file, and the level to log at, to the Java virtual machine.
pub(super) fn logging_flags(version: &Version, directory: &Path, level: &str) -> [String; 2] {
    let path = directory.join(logging(version).0);
    let file = match version.logging() {
        Logging::Log4j1 => format!("-Dlog4j.configuration=file:{}", path.display()),
        Logging::Log4j2 => format!("-Dlog4j2.configurationFile={}", path.display()),
    };
    [file, format!("-Dkmirror.level={level}")]
}

fn render(properties: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    for (key, value) in properties {
        writeln!(text, "{key}={}", value.replace('\\', "\\\\"))
            .expect("invariant: writing to a string cannot fail");
    }
    text
}

const LOG4J1: &str = "\
log4j.rootLogger=${kmirror.level}, stderr
log4j.appender.stderr=org.apache.log4j.ConsoleAppender
log4j.appender.stderr.target=System.err
log4j.appender.stderr.layout=org.apache.log4j.PatternLayout
log4j.appender.stderr.layout.ConversionPattern=[%d] %p %m (%c)%n
";

const LOG4J2: &str = "\
status=error
appender.console.type=Console
appender.console.name=STDERR
appender.console.target=SYSTEM_ERR
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=[%d] %p %m (%c)%n
rootLogger.level=${sys:kmirror.level}
rootLogger.appenderRef.stderr.ref=STDERR
";

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(version: &str, mode: Mode, overrides: &[(&str, &str)]) -> String {
        let overrides =
            overrides.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        server_properties(&Broker {
            version: &version.parse().expect("a version"),
            mode,
            id: 2,
            port: 20_001,
            quorum: "the-quorum",
            controller_port: 20_002,
            nodes: 3,
            data: Path::new("/data"),
            overrides: &overrides,
        })
    }

    #[test]
    fn a_zookeeper_broker_names_its_zookeeper_and_no_controller() {
        let text = rendered("2.4.1", Mode::Zookeeper, &[]);
        assert!(text.contains("zookeeper.connect=the-quorum\n"));
        assert!(text.contains("broker.id=2\n"));
        assert!(text.contains("offsets.topic.replication.factor=3\n"));
        assert!(!text.contains("process.roles"));
        assert!(!text.contains("share.coordinator"));
    }

    #[test]
    fn a_kraft_broker_is_its_own_controller() {
        let text = rendered("4.3.0", Mode::Kraft, &[]);
        assert!(text.contains("controller.quorum.voters=the-quorum\n"));
        assert!(text.contains("CONTROLLER://127.0.0.1:20002"));
        assert!(text.contains("share.coordinator.state.topic.min.isr=2\n"));
        assert!(!text.contains("zookeeper"));
    }

    #[test]
    fn a_property_may_name_the_ports_that_are_chosen_at_the_start() {
        let listeners = "PLAINTEXT://127.0.0.1:{port},INNER://127.0.0.1:{second_port}";
        let text = rendered("2.4.1", Mode::Zookeeper, &[("listeners", listeners)]);
        let expected = "listeners=PLAINTEXT://127.0.0.1:20001,INNER://127.0.0.1:20002\n";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn a_property_of_the_user_wins() {
        let text = rendered("3.9.1", Mode::Kraft, &[("log.retention.ms", "1000")]);
        assert!(text.contains("log.retention.ms=1000\n"));
        assert!(!text.contains("log.retention.ms=-1"));
    }
}
