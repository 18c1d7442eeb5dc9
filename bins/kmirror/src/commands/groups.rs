//! `kmirror groups`: lists and describes consumer groups with their lag, resets their offsets and
//! deletes them, with the flags of `kafka-consumer-groups.sh`.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::{ArgGroup, Args as ClapArgs};
use kmirror_client::admin::{Admin, At, GroupDescription, GroupMember};
use kmirror_client::config::keys::Role;
use kmirror_client::group::OffsetAndMetadata;
use kmirror_client::isolation::Isolation;
use kmirror_client::{Client, TopicPartition};

use crate::connect::ClusterArgs;
use crate::exit::Failure;
use crate::output::{self, plain};
use crate::runtime;

/// List or describe consumer groups, reset their offsets, or delete them
#[derive(Debug, ClapArgs)]
#[command(
    after_long_help = EXAMPLES,
    group = ArgGroup::new("action")
        .required(true)
        .args(["list", "describe", "reset_offsets", "delete"]),
    group = ArgGroup::new("where")
        .args(["to_earliest", "to_latest", "to_offset", "to_timestamp", "shift_by"])
)]
pub(crate) struct Args {
    #[command(flatten)]
    cluster: ClusterArgs,

    /// List the groups
    #[arg(long)]
    list: bool,

    /// Show a group's offsets, lag and members
    #[arg(long, requires = "group")]
    describe: bool,

    /// Set a group's offsets; without --execute it is only shown. The group must have no members
    #[arg(long, requires = "group", requires = "topic", requires = "where")]
    reset_offsets: bool,

    /// Delete a group and its offsets; it must have no members
    #[arg(long, requires = "group")]
    delete: bool,

    /// The group
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,

    /// The topic whose offsets are reset, TOPIC or TOPIC:PARTITION,...; may be repeated
    #[arg(long, value_name = "TOPIC[:PARTITIONS]")]
    topic: Vec<String>,

    /// To the first offset that is kept
    #[arg(long)]
    to_earliest: bool,

    /// Past the last record
    #[arg(long)]
    to_latest: bool,

    /// To this offset
    #[arg(long, value_name = "OFFSET")]
    to_offset: Option<i64>,

    /// To the first record not older than this, in milliseconds since 1970
    #[arg(long, value_name = "MILLISECONDS")]
    to_timestamp: Option<i64>,

    /// By this many offsets from where the group is; negative goes back
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    shift_by: Option<i64>,

    /// Do it
    #[arg(long, requires = "reset_offsets")]
    execute: bool,
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
        let group = args.group.as_deref().unwrap_or_default();
        if args.list {
            let groups = admin.list_groups().await.map_err(Failure::runtime)?;
            return groups.iter().try_for_each(|listed| output::line(plain(&listed.id)));
        }
        if args.describe {
            return describe(&admin, group).await;
        }
        if args.delete {
            let deleted = admin.delete_groups(&[group.into()]).await.map_err(Failure::runtime)?;
            for result in deleted.into_values() {
                result.map_err(Failure::runtime)?;
            }
            return output::line(format_args!("Deleted group {group}."));
        }
        args.reset(&admin, group).await
    })
}

async fn describe(admin: &Admin, group: &str) -> Result<(), Failure> {
    let description = admin.describe_group(group).await.map_err(Failure::runtime)?;
    let offsets = admin.group_offsets(group).await.map_err(Failure::runtime)?;
    if &*description.state == "Dead" && offsets.is_empty() {
        return Err(Failure::runtime(format!("there is no group {group}")));
    }
    let owned = description.members.iter().flat_map(|member| &member.partitions);
    let partitions: Vec<_> = offsets.keys().chain(owned).cloned().collect();
    let ends = ends(admin, partitions, At::Latest).await?;
    let head =
        ["TOPIC", "PARTITION", "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG", "HOST", "CLIENT-ID"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (partition, end) in &ends {
        let position = offsets.get(partition).map(|offset| offset.next_offset);
        rows.push(row(partition, position, *end, owner(&description, partition)));
    }
    output::line(format_args!(
        "Group {group} is {}, with {} members{}",
        description.state,
        description.members.len(),
        if description.assignor.is_empty() {
            String::new()
        } else {
            format!(", assignor {}", description.assignor)
        }
    ))?;
    output::raw(output::table(&rows).as_bytes())
}

fn owner<'group>(
    group: &'group GroupDescription,
    partition: &TopicPartition,
) -> Option<&'group GroupMember> {
    group.members.iter().find(|member| member.partitions.contains(partition))
}

fn row(
    partition: &TopicPartition,
    position: Option<i64>,
    end: Option<i64>,
    owner: Option<&GroupMember>,
) -> Vec<String> {
    let number = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |it| it.to_string());
    let lag = position.zip(end).map(|(position, end)| (end - position).max(0));
    vec![
        plain(&partition.topic),
        partition.partition.to_string(),
        number(position),
        number(end),
        number(lag),
        plain(owner.map_or("-", |member| &member.host)),
        plain(owner.map_or("-", |member| &member.client_id)),
    ]
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
    async fn reset(&self, admin: &Admin, group: &str) -> Result<(), Failure> {
        let current = admin.group_offsets(group).await.map_err(Failure::runtime)?;
        let partitions = self.partitions(admin).await?;
        let first = ends(admin, partitions.clone(), At::Earliest).await?;
        let last = ends(admin, partitions.clone(), At::Latest).await?;
        let timed = match self.to_timestamp {
            Some(time) => ends(admin, partitions.clone(), At::Time(time)).await?,
            None => BTreeMap::new(),
        };
        let mut offsets = BTreeMap::new();
        let mut rows = vec![["TOPIC", "PARTITION", "NEW-OFFSET"].map(str::to_owned).to_vec()];
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
                partition.topic.to_string(),
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
