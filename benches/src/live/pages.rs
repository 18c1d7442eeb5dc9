//! Reports as Markdown for people and as JSON for programs.

use std::{fs, path::Path};

use serde::Serialize;

use super::stand::Stand;
use crate::{Error, machine::Machine, mirrors::Mirror, report::line, say};

/// What figures mean nothing without.
#[derive(Debug, Serialize)]
pub(super) struct Head {
    machine: Machine,
    source: String,
    destination: String,
    kmirror: String,
    peers: Vec<String>,
}

impl Head {
    pub(super) fn of(stand: &Stand, mirrors: &[Mirror]) -> Self {
        Self {
            machine: Machine::look(),
            source: stand.source.version.clone(),
            destination: stand.destination.version.clone(),
            kmirror: stand.version(),
            peers: stand.peers(mirrors),
        }
    }

    #[cfg(test)]
    pub(super) fn unknown() -> Self {
        let text = String::new;
        let (source, destination, kmirror) = (text(), text(), text());
        Self { machine: Machine::look(), source, destination, kmirror, peers: Vec::new() }
    }

    /// The beginning of a page.
    pub(super) fn markdown(&self, title: &str) -> String {
        let Self { machine, source, destination, kmirror, peers } = self;
        format!(
            "# {title}\n\n{}\n\nSource: Kafka {source}. Destination: Kafka {destination}. \
             {kmirror} (commit {}); {}.\n",
            machine.title(),
            machine.commit,
            peers.join("; ")
        )
    }
}

/// What could not be measured.
#[derive(Debug, Serialize)]
pub(super) struct Failure {
    /// What, and in which round.
    pub(super) name: String,
    /// Why not, with all causes.
    pub(super) error: String,
}

impl Failure {
    /// Says it at once, too.
    pub(super) fn new(name: String, error: &Error) -> Self {
        Self { name, error: say::failure(error) }
    }
}

/// The end of a page.
pub(super) fn failures(failures: &[Failure]) -> String {
    let mut text = String::new();
    for Failure { name, error } in failures {
        let error = error.trim_end();
        line(&mut text, format_args!("\nNot measured: {name}:\n\n```\n{error}\n```"));
    }
    text
}

/// A table of that first line; every row has as many cells.
pub(super) fn table(columns: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = String::new();
    line(&mut text, format_args!("| {} |", columns.join(" | ")));
    line(&mut text, format_args!("|{}", "---|".repeat(columns.len())));
    for row in rows {
        line(&mut text, format_args!("| {} |", row.join(" | ")));
    }
    text
}

/// Writes `NAME.md` and `NAME.json` into `directory`.
///
/// # Errors
/// When that cannot be written.
pub(super) fn write(
    directory: &Path,
    name: &str,
    (markdown, report): (&str, &impl Serialize),
) -> Result<(), Error> {
    fs::create_dir_all(directory).map_err(Error::file("create", directory))?;
    let json = serde_json::to_string_pretty(report).expect("invariant: a report is plain data");
    for (kind, text) in [("md", markdown), ("json", &json)] {
        let path = directory.join(format!("{name}.{kind}"));
        fs::write(&path, text).map_err(Error::file("write", &path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_line_for_each_row() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["b".to_owned(), "2".to_owned()]];
        let text = table(&["", "count"], &rows);
        assert_eq!(text, "|  | count |\n|---|---|\n| a | 1 |\n| b | 2 |\n");
    }

    #[test]
    fn what_went_wrong_is_said_with_its_causes() {
        let source = std::io::Error::other("no room");
        let error = Error::Run { program: "java".to_owned(), source };
        let text = failures(&[Failure::new("mm2 in round 2".to_owned(), &error)]);
        assert!(text.contains("mm2 in round 2:\n\n```\nrun java\n  because: no room\n```"));
    }
}
