//! What the mirror counts. [`table::TABLE`] is the only list of metrics: it registers them here and
//! prints `docs/METRICS.md` through [`markdown`]. Handles are resolved when a partition begins;
//! counting is one atomic addition.

mod table;

use std::fmt::Write as _;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter as Cumulative;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge as Level;
use prometheus_client::registry::Registry;

pub use table::{Definition, Kind, Metric, TABLE};

/// A number that only grows.
pub type Counter = Cumulative<u64>;
/// A whole number that goes up and down.
pub type Gauge = Level<i64>;
/// Seconds that go up and down.
pub type Seconds = Level<f64, AtomicU64>;

type Labels = Vec<(&'static str, String)>;

/// The registry of one mirror.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    families: Vec<Families>,
}

#[derive(Debug)]
enum Families {
    Counter(Family<Labels, Counter>),
    Gauge(Family<Labels, Gauge>),
    Seconds(Family<Labels, Seconds>),
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Metrics {
    /// Registers everything in [`TABLE`].
    pub fn new() -> Metrics {
        let mut registry = Registry::default();
        let families = TABLE.iter().map(|definition| register(&mut registry, definition)).collect();
        Metrics { registry: Mutex::new(registry), families }
    }

    /// The counter of `metric` for these label values, in the table's order.
    ///
    /// # Panics
    /// When the table says that `metric` is no counter: a bug of ours.
    pub fn counter<const N: usize>(&self, metric: Metric, values: [&str; N]) -> Counter {
        match &self.families[metric as usize] {
            Families::Counter(family) => family.get_or_create_owned(&labels(metric, values)),
            Families::Gauge(_) | Families::Seconds(_) => {
                panic!("invariant: {metric:?} is a counter")
            }
        }
    }

    /// The gauge of `metric` for these label values.
    ///
    /// # Panics
    /// When the table says that `metric` is no gauge of whole numbers: a bug of ours.
    pub fn gauge<const N: usize>(&self, metric: Metric, values: [&str; N]) -> Gauge {
        match &self.families[metric as usize] {
            Families::Gauge(family) => family.get_or_create_owned(&labels(metric, values)),
            Families::Counter(_) | Families::Seconds(_) => {
                panic!("invariant: {metric:?} is a gauge")
            }
        }
    }

    /// The gauge of seconds of `metric` for these label values.
    ///
    /// # Panics
    /// When the table says that `metric` is no gauge of seconds: a bug of ours.
    pub fn seconds<const N: usize>(&self, metric: Metric, values: [&str; N]) -> Seconds {
        match &self.families[metric as usize] {
            Families::Seconds(family) => family.get_or_create_owned(&labels(metric, values)),
            Families::Counter(_) | Families::Gauge(_) => panic!("invariant: {metric:?} is seconds"),
        }
    }

    /// Forgets the gauges of a partition that left. Counters stay: they only grow.
    pub fn forget_gauges<const N: usize>(&self, values: [&str; N]) {
        for (definition, families) in TABLE.iter().zip(&self.families) {
            if definition.labels.len() != N {
                continue;
            }
            let labels: Labels = pair(definition, values);
            match families {
                Families::Counter(_) => {}
                Families::Gauge(family) => drop(family.remove(&labels)),
                Families::Seconds(family) => drop(family.remove(&labels)),
            }
        }
    }

    /// Everything in Prometheus' (OpenMetrics) text format.
    pub fn text(&self) -> String {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry)
            .expect("invariant: writing to a string does not fail");
        text
    }
}

fn register(registry: &mut Registry, definition: &Definition) -> Families {
    let name = definition.name.strip_suffix("_total").unwrap_or(definition.name);
    match definition.kind {
        Kind::Counter => {
            let family = Family::default();
            registry.register(name, definition.help, family.clone());
            Families::Counter(family)
        }
        Kind::Gauge => {
            let family = Family::default();
            registry.register(name, definition.help, family.clone());
            Families::Gauge(family)
        }
        Kind::Seconds => {
            let family = Family::default();
            registry.register(name, definition.help, family.clone());
            Families::Seconds(family)
        }
    }
}

fn labels<const N: usize>(metric: Metric, values: [&str; N]) -> Labels {
    let definition = &TABLE[metric as usize];
    assert_eq!(definition.labels.len(), N, "invariant: {metric:?} is given its labels");
    pair(definition, values)
}

fn pair<const N: usize>(definition: &Definition, values: [&str; N]) -> Labels {
    definition.labels.iter().copied().zip(values.map(str::to_owned)).collect()
}

/// `docs/METRICS.md`, printed from the table.
pub fn markdown() -> String {
    let mut text = String::from(INTRODUCTION);
    let mut stage = "";
    for definition in TABLE {
        if definition.stage() != stage {
            stage = definition.stage();
            let _ = write!(text, "\n## {stage}\n\n{HEAD}");
        }
        let labels: Vec<String> =
            definition.labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {} |",
            definition.name,
            definition.kind.name(),
            labels.join(", "),
            definition.help,
            definition.rises
        );
    }
    text
}

const INTRODUCTION: &str = "\
# Metrics

Printed by the program from the table that registers them (`kmirror::metrics::markdown`); a test
keeps this file equal to it. Names are `kmirror_<stage>_<noun>_<unit>[_total]`, the stages being
the words of `ARCHITECTURE.md`. `topic` and `partition` are the source's.
";

const HEAD: &str = "| Name | Type | Labels | Meaning | If it rises |\n|---|---|---|---|---|\n";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_metrics_and_no_name_repeats() {
        let mut names = BTreeSet::new();
        for (index, definition) in TABLE.iter().enumerate() {
            assert_eq!(definition.metric as usize, index, "{}", definition.name);
            assert!(names.insert(definition.name), "{} repeats", definition.name);
            assert!(definition.name.starts_with("kmirror_"), "{}", definition.name);
            let is_total = definition.name.ends_with("_total");
            assert_eq!(is_total, matches!(definition.kind, Kind::Counter), "{}", definition.name);
            assert!(!definition.help.ends_with('.'), "{}", definition.name);
            assert!(!definition.rises.is_empty(), "{}", definition.name);
        }
    }

    #[test]
    fn the_text_carries_the_names_of_the_table() {
        let metrics = Metrics::new();
        metrics.counter(Metric::FetchBytes, ["orders", "3"]).inc_by(7);
        metrics.seconds(Metric::CommitLagSeconds, ["orders", "3"]).set(1.5);
        let text = metrics.text();
        let line = "kmirror_fetch_bytes_total{topic=\"orders\",partition=\"3\"} 7";
        assert!(text.contains(line), "{text}");
        let line = "kmirror_commit_lag_seconds{topic=\"orders\",partition=\"3\"} 1.5";
        assert!(text.contains(line), "{text}");
        metrics.forget_gauges(["orders", "3"]);
        assert!(!metrics.text().contains(line));
        assert!(metrics.text().contains("kmirror_fetch_bytes_total{"));
    }

    #[test]
    fn the_document_is_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/METRICS.md");
        if std::env::var_os("KMIRROR_BLESS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let document = std::fs::read_to_string(path).unwrap();
        assert!(
            document == markdown(),
            "docs/METRICS.md differs from the table: run this test with KMIRROR_BLESS=1"
        );
    }
}
