//! What the flows of one file do to each other: topics that would come back to where they began,
//! and groups that two flows would share.
//!
//! A circle of flows that keep names is refused if one topic can go all the way round. A circle
//! that renames is broken: what a flow's destination sends back, through any number of clusters, is
//! left out of the flow, by the prefix and suffix it comes with.

use kmirror::policy::filter::Selection;
use kmirror::policy::overlap::common_topic;
use kmirror_client::config::keys::{Finding, Level};
use kmirror_client::config::properties::Origin;

use super::options::Value;
use super::{Cluster, Flow, Place, engine};

/// The most ways through the clusters that are looked at; a file has a few flows.
const WAYS_MAX: usize = 10_000;

/// Checks the flows side by side, and leaves out of each what comes back to it.
pub(super) fn check(flows: &mut [Flow]) -> Vec<Finding> {
    let mut findings = shared_groups(flows);
    findings.append(&mut circles(flows));
    findings.append(&mut leave_out_what_returns(flows));
    findings
}

/// Two members of one group share its partitions, whatever they mirror them to.
fn shared_groups(flows: &[Flow]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, flow) in flows.iter().enumerate() {
        let shares =
            |other: &&Flow| other.group() == flow.group() && is_same(&other.source, &flow.source);
        if let Some(other) = flows[..at].iter().find(shares) {
            let text = format!(
                "is {} for both {} and {}, which read the same cluster: each would mirror only a \
                 part of the partitions; give each flow a group of its own",
                flow.group(),
                other.name,
                flow.name
            );
            findings.push(finding(Level::Error, flow, "group", text));
        }
    }
    findings
}

/// Flows that keep names and lead a topic back to where it came from.
fn circles(flows: &[Flow]) -> Vec<Finding> {
    // What cannot be read is refused elsewhere.
    let selections: Vec<Option<Selection>> =
        flows.iter().map(|flow| engine::selection(&flow.settings).ok()).collect();
    let common = |way: &[usize]| {
        let selections: Option<Vec<&Selection>> =
            way.iter().map(|at| selections[*at].as_ref()).collect();
        common_topic(&selections?)
    };
    let mut findings = Vec::new();
    let mut ways = Ways { flows, left: WAYS_MAX };
    for first in 0..flows.len() {
        let goes_on = |way: &[usize]| {
            // Each circle is told once, by the first of its flows in the file.
            let added = way[way.len() - 1];
            added >= first && Added::of(&flows[added]).is_nothing() && common(way).is_some()
        };
        let mut circle = None;
        ways.follow(vec![first], &goes_on, &mut |way| {
            let is_closed = is_same(&flows[way[way.len() - 1]].destination, &flows[first].source);
            if is_closed && circle.is_none() {
                circle = common(way).map(|topic| (way.to_vec(), topic));
            }
        });
        if let Some((way, topic)) = circle {
            let text = told(flows, &way, &topic);
            findings.push(finding(Level::Error, &flows[first], "topics", text));
        }
    }
    findings
}

fn told(flows: &[Flow], way: &[usize], topic: &str) -> String {
    let names: Vec<&str> = way.iter().map(|at| flows[*at].name.as_str()).collect();
    let mut clusters = vec![cluster(&flows[way[0]], "source")];
    clusters.extend(way.iter().map(|at| cluster(&flows[*at], "destination")));
    format!(
        "go round in a circle, {}, by {}: a topic such as {topic} would be mirrored for ever; give \
         the flows prefixes, or topics that exclude each other",
        clusters.join(" -> "),
        names.join(" and "),
    )
}

/// Leaves out of each flow the topics that its destination sends back to its source.
fn leave_out_what_returns(flows: &mut [Flow]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut left_out = Vec::new();
    let mut ways = Ways { flows, left: WAYS_MAX };
    for (at, flow) in flows.iter().enumerate() {
        for first in 0..flows.len() {
            if !is_same(&flows[first].source, &flow.destination) {
                continue;
            }
            ways.follow(vec![first], &|_| true, &mut |way| {
                let last = &flows[way[way.len() - 1]];
                let added = way
                    .iter()
                    .fold(Added::default(), |added, at| added.and(&Added::of(&flows[*at])));
                if is_same(&last.destination, &flow.source) && !added.is_nothing() {
                    let pattern = added.pattern();
                    let names: Vec<&str> = way.iter().map(|at| flows[*at].name.as_str()).collect();
                    let mut text = format!(
                        "leaves out {pattern}: {} brings those back from {}",
                        names.join(" and "),
                        cluster(flow, "destination")
                    );
                    let level = if added.is_set_apart() { Level::Note } else { Level::Warning };
                    if level == Level::Warning {
                        text += NOT_SET_APART;
                    }
                    findings.push(finding(level, flow, "exclude", text));
                    left_out.push((at, pattern));
                }
            });
        }
    }
    for (at, pattern) in left_out {
        let settings = &mut flows[at].settings;
        let origin = settings.entry("exclude").map(|(_, origin)| origin.clone());
        let origin = origin.or_else(|| settings.origin.clone());
        let mut patterns = settings.texts("exclude").to_vec();
        if !patterns.contains(&pattern) {
            patterns.push(pattern);
        }
        let origin = origin.unwrap_or_else(|| Origin::new("the file"));
        settings.set("exclude", Value::Texts(patterns), origin);
    }
    findings
}

/// Ways from flow to flow that come to no cluster twice, save the one where they began.
struct Ways<'a> {
    flows: &'a [Flow],
    /// How many more are looked at.
    left: usize,
}

impl Ways<'_> {
    /// Calls `found` with every way that begins with `way`, as long as `goes_on` takes each step.
    fn follow(
        &mut self,
        way: Vec<usize>,
        goes_on: &impl Fn(&[usize]) -> bool,
        found: &mut impl FnMut(&[usize]),
    ) {
        if self.left == 0 || !goes_on(&way) {
            return;
        }
        self.left -= 1;
        found(&way);
        let flows = self.flows;
        let end = &flows[way[way.len() - 1]].destination;
        if way.iter().any(|at| is_same(&flows[*at].source, end)) {
            return; // it is closed
        }
        for (next, flow) in flows.iter().enumerate() {
            if is_same(&flow.source, end) {
                let mut longer = way.clone();
                longer.push(next);
                self.follow(longer, goes_on, found);
            }
        }
    }
}

/// The signs that a topic's name may have besides letters and digits.
const SEPARATORS: [char; 3] = ['.', '_', '-'];

/// What is wrong with a prefix or suffix that any name may have.
const NOT_SET_APART: &str = "; a topic that was called so from the start is left out as well: end \
                             the prefix, or begin the suffix, with a dot, as in \"west.\"";

/// What a flow, or several in a row, put before and after a name.
#[derive(Default)]
struct Added {
    before: String,
    after: String,
}

impl Added {
    fn of(flow: &Flow) -> Added {
        let text = |name| flow.settings.text(name).unwrap_or_default().to_owned();
        Added { before: text("prefix"), after: text("suffix") }
    }

    fn and(self, next: &Added) -> Added {
        Added {
            before: format!("{}{}", next.before, self.before),
            after: format!("{}{}", self.after, next.after),
        }
    }

    fn is_nothing(&self) -> bool {
        self.before.is_empty() && self.after.is_empty()
    }

    /// Whether a sign parts it from the name, so that hardly another name looks like an outcome.
    fn is_set_apart(&self) -> bool {
        self.before.ends_with(SEPARATORS) || self.after.starts_with(SEPARATORS)
    }

    /// What the outcomes match. Topic names need nothing else to be escaped.
    fn pattern(&self) -> String {
        let [before, after] = [&self.before, &self.after].map(|text| text.replace('.', "\\."));
        format!("{before}.*{after}")
    }
}

/// Whether two flows mean the same cluster, under whatever names.
fn is_same(one: &Cluster, other: &Cluster) -> bool {
    match (&one.place, &other.place) {
        (Place::Servers(one), Place::Servers(other)) => {
            let servers = |text: &str| -> Vec<String> {
                text.split(',').map(|server| server.trim().to_ascii_lowercase()).collect()
            };
            let others = servers(other);
            servers(one).iter().any(|server| others.contains(server))
        }
        (Place::Zookeeper { connect: one, .. }, Place::Zookeeper { connect: other, .. }) => {
            one == other
        }
        (Place::Servers(_), Place::Zookeeper { .. })
        | (Place::Zookeeper { .. }, Place::Servers(_)) => false,
    }
}

fn cluster<'flow>(flow: &'flow Flow, end: &str) -> &'flow str {
    flow.settings.text(end).unwrap_or("?")
}

fn finding(level: Level, flow: &Flow, key: &str, text: String) -> Finding {
    let entry = flow.settings.entry(key).map(|(_, origin)| origin.clone());
    let origin = entry.or_else(|| flow.settings.origin.clone());
    let origin = origin.unwrap_or_else(|| Origin::new("the file"));
    Finding { level, origin, key: key.to_owned(), text }
}

#[cfg(test)]
mod tests {
    use super::super::Plan;
    use super::super::document::read;
    use super::super::native::resolve_document;
    use super::*;

    /// A file with these clusters and flows; a flow is `source destination topics more`.
    fn resolve(flows: &[(&str, &str, &str, &str)]) -> Plan {
        let mut text = String::new();
        for cluster in ["north", "east", "west"] {
            text += &format!("[clusters.{cluster}]\nbootstrap = \"{cluster}:9092\"\n");
        }
        text += "[clusters.again]\nbootstrap = [\"other:9092\", \"WEST:9092\"]\n";
        for (source, destination, topics, more) in flows {
            text += &format!(
                "[[flows]]\nsource = \"{source}\"\ndestination = \"{destination}\"\n\
                 topics = '{topics}'\n{more}\n"
            );
        }
        resolve_document(read("k.toml", &text))
    }

    fn plan(flows: &[(&str, &str, &str, &str)]) -> (Vec<Flow>, Vec<String>) {
        let plan = resolve(flows);
        let errors = plan.findings.iter().filter(|finding| finding.level == Level::Error);
        let errors = errors.map(|finding| finding.text.clone()).collect();
        (plan.flows, errors)
    }

    fn errors(flows: &[(&str, &str, &str, &str)]) -> Vec<String> {
        plan(flows).1
    }

    #[test]
    fn two_ways_under_the_same_names_are_refused_with_the_circle_spelled_out() {
        let found = errors(&[("west", "east", ".*", ""), ("east", "west", "orders", "")]);
        let told = "go round in a circle, west -> east -> west, by west-east and east-west: a \
                    topic such as orders would be mirrored for ever; give the flows prefixes, or \
                    topics that exclude each other";
        assert_eq!(found, [told]);
    }

    #[test]
    fn a_circle_through_three_clusters_is_refused_and_so_is_one_of_another_name() {
        let three =
            [("west", "east", ".*", ""), ("east", "north", ".*", ""), ("north", "west", ".*", "")];
        let found = errors(&three);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("west -> east -> north -> west"), "{found:?}");
        let found = errors(&[("west", "east", "a", ""), ("east", "again", "a", "")]);
        assert!(found[0].contains("west -> east -> again"), "{found:?}");
        let found = errors(&[("west", "again", "a", "")]);
        assert!(found[0].contains("west -> again"), "{found:?}");
    }

    #[test]
    fn flows_that_part_the_topics_or_lead_on_are_no_circle() {
        for flows in [
            [("west", "east", "orders.*", ""), ("east", "west", "payments.*", "")],
            [("west", "east", ".*", "exclude = 'eu-.*'"), ("east", "west", "eu-.*", "")],
            [("west", "east", ".*", ""), ("east", "north", ".*", "")],
            [("west", "east", ".*", "prefix = 'west.'"), ("east", "west", ".*", "")],
        ] {
            assert_eq!(errors(&flows), [""; 0], "{flows:?}");
        }
    }

    #[test]
    fn what_the_opposite_flow_brings_back_is_left_out() {
        let (flows, errors) = plan(&[
            ("west", "east", ".*", "prefix = 'west.'"),
            ("east", "west", ".*", "suffix = '.east'\nexclude = 'tmp.*'"),
        ]);
        assert_eq!(errors, [""; 0]);
        assert_eq!(flows[0].settings.texts("exclude"), [r".*\.east"]);
        assert_eq!(flows[1].settings.texts("exclude"), ["tmp.*", r"west\..*"]);
        let selection = engine::selection(&flows[1].settings).unwrap();
        assert!(!selection.selects("west.orders", false) && selection.selects("orders", false));
    }

    #[test]
    fn what_comes_back_through_a_third_cluster_is_left_out_and_what_goes_on_is_not() {
        let (flows, errors) = plan(&[
            ("west", "east", ".*", "prefix = 'w.'"),
            ("east", "north", ".*", "prefix = 'e.'"),
            ("north", "west", ".*", "prefix = 'n.'"),
        ]);
        assert_eq!(errors, [""; 0]);
        let left_out: Vec<_> = flows.iter().map(|flow| flow.settings.texts("exclude")).collect();
        assert_eq!(left_out, [[r"n\.e\..*"], [r"w\.n\..*"], [r"e\.w\..*"]]);
        let (flows, _) =
            plan(&[("west", "east", ".*", "prefix = 'w.'"), ("east", "north", ".*", "")]);
        assert!(flows.iter().all(|flow| flow.settings.texts("exclude").is_empty()));
    }

    #[test]
    fn a_prefix_that_other_names_may_begin_with_is_warned_of() {
        for (more, is_warned) in [("prefix = 'o'", true), ("prefix = 'o.'", false)] {
            let flows = [("west", "east", ".*", "prefix = 'west-'"), ("east", "west", ".*", more)];
            let found = resolve(&flows).findings;
            let warned: Vec<_> =
                found.iter().filter(|finding| finding.level == Level::Warning).collect();
            assert_eq!(warned.len(), usize::from(is_warned), "{found:?}");
            for finding in warned {
                let text = &finding.text;
                assert!(text.starts_with("leaves out o.*: east-west brings"), "{text}");
                assert!(text.contains("end the prefix"), "{text}");
            }
        }
    }

    #[test]
    fn one_group_for_two_flows_from_one_cluster_is_refused_with_both_names() {
        let group = "group = 'g'";
        let found = errors(&[("west", "east", "a", group), ("again", "north", "b", group)]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("is g for both west-east and again-north"), "{found:?}");
        let property = "consumer = { 'group.id' = 'g' }";
        let found = errors(&[("west", "east", "a", group), ("west", "north", "b", property)]);
        assert_eq!(found.len(), 1, "{found:?}");
        let found = errors(&[("west", "east", "a", group), ("north", "east", "b", group)]);
        assert_eq!(found, [""; 0]);
    }
}
