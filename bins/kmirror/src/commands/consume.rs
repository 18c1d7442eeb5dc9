//! `kmirror consume`: writes the records of topics to standard output, with the properties of
//! `kafka-console-consumer.sh`.
//!
//! Without a group every partition is read from one end or from an offset, and nothing is
//! committed. With one, the group shares the partitions out, and what was printed is committed.

mod printer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};
use kmirror::policy::filter::{Pattern, Selection, from_mirror_maker};
use kmirror_client::admin::{Admin, At};
use kmirror_client::budget::Budget;
use kmirror_client::config::keys::{Role, suggest};
use kmirror_client::config::properties::Properties;
use kmirror_client::fetch::{
    Config as FetchConfig, Event as FetchEvent, Fetcher, Position, Trouble,
};
use kmirror_client::group::{
    Committer, Config as GroupConfig, Event, Membership, OffsetAndMetadata,
};
use kmirror_client::isolation::Isolation;
use kmirror_client::{Client, ErrorCode, TopicPartition, clock};
use tokio::time::Instant;

use crate::connect::{ClusterArgs, client_config, parse_property};
use crate::exit::Failure;
use crate::plan::filled;
use crate::runtime;
use crate::signals::Signals;
use crate::text::writer::LineWriter;
use printer::{Printed, Printer};

/// Print the records of topics, one a line
#[derive(Debug, ClapArgs)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    cluster: ClusterArgs,

    /// The topic
    #[arg(long, value_name = "TOPIC", required_unless_present = "include")]
    topic: Option<String>,

    /// Topics whose whole name matches this Java regular expression
    #[arg(long, visible_alias = "whitelist", value_name = "REGEX", conflicts_with = "topic")]
    include: Option<String>,

    /// Only this partition
    #[arg(long, value_name = "NUMBER", requires = "topic", conflicts_with = "group")]
    partition: Option<i32>,

    /// Where to start in that partition: an offset, earliest or latest
    #[arg(long, value_name = "OFFSET", requires = "partition", value_parser = parse_offset)]
    offset: Option<Start>,

    /// Start with the first record that is there, where the group has no offset yet
    #[arg(long, conflicts_with = "offset")]
    from_beginning: bool,

    /// Join this consumer group, and commit what was printed
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,

    /// End after this many records
    #[arg(long, value_name = "COUNT")]
    max_messages: Option<u64>,

    /// End when no record came for this long, in milliseconds
    #[arg(long, value_name = "MILLISECONDS")]
    timeout_ms: Option<u64>,

    /// Whether records of open and aborted transactions are printed. Unset: isolation.level among
    /// the properties, or read_uncommitted
    #[arg(long, value_enum, value_name = "LEVEL")]
    isolation_level: Option<Level>,

    /// How records are printed; may be repeated. See below for the properties
    #[arg(
        long,
        visible_alias = "formatter-property",
        value_name = "NAME=VALUE",
        value_parser = parse_property
    )]
    property: Vec<(String, String)>,

    /// Kafka's DefaultMessageFormatter, or its NoOpMessageFormatter, which prints nothing; another
    /// class is refused
    #[arg(long, value_name = "CLASS", value_parser = parse_formatter)]
    formatter: Option<Formatter>,
}

/// What is printed of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Formatter {
    Line,
    Nothing,
}

/// Java classes are not loaded; of two it is known what they do.
fn parse_formatter(class: &str) -> Result<Formatter, String> {
    match class.rsplit('.').next().unwrap_or_default() {
        "DefaultMessageFormatter" => Ok(Formatter::Line),
        "NoOpMessageFormatter" => Ok(Formatter::Nothing),
        name if name.ends_with("OffsetsMessageFormatter") => {
            Err("is not known here; kmirror groups --describe shows offsets of groups".to_owned())
        }
        _ => Err("names a Java class, which cannot be loaded; leave the flag out".to_owned()),
    }
}

const EXAMPLES: &str = "\
Properties (--property), with their defaults:
  print.timestamp=false   print.partition=false   print.offset=false   print.epoch=false
  print.headers=false     print.key=false         print.value=true
  key.separator=TAB       between columns
  line.separator=NEWLINE  after a record
  headers.separator=,     between two headers
  null.literal=null       what null is printed as

Examples:
  kmirror consume --bootstrap-server wn0:9092 --topic testtopic --from-beginning
  kmirror consume --bootstrap-server wn0:9092 --topic testtopic --partition 3 --offset 100 \\
    --max-messages 10 --property print.key=true --property print.offset=true";

/// Where a partition is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    Earliest,
    Latest,
    Offset(i64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Level {
    ReadUncommitted,
    ReadCommitted,
}

/// How often a group's positions are committed.
const COMMIT_EVERY: Duration = Duration::from_secs(5);

/// The bound of what was fetched and not printed yet.
const MEMORY_BYTES: usize = 64 << 20;

/// Prints until a signal, the number of records, or the time-out.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut writer = LineWriter::default();
    for (name, value) in &args.property {
        writer.set(name, value).map_err(|fault| {
            let failure = Failure::usage(format!("--property {name} {fault}"));
            match suggest(name, LineWriter::PROPERTIES.into_iter()) {
                Some(near) if near != name => failure.with_help(format!("did you mean {near}?")),
                _ => failure,
            }
        })?;
    }
    if args.formatter == Some(Formatter::Nothing) {
        writer.silence();
    }
    runtime::block_on(async {
        let mut printer = Printer::new(writer, args.max_messages);
        let outcome = consume(args, &mut printer).await;
        printer.flush()?;
        eprintln!("Processed a total of {} messages", printer.count());
        outcome
    })
}

async fn consume(args: &Args, printer: &mut Printer) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let cluster = args.cluster.cluster(Role::Consumer)?;
    let properties = &cluster.properties;
    let config = client_config(&cluster).await?;
    let client = Client::connect(config).await.map_err(Failure::runtime)?;
    let topics = args.topics(&client).await?;
    let settings = FetchConfig { isolation: args.isolation(properties), ..FetchConfig::default() };
    let mut reading = Reading {
        admin: Admin::new(client.clone()),
        fetcher: Fetcher::new(client.clone(), settings, Budget::new(MEMORY_BYTES)),
        start: args.start(properties),
        positions: BTreeMap::new(),
    };
    let mut member = match args.group(properties) {
        Some(group) => Some(Member::join(&client, group, &topics)?),
        None => {
            let partitions = args.partitions(&client, &topics)?;
            reading.begin(partitions, BTreeMap::new()).await?;
            None
        }
    };
    let idle = args.timeout_ms.map(Duration::from_millis);
    let mut last = clock::now();
    while !printer.is_done() {
        let commit_at = member.as_ref().map(|member| member.committed_at + COMMIT_EVERY);
        tokio::select! {
            event = reading.fetcher.next() => {
                if reading.fetched(event, printer).await? == Printed::Some {
                    last = clock::now();
                }
            }
            event = next_event(&mut member) => {
                if let Some(member) = &mut member {
                    member.event(event?, &mut reading).await?;
                }
            }
            () = until(commit_at) => {
                if let Some(member) = &mut member {
                    member.commit(&reading.positions).await?;
                }
            }
            () = until(idle.map(|idle| last + idle)) => break,
            _ = signals.next() => break,
        }
    }
    match member {
        Some(member) => member.leave(&reading.positions).await,
        None => Ok(()),
    }
}

/// Waits for a time; for ever if there is none.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

async fn next_event(member: &mut Option<Member>) -> Result<Event, Failure> {
    match member {
        Some(member) => member.membership.next().await.map_err(Failure::runtime),
        None => std::future::pending().await,
    }
}

/// What is read, and how far it was printed.
struct Reading {
    admin: Admin,
    fetcher: Fetcher,
    start: Start,
    positions: BTreeMap<TopicPartition, OffsetAndMetadata>,
}

impl Reading {
    /// Starts partitions: at their committed offset, or else where the flags say.
    async fn begin(
        &mut self,
        partitions: BTreeSet<TopicPartition>,
        committed: BTreeMap<TopicPartition, OffsetAndMetadata>,
    ) -> Result<(), Failure> {
        let at = if self.start == Start::Earliest { At::Earliest } else { At::Latest };
        let fresh: BTreeMap<_, _> = partitions
            .iter()
            .filter(|partition| !committed.contains_key(*partition))
            .map(|partition| (partition.clone(), at))
            .collect();
        let mut starts: BTreeMap<_, _> =
            committed.into_iter().map(|(partition, it)| (partition, it.next_offset)).collect();
        if let Start::Offset(offset) = self.start {
            starts.extend(fresh.into_keys().map(|partition| (partition, offset)));
        } else if !fresh.is_empty() {
            let listed = self.admin.list_offsets(&fresh, Isolation::ReadUncommitted).await;
            for (partition, found) in listed.map_err(Failure::runtime)? {
                let found = found.map_err(Failure::runtime)?;
                starts.insert(partition, found.offset.unwrap_or(0));
            }
        }
        self.fetcher.assign_all(
            starts.into_iter().map(|(partition, offset)| (partition, Position::at(offset))),
        );
        Ok(())
    }

    async fn fetched(
        &mut self,
        event: FetchEvent,
        printer: &mut Printer,
    ) -> Result<Printed, Failure> {
        match event {
            FetchEvent::Fetched(fetched) => {
                let (printed, next_offset) = printer.print(&fetched)?;
                let epoch = fetched.leader_epoch.unwrap_or(-1);
                let position = OffsetAndMetadata::new(next_offset, epoch);
                self.positions.insert(fetched.partition.clone(), position);
                Ok(printed)
            }
            FetchEvent::Trouble {
                partition,
                kind: Trouble::OutOfRange { log_start_offset, log_end_offset },
                position,
            } if matches!(self.start, Start::Earliest | Start::Latest) => {
                let earliest = self.start == Start::Earliest;
                let next_offset = if earliest { log_start_offset } else { log_end_offset };
                let was = position.next_offset;
                tracing::warn!(%partition, was, next_offset, "offset out of range; starting anew");
                self.fetcher.assign(&partition, Position::at(next_offset));
                Ok(Printed::None)
            }
            FetchEvent::Trouble { partition, kind, .. } => {
                Err(Failure::runtime(Stopped { partition, source: kind }))
            }
            _ => Ok(Printed::None),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("read partition {partition}")]
struct Stopped {
    partition: TopicPartition,
    source: Trouble,
}

/// A membership of the group, and when it last committed.
struct Member {
    membership: Membership,
    committer: Committer,
    committed_at: Instant,
}

impl Member {
    fn join(client: &Client, group: &str, topics: &[Arc<str>]) -> Result<Self, Failure> {
        let config = GroupConfig::new(group).with_topics(topics.iter().cloned());
        let (membership, committer) = Membership::join(client, config).map_err(Failure::runtime)?;
        Ok(Self { membership, committer, committed_at: clock::now() })
    }

    async fn event(&mut self, event: Event, reading: &mut Reading) -> Result<(), Failure> {
        match event {
            Event::Assigned { added, .. } => {
                let committed = self.membership.committed().of(added.iter().cloned()).await;
                let committed = committed.map_err(Failure::runtime)?;
                if let Some((partition, code)) = committed.refused.into_iter().next() {
                    let error = format!("the committed offset of {partition} is not told: {code}");
                    return Err(Failure::runtime(error));
                }
                reading.begin(added, committed.offsets).await
            }
            Event::Revoking { partitions, hand_back, .. } => {
                self.commit(&reading.positions).await?;
                reading.forget(&partitions);
                hand_back.done();
                Ok(())
            }
            Event::Lost { partitions, .. } => {
                reading.forget(&partitions);
                Ok(())
            }
            Event::Refused { error } => Err(Failure::runtime(error)),
        }
    }

    async fn commit(
        &mut self,
        positions: &BTreeMap<TopicPartition, OffsetAndMetadata>,
    ) -> Result<(), Failure> {
        self.committed_at = clock::now();
        if !positions.is_empty() {
            self.committer.commit(positions).await.map_err(Failure::runtime)?;
        }
        Ok(())
    }

    async fn leave(
        mut self,
        positions: &BTreeMap<TopicPartition, OffsetAndMetadata>,
    ) -> Result<(), Failure> {
        let outcome = self.commit(positions).await;
        self.membership.leave().await;
        outcome
    }
}

impl Reading {
    fn forget(&mut self, partitions: &BTreeSet<TopicPartition>) {
        for partition in partitions {
            self.fetcher.remove(partition);
            self.positions.remove(partition);
        }
    }
}

impl Args {
    /// The group to join, from the flag or else the properties. A partition that was named is read
    /// without one.
    fn group<'it>(&'it self, properties: &'it Properties) -> Option<&'it str> {
        let written = filled(properties, "group.id").filter(|_| self.partition.is_none());
        self.group.as_deref().or(written)
    }

    fn start(&self, properties: &Properties) -> Start {
        let reset = filled(properties, "auto.offset.reset");
        let earliest = reset.is_some_and(|word| word.eq_ignore_ascii_case("earliest"));
        let end = if self.from_beginning || earliest { Start::Earliest } else { Start::Latest };
        self.offset.unwrap_or(end)
    }

    fn isolation(&self, properties: &Properties) -> Isolation {
        let level = filled(properties, "isolation.level");
        let committed = level.is_some_and(|word| word.eq_ignore_ascii_case("read_committed"));
        match self.isolation_level {
            Some(Level::ReadCommitted) => Isolation::ReadCommitted,
            None if committed => Isolation::ReadCommitted,
            Some(Level::ReadUncommitted) | None => Isolation::ReadUncommitted,
        }
    }

    /// The topics that are there now.
    async fn topics(&self, client: &Client) -> Result<Vec<Arc<str>>, Failure> {
        let selection = match &self.include {
            Some(pattern) => {
                let pattern = Pattern::try_new(&from_mirror_maker(pattern));
                Some(Selection::new(pattern.map_err(Failure::usage)?))
            }
            None => None,
        };
        let name: Arc<str> = self.topic.as_deref().unwrap_or_default().into();
        match &selection {
            Some(_) => client.watch_all_topics(),
            None => client.watch_topics([Arc::clone(&name)]),
        }
        let view = client.refresh(client.view().generation).await.map_err(Failure::runtime)?;
        let found: Vec<_> = view
            .topics()
            .filter(|topic| !topic.partitions.is_empty())
            .filter(|topic| match &selection {
                Some(selection) => selection.selects(&topic.name, topic.is_internal),
                None => topic.name == name,
            })
            .map(|topic| Arc::clone(&topic.name))
            .collect();
        let refusal = view.topic(&name).map(|topic| topic.error);
        if let Some(code @ ErrorCode::TOPIC_AUTHORIZATION_FAILED) = refusal {
            return Err(Failure::runtime(format!("topic {name}: {code}"))
                .with_help("have Read and Describe on the topic granted to this client"));
        }
        if found.is_empty() {
            let wanted = self.include.as_deref().unwrap_or(&name);
            return Err(Failure::runtime(format!("there is no topic {wanted}"))
                .with_help("kmirror topics --list shows those there are"));
        }
        Ok(found)
    }

    fn partitions(
        &self,
        client: &Client,
        topics: &[Arc<str>],
    ) -> Result<BTreeSet<TopicPartition>, Failure> {
        let view = client.view();
        let all = topics.iter().filter_map(|name| view.topic(name)).flat_map(|topic| {
            topic
                .partitions
                .keys()
                .map(|index| TopicPartition::new(Arc::clone(&topic.name), *index))
        });
        let found: BTreeSet<_> =
            all.filter(|it| self.partition.is_none_or(|wanted| wanted == it.partition)).collect();
        match self.partition {
            Some(wanted) if found.is_empty() => {
                Err(Failure::usage(format!("the topic has no partition {wanted}")))
            }
            _ => Ok(found),
        }
    }
}

fn parse_offset(text: &str) -> Result<Start, String> {
    match (text, text.parse()) {
        ("earliest", _) => Ok(Start::Earliest),
        ("latest", _) => Ok(Start::Latest),
        (_, Ok(offset)) if offset >= 0 => Ok(Start::Offset(offset)),
        _ => Err("must be an offset, earliest or latest".to_owned()),
    }
}
