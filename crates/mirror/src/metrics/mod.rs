//! What the mirror counts. [`table::TABLE`] is the only list of metrics: it registers them here and
//! prints `docs/METRICS.md` through [`markdown`]. Handles are resolved when a partition begins;
//! counting is one atomic addition.

mod table;

use std::collections::{BTreeMap, BTreeSet};
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
    /// The series of each topic, by their metric and labels.
    by_topic: Mutex<BTreeMap<String, BTreeSet<(usize, Labels)>>>,
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
        Metrics { registry: Mutex::new(registry), families, by_topic: Mutex::default() }
    }

    /// The counter of `metric` for these label values, in the table's order.
    ///
    /// # Panics
    /// When the table says that `metric` is no counter: a bug of ours.
    pub fn counter<const N: usize>(&self, metric: Metric, values: [&str; N]) -> Counter {
        match &self.families[metric as usize] {
            Families::Counter(family) => family.get_or_create_owned(&self.labels(metric, values)),
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
            Families::Gauge(family) => family.get_or_create_owned(&self.labels(metric, values)),
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
            Families::Seconds(family) => family.get_or_create_owned(&self.labels(metric, values)),
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

    /// Removes every series of the topics that are not wanted any more.
    pub fn retain_topics(&self, is_wanted: impl Fn(&str) -> bool) {
        let mut by_topic = self.by_topic.lock().unwrap_or_else(PoisonError::into_inner);
        by_topic.retain(|topic, series| {
            let is_wanted = is_wanted(topic);
            for (metric, labels) in series.iter().filter(|_| !is_wanted) {
                match &self.families[*metric] {
                    Families::Counter(family) => drop(family.remove(labels)),
                    Families::Gauge(family) => drop(family.remove(labels)),
                    Families::Seconds(family) => drop(family.remove(labels)),
                }
            }
            is_wanted
        });
    }

    /// The labels of a series, which is remembered if it is a topic's.
    fn labels<const N: usize>(&self, metric: Metric, values: [&str; N]) -> Labels {
        let definition = &TABLE[metric as usize];
        assert_eq!(definition.labels.len(), N, "invariant: {metric:?} is given its labels");
        let labels = pair(definition, values);
        if let Some(("topic", topic)) = labels.first().map(|(label, value)| (*label, value)) {
            let mut by_topic = self.by_topic.lock().unwrap_or_else(PoisonError::into_inner);
            let series = by_topic.entry(topic.clone()).or_default();
            series.insert((metric as usize, labels.clone()));
        }
        labels
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
    use std::path::{Path, PathBuf};

    use super::*;

    /// The sources of a folder and those in it.
    fn sources(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let below = |path: PathBuf| if path.is_dir() { sources(&path) } else { vec![path] };
        entries.flat_map(below).collect()
    }

    #[test]
    fn every_metric_of_the_table_is_counted_somewhere() {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
        let files =
            sources(folder).into_iter().filter(|path| !path.starts_with(folder.join("metrics")));
        let text: String = files.map(|path| std::fs::read_to_string(path).unwrap()).collect();
        for definition in TABLE {
            let used = format!("Metric::{:?}", definition.metric);
            let is_whole = |rest: &str| !rest.starts_with(|next: char| next.is_alphanumeric());
            assert!(text.split(&used).skip(1).any(is_whole), "nobody counts {}", definition.name);
        }
    }

    #[test]
    fn the_series_of_topics_that_are_gone_go_with_them() {
        let metrics = Metrics::new();
        for topic in ["orders", "payments"] {
            metrics.counter(Metric::FetchBytes, [topic, "0"]).inc();
            metrics.counter(Metric::RouteBatches, [topic, "split", "limit"]).inc();
            metrics.gauge(Metric::CommitLagRecords, [topic, "0"]).set(1);
        }
        metrics.counter(Metric::ProduceErrors, ["rejected"]).inc();
        metrics.retain_topics(|topic| topic == "orders");
        let text = metrics.text();
        assert_eq!(text.matches("topic=\"orders\"").count(), 3, "{text}");
        assert!(!text.contains("payments"), "{text}");
        assert!(text.contains("kmirror_produce_errors_total{kind=\"rejected\"} 1"), "{text}");
    }

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
