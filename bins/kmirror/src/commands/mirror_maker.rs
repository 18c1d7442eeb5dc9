//! `kmirror mirror-maker`: the flags and files of `kafka.tools.MirrorMaker`, from 0.8 to 3.9.
//!
//! Flags that load Java classes are refused with what to do instead; flags that had lost their
//! meaning are accepted, those of MirrorMaker's oldest versions with a warning.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args as ClapArgs};

use super::mirroring::{self, Watch};
use crate::connect::parse_pair;
use crate::exit::Failure;
use crate::plan::files::{self, Flags};
use crate::plan::options::{FLOW, Value};
use crate::plan::{self, Plan};
use kmirror_client::config::properties::Origin;

/// Mirror with the flags and properties files of kafka.tools.MirrorMaker
#[derive(Debug, ClapArgs)]
#[command(version, infer_long_args = true, after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Properties of the consumer: the source, the group, and what else Kafka's consumer knows. May
    /// be repeated, as in 0.8: each file is a source of its own
    #[arg(long = "consumer.config", value_name = "FILE", required = true)]
    consumer_config: Vec<PathBuf>,

    /// Properties of the producer: the destination, and what else Kafka's producer knows
    #[arg(long = "producer.config", value_name = "FILE")]
    producer_config: PathBuf,

    /// Mirror topics whose whole name matches this Java regular expression; commas mean "or"
    #[arg(long, value_name = "REGEX", required_unless_present_any = ["whitelist", "blacklist"])]
    include: Option<String>,

    /// The old name of --include, which wins when both are given
    #[arg(long, value_name = "REGEX")]
    whitelist: Option<String>,

    /// Leave out topics whose whole name matches; alone, it mirrors all others
    #[arg(long, visible_alias = "exclude", value_name = "REGEX")]
    blacklist: Option<String>,

    /// Streams: threads that each fetch and produce on their own connections
    #[arg(
        long = "num.streams",
        value_name = "COUNT",
        default_value_t = 1,
        value_parser = clap::value_parser!(i64).range(1..=256)
    )]
    num_streams: i64,

    /// How often positions are committed, in milliseconds
    #[arg(
        long = "offset.commit.interval.ms",
        value_name = "MILLISECONDS",
        default_value_t = 60_000,
        value_parser = clap::value_parser!(u64).range(1..=86_400_000)
    )]
    offset_commit_interval_ms: u64,

    /// true: a record the destination refuses stops the mirror. false: it is skipped, counted and
    /// written to the ledger (log target kmirror::ledger)
    #[arg(
        long = "abort.on.send.failure",
        value_name = "BOOLEAN",
        default_value_t = true,
        action = ArgAction::Set,
        value_parser = parse_boolean
    )]
    abort_on_send_failure: bool,

    #[command(flatten)]
    java: Java,

    #[command(flatten)]
    old: Old,

    #[command(flatten)]
    beyond: Beyond,

    #[command(flatten)]
    watch: Watch,
}

const EXAMPLES: &str = "\
Examples:
  As the launcher starts it:
    kmirror kafka.tools.MirrorMaker --consumer.config consumer.properties \\
      --producer.config producer.properties --whitelist testtopic --num.streams 4
  See what the files come to, and run nothing:
    kmirror mirror-maker --consumer.config consumer.properties \\
      --producer.config producer.properties --include 'orders.*' --check
  Copy what is there, then end:
    kmirror mirror-maker --consumer.config consumer.properties \\
      --producer.config producer.properties --include '.*' --until-caught-up";

/// Flags that name Java classes.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Not supported")]
struct Java {
    /// Refused: Java classes are not loaded
    #[arg(long = "message.handler", value_name = "CLASS")]
    message_handler: Option<String>,

    /// Refused with --message.handler
    #[arg(long = "message.handler.args", value_name = "TEXT")]
    message_handler_args: Option<String>,

    /// Refused: Java classes are not loaded
    #[arg(long = "consumer.rebalance.listener", value_name = "CLASS")]
    consumer_rebalance_listener: Option<String>,

    /// Refused with --consumer.rebalance.listener
    #[arg(long = "rebalance.listener.args", value_name = "TEXT")]
    rebalance_listener_args: Option<String>,
}

/// Flags without a meaning left.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Accepted without effect")]
struct Old {
    /// Kafka's group protocol is the only one there is
    #[arg(long = "new.consumer")]
    new_consumer: bool,

    /// Every stream has its own producer
    #[arg(long = "num.producers", value_name = "COUNT")]
    num_producers: Option<i64>,

    /// One budget (--memory) bounds what is under way
    #[arg(long = "queue.size", value_name = "COUNT")]
    queue_size: Option<i64>,

    /// There is one producer, and it is new
    #[arg(long = "new.producer")]
    new_producer: bool,
}

/// Flags that MirrorMaker never had.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Beyond MirrorMaker")]
struct Beyond {
    /// To which partitions records go: auto, key-hash or preserve
    #[arg(long, value_name = "WAY")]
    partitioning: Option<String>,

    /// The bound of everything fetched and not yet acknowledged, such as 256MiB
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,

    /// static: a process that was killed takes its old place in the group at once. dynamic: the
    /// group waits for it to time out
    #[arg(long, value_name = "KIND")]
    membership: Option<String>,

    /// Where static members keep their lock files
    #[arg(long, value_name = "DIRECTORY")]
    state_directory: Option<String>,

    /// End once everything that was there at the start has been mirrored
    #[arg(long)]
    until_caught_up: bool,

    /// How long the clusters may take to answer at the start, such as 10m; without it they are
    /// waited for for ever
    #[arg(long, value_name = "TIME")]
    connect_timeout: Option<String>,

    /// Whether topics are created with the source's configuration; true unless given
    #[arg(long = "copy.topic.configs", value_name = "BOOLEAN", action = ArgAction::Set)]
    copy_topic_configs: Option<bool>,

    /// What a broker of the source advertises and what to dial instead; may be repeated
    #[arg(long, value_name = "ADVERTISED=REACHABLE", value_parser = parse_pair)]
    map_source_address: Vec<(String, String)>,

    /// The same for brokers of the destination
    #[arg(long, value_name = "ADVERTISED=REACHABLE", value_parser = parse_pair)]
    map_destination_address: Vec<(String, String)>,

    /// Check the flags and the files, print what they come to, and run nothing
    #[arg(long)]
    check: bool,
}

/// Resolves the flags and runs the mirror.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    refuse(&args.java)?;
    warn(&args.old);
    note_environment();
    let mut plan = files::load(&args.consumer_config, &args.producer_config, &args.flags()?)?;
    args.beyond.apply(&mut plan)?;
    plan::report(&plan.findings)?;
    if args.beyond.check {
        return super::config::print_plan(&plan);
    }
    mirroring::run(&plan, &args.watch)
}

impl Args {
    /// What the flags say. An empty pattern, as tools write that fill in a form, says nothing.
    fn flags(&self) -> Result<Flags, Failure> {
        let filled = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
        let exclude = filled(&self.blacklist);
        let (include, include_flag) = match (filled(&self.include), filled(&self.whitelist)) {
            (None, Some(whitelist)) => (Some(whitelist), "--whitelist"),
            (include, _) => (include, "--include"),
        };
        if self.include.is_some() && self.whitelist.is_some() && include_flag == "--include" {
            tracing::warn!(flag = "--whitelist", "ignored: --include is given");
        }
        let names_none = self.include.is_some() || self.whitelist.is_some();
        if include.is_none() && exclude.is_none() && names_none {
            return Err(Failure::usage("--include is empty: no topic is named")
                .with_help("say --include '.*' for all topics"));
        }
        Ok(Flags {
            include: include.unwrap_or_else(|| ".*".to_owned()),
            include_flag,
            exclude,
            streams: self.num_streams,
            commit_interval: Duration::from_millis(self.offset_commit_interval_ms),
            abort_on_send_failure: self.abort_on_send_failure,
        })
    }
}

impl Beyond {
    fn apply(&self, plan: &mut Plan) -> Result<(), Failure> {
        let flags = [
            ("partitioning", &self.partitioning),
            ("memory", &self.memory),
            ("membership", &self.membership),
            ("state_directory", &self.state_directory),
            ("connect_timeout", &self.connect_timeout),
        ];
        for flow in &mut plan.flows {
            for (name, text) in flags {
                let Some(text) = text else { continue };
                let option = FLOW.options.iter().find(|option| option.name == name);
                let option = option.expect("invariant: a flag stands for an option of the table");
                let flag = format!("--{}", name.replace('_', "-"));
                let value = option
                    .kind
                    .parse(text)
                    .map_err(|fault| Failure::usage(format!("{flag} {fault}")))?;
                flow.settings.set(option.name, value, Origin::new(&flag));
            }
            if self.until_caught_up {
                let origin = Origin::new("--until-caught-up");
                flow.settings.set("until_caught_up", Value::Boolean(true), origin);
            }
            if let Some(copy) = self.copy_topic_configs {
                let origin = Origin::new("--copy.topic.configs");
                flow.settings.set("copy_topic_configs", Value::Boolean(copy), origin);
            }
            flow.source.address_map.clone_from(&self.map_source_address);
            flow.destination.address_map.clone_from(&self.map_destination_address);
        }
        Ok(())
    }
}

/// Reads a boolean in any case, as Java does.
fn parse_boolean(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

/// Variables of Kafka's launcher, each with what does its work here.
const ENVIRONMENT: [(&str, &str); 6] = [
    ("KAFKA_OPTS", "there is no Java machine, so no system property is read"),
    ("KAFKA_HEAP_OPTS", "--memory bounds the memory"),
    ("KAFKA_JVM_PERFORMANCE_OPTS", "there is no Java machine"),
    ("KAFKA_LOG4J_OPTS", "--log and --log-format say what is logged and how"),
    ("KAFKA_JMX_OPTS", "--http serves the metrics"),
    ("JMX_PORT", "--http serves the metrics"),
];

fn note_environment() {
    for (variable, instead) in ENVIRONMENT {
        if std::env::var_os(variable).is_some_and(|value| !value.is_empty()) {
            tracing::info!(variable, instead, "environment variable has no effect");
        }
    }
}

fn refuse(java: &Java) -> Result<(), Failure> {
    let refused = |flag: &str, help: &str| {
        Err(Failure::usage(format!("{flag} names a Java class, which kmirror cannot load"))
            .with_help(help))
    };
    if java.message_handler.is_some() || java.message_handler_args.is_some() {
        return refused(
            "--message.handler",
            "to rename topics use prefix or suffix in a file for `kmirror run`; to change records \
             embed the library crate kmirror; otherwise leave the flag out",
        );
    }
    if java.consumer_rebalance_listener.is_some() || java.rebalance_listener_args.is_some() {
        return refused(
            "--consumer.rebalance.listener",
            "leave the flag out: what is under way is finished and committed before partitions are \
             handed over, and rebalances are in the log and the metrics",
        );
    }
    Ok(())
}

fn warn(old: &Old) {
    let given = [
        ("--num.producers", old.num_producers.is_some()),
        ("--queue.size", old.queue_size.is_some()),
        ("--new.producer", old.new_producer),
    ];
    for (flag, _) in given.iter().filter(|(_, given)| *given) {
        tracing::warn!(flag, "ignored: it has no meaning any more");
    }
}
