//! How far the mirror is: a line that renews itself on a terminal, a log line now and then
//! elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kmirror::status::Totals;
use kmirror_client::clock;

use crate::logging;

/// How often the line on a terminal is renewed.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// How often a log line is written where nobody watches.
const LOG_EVERY: Duration = Duration::from_secs(30);

/// Shows the sums that `read` gives, for ever; dropping the future ends the line.
pub(crate) async fn show(mut read: impl FnMut() -> Totals) {
    let shown = Shown::start();
    let every = if shown.bar.is_some() { LINE_EVERY } else { LOG_EVERY };
    let mut before = (clock::now(), read());
    loop {
        clock::sleep(every).await;
        let after = (clock::now(), read());
        let rates = Rates::between(&before.1, &after.1, after.0 - before.0);
        shown.update(&after.1, &rates);
        before = after;
    }
}

/// What happened per second.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rates {
    records: f64,
    megabytes: f64,
}

impl Rates {
    fn between(before: &Totals, after: &Totals, elapsed: Duration) -> Self {
        let seconds = elapsed.as_secs_f64().max(0.001);
        let per_second = |before: u64, after: u64| after.saturating_sub(before) as f64 / seconds;
        Self {
            records: per_second(before.records, after.records),
            megabytes: per_second(before.bytes, after.bytes) / 1e6,
        }
    }
}

struct Shown {
    bar: Option<ProgressBar>,
}

impl Shown {
    fn start() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                bar.set_style(style);
            }
            bar
        });
        logging::print_above(bar.clone());
        Self { bar }
    }

    fn update(&self, totals: &Totals, rates: &Rates) {
        match &self.bar {
            Some(bar) => {
                bar.set_message(line(totals, rates));
                bar.tick();
            }
            None => tracing::info!(
                records = totals.records,
                records_per_second = rates.records.round(),
                megabytes_per_second = rates.megabytes,
                lag_records = totals.lag_records,
                paths = paths(totals),
                "mirroring"
            ),
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        logging::print_above(None);
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn line(totals: &Totals, rates: &Rates) -> String {
    format!(
        "{} records  {:.0}/s  {:.1} MB/s  lag {}  {}",
        totals.records,
        rates.records,
        rates.megabytes,
        totals.lag_records,
        paths(totals)
    )
}

/// Which way batches took, `passthrough 98%, rebuild 2%`; the reasons of one way are added up.
pub(crate) fn paths(totals: &Totals) -> String {
    let mut sums: Vec<(&str, u64)> = Vec::new();
    for made in &totals.paths {
        match sums.iter_mut().find(|(path, _)| *path == made.path) {
            Some((_, sum)) => *sum += made.batches,
            None => sums.push((made.path, made.batches)),
        }
    }
    let all: u64 = sums.iter().map(|(_, sum)| sum).sum();
    let share = |(path, sum): &(&str, u64)| format!("{path} {}%", sum * 100 / all.max(1));
    sums.iter().map(share).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_per_second() {
        let before = Totals::default();
        let mut after = Totals::default();
        (after.records, after.bytes) = (3_000, 6_000_000);
        let rates = Rates::between(&before, &after, Duration::from_secs(2));
        assert_eq!(rates, Rates { records: 1_500.0, megabytes: 3.0 });
        assert_eq!(line(&after, &rates), "3000 records  1500/s  3.0 MB/s  lag 0  ");
    }
}
