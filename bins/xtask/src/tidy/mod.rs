//! The house rules that the compiler does not know: sizes, words, headings, and which crate may
//! depend on which. Clippy already holds functions to 70 lines and 5 arguments.
//!
//! The rules are pure functions of text; this file finds the text.

mod code;
mod graph;
mod rules;
mod wrap;

use std::{path::Path, process::Command};

/// A rule that is broken somewhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file, relative to the root of the workspace; a crate for the rules of the graph.
    pub place: String,
    /// The line, from 1; 0 where the whole file is meant.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => write!(formatter, "{}: {}", self.place, self.message),
            line => write!(formatter, "{}:{line}: {}", self.place, self.message),
        }
    }
}

/// What the check found.
#[derive(Debug, Default)]
pub struct Report {
    /// Broken rules.
    pub findings: Vec<Finding>,
    /// Worth knowing, and no reason to fail: crates present in several versions.
    pub notes: Vec<String>,
}

/// Why the check itself could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program could not be run.
    #[error("run {program}")]
    Run {
        /// The program.
        program: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A program ended with an error.
    #[error("{program} ended with an error: {output}")]
    Failed {
        /// The program.
        program: String,
        /// What it printed.
        output: String,
    },
    /// A file that git knows could not be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("write {path}")]
    Write {
        /// The file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// Cargo described the workspace in a way this tool does not know.
    #[error("cargo metadata is not as expected")]
    Metadata {
        /// Why not.
        source: serde_json::Error,
    },
}

/// Checks the whole workspace at `root`.
///
/// # Errors
/// When git or cargo cannot be run, or a file cannot be read.
pub fn check(root: &Path) -> Result<Report, Error> {
    let mut report = Report::default();
    for path in tracked_files(root)? {
        let bytes = match std::fs::read(root.join(&path)) {
            Ok(bytes) => bytes,
            // Deleted in the work tree, and not yet in the index.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(source) => return Err(Error::Read { path, source }),
        };
        if let Ok(text) = String::from_utf8(bytes) {
            report.findings.extend(rules::check_file(&path, &text));
        }
    }
    graph::check(root, &mut report)?;
    report.findings.sort();
    Ok(report)
}

/// Wraps the comments that are too wide; the paths of the files that changed.
///
/// # Errors
/// When git cannot be run, or a file cannot be read or written.
pub fn wrap_comments(root: &Path) -> Result<Vec<String>, Error> {
    let mut changed = Vec::new();
    for path in tracked_files(root)?.into_iter().filter(|path| path.ends_with(".rs")) {
        let Ok(text) = std::fs::read_to_string(root.join(&path)) else { continue };
        let wrapped = wrap::wrap_comments(&text);
        if wrapped != text {
            let written = std::fs::write(root.join(&path), wrapped);
            written.map_err(|source| Error::Write { path: path.clone(), source })?;
            changed.push(path);
        }
    }
    Ok(changed)
}

fn tracked_files(root: &Path) -> Result<Vec<String>, Error> {
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(root);
    Ok(output(git)?.lines().map(str::to_owned).collect())
}

/// What `command` prints, if it succeeds.
fn output(mut command: Command) -> Result<String, Error> {
    let program = command.get_program().display().to_string();
    let output =
        command.output().map_err(|source| Error::Run { program: program.clone(), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let output = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Error::Failed { program, output })
}
