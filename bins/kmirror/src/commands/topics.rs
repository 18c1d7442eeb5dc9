//! `kmirror topics`: creates, lists, describes, changes and deletes topics, with the flags of
//! `kafka-topics.sh`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use clap::{ArgGroup, Args as ClapArgs};
use kmirror::policy::filter::{Pattern, from_mirror_maker};
use kmirror_client::admin::{Admin, ConfigChange, ConfigSource, NewTopic, Resource};
use kmirror_client::cluster::{Partition, Topic, View};
use kmirror_client::config::keys::Role;
use kmirror_client::{BrokerId, Client, ErrorCode};

use crate::connect::{ClusterArgs, parse_pair};
use crate::exit::Failure;
use crate::output::{self, plain};
use crate::runtime;

/// Create, list, describe, change or delete topics
#[derive(Debug, ClapArgs)]
#[command(
    after_long_help = EXAMPLES,
    group = ArgGroup::new("action")
        .required(true)
        .args(["create", "list", "describe", "alter", "delete"])
)]
pub(crate) struct Args {
    #[command(flatten)]
    cluster: ClusterArgs,

    /// Create a topic
    #[arg(long, requires = "topic")]
    create: bool,

    /// List the names of topics
    #[arg(long)]
    list: bool,

    /// Show partitions, leaders, replicas and configuration
    #[arg(long)]
    describe: bool,

    /// Change the configuration or add partitions
    #[arg(long, requires = "topic")]
    alter: bool,

    /// Delete topics
    #[arg(long, requires = "topic")]
    delete: bool,

    /// A topic's name; except with --create also a Java regular expression over names, if it has
    /// characters that no name has: a.b is a name, a.* is none
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,

    /// How many partitions the topic has or gets; unset, the brokers' default
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,

    /// How many brokers keep each partition; unset, the brokers' default
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,

    /// A configuration of the topic; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_config)]
    config: Vec<(String, String)>,

    /// A configuration to take back to its default; may be repeated
    #[arg(long, value_name = "NAME", requires = "alter")]
    delete_config: Vec<String>,

    /// Do nothing where the topic exists already
    #[arg(long, requires = "create")]
    if_not_exists: bool,

    /// Do nothing where there is no such topic
    #[arg(long)]
    if_exists: bool,

    /// Leave Kafka's own topics out of lists and descriptions
    #[arg(long)]
    exclude_internal: bool,

    #[command(flatten)]
    only: Only,
}

/// Which partitions, or topics, a description shows.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Description")]
struct Only {
    /// Only partitions with replicas that are not in sync
    #[arg(long, requires = "describe")]
    under_replicated_partitions: bool,

    /// Only partitions without a leader
    #[arg(long, requires = "describe", conflicts_with = "under_replicated_partitions")]
    unavailable_partitions: bool,

    /// Only topics with configurations of their own, without their partitions
    #[arg(long, requires = "describe")]
    topics_with_overrides: bool,
}

impl Only {
    fn shows(&self, partition: &Partition) -> bool {
        let lacks = partition.in_sync.len() < partition.replicas.len();
        (!self.under_replicated_partitions || lacks)
            && (!self.unavailable_partitions || partition.leader.is_none())
    }

    /// What goes wrong is shown without the topics' own lines, as Kafka's tool does.
    fn shows_heads(&self) -> bool {
        !self.under_replicated_partitions && !self.unavailable_partitions
    }
}

const EXAMPLES: &str = "\
Examples:
  kmirror topics --bootstrap-server wn0:9092 --create --topic testtopic \\
    --partitions 8 --replication-factor 2
  kmirror topics --zookeeper zk0:2181 --list
  kmirror topics --bootstrap-server wn0:9092 --describe --topic testtopic
  kmirror topics --bootstrap-server wn0:9092 --alter --topic testtopic \\
    --config retention.ms=86400000";

/// Does the one thing asked for.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    runtime::block_on(async {
        let config = args.cluster.client_config(Role::Admin).await?;
        let client = Client::connect(config).await.map_err(Failure::runtime)?;
        let admin = Admin::new(client.clone());
        if args.create {
            return args.create(&admin).await;
        }
        client.watch_all_topics();
        let seen = client.view().generation;
        let view = client.refresh(seen).await.map_err(Failure::runtime)?;
        let topics = args.select(&view)?;
        if args.list {
            return topics.iter().try_for_each(|topic| output::line(plain(&topic.name)));
        }
        if args.describe {
            return describe(&admin, &topics, &args.only).await;
        }
        let names: Vec<_> = topics.iter().map(|topic| Arc::clone(&topic.name)).collect();
        if args.delete { delete(&admin, &names).await } else { args.alter(&admin, &names).await }
    })
}

impl Args {
    fn name(&self) -> &str {
        self.topic.as_deref().unwrap_or_default()
    }

    async fn create(&self, admin: &Admin) -> Result<(), Failure> {
        let mut topic = NewTopic::new(self.name());
        if let Some(partitions) = self.partitions {
            topic = topic.with_partitions(partitions);
        }
        if let Some(factor) = self.replication_factor {
            topic = topic.with_replication_factor(factor);
        }
        for (name, value) in &self.config {
            topic = topic.with_config(name, value);
        }
        let results = admin.create_topics(&[topic]).await.map_err(Failure::runtime)?;
        for (name, result) in results {
            match result {
                Ok(()) => output::line(format_args!("Created topic {name}."))?,
                Err(error) if error.code() == Some(ErrorCode::TOPIC_ALREADY_EXISTS) => {
                    if !self.if_not_exists {
                        return Err(Failure::runtime(error)
                            .with_help("say --if-not-exists where that is fine"));
                    }
                }
                Err(error) if self.partitions.is_none() || self.replication_factor.is_none() => {
                    return Err(Failure::runtime(error).with_help(
                        "brokers before 2.4 have to be told --partitions and --replication-factor",
                    ));
                }
                Err(error) => return Err(Failure::runtime(error)),
            }
        }
        Ok(())
    }

    /// The topics that are meant: the one of that name, or else those that match.
    fn select<'view>(&self, view: &'view View) -> Result<Vec<&'view Topic>, Failure> {
        let shown = |topic: &&Topic| !(self.exclude_internal && topic.is_internal);
        let Some(name) = &self.topic else { return Ok(view.topics().filter(shown).collect()) };
        if let Some(topic) = view.topic(name).filter(|topic| !topic.partitions.is_empty()) {
            return Ok(vec![topic]);
        }
        // What can be a name is one: `--delete --topic a.b` never means axb.
        let found: Vec<_> = if is_name(name) {
            Vec::new()
        } else {
            let pattern = Pattern::try_new(&from_mirror_maker(name)).map_err(Failure::usage)?;
            view.topics().filter(shown).filter(|topic| pattern.matches(&topic.name)).collect()
        };
        if found.is_empty() && !self.list && !self.if_exists {
            return Err(Failure::runtime(format!("there is no topic {name}")));
        }
        Ok(found)
    }

    async fn alter(&self, admin: &Admin, names: &[Arc<str>]) -> Result<(), Failure> {
        let set = self
            .config
            .iter()
            .map(|(name, value)| (name.clone(), ConfigChange::Set(value.clone())));
        let unset = self.delete_config.iter().map(|name| (name.clone(), ConfigChange::Delete));
        let changes: BTreeMap<_, _> = set.chain(unset).collect();
        if changes.is_empty() && self.partitions.is_none() {
            return Err(Failure::usage("there is nothing to change")
                .with_help("say --partitions, --config or --delete-config"));
        }
        if let Some(count) = self.partitions {
            let counts = names.iter().map(|name| (Arc::clone(name), count)).collect();
            let results = admin.create_partitions(&counts).await.map_err(Failure::runtime)?;
            for result in results.into_values() {
                result.map_err(Failure::runtime)?;
            }
        }
        for name in names {
            if !changes.is_empty() {
                let resource = Resource::Topic(Arc::clone(name));
                admin.alter_configs(&resource, &changes).await.map_err(Failure::runtime)?;
            }
            output::line(format_args!("Changed topic {name}."))?;
        }
        Ok(())
    }
}

/// Whether a text has only characters that a topic's name may have.
fn is_name(text: &str) -> bool {
    text.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-".contains(letter))
}

async fn delete(admin: &Admin, names: &[Arc<str>]) -> Result<(), Failure> {
    let results = admin.delete_topics(names).await.map_err(Failure::runtime)?;
    let mut failed = None;
    for (name, result) in results {
        match result {
            Ok(()) => output::line(format_args!("Deleted topic {name}."))?,
            Err(error) => failed = Some(Failure::runtime(error)),
        }
    }
    failed.map_or(Ok(()), Err)
}

/// The form of `kafka-topics.sh --describe`, which scripts read.
async fn describe(admin: &Admin, topics: &[&Topic], only: &Only) -> Result<(), Failure> {
    let resources: Vec<_> =
        topics.iter().map(|topic| Resource::Topic(Arc::clone(&topic.name))).collect();
    let mut configs = match admin.describe_configs(&resources).await {
        Ok(configs) => configs,
        // Before 0.11 no broker tells.
        Err(kmirror_client::Error::UnsupportedVersion { .. }) => BTreeMap::new(),
        Err(error) => return Err(Failure::runtime(error)),
    };
    for topic in topics {
        let own = match configs.remove(&Resource::Topic(Arc::clone(&topic.name))) {
            Some(Ok(entries)) => entries
                .into_iter()
                .filter(|(_, entry)| entry.source == ConfigSource::Topic)
                .map(|(name, entry)| format!("{name}={}", entry.value.unwrap_or_default()))
                .collect(),
            _ => Vec::new(),
        };
        if !only.topics_with_overrides || !own.is_empty() {
            output::raw(described(topic, &own, only).as_bytes())?;
        }
    }
    Ok(())
}

fn described(topic: &Topic, configs: &[String], only: &Only) -> String {
    let name = plain(&topic.name);
    let mut text = if only.shows_heads() { head(topic, configs) } else { String::new() };
    if only.topics_with_overrides {
        return text;
    }
    for (index, partition) in topic.partitions.iter().filter(|(_, it)| only.shows(it)) {
        let leader = partition.leader.map_or_else(|| "none".to_owned(), |id| id.to_string());
        let _ = writeln!(
            text,
            "\tTopic: {name}\tPartition: {index}\tLeader: {leader}\tReplicas: {}\tIsr: {}",
            ids(&partition.replicas),
            ids(&partition.in_sync)
        );
    }
    text
}

fn head(topic: &Topic, configs: &[String]) -> String {
    let factor = topic.partitions.values().map(|partition| partition.replicas.len()).max();
    let mut text = format!("Topic: {}\t", plain(&topic.name));
    if let Some(id) = &topic.id {
        let _ = write!(text, "TopicId: {id}\t");
    }
    let _ = writeln!(
        text,
        "PartitionCount: {}\tReplicationFactor: {}\tConfigs: {}",
        topic.partitions.len(),
        factor.unwrap_or(0),
        plain(&configs.join(","))
    );
    text
}

fn ids(ids: &[BrokerId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn parse_config(text: &str) -> Result<(String, String), String> {
    parse_pair(text).map_err(|_| "must be NAME=VALUE, such as retention.ms=86400000".to_owned())
}
