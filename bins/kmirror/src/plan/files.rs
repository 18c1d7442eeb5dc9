//! From MirrorMaker's flags and its two properties files to a plan of one flow.
//!
//! A value that the operator's files set is kept, also where kmirror's own default differs. What
//! the flags mean is tabled in `commands/mirror_maker.rs`; here their meaning is put into a flow.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kmirror::policy::filter::from_mirror_maker;
use kmirror_client::config::keys::{Finding, Level, Role, resolve};
use kmirror_client::config::properties::{Origin, Properties};

use super::document::Settings;
use super::options::Value;
use super::{Cluster, Flow, Place, Plan, filled};
use crate::exit::Failure;

/// What MirrorMaker's flags say, apart from the two files.
#[derive(Debug)]
pub(crate) struct Flags {
    /// `--include`, or else `--whitelist`; everything when only a blacklist is given.
    pub(crate) include: String,
    /// Which of them it was.
    pub(crate) include_flag: &'static str,
    /// `--blacklist`.
    pub(crate) exclude: Option<String>,
    /// `--num.streams`.
    pub(crate) streams: i64,
    /// `--offset.commit.interval.ms`.
    pub(crate) commit_interval: Duration,
    /// `--abort.on.send.failure`.
    pub(crate) abort_on_send_failure: bool,
}

/// Reads the files and resolves them with the flags. Each consumer's file is a flow of its own: the
/// oldest MirrorMaker read several clusters at once.
pub(crate) fn load(consumers: &[PathBuf], producer: &Path, flags: &Flags) -> Result<Plan, Failure> {
    let read = |path: &Path, role| {
        Ok(File::new(path, Properties::read(path).map_err(Failure::usage)?, role))
    };
    let consumers = consumers.iter().map(|path| read(path, Role::Consumer));
    let consumers = consumers.collect::<Result<_, Failure>>()?;
    Ok(combine(consumers, read(producer, Role::Producer)?, flags))
}

/// One properties file, resolved.
pub(crate) struct File {
    place: String,
    properties: Properties,
    findings: Vec<Finding>,
}

impl File {
    /// Resolves what was read from `path`.
    pub(crate) fn new(path: &Path, properties: Properties, role: Role) -> Self {
        let (properties, findings) = resolve(&properties, role);
        let mut file = Self { place: path.display().to_string(), properties, findings };
        file.note_zookeeper();
        file
    }

    /// What was found.
    pub(crate) fn findings(&self) -> &[Finding] {
        &self.findings
    }

    fn note_zookeeper(&mut self) {
        let Some(entry) = self.properties.entry("zookeeper.connect").cloned() else { return };
        let text = match filled(&self.properties, "bootstrap.servers") {
            Some(_) => "is not needed: bootstrap.servers is set",
            None => {
                "tells where the brokers are; where the group has no offset in Kafka, the one that \
                 an old consumer kept in ZooKeeper is taken over"
            }
        };
        let (origin, key) = (entry.origin, entry.key);
        self.findings.push(Finding { level: Level::Note, origin, key, text: text.to_owned() });
    }

    fn require(&mut self, key: &str, text: &str) {
        if filled(&self.properties, key).is_none() {
            let (key, text) = (key.to_owned(), text.to_owned());
            let origin = Origin::new(&self.place);
            self.findings.push(Finding { level: Level::Error, origin, key, text });
        }
    }

    fn cluster(&mut self) -> Option<Cluster> {
        let place = Place::from_properties(&self.properties);
        if place.is_none() {
            self.require("bootstrap.servers", "is missing: name brokers as host:port,host:port");
        }
        let properties = self.properties.clone();
        Some(Cluster { place: place?, properties, address_map: Vec::new(), cluster_id: None })
    }
}

fn combine(consumers: Vec<File>, mut producer: File, flags: &Flags) -> Plan {
    let destination = producer.cluster();
    note_recompression(&mut producer);
    let mut plan = Plan::default();
    for mut consumer in consumers {
        consumer.require("group.id", "is missing: positions are kept in a consumer group");
        let settings = settings(&consumer.properties, flags);
        let group = filled(&consumer.properties, "group.id").unwrap_or_default().to_owned();
        if consumer.properties.entry("client.id").is_none() {
            // MirrorMaker calls its consumers after the group.
            consumer.properties.set("client.id", group.clone(), Origin::new("group.id"));
        }
        let source = consumer.cluster();
        plan.findings.append(&mut consumer.findings);
        if let (Some(source), Some(destination)) = (source, destination.clone()) {
            let named = plan
                .flows
                .iter()
                .filter(|flow| filled(&flow.source.properties, "group.id") == Some(&group))
                .count();
            let name = if named == 0 { group } else { format!("{group}-{}", named + 1) };
            plan.flows.push(Flow { name, source, destination, settings });
        }
    }
    plan.findings.append(&mut producer.findings);
    plan
}

/// The options that say what MirrorMaker does where kmirror does otherwise by default.
fn settings(consumer: &Properties, flags: &Flags) -> Settings {
    let mut settings = Settings::default();
    let mut set = |name, value, flag| settings.set(name, value, Origin::new(flag));
    let text = |text: &str| Value::Text(text.to_owned());
    set("topics", Value::Texts(vec![from_mirror_maker(&flags.include)]), flags.include_flag);
    if let Some(exclude) = &flags.exclude {
        set("exclude", Value::Texts(vec![from_mirror_maker(exclude)]), "--blacklist");
    }
    set("streams", Value::Integer(flags.streams), "--num.streams");
    let interval = Value::Duration(flags.commit_interval);
    set("commit_interval", interval, "--offset.commit.interval.ms");
    let flag = "--abort.on.send.failure";
    if flags.abort_on_send_failure {
        set("reach", text("mirror"), flag);
    } else {
        for name in ["on_oversize", "on_null_key", "on_rejected"] {
            set(name, text("skip"), flag);
        }
    }
    // Kafka's consumer resets in silence wherever a position is gone, if it is told where to.
    let resets = |value: &str| !value.trim().eq_ignore_ascii_case("none");
    if consumer.value("auto.offset.reset").is_some_and(resets) {
        set("on_lost", text("continue"), "auto.offset.reset");
    }
    settings
}

/// The one setting of the documented walk-through that costs most of the work.
fn note_recompression(producer: &mut File) {
    let Some(entry) = producer.properties.entry("compression.type").cloned() else { return };
    producer.findings.push(Finding {
        level: Level::Note,
        origin: entry.origin,
        key: entry.key,
        text:
            "makes every batch with another codec be compressed again; remove it to keep batches \
               as they are"
                .to_owned(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags() -> Flags {
        Flags {
            include: "testtopic".to_owned(),
            include_flag: "--include",
            exclude: None,
            streams: 4,
            commit_interval: Duration::from_mins(1),
            abort_on_send_failure: true,
        }
    }

    fn plan(consumer: &str, producer: &str, flags: &Flags) -> Plan {
        let file = |place: &str, text: &str, role| {
            let properties = Properties::parse(place, text.as_bytes().to_vec()).unwrap();
            File::new(Path::new(place), properties, role)
        };
        let consumer = file("consumer.properties", consumer, Role::Consumer);
        combine(vec![consumer], file("producer.properties", producer, Role::Producer), flags)
    }

    fn errors(plan: &Plan) -> Vec<String> {
        let errors = plan.findings.iter().filter(|finding| finding.level == Level::Error);
        errors.map(ToString::to_string).collect()
    }

    #[test]
    fn the_documented_walk_through_is_a_plan() {
        let consumer = "zookeeper.connect=zk0:2181,zk1:2181\ngroup.id=mirrorgroup\n";
        let producer = "bootstrap.servers=wn0:9092,wn1:9092\ncompression.type=none\n";
        let plan = plan(consumer, producer, &flags());
        assert_eq!(errors(&plan), [""; 0]);
        let flow = &plan.flows[0];
        let connect = "zk0:2181,zk1:2181".to_owned();
        assert_eq!(
            flow.source.place,
            Place::Zookeeper { connect, timeout: super::super::ZOOKEEPER_TIMEOUT }
        );
        assert_eq!(flow.destination.place, Place::Servers("wn0:9092,wn1:9092".to_owned()));
        assert_eq!(flow.source.properties.value("client.id"), Some("mirrorgroup"));
        assert_eq!(flow.settings.texts("topics"), ["testtopic"]);
        assert_eq!(flow.settings.text("reach"), Some("mirror"));
        assert!(flow.settings.entry("source_reach").is_none(), "the source's faults end nothing");
        assert!(flow.settings.entry("isolation").is_none());
        assert!(flow.settings.entry("on_lost").is_none());
        assert!(plan.findings.iter().any(|finding| finding.key == "compression.type"));
    }

    #[test]
    fn brokers_win_over_zookeeper() {
        let consumer = "zookeeper.connect=zk0:2181\nbootstrap.servers=a:1\ngroup.id=g\n";
        let plan = plan(consumer, "bootstrap.servers=b:1", &flags());
        assert_eq!(plan.flows[0].source.place, Place::Servers("a:1".to_owned()));
        assert!(plan.findings[0].to_string().contains("is not needed"));
    }

    #[test]
    fn a_selection_is_what_mirror_maker_makes_of_it() {
        let (include, exclude) = (" a, b.* ".to_owned(), Some("'c,d'".to_owned()));
        let flags = Flags { include, exclude, ..flags() };
        let plan = plan("bootstrap.servers=a:1\ngroup.id=g\n", "bootstrap.servers=b:1", &flags);
        assert_eq!(plan.flows[0].settings.texts("topics"), ["a|b.*"]);
        assert_eq!(plan.flows[0].settings.texts("exclude"), ["c|d"]);
    }

    #[test]
    fn what_the_files_lack_is_named_by_file() {
        let plan = plan("", "", &flags());
        let servers = "bootstrap.servers is missing: name brokers as host:port,host:port";
        let expected = [
            "consumer.properties: group.id is missing: positions are kept in a consumer group",
            &format!("consumer.properties: {servers}"),
            &format!("producer.properties: {servers}"),
        ];
        assert_eq!(errors(&plan), expected);
        assert!(plan.flows.is_empty());
    }

    #[test]
    fn a_reset_that_the_file_names_holds_for_lost_positions_too() {
        let consumer = "bootstrap.servers=a:1\ngroup.id=g\nauto.offset.reset=latest\n";
        let plan = plan(consumer, "bootstrap.servers=b:1", &flags());
        assert_eq!(plan.flows[0].settings.text("on_lost"), Some("continue"));
        assert_eq!(plan.flows[0].source.properties.value("auto.offset.reset"), Some("latest"));
    }

    #[test]
    fn no_reset_stops_where_a_position_is_gone() {
        let consumer = "bootstrap.servers=a:1\ngroup.id=g\nauto.offset.reset=None\n";
        let plan = plan(consumer, "bootstrap.servers=b:1", &flags());
        assert!(plan.flows[0].settings.entry("on_lost").is_none());
        assert_eq!(plan.flows[0].source.properties.value("auto.offset.reset"), Some("None"));
    }

    #[test]
    fn without_abort_what_the_destination_refuses_is_skipped() {
        let flags = Flags { abort_on_send_failure: false, ..flags() };
        let plan = plan("bootstrap.servers=a:1\ngroup.id=g", "bootstrap.servers=b:1", &flags);
        assert_eq!(plan.flows[0].settings.text("on_rejected"), Some("skip"));
        assert!(plan.flows[0].settings.entry("reach").is_none());
    }
}
