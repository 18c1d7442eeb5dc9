//! The suites: the published matrix, cut into parts that are measured one by one. Pure.
//!
//! How many records a case has was chosen so that kmirror is busy for some seconds with it on two
//! processors; what is dear for brokers (gzip, batches of one record, small batches of zstd) has
//! fewer.

use clap::ValueEnum;
use kmirror_client::batch::Codec;
use serde::{Deserialize, Serialize};

use crate::{
    case::{Batching, Case, Partitions},
    mirrors::Mirror::{self, FranzGo, Kmirror, Mm1, Mm1Tuned, Mm2, Mm2Tuned},
    plan::{Place, Planned, Setup},
};

/// A part of the matrix, or what was asked for by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Suite {
    /// Small loads, copied once and compared record by record; under 2 minutes.
    Ci,
    /// Each codec in batches of 256 KiB.
    Codecs,
    /// Each codec in batches of one record, 16 KiB and 1 MiB.
    Batches,
    /// Records of 100 B, 1 KiB and 1 MiB.
    Records,
    /// 1, 8 and 100 partitions.
    Partitions,
    /// From 8 to 12 partitions by key; from a compacted source with gaps.
    Routing,
    /// Ten times the records, ten times the partitions; more streams, more processes.
    Growth,
    /// All of them but ci, one after the other.
    All,
    /// What was asked for by hand.
    #[value(skip)]
    Custom,
}

impl Suite {
    /// All that are published.
    pub const MATRIX: [Self; 6] =
        [Self::Codecs, Self::Batches, Self::Records, Self::Partitions, Self::Routing, Self::Growth];

    /// Those that have a report of their own, in the order of the report.
    pub const REPORTED: [Self; 8] = [
        Self::Codecs,
        Self::Batches,
        Self::Records,
        Self::Partitions,
        Self::Routing,
        Self::Growth,
        Self::Ci,
        Self::Custom,
    ];

    /// The suites that it stands for.
    #[must_use]
    pub fn parts(self) -> Vec<Self> {
        if self == Self::All { Self::MATRIX.into() } else { vec![self] }
    }

    /// Its name, as it is asked for.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ci => "ci",
            Self::Codecs => "codecs",
            Self::Batches => "batches",
            Self::Records => "records",
            Self::Partitions => "partitions",
            Self::Routing => "routing",
            Self::Growth => "growth",
            Self::All => "all",
            Self::Custom => "custom",
        }
    }

    /// What it shows, for headings.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Ci => "Small loads, compared record by record",
            Self::Codecs => "Codecs",
            Self::Batches => "Sizes of batches",
            Self::Records => "Sizes of records",
            Self::Partitions => "Partitions",
            Self::Routing => "Routing by key, and gaps",
            Self::Growth => "Growth",
            Self::All => "All",
            Self::Custom => "Asked for by hand",
        }
    }

    /// Its cases.
    #[must_use]
    pub fn plan(self) -> Vec<Planned> {
        match self {
            Self::Ci => ci(),
            Self::Codecs => codecs(),
            Self::Batches => batches(),
            Self::Records => records(),
            Self::Partitions => partitions(),
            Self::Routing => routing(),
            Self::Growth => growth(),
            Self::All => Self::MATRIX.into_iter().flat_map(Self::plan).collect(),
            Self::Custom => Vec::new(),
        }
    }
}

const LARGE: Batching = Batching::Bytes(256 << 10);
const SMALL: Batching = Batching::Bytes(16 << 10);
const HUGE: Batching = Batching::Bytes(1 << 20);
const PEERS: [Mirror; 5] = [Kmirror, Mm1Tuned, Mm2, Mm2Tuned, FranzGo];

/// A load of 1 KiB records over 8 partitions, with as many records as are worth waiting for.
fn usual(codec: Codec, batching: Batching) -> Case {
    let records = match (batching, codec) {
        (Batching::One, Codec::Gzip | Codec::Zstd) => 200_000,
        (Batching::One, _) => 500_000,
        (Batching::Bytes(bytes), Codec::Gzip | Codec::Zstd) if bytes < 128 << 10 => 500_000,
        (Batching::Bytes(bytes), _) if bytes < 128 << 10 => 1_000_000,
        (Batching::Bytes(_), Codec::Gzip) => 1_000_000,
        (Batching::Bytes(_), _) => 2_000_000,
    };
    let partitions = Partitions { source: 8, destination: 8 };
    let (record_bytes, keys, gaps) = (1024, 0, false);
    Case { records, record_bytes, keys, codec, batching, partitions, gaps }
}

fn planned(case: Case, chart: &str, label: &str) -> Planned {
    let place = Place { chart: chart.to_owned(), label: label.to_owned(), x: None };
    Planned { case, setup: Setup::default(), place, mirrors: PEERS.into() }
}

fn ci() -> Vec<Planned> {
    let few = |records, case: Case, label: &str, mirrors: &[Mirror]| {
        let case = Case { records, ..case };
        Planned { mirrors: mirrors.into(), ..planned(case, "small loads", label) }
    };
    let wider = Partitions { source: 8, destination: 12 };
    let by_key = Case { keys: 1_000, partitions: wider, ..usual(Codec::Zstd, SMALL) };
    let gaps = Case { gaps: true, ..usual(Codec::Lz4, SMALL) };
    let large = Case { record_bytes: 1 << 20, ..usual(Codec::Gzip, HUGE) };
    vec![
        few(50_000, usual(Codec::None, LARGE), "none", &[Kmirror, FranzGo, Mm1Tuned, Mm2Tuned]),
        few(20_000, usual(Codec::Snappy, Batching::One), "one record", &[Kmirror, FranzGo]),
        few(20_000, by_key, "8 to 12 by key", &[Kmirror]),
        few(20_000, gaps, "gaps", &[Kmirror]),
        few(40, large, "1 MiB records", &[Kmirror, FranzGo]),
    ]
}

fn codecs() -> Vec<Planned> {
    let all = vec![Kmirror, Mm1, Mm1Tuned, Mm2, Mm2Tuned, FranzGo];
    let of = |codec: Codec| {
        let planned = planned(usual(codec, LARGE), "1 KiB records, batches of 256 KiB", "");
        Planned { mirrors: all.clone(), ..planned.labelled(codec.name()) }
    };
    Codec::ALL.map(of).into()
}

fn batches() -> Vec<Planned> {
    let of = |batching: Batching, chart: &str| {
        let chart = format!("1 KiB records, {chart}");
        Codec::ALL.map(|codec| planned(usual(codec, batching), &chart, codec.name()))
    };
    let sizes = [
        (Batching::One, "batches of one"),
        (SMALL, "batches of 16 KiB"),
        (HUGE, "batches of 1 MiB"),
    ];
    sizes.into_iter().flat_map(|(batching, chart)| of(batching, chart)).collect()
}

fn records() -> Vec<Planned> {
    let sizes = [
        (100, 5_000_000, LARGE, "records of 100 B"),
        (1 << 10, 2_000_000, LARGE, "records of 1 KiB"),
        (1 << 20, 2_000, HUGE, "records of 1 MiB"),
    ];
    let mut cases = Vec::new();
    for (record_bytes, records, batching, chart) in sizes {
        for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
            let case = Case { records, record_bytes, ..usual(codec, batching) };
            cases.push(planned(case, chart, codec.name()));
        }
    }
    cases
}

fn partitions() -> Vec<Planned> {
    let mut cases = Vec::new();
    for count in [1, 8, 100] {
        for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
            let partitions = Partitions { source: count, destination: count };
            let case = Case { partitions, ..usual(codec, LARGE) };
            let chart = if count == 1 { "1 partition" } else { &format!("{count} partitions") };
            cases.push(planned(case, chart, codec.name()));
        }
    }
    cases
}

fn routing() -> Vec<Planned> {
    let wider = Partitions { source: 8, destination: 12 };
    let by_key = Codec::ALL.map(|codec| {
        let usual = usual(codec, LARGE);
        let case = Case { keys: 10_000, partitions: wider, records: usual.records / 2, ..usual };
        planned(case, "from 8 to 12 partitions by key", codec.name())
    });
    let gaps = Codec::ALL.map(|codec| {
        let usual = usual(codec, LARGE);
        let case = Case { gaps: true, records: usual.records / 2, ..usual };
        planned(case, "compacted source with gaps", codec.name())
    });
    by_key.into_iter().chain(gaps).collect()
}

fn growth() -> Vec<Planned> {
    let usual = usual(Codec::Lz4, LARGE);
    let at = |chart: &str, x: u32, case: Case| {
        let planned = planned(case, chart, &x.to_string());
        let mirrors = vec![Kmirror, Mm1Tuned, Mm2Tuned, FranzGo];
        Planned { place: Place { x: Some(x.into()), ..planned.place }, mirrors, ..planned }
    };
    let mut cases = Vec::new();
    for records in [400_000, 4_000_000] {
        let case = Case { records: records.into(), ..usual.clone() };
        cases.push(at("records", records, case));
    }
    for count in [8_u16, 80, 800] {
        let partitions = Partitions { source: count.into(), destination: count.into() };
        cases.push(at("partitions", count.into(), Case { partitions, ..usual.clone() }));
    }
    for streams in [1_u16, 2, 4] {
        let setup = Setup { streams, instances: 1 };
        cases.push(Planned { setup, ..at("streams", streams.into(), usual.clone()) });
    }
    for instances in [1_u16, 2, 4] {
        let setup = Setup { streams: 1, instances };
        let mirrors = vec![Kmirror, Mm1Tuned, FranzGo];
        let planned = at("processes of one stream", instances.into(), usual.clone());
        cases.push(Planned { setup, mirrors, ..planned });
    }
    cases
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn all() -> Vec<(Suite, Planned)> {
        let suites = Suite::MATRIX.into_iter().chain([Suite::Ci]);
        suites.flat_map(|suite| suite.plan().into_iter().map(move |one| (suite, one))).collect()
    }

    #[test]
    fn every_codec_meets_every_size_of_batch() {
        let mut pairs = BTreeSet::new();
        for (suite, planned) in all() {
            if suite != Suite::Ci && planned.case.record_bytes == 1024 {
                pairs.insert((planned.case.codec.id(), planned.case.batching.to_string()));
            }
        }
        assert_eq!(pairs.len(), 20, "{pairs:?}");
    }

    #[test]
    fn the_matrix_has_its_corners() {
        let has = |what: fn(&Planned) -> bool| all().iter().any(|(_, planned)| what(planned));
        assert!(has(|one| one.case.record_bytes == 100));
        assert!(has(|one| one.case.record_bytes == 1 << 20));
        assert!(has(|one| one.case.partitions.source == 100));
        assert!(has(|one| one.case.keys > 0 && !one.case.keeps_partitions()));
        assert!(has(|one| one.case.gaps));
        assert!(has(|one| one.setup.streams == 4));
        assert!(has(|one| one.setup.instances == 2));
    }

    #[test]
    fn no_place_of_a_chart_is_taken_twice_and_every_case_has_kmirror() {
        let mut places = BTreeSet::new();
        for (suite, Planned { place, mirrors, case, .. }) in all() {
            assert!(places.insert((suite, place.chart.clone(), place.label.clone())), "{place:?}");
            assert!(mirrors.contains(&Kmirror));
            assert!(case.gaps <= (case.batching != Batching::One));
        }
    }

    #[test]
    fn the_smallest_suite_moves_little() {
        let bytes: u64 = Suite::Ci.plan().iter().map(|one| one.case.logical_bytes()).sum();
        assert!(bytes < 200_000_000, "{bytes}");
    }
}
