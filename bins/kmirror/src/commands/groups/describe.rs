//! Describes a group in the columns of `kafka-consumer-groups.sh`, which scripts read.

use kmirror_client::TopicPartition;
use kmirror_client::admin::{Admin, At, GroupDescription, GroupMember};

use super::{Shown, ends};
use crate::exit::Failure;
use crate::output::{self, plain};

type Row = Vec<String>;

/// Prints what is asked for of one group.
pub(super) async fn print(admin: &Admin, group: &str, shown: &Shown) -> Result<(), Failure> {
    let description = admin.describe_group(group).await.map_err(Failure::runtime)?;
    let rows = if shown.members {
        members(group, &description, shown.verbose)
    } else if shown.state.is_some() {
        state(group, &description)
    } else {
        offsets(admin, group, &description).await?
    };
    if &*description.state == "Dead" && rows.len() < 2 {
        return Err(Failure::runtime(format!("there is no group {group}")));
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

fn head<const COLUMNS: usize>(names: [&str; COLUMNS]) -> Vec<Row> {
    vec![names.map(str::to_owned).to_vec()]
}

async fn offsets(
    admin: &Admin,
    group: &str,
    description: &GroupDescription,
) -> Result<Vec<Row>, Failure> {
    let offsets = admin.group_offsets(group).await.map_err(Failure::runtime)?;
    let owned = description.members.iter().flat_map(|member| &member.partitions);
    let partitions: Vec<_> = offsets.keys().chain(owned).cloned().collect();
    let ends = ends(admin, partitions, At::Latest).await?;
    let mut rows = head([
        "GROUP",
        "TOPIC",
        "PARTITION",
        "CURRENT-OFFSET",
        "LOG-END-OFFSET",
        "LAG",
        "CONSUMER-ID",
        "HOST",
        "CLIENT-ID",
    ]);
    for (partition, end) in &ends {
        let position = offsets.get(partition).map(|offset| offset.next_offset);
        let lag = position.zip(*end).map(|(position, end)| (end - position).max(0));
        let owner = owner(description, partition);
        let of = |text: fn(&GroupMember) -> &str| plain(owner.map_or("-", text));
        rows.push(vec![
            plain(group),
            plain(&partition.topic),
            partition.partition.to_string(),
            number(position),
            number(*end),
            number(lag),
            of(|member| &member.id),
            of(|member| &member.host),
            of(|member| &member.client_id),
        ]);
    }
    Ok(rows)
}

fn members(group: &str, description: &GroupDescription, with_partitions: bool) -> Vec<Row> {
    let mut rows = head(["GROUP", "CONSUMER-ID", "HOST", "CLIENT-ID", "#PARTITIONS"]);
    rows[0].extend(with_partitions.then(|| "ASSIGNMENT".to_owned()));
    for member in &description.members {
        let assignment: Vec<_> = member.partitions.iter().map(ToString::to_string).collect();
        let mut row = vec![
            plain(group),
            plain(&member.id),
            plain(&member.host),
            plain(&member.client_id),
            assignment.len().to_string(),
        ];
        row.extend(with_partitions.then(|| plain(&assignment.join(","))));
        rows.push(row);
    }
    rows
}

fn state(group: &str, description: &GroupDescription) -> Vec<Row> {
    let mut rows = head(["GROUP", "ASSIGNMENT-STRATEGY", "STATE", "#MEMBERS"]);
    if &*description.state != "Dead" {
        let count = description.members.len().to_string();
        let (assignor, state) = (plain(&description.assignor), plain(&description.state));
        rows.push(vec![plain(group), assignor, state, count]);
    }
    rows
}

fn owner<'group>(
    group: &'group GroupDescription,
    partition: &TopicPartition,
) -> Option<&'group GroupMember> {
    group.members.iter().find(|member| member.partitions.contains(partition))
}

fn number(number: Option<i64>) -> String {
    number.map_or_else(|| "-".to_owned(), |it| it.to_string())
}
