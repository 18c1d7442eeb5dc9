//! What is measured: a load, how many work at once, which mirrors, and where the result is shown.
//! Pure.

use serde::{Deserialize, Serialize};

use crate::{case::Case, mirrors::Mirror};

/// One case that is to be measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// The load.
    pub case: Case,
    /// How many work at once.
    pub setup: Setup,
    /// Where the result is shown.
    pub place: Place,
    /// The mirrors, in the order of the first round.
    pub mirrors: Vec<Mirror>,
}

/// How many of a mirror work at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// Streams of kmirror, MirrorMaker 1 and the copier in Go, tasks of MirrorMaker 2; of each
    /// process. Also the threads of the ceilings.
    pub streams: u16,
    /// Processes, in one group.
    pub instances: u16,
}

impl Default for Setup {
    fn default() -> Self {
        Self { streams: 2, instances: 1 }
    }
}

/// Where a result is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// The title of the chart.
    pub chart: String,
    /// What the result is called in it.
    pub label: String,
    /// Where it stands on the axis, in a chart of lines.
    pub x: Option<f64>,
}

impl Planned {
    /// The same under another label.
    #[must_use]
    pub fn labelled(self, label: &str) -> Self {
        Self { place: Place { label: label.to_owned(), ..self.place }, ..self }
    }

    /// The same with `factor` times the records, but at least one for each partition.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        let Self { mut case, setup, mut place, mirrors } = self;
        let least = u64::from(case.partitions.source.unsigned_abs()) * 4;
        // A count of records is far below 2^53, and `as` does not wrap.
        let records = ((case.records as f64 * factor).round() as u64).max(least);
        if place.x == Some(case.records as f64) {
            (place.x, place.label) = (Some(records as f64), records.to_string());
        }
        case.records = records;
        Self { case, setup, place, mirrors }
    }

    /// The same with only those mirrors, in their order.
    #[must_use]
    pub fn only(mut self, mirrors: &[Mirror]) -> Self {
        let chosen = mirrors.iter().copied();
        self.mirrors = chosen.filter(|mirror| self.mirrors.contains(mirror)).collect();
        self
    }

    /// What it is, in a few words.
    #[must_use]
    pub fn title(&self) -> String {
        self.setup.title_of(&self.case)
    }
}

impl Setup {
    /// A case and this setup, in a few words.
    #[must_use]
    pub fn title_of(self, case: &Case) -> String {
        let Self { streams, instances } = self;
        let title = case.title();
        match instances {
            1 => format!("{title}, {streams} streams"),
            _ => format!("{title}, {instances} processes of {streams} streams"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::Suite;

    #[test]
    fn scaling_changes_the_records_and_where_they_stand() {
        let planned = Suite::Growth.plan().remove(0).scaled(0.5);
        assert_eq!((planned.case.records, planned.place.x), (200_000, Some(200_000.0)));
        let streams = Suite::Growth.plan().pop().expect("a case").scaled(1e-9);
        assert_eq!((streams.case.records, streams.place.x), (32, Some(4.0)));
    }

    #[test]
    fn only_the_mirrors_of_the_suite_are_chosen_from() {
        let planned = Suite::Growth.plan().pop().expect("a case");
        let chosen = planned.only(&[Mirror::Mm2, Mirror::FranzGo, Mirror::Kmirror]).mirrors;
        assert_eq!(chosen, [Mirror::FranzGo, Mirror::Kmirror]);
    }
}
