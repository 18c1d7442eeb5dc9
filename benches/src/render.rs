//! One report of everything that is kept in a directory: `report.md` and its charts, made from the
//! JSON files of the suites, whenever each of them was measured.

use std::{fs, path::Path};

use crate::{
    Error,
    chart::{Chart, Panel, Positions},
    mirrors::Mirror,
    report::{Measured, Report, median},
    run::Outcome,
    suite::Suite,
};

/// Reads the reports that are kept in `directory` and writes `report.md` and the charts there.
///
/// # Errors
/// When a report cannot be read or something cannot be written.
pub fn render(directory: &Path) -> Result<(), Error> {
    let mut reports = Vec::new();
    for suite in Suite::REPORTED {
        reports.extend(Report::kept(directory, suite)?);
    }
    let write = |name: &str, text: &str| {
        let path = directory.join(name);
        fs::write(&path, text).map_err(Error::file("write", &path))
    };
    for report in &reports {
        for (name, chart) in charts(report) {
            write(&name, &chart.svg())?;
        }
    }
    write("report.md", &markdown(&reports))
}

/// The reports for people.
#[must_use]
pub fn markdown(reports: &[Report]) -> String {
    let mut text = "# Mirrors side by side\n\nMB and GB are decimal and count the records' \
        values uncompressed; \"wire\" counts the batches as the source stores them; MiB are \
        binary. Rates are from the first record at the destination to the last; processor time \
        is that of the mirror's processes from their start. Figures are medians of the runs. \
        They mean something beside each other, in one table. `benches/README.md` says what each \
        column is.\n"
        .to_owned();
    for report in reports {
        text.push_str(&format!("\n## {}\n\n{}\n", report.suite.title(), report.conditions()));
        for (name, chart) in charts(report) {
            text.push_str(&format!("\n![{}]({name})\n", chart.title));
        }
        for measured in &report.cases {
            text.push('\n');
            text.push_str(&measured.markdown());
        }
    }
    text
}

/// The charts of a report, each with the name of its file.
#[must_use]
pub fn charts(report: &Report) -> Vec<(String, Chart)> {
    let mut titles: Vec<&str> = Vec::new();
    // Its loads are so small that they say whether copies are right, not how fast they are made.
    let cases = if report.suite == Suite::Ci { &[] } else { report.cases.as_slice() };
    for measured in cases {
        if !measured.outcomes.is_empty() && !titles.contains(&measured.place.chart.as_str()) {
            titles.push(&measured.place.chart);
        }
    }
    let named = |title: &&str| {
        let name = format!("{}-{}.svg", report.suite.name(), slug(title));
        (name, chart(report, title))
    };
    titles.iter().map(named).collect()
}

fn chart(report: &Report, title: &str) -> Chart {
    let cases: Vec<&Measured> =
        report.cases.iter().filter(|measured| measured.place.chart == title).collect();
    let mut mirrors: Vec<Mirror> =
        cases.iter().flat_map(|case| case.outcomes.iter().map(|one| one.mirror)).collect();
    mirrors.sort_unstable();
    mirrors.dedup();
    let panel = |title: &str, figure: fn(&Outcome) -> f64| Panel {
        title: title.to_owned(),
        values: cases.iter().map(|case| medians(case, &mirrors, figure)).collect(),
    };
    let xs: Option<Vec<f64>> = cases.iter().map(|case| case.place.x).collect();
    let (heading, positions) = match xs {
        Some(xs) => (format!("More {title}"), Positions::Axis(title.to_owned(), xs)),
        None => {
            let labels = cases.iter().map(|case| case.place.label.clone()).collect();
            (capital(title), Positions::Groups(labels))
        }
    };
    Chart {
        title: heading,
        subtitles: vec![report.machine.title(), report.versions()],
        series: mirrors.iter().map(|mirror| mirror.name()).collect(),
        positions,
        panels: vec![
            panel("MB/s of records, uncompressed: more is better", |one| one.megabytes_per_second),
            panel("CPU s/GB of the mirror: less is better", |one| one.cpu_per_gigabyte),
        ],
    }
}

/// The median of each mirror.
fn medians(case: &Measured, mirrors: &[Mirror], figure: fn(&Outcome) -> f64) -> Vec<Option<f64>> {
    let of = |mirror: &Mirror| {
        median(case.outcomes.iter().filter(|one| one.mirror == *mirror).map(figure))
    };
    mirrors.iter().map(of).collect()
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

/// Letters, digits and single hyphens.
fn slug(text: &str) -> String {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{machine::Machine, report::Failure, survey::Stored};

    fn report(suite: Suite) -> Report {
        let machine = Machine {
            processor: "A Processor".to_owned(),
            cores: 2,
            memory_mib: 1024,
            kernel: "6.1".to_owned(),
            java: "openjdk 17".to_owned(),
            commit: "abc".to_owned(),
        };
        let cases = suite.plan().into_iter().map(|planned| {
            let mut measured = Measured::new(&planned, Stored { records: 1, batches: 1, bytes: 1 });
            let outcomes = planned.mirrors.iter().zip(1_u8..);
            measured.outcomes = outcomes.map(|(mirror, rate)| outcome(*mirror, rate)).collect();
            measured
        });
        Report {
            suite,
            machine,
            source: "3.9.1".to_owned(),
            destination: "4.3.0".to_owned(),
            kmirror: "kmirror 1".to_owned(),
            peers: vec!["MirrorMaker 2".to_owned()],
            cases: cases.collect(),
        }
    }

    fn outcome(mirror: Mirror, rate: u8) -> Outcome {
        let rate = f64::from(rate) * 100.0;
        Outcome {
            mirror,
            first_record_seconds: 0.5,
            seconds: 1.0,
            records_per_second: rate * 1e3,
            megabytes_per_second: rate,
            wire_megabytes_per_second: rate,
            cpu_per_gigabyte: 1.5,
            cpu_per_gigabyte_moving: 1.5,
            peak_memory_mib: 64.0,
            source_cpu_per_gigabyte: None,
            destination_cpu_per_gigabyte: None,
            other_cores: None,
            surplus: 0,
        }
    }

    #[test]
    fn suites_measured_at_different_times_become_one_report() {
        let directory = tempfile::tempdir().expect("a directory");
        report(Suite::Growth).keep(directory.path()).expect("kept");
        report(Suite::Codecs).keep(directory.path()).expect("kept");
        fs::write(directory.path().join("other.json"), "{}").expect("written");
        render(directory.path()).expect("rendered");
        let text = fs::read_to_string(directory.path().join("report.md")).expect("a report");
        assert!(text.find("## Codecs").expect("a part") < text.find("## Growth").expect("a part"));
        for image in text.lines().filter_map(|line| line.strip_prefix("![")) {
            let (_, name) = image.trim_end_matches(')').split_once("](").expect("an image");
            let svg = fs::read_to_string(directory.path().join(name)).expect("a chart");
            assert!(svg.ends_with("</svg>\n"));
        }
        assert_eq!(text.matches("\n![").count(), 5);
    }

    #[test]
    fn a_kept_report_reads_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut report = report(Suite::Routing);
        let error = "it broke".to_owned();
        report.cases[0].failures.push(Failure { name: "mm1".to_owned(), round: 1, error });
        report.keep(directory.path()).expect("kept");
        let kept = Report::kept(directory.path(), Suite::Routing).expect("read").expect("kept");
        assert_eq!(markdown(&[kept]), markdown(&[report]));
        assert!(Report::kept(directory.path(), Suite::Ci).expect("looked").is_none());
    }

    #[test]
    fn a_suite_that_grows_is_drawn_as_lines() {
        let charts = charts(&report(Suite::Growth));
        let names: Vec<&str> = charts.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names[0], "growth-records.svg");
        assert!(charts.iter().all(|(_, chart)| matches!(chart.positions, Positions::Axis(..))));
    }

    #[test]
    fn what_is_too_small_to_be_timed_is_not_drawn() {
        assert!(charts(&report(Suite::Ci)).is_empty());
    }

    #[test]
    fn files_have_plain_names() {
        assert_eq!(slug("1 KiB records, batches of 16 KiB"), "1-kib-records-batches-of-16-kib");
    }
}
