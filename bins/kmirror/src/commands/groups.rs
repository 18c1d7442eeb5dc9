//! `kmirror groups`: lists and describes consumer groups with their lag, resets their offsets and
//! deletes them, with the flags of `kafka-consumer-groups.sh`.

mod describe;

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::{ArgGroup, Args as ClapArgs};
use kmirror_client::admin::{Admin, At};
use kmirror_client::config::keys::Role;
use kmirror_client::group::OffsetAndMetadata;
use kmirror_client::isolation::Isolation;
use kmirror_client::{Client, TopicPartition};

use crate::connect::ClusterArgs;
use crate::exit::Failure;
use crate::output::{self, plain};
use crate::plan::units::parse_datetime;
use crate::runtime;

/// List or describe consumer groups, reset their offsets, or delete them
#[derive(Debug, ClapArgs)]
#[command(
    after_long_help = EXAMPLES,
    group = ArgGroup::new("action")
        .required(true)
        .args(["list", "describe", "reset_offsets", "delete"]),
    group = ArgGroup::new("where").args([
        "to_earliest",
        "to_latest",
        "to_current",
        "to_offset",
        "to_timestamp",
        "to_datetime",
        "shift_by",
    ]),
    group = ArgGroup::new("which").multiple(true).args(["group", "all_groups"]),
    group = ArgGroup::new("what").multiple(true).args(["topic", "all_topics"])
)]
pub(crate) struct Args {
    #[command(flatten)]
    cluster: ClusterArgs,

    /// List the groups
    #[arg(long)]
    list: bool,

    /// Show a group's offsets, lag and members
    #[arg(long, requires = "which")]
    describe: bool,

    /// Set a group's offsets; without --execute it is only shown. The group must have no members
    #[arg(long, requires = "which", requires = "what", requires = "where")]
    reset_offsets: bool,

    /// Delete a group and its offsets; it must have no members
    #[arg(long, requires = "which")]
    delete: bool,

    /// The group; may be repeated
    #[arg(long, value_name = "GROUP")]
    group: Vec<String>,

    /// All groups there are
    #[arg(long, conflicts_with = "group")]
    all_groups: bool,

    #[command(flatten)]
    shown: Shown,

    /// The topic whose offsets are reset, TOPIC or TOPIC:PARTITION,...; may be repeated
    #[arg(long, value_name = "TOPIC[:PARTITIONS]")]
    topic: Vec<String>,

    /// All topics that the group has offsets of
    #[arg(long, conflicts_with = "topic", requires = "reset_offsets")]
    all_topics: bool,

    /// To the first offset that is kept
    #[arg(long)]
    to_earliest: bool,

    /// Past the last record
    #[arg(long)]
    to_latest: bool,

    /// To where the group is, which brings it back to what is still kept
    #[arg(long)]
    to_current: bool,

    /// To this offset
    #[arg(long, value_name = "OFFSET")]
    to_offset: Option<i64>,

    /// To the first record not older than this, in milliseconds since 1970
    #[arg(long, value_name = "MILLISECONDS")]
    to_timestamp: Option<i64>,

    /// To the first record not older than this, such as 2026-01-31T12:30:00.000; without a zone at
    /// its end (Z, +01:00) it is UTC
    #[arg(long, value_name = "TIME", value_parser = parse_datetime)]
    to_datetime: Option<i64>,

    /// By this many offsets from where the group is; negative goes back
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    shift_by: Option<i64>,

    /// Do it
    #[arg(long, requires = "reset_offsets")]
    execute: bool,

    /// Only show it, as without --execute
    #[arg(long, requires = "reset_offsets", conflicts_with = "execute")]
    dry_run: bool,
}

/// What a description shows.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Description")]
struct Shown {
    /// Offsets and lag, which is what is shown anyway
    #[arg(long, requires = "describe")]
    offsets: bool,

    /// Members, and how many partitions each has
    #[arg(long, requires = "describe", conflicts_with = "offsets")]
    members: bool,

    /// The state; in a list, only of groups in one of these states
    #[arg(
        long,
        value_name = "STATE,...",
        num_args = 0..=1,
        default_missing_value = "",
        conflicts_with_all = ["offsets", "members"]
    )]
    state: Option<String>,

    /// With --members, the partitions themselves too
    #[arg(long, requires = "members")]
    verbose: bool,
}

const EXAMPLES: &str = "\
Examples:
  kmirror groups --bootstrap-server wn0:9092 --list
  kmirror groups --bootstrap-server wn0:9092 --describe --group mirrorgroup
  kmirror groups --bootstrap-server wn0:9092 --reset-offsets --group mirrorgroup \\
    --topic testtopic --to-earliest --execute";

/// Does the one thing asked for.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    runtime::block_on(async {
        let config = args.cluster.client_config(Role::Admin).await?;
        let client = Client::connect(config).await.map_err(Failure::runtime)?;
        let admin = Admin::new(client);
        if args.list {
            return args.list(&admin).await;
        }
        let groups = args.groups(&admin).await?;
        if args.delete {
            let deleted = admin.delete_groups(&groups).await.map_err(Failure::runtime)?;
            return deleted.into_iter().try_for_each(|(group, result)| {
                result.map_err(Failure::runtime)?;
                output::line(format_args!("Deleted group {}.", plain(&group)))
            });
        }
        for group in &groups {
            if args.describe {
                describe::print(&admin, group, &args.shown).await?;
            } else {
                args.reset(&admin, group).await?;
            }
        }
        Ok(())
    })
}

/// The offset each partition has there; none where its leader does not answer, or no record is as
/// young.
async fn ends(
    admin: &Admin,
    partitions: Vec<TopicPartition>,
    at: At,
) -> Result<BTreeMap<TopicPartition, Option<i64>>, Failure> {
    let wanted: BTreeMap<_, _> = partitions.into_iter().map(|partition| (partition, at)).collect();
    admin.client().watch_topics(wanted.keys().map(|partition| Arc::clone(&partition.topic)));
    let listed =
        admin.list_offsets(&wanted, Isolation::ReadUncommitted).await.map_err(Failure::runtime)?;
    Ok(listed
        .into_iter()
        .map(|(partition, found)| (partition, found.ok().and_then(|found| found.offset)))
        .collect())
}

impl Args {
    async fn list(&self, admin: &Admin) -> Result<(), Failure> {
        let groups = admin.list_groups().await.map_err(Failure::runtime)?;
        let Some(wanted) = &self.shown.state else {
            return groups.iter().try_for_each(|listed| output::line(plain(&listed.id)));
        };
        let mut rows = vec![["GROUP", "STATE"].map(str::to_owned).to_vec()];
        for listed in &groups {
            let state = match &listed.state {
                Some(state) => Arc::clone(state),
                // Brokers before 2.6 do not tell it in the list.
                None => admin.describe_group(&listed.id).await.map_err(Failure::runtime)?.state,
            };
            let mut states = wanted.split(',').map(str::trim).filter(|state| !state.is_empty());
            if wanted.is_empty() || states.any(|wanted| wanted.eq_ignore_ascii_case(&state)) {
                rows.push(vec![plain(&listed.id), plain(&state)]);
            }
        }
        output::raw(output::table(&rows).as_bytes())
    }

    /// The groups that are meant.
    async fn groups(&self, admin: &Admin) -> Result<Vec<Arc<str>>, Failure> {
        if !self.all_groups {
            return Ok(self.group.iter().map(|group| group.as_str().into()).collect());
        }
        let listed = admin.list_groups().await.map_err(Failure::runtime)?;
        Ok(listed.into_iter().map(|listed| listed.id).collect())
    }

    async fn reset(&self, admin: &Admin, group: &str) -> Result<(), Failure> {
        let current = admin.group_offsets(group).await.map_err(Failure::runtime)?;
        let partitions = match self.all_topics {
            true => current.keys().cloned().collect(),
            false => self.partitions(admin).await?,
        };
        let first = ends(admin, partitions.clone(), At::Earliest).await?;
        let last = ends(admin, partitions.clone(), At::Latest).await?;
        let timed = match self.to_timestamp.or(self.to_datetime) {
            Some(time) => ends(admin, partitions.clone(), At::Time(time)).await?,
            None => BTreeMap::new(),
        };
        let mut offsets = BTreeMap::new();
        let head = ["GROUP", "TOPIC", "PARTITION", "NEW-OFFSET"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for partition in partitions {
            let (Some(Some(first)), Some(Some(last))) =
                (first.get(&partition), last.get(&partition))
            else {
                return Err(Failure::runtime(format!("the offsets of {partition} are not known")));
            };
            let position = current.get(&partition).map(|offset| offset.next_offset);
            let at_time = timed.get(&partition).copied().flatten();
            let wanted = self.wanted(position, at_time, (*first, *last));
            let next_offset = wanted.clamp(*first, *last);
            rows.push(vec![
                plain(group),
                plain(&partition.topic),
                partition.partition.to_string(),
                next_offset.to_string(),
            ]);
            let offset = OffsetAndMetadata { next_offset, leader_epoch: -1, metadata: "".into() };
            offsets.insert(partition, offset);
        }
        if self.execute {
            let results = admin.alter_group_offsets(group, &offsets).await;
            for result in results.map_err(Failure::runtime)?.into_values() {
                result.map_err(Failure::runtime)?;
            }
        }
        output::raw(output::table(&rows).as_bytes())?;
        if !self.execute {
            eprintln!("nothing was changed; say --execute to do it");
        }
        Ok(())
    }

    fn wanted(&self, position: Option<i64>, at_time: Option<i64>, ends: (i64, i64)) -> i64 {
        let (first, last) = ends;
        match (self.to_offset, self.shift_by) {
            (Some(offset), _) => offset,
            (None, Some(count)) => position.unwrap_or(first).saturating_add(count),
            (None, None) if self.to_earliest => first,
            // Without a position there is none to stay at; Kafka's tool takes the end then.
            (None, None) if self.to_current => position.unwrap_or(last),
            // No record is as young: everything there is, is older.
            (None, None) => at_time.unwrap_or(last),
        }
    }

    async fn partitions(&self, admin: &Admin) -> Result<Vec<TopicPartition>, Failure> {
        let client = admin.client();
        client.watch_all_topics();
        let view = client.refresh(client.view().generation).await.map_err(Failure::runtime)?;
        let mut partitions = Vec::new();
        for text in &self.topic {
            let (name, indexes) = match text.split_once(':') {
                Some((name, indexes)) => (name, Some(indexes)),
                None => (text.as_str(), None),
            };
            let topic = view
                .topic(name)
                .ok_or_else(|| Failure::runtime(format!("there is no topic {name}")))?;
            let all = || topic.partitions.keys().copied().collect();
            let indexes: Vec<i32> = indexes.map_or_else(|| Ok(all()), parse_indexes)?;
            for index in indexes {
                if !topic.partitions.contains_key(&index) {
                    return Err(Failure::usage(format!("topic {name} has no partition {index}")));
                }
                partitions.push(TopicPartition::new(Arc::clone(&topic.name), index));
            }
        }
        Ok(partitions)
    }
}

fn parse_indexes(text: &str) -> Result<Vec<i32>, Failure> {
    let parsed = text.split(',').map(|index| index.trim().parse()).collect::<Result<_, _>>();
    parsed.map_err(|_| {
        Failure::usage(format!("--topic: {text} is no list of partitions"))
            .with_help("write TOPIC:0,1,2")
    })
}
