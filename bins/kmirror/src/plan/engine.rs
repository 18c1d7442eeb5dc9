//! From a planned flow to the engine's configuration: the one place where an option or a property
//! gets its effect. Properties come first, kmirror's own options win over them.

use std::path::Path;
use std::sync::Arc;

use kmirror::config::{Compression, Config, Group, Isolation, Ownership, Slot};
use kmirror::policy::filter::{Pattern, Selection};
use kmirror::policy::naming::Naming;
use kmirror::policy::partitioning::Partitioning;
use kmirror::policy::trouble::{AppendTime, Lost, Reach, Refused, Start};
use kmirror_client::config::keys::Role;
use kmirror_client::group::{Assignor, slot};

use super::document::Settings;
use super::options::Value;
use super::{Cluster, Flow, Place};
use crate::connect::{client_config, client_of, milliseconds};
use crate::exit::{Failure, chain};

/// The engine's configuration of a flow. Asks ZooKeeper where a cluster is known only there.
pub(crate) async fn config(flow: &Flow) -> Result<Config, Failure> {
    let source = client_config(&flow.source).await?;
    let destination = client_config(&flow.destination).await?;
    let mut config = build(flow, source, destination)?;
    name_members(flow, &mut config);
    Ok(config)
}

/// Takes a slot of this host for the group, so that a restart after a crash moves no partition.
/// Where that is not possible the membership is dynamic, which is slower and no less safe.
fn name_members(flow: &Flow, config: &mut Config) {
    let Ownership::Group(group) = &mut config.ownership else { return };
    if group.instance_id.is_some() || flow.settings.text("membership") == Some("dynamic") {
        return;
    }
    let addresses = match &flow.source.place {
        Place::Servers(servers) => servers,
        Place::Zookeeper { connect, .. } => connect,
    };
    let place = slot::Place {
        group_id: &group.id,
        cluster_id: Some(flow.source.cluster_id.as_ref().unwrap_or(addresses)),
        directory: flow.settings.text("state_directory").map(Path::new),
    };
    match Slot::take(place) {
        Ok(slot) => group.slot = Some(slot),
        Err(error) => {
            let error = chain(&error);
            tracing::warn!(error, "membership is dynamic: no slot could be taken");
        }
    }
}

/// Checks a flow as far as that is possible without connecting to anything.
pub(crate) fn check(flow: &Flow) -> Result<(), Failure> {
    let client = |cluster: &Cluster| match &cluster.place {
        Place::Servers(servers) => client_of(cluster, servers),
        Place::Zookeeper { .. } => client_of(cluster, "looked.up.later:9092"),
    };
    let config = build(flow, client(&flow.source)?, client(&flow.destination)?)?;
    config.validate().map_err(|error| refused(flow, error))
}

/// A setting that the engine refuses, by the name it has where the operator wrote it.
pub(crate) fn refused(flow: &Flow, error: kmirror::Error) -> Failure {
    let kmirror::Error::Config { setting, reason } = &error else { return Failure::usage(error) };
    let Some((_, option, role, key)) = WRITTEN.iter().find(|(name, ..)| name == setting) else {
        return Failure::usage(error);
    };
    if let Some((_, origin)) = flow.settings.entry(option) {
        return Failure::usage(format!("{origin}: {option}: {reason}"));
    }
    let end = if *role == Role::Producer { &flow.destination } else { &flow.source };
    match end.properties.entry(key) {
        Some(entry) => Failure::usage(format!("{}: {key}: {reason}", entry.origin)),
        None => Failure::usage(error),
    }
}

/// Settings of the engine that a value may be wrong for, each with the option and the property that
/// set it; empty where there is none.
const WRITTEN: [(&str, &str, Role, &str); 16] = [
    ("streams", "streams", Role::Admin, ""),
    ("memory_bytes", "memory", Role::Admin, ""),
    ("commit_interval", "commit_interval", Role::Admin, ""),
    ("shutdown_timeout", "shutdown_timeout", Role::Admin, ""),
    ("topic.refresh_interval", "refresh_interval", Role::Admin, ""),
    ("topic.replication_factor", "replication_factor", Role::Admin, ""),
    ("produce.small_batch_bytes", "small_batch", Role::Admin, ""),
    ("produce.batch_bytes", "batch", Role::Admin, ""),
    ("produce.request_bytes_max", "", Role::Producer, "max.request.size"),
    ("produce.in_flight_max", "", Role::Producer, "max.in.flight.requests.per.connection"),
    ("produce.timeout", "", Role::Producer, "request.timeout.ms"),
    ("fetch.bytes_max", "", Role::Consumer, "fetch.max.bytes"),
    ("fetch.wait_max", "", Role::Consumer, "fetch.max.wait.ms"),
    ("ownership.group.id", "group", Role::Consumer, "group.id"),
    ("group.heartbeat_interval", "", Role::Consumer, "heartbeat.interval.ms"),
    ("group.assignors", "", Role::Consumer, "partition.assignment.strategy"),
];

fn build(
    flow: &Flow,
    source: kmirror_client::Config,
    destination: kmirror_client::Config,
) -> Result<Config, Failure> {
    let mut config = Config::new(source, destination, selection(&flow.settings)?);
    let group: Arc<str> = flow.group().into();
    config.ownership = Ownership::Group(Group::new(Arc::clone(&group)));
    for entry in flow.source.properties.iter() {
        consumer(&mut config, &entry.key, entry.value.trim())
            .map_err(|text| Failure::usage(format!("{}: {} {text}", entry.origin, entry.key)))?;
    }
    // No answer brings more than the one, so waiting for the other would only be waiting.
    config.fetch.bytes_min = config.fetch.bytes_min.min(config.fetch.bytes_max);
    for entry in flow.destination.properties.iter() {
        producer(&mut config, &entry.key, entry.value.trim());
    }
    for (name, value, _) in flow.settings.iter() {
        option(&mut config, name, value);
    }
    if flow.settings.text("ownership") == Some("alone") {
        config.ownership = Ownership::Alone { group_id: Some(group) };
    }
    config.source_cluster_id = flow.source.cluster_id.as_deref().map(Arc::from);
    config.destination_cluster_id = flow.destination.cluster_id.as_deref().map(Arc::from);
    Ok(config)
}

/// Which topics a flow mirrors.
pub(crate) fn selection(settings: &Settings) -> Result<Selection, Failure> {
    let pattern = |name: &str, text: &str| {
        Pattern::try_new(text).map_err(|cause| {
            let place = settings.entry(name).map(|(_, origin)| origin.to_string());
            Failure::usage(format!("{}: {name}: {cause}", place.unwrap_or_default())).with_help(
                "give Java regular expressions, each as a text of its own; one has to match \
                     the whole name of a topic",
            )
        })
    };
    let (first, others) = settings.texts("topics").split_first().unzip();
    let mut selection = Selection::new(pattern("topics", first.map_or("", String::as_str))?);
    for text in others.into_iter().flatten() {
        selection = selection.with_include(pattern("topics", text)?);
    }
    for text in settings.texts("exclude") {
        selection = selection.with_exclude(pattern("exclude", text)?);
    }
    Ok(selection)
}

/// Gives a property of the consumer its effect. Numbers were checked, and brought within what the
/// engine takes, by the table of keys.
fn consumer(config: &mut Config, key: &str, value: &str) -> Result<(), String> {
    match key {
        "auto.offset.reset" => config.start = start(value),
        "isolation.level" => config.fetch.isolation = isolation(value),
        "fetch.min.bytes" => config.fetch.bytes_min = bytes(value),
        "fetch.max.bytes" => config.fetch.bytes_max = bytes(value),
        "fetch.max.wait.ms" => config.fetch.wait_max = milliseconds(value),
        "max.partition.fetch.bytes" => config.fetch.partition_bytes_max = bytes(value),
        "exclude.internal.topics" => config.topics.internal = value.eq_ignore_ascii_case("false"),
        _ => {
            if let Ownership::Group(group) = &mut config.ownership {
                return membership(group, key, value);
            }
        }
    }
    Ok(())
}

fn membership(group: &mut Group, key: &str, value: &str) -> Result<(), String> {
    match key {
        "group.instance.id" if !value.is_empty() => group.instance_id = Some(value.into()),
        "session.timeout.ms" => {
            group.session_timeout = milliseconds(value);
            group.session_timeout_dynamic = milliseconds(value);
        }
        "heartbeat.interval.ms" => group.heartbeat_interval = milliseconds(value),
        "max.poll.interval.ms" => group.rebalance_timeout = milliseconds(value),
        "partition.assignment.strategy" => {
            group.assignors = value
                .split(',')
                .map(str::trim)
                .filter(|name| !name.is_empty())
                .map(assignor)
                .collect::<Result<_, _>>()?;
            if group.assignors.is_empty() {
                return Err(ASSIGNORS.to_owned());
            }
        }
        _ => {}
    }
    Ok(())
}

/// What `partition.assignment.strategy` takes.
const ASSIGNORS: &str = "must name range, roundrobin, sticky or cooperative-sticky";

/// Kafka names assignors by class, the group protocol by a word.
fn assignor(name: &str) -> Result<Arc<str>, String> {
    match Assignor::from_name(name) {
        Some(assignor) => Ok(assignor.name().into()),
        None => Err(ASSIGNORS.to_owned()),
    }
}

/// Gives a property of the producer its effect.
fn producer(config: &mut Config, key: &str, value: &str) {
    match key {
        "compression.type" if !value.is_empty() => config.produce.compression = compression(value),
        "max.request.size" => config.produce.request_bytes_max = bytes(value),
        "max.in.flight.requests.per.connection" => {
            config.produce.in_flight_max = value.parse().unwrap_or(1);
        }
        "request.timeout.ms" => config.produce.timeout = milliseconds(value),
        _ => {}
    }
}

/// Gives one of kmirror's own options its effect. Those that name the flow, its clusters and its
/// group have theirs before this is called.
fn option(config: &mut Config, name: &str, value: &Value) {
    match value {
        Value::Text(text) => word(config, name, text),
        Value::Boolean(truth) => match name {
            "internal_topics" => config.topics.internal = *truth,
            "source_is_murmur2" => config.source_is_murmur2 = *truth,
            "until_caught_up" => config.until_caught_up = *truth,
            "create_topics" => config.topic.create = *truth,
            "copy_topic_configs" => config.topic.copy_configs = *truth,
            "grow_partitions" => config.topic.grow = *truth,
            _ => {}
        },
        Value::Integer(number) => match name {
            "streams" => config.streams = usize::try_from(*number).unwrap_or(1),
            "replication_factor" => config.topic.replication_factor = i16::try_from(*number).ok(),
            _ => {}
        },
        Value::Duration(duration) => match name {
            "commit_interval" => config.commit_interval = *duration,
            "refresh_interval" => config.topic.refresh_interval = *duration,
            "shutdown_timeout" => config.shutdown_timeout = *duration,
            _ => {}
        },
        Value::Bytes(size) => {
            let bounded = u32::try_from(*size).unwrap_or(u32::MAX);
            match name {
                "memory" => config.memory_bytes = *size,
                "small_batch" => config.produce.small_batch_bytes = bounded,
                "batch" => config.produce.batch_bytes = bounded,
                _ => {}
            }
        }
        Value::Texts(_) | Value::Pairs(_) => {}
    }
}

fn word(config: &mut Config, name: &str, text: &str) {
    let refused = || if text == "skip" { Refused::Skip } else { Refused::Halt };
    match name {
        "prefix" => config.naming = Naming::Prefix(text.to_owned()),
        "suffix" => config.naming = Naming::Suffix(text.to_owned()),
        "partitioning" => {
            config.partitioning = match text {
                "key-hash" => Partitioning::KeyHash,
                "preserve" => Partitioning::Preserve,
                _ => Partitioning::Auto,
            }
        }
        "start" => config.start = start(text),
        "isolation" => config.fetch.isolation = isolation(text),
        "compression" => config.produce.compression = compression(text),
        "on_lost" => {
            config.trouble.lost = if text == "continue" { Lost::Continue } else { Lost::Halt };
        }
        "on_oversize" => config.trouble.oversize = refused(),
        "on_null_key" => config.trouble.null_key = refused(),
        "on_rejected" => config.trouble.rejected = refused(),
        "reach" => config.trouble.reach = reach(text),
        "source_reach" => config.trouble.source_reach = reach(text),
        "append_time" => {
            config.trouble.append_time =
                if text == "created" { AppendTime::Created } else { AppendTime::Visible };
        }
        _ => {}
    }
}

fn reach(text: &str) -> Reach {
    if text == "mirror" { Reach::Mirror } else { Reach::Partition }
}

fn start(text: &str) -> Start {
    match text.to_ascii_lowercase().as_str() {
        "latest" => Start::Latest,
        "none" => Start::Halt,
        _ => Start::Earliest,
    }
}

fn isolation(text: &str) -> Isolation {
    if text.eq_ignore_ascii_case("read_committed") {
        Isolation::ReadCommitted
    } else {
        Isolation::ReadUncommitted
    }
}

fn compression(text: &str) -> Compression {
    match text.to_ascii_lowercase().as_str() {
        "none" => Compression::None,
        "gzip" => Compression::Gzip,
        "snappy" => Compression::Snappy,
        "lz4" => Compression::Lz4,
        "zstd" => Compression::Zstd,
        _ => Compression::Keep,
    }
}

fn bytes(value: &str) -> u32 {
    value.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use kmirror_client::config::keys::{Handling, Role};
    use kmirror_client::config::properties::{Origin, Properties};

    use super::super::options::{FLOW, Kind};
    use super::*;

    fn flow() -> Flow {
        let cluster = || Cluster {
            place: Place::Servers("a:1".to_owned()),
            properties: Properties::default(),
            address_map: Vec::new(),
            cluster_id: None,
        };
        let mut settings = Settings::default();
        settings.set("topics", Value::Texts(vec!["t.*".to_owned()]), Origin::new("test"));
        settings.set("group", Value::Text("g".to_owned()), Origin::new("test"));
        Flow { name: "f".to_owned(), source: cluster(), destination: cluster(), settings }
    }

    fn shown(flow: &Flow) -> String {
        let client = || kmirror_client::Config::new("a:1").unwrap();
        format!("{:?}", build(flow, client(), client()).unwrap())
    }

    /// A value of an option that is not its default.
    fn other(kind: Kind, default: &str) -> Value {
        match kind {
            Kind::Boolean => Value::Boolean(default != "true"),
            Kind::Integer(..) => Value::Integer(7),
            Kind::OneOf(words) => {
                Value::Text(words.iter().find(|word| **word != default).unwrap().to_string())
            }
            Kind::Duration => Value::Duration(std::time::Duration::from_millis(1234)),
            Kind::Bytes => Value::Bytes(123_456_789),
            Kind::Texts => Value::Texts(vec!["other".to_owned()]),
            Kind::Text | Kind::Pairs | Kind::Properties => Value::Text("other".to_owned()),
        }
    }

    /// These have their effect elsewhere: in `native.rs`, in `name_members`, and where the clusters
    /// are reached.
    const NAMES: [&str; 8] = [
        "name",
        "source",
        "destination",
        "consumer",
        "producer",
        "membership",
        "state_directory",
        "connect_timeout",
    ];

    #[test]
    fn every_option_of_a_flow_has_an_effect() {
        for option in FLOW.options.iter().filter(|option| !NAMES.contains(&option.name)) {
            let mut changed = flow();
            let value = other(option.kind, option.default);
            changed.settings.set(option.name, value, Origin::new("test"));
            assert_ne!(shown(&changed), shown(&flow()), "{}", option.name);
        }
    }

    #[test]
    fn every_documented_default_is_the_engines_default() {
        for option in FLOW.options.iter().filter(|option| !option.default.is_empty()) {
            let mut same = flow();
            let value = option.kind.parse(option.default).unwrap();
            same.settings.set(option.name, value, Origin::new("test"));
            assert_eq!(shown(&same), shown(&flow()), "{}", option.name);
        }
    }

    fn with(role: Role, key: &str, value: &str) -> Flow {
        let mut flow = flow();
        let end = if role == Role::Producer { &mut flow.destination } else { &mut flow.source };
        end.properties.set(key, value, Origin::new("test"));
        flow
    }

    /// These have their effect on the client (`connect.rs`) or on where it connects (`plan`).
    fn belongs_elsewhere(name: &str) -> bool {
        name == "group.id"
            || name.starts_with("zookeeper.")
            || Role::Admin.key(name).is_some_and(|_| name != "request.timeout.ms")
    }

    #[test]
    fn every_property_that_is_said_to_be_honoured_has_an_effect() {
        for role in [Role::Consumer, Role::Producer] {
            let honoured = role.keys().filter(|key| key.handling == Handling::Honoured);
            for key in honoured.filter(|key| !belongs_elsewhere(key.name)) {
                use kmirror_client::config::keys::Kind;
                let value = match key.kind {
                    Kind::Boolean => "false",
                    Kind::OneOf(words) => {
                        words.iter().copied().find(|word| *word != key.default).unwrap()
                    }
                    Kind::List => "range",
                    _ => "4",
                };
                let same = role == Role::Consumer && key.name == "request.timeout.ms";
                if same {
                    continue;
                }
                assert_ne!(shown(&with(role, key.name, value)), shown(&flow()), "{}", key.name);
            }
        }
    }

    #[test]
    fn what_is_refused_is_named_by_where_it_was_written() {
        let refusal = |flow: &Flow| check(flow).unwrap_err().text();
        let flow = with(Role::Consumer, "heartbeat.interval.ms", "60000");
        let told = "test: heartbeat.interval.ms: 60s is not between 0 and the session time-out";
        assert!(refusal(&flow).starts_with(told), "{}", refusal(&flow));
        let mut flow = self::flow();
        flow.settings.set("memory", Value::Bytes(7), Origin::new("k.toml"));
        assert!(refusal(&flow).starts_with("k.toml: memory: 7 is not between "), "{flow:?}");
    }

    #[test]
    fn no_number_that_kafka_takes_is_refused() {
        for role in [Role::Consumer, Role::Producer] {
            use kmirror_client::config::keys::Kind;
            let numbers = role.keys().filter(|key| key.handling == Handling::Honoured);
            for key in numbers {
                let (Kind::Integer(least) | Kind::Milliseconds(least) | Kind::Bytes(least)) =
                    key.kind
                else {
                    continue;
                };
                // A session that is shorter than its heartbeats is refused by Kafka too.
                let least = if key.name == "session.timeout.ms" { 3_001 } else { least };
                let most =
                    if key.name == "heartbeat.interval.ms" { 9_999 } else { i32::MAX.into() };
                for value in [least, most] {
                    let mut flow = flow();
                    let origin = Origin::new("test");
                    let mut written = Properties::default();
                    written.set(key.name, value.to_string(), origin);
                    let (resolved, _) = kmirror_client::config::keys::resolve(&written, role);
                    let producer = role == Role::Producer;
                    let end = if producer { &mut flow.destination } else { &mut flow.source };
                    end.properties = resolved;
                    let outcome = check(&flow).map_err(|failure| failure.text());
                    assert_eq!(outcome, Ok(()), "{} = {value}", key.name);
                }
            }
        }
    }

    #[test]
    fn both_isolation_levels_are_kept() {
        let committed = shown(&with(Role::Consumer, "isolation.level", "read_committed"));
        let uncommitted = shown(&with(Role::Consumer, "isolation.level", "read_uncommitted"));
        assert_ne!(committed, uncommitted);
    }

    #[test]
    fn every_default_in_the_table_of_keys_is_the_engines_default() {
        for role in [Role::Consumer, Role::Producer] {
            for key in role.keys().filter(|key| !key.default.is_empty()) {
                let changed = with(role, key.name, key.default);
                assert_eq!(shown(&changed), shown(&flow()), "{}", key.name);
            }
        }
    }

    #[test]
    fn members_are_named_after_a_slot_unless_somebody_says_otherwise() {
        let directory = tempfile::tempdir().unwrap();
        let instance = |membership: Option<&str>, id: Option<&str>| {
            let mut flow = flow();
            let path = directory.path().display().to_string();
            flow.settings.set("state_directory", Value::Text(path), Origin::new("test"));
            if let Some(membership) = membership {
                let value = Value::Text(membership.to_owned());
                flow.settings.set("membership", value, Origin::new("test"));
            }
            if let Some(id) = id {
                flow.source.properties.set("group.instance.id", id, Origin::new("test"));
            }
            let client = || kmirror_client::Config::new("a:1").unwrap();
            let mut config = build(&flow, client(), client()).unwrap();
            name_members(&flow, &mut config);
            let Ownership::Group(group) = config.ownership else { panic!("a group is joined") };
            group.slot.map(|slot| slot.instance_id(0).to_string())
        };
        assert!(instance(None, None).unwrap().starts_with("g-"));
        assert_eq!(instance(Some("dynamic"), None), None);
        assert_eq!(instance(None, Some("mine")), None);
    }

    #[test]
    fn assignors_are_read_by_class_and_by_word() {
        let flow = with(
            Role::Consumer,
            "partition.assignment.strategy",
            "org.apache.kafka.clients.consumer.RangeAssignor, roundrobin",
        );
        assert!(shown(&flow).contains(r#"assignors: ["range", "roundrobin"]"#));
        for none in ["com.example.Mine", "", " , "] {
            let flow = with(Role::Consumer, "partition.assignment.strategy", none);
            let client = || kmirror_client::Config::new("a:1").unwrap();
            let refused = build(&flow, client(), client()).unwrap_err();
            let told = format!("{refused:?}");
            assert!(told.contains("partition.assignment.strategy"), "{none:?}: {told}");
        }
    }

    #[test]
    fn each_text_of_a_list_is_a_pattern_of_its_own() {
        let mut settings = Settings::default();
        let texts = ["orders-[0-9]{1,3}", "payments"].map(str::to_owned);
        settings.set("topics", Value::Texts(texts.to_vec()), Origin::new("test"));
        let selection = selection(&settings).unwrap();
        for (topic, is_selected) in [("orders-777", true), ("orders-3}", false), ("payments", true)]
        {
            assert_eq!(selection.selects(topic, false), is_selected, "{topic}");
        }
    }

    #[test]
    fn a_pattern_that_is_none_is_a_usage_error() {
        let mut flow = flow();
        let value = Value::Texts(vec!["orders(".to_owned()]);
        flow.settings.set("topics", value, Origin::new("--include"));
        let client = || kmirror_client::Config::new("a:1").unwrap();
        let failure = build(&flow, client(), client()).unwrap_err();
        assert!(format!("{failure:?}").contains("--include: topics: "), "{failure:?}");
    }
}
