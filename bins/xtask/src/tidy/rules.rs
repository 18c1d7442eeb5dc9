//! The rules for one file. Pure.

use super::{Finding, code};

const FILE_LINES_MAX: usize = 600;
pub(super) const LINE_WIDTH_MAX: usize = 100;

/// Checks the file at `path` (relative, with `/`) whose text is `text`.
pub(super) fn check_file(path: &str, text: &str) -> Vec<Finding> {
    let mut check = Check { path, findings: Vec::new() };
    check.words_of_any_file(text);
    if path.ends_with(".rs") {
        check.heading(text);
        check.size(text);
        check.names(text);
    }
    if path.ends_with("Cargo.toml") && path != "Cargo.toml" {
        check.manifest(text);
    }
    check.findings
}

struct Check<'a> {
    path: &'a str,
    findings: Vec<Finding>,
}

impl Check<'_> {
    fn found(&mut self, line: usize, message: String) {
        self.findings.push(Finding { place: self.path.to_owned(), line, message });
    }

    fn heading(&mut self, text: &str) {
        // A crate may open with its README instead.
        if !text.starts_with("//!") && !text.starts_with("#![doc = include_str!") {
            self.found(1, "does not open with `//!` saying what the file is".to_owned());
        }
    }

    fn size(&mut self, text: &str) {
        for (number, line) in numbered(text) {
            let width = line.chars().count();
            if width > LINE_WIDTH_MAX && !cannot_be_wrapped(line) {
                self.found(number, format!("{width} characters, more than {LINE_WIDTH_MAX}"));
            }
        }
        let lines = text.lines().take_while(|line| !line.starts_with("mod tests {")).count();
        if lines > FILE_LINES_MAX && !is_test_file(self.path) {
            let message = format!("{lines} lines without tests, more than {FILE_LINES_MAX}");
            self.found(0, message);
        }
    }

    fn words_of_any_file(&mut self, text: &str) {
        for (number, line) in numbered(text) {
            for word in unfinished_words() {
                if has_word(line, &word) {
                    self.found(number, format!("{word}: finish it, or open an issue"));
                }
            }
            for path in machine_paths() {
                if line.contains(&path) {
                    self.found(number, format!("{path} is a path of one machine"));
                }
            }
        }
    }

    fn names(&mut self, text: &str) {
        let code = code::names_only(text);
        for (number, line) in numbered(&code) {
            let is_name = |character: char| character.is_alphanumeric() || character == '_';
            for name in line.split(|character| !is_name(character)) {
                if let Some(message) = refused(name) {
                    self.found(number, format!("`{name}`: {message}"));
                }
            }
            if loses_causes(line) {
                let message = "an error is logged as `error = %Chain(&error)`, with its causes";
                self.found(number, message.to_owned());
            }
        }
    }

    /// Every dependency is named once, in the workspace.
    fn manifest(&mut self, text: &str) {
        let mut in_dependencies = false;
        for (number, line) in numbered(text) {
            if line.starts_with('[') {
                in_dependencies = line.contains("dependencies");
            } else if in_dependencies
                && line.contains('=')
                && !line.trim_start().starts_with('#')
                && !line.contains("workspace = true")
                && !line.contains("path = ")
            {
                let message = "dependencies are named in [workspace.dependencies]";
                self.found(number, message.to_owned());
            }
        }
        if !text.contains("[lints]\nworkspace = true") {
            self.found(0, "does not take the lints of the workspace".to_owned());
        }
    }
}

/// Why `name` may not be used, if so. The two ends are `source` and `destination`, in whole words.
fn refused(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase();
    if name == "unbounded" || name.starts_with("unbounded_") {
        return Some("every queue names its bound");
    }
    let ends = ["upstream", "downstream"];
    if ends.iter().any(|end| name.contains(end)) || name.split('_').any(|part| part == "dst") {
        return Some("the two ends are `source` and `destination`");
    }
    None
}

/// Whether a log line shows an error by its own text alone, which does not say why.
fn loses_causes(line: &str) -> bool {
    let mut values = line.split("error = %").skip(1);
    line.contains("%error") || values.any(|value| !value.starts_with("Chain("))
}

/// A row of a table, or an address, in a comment.
fn cannot_be_wrapped(line: &str) -> bool {
    let comment = line.trim_start().strip_prefix("//");
    comment.is_some_and(|text| {
        let text = text.trim_start_matches(['/', '!']).trim_start();
        text.starts_with('|') || text.contains("://")
    })
}

fn is_test_file(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("tests.rs")
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let is_name = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !is_name(before) && !is_name(after)
    })
}

// Written in two halves, so that this file does not break its own rules.
fn unfinished_words() -> [String; 2] {
    ["TO", "FIX"].map(|half| format!("{half}{}", if half == "TO" { "DO" } else { "ME" }))
}

fn machine_paths() -> [String; 2] {
    ["work", "root"].map(|name| format!("/{name}/"))
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(path: &str, text: &str) -> Vec<String> {
        check_file(path, text).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_tidy_file_has_no_finding() {
        let text = "//! What it is.\n\n/// From upstream.\nfn source() {}\n";
        assert_eq!(messages("crates/x/src/a.rs", text), Vec::<String>::new());
    }

    #[test]
    fn a_file_without_a_heading_is_found() {
        assert_eq!(messages("a.rs", "fn f() {}\n").len(), 1);
    }

    #[test]
    fn sizes_are_limited_outside_tests() {
        let long = format!("//! x\n{}", "fn f() {}\n".repeat(FILE_LINES_MAX));
        assert_eq!(messages("src/a.rs", &long).len(), 1);
        assert!(messages("crates/x/tests/a.rs", &long).is_empty());
        let tested = format!("//! x\nmod tests {{\n{}}}\n", "fn f() {}\n".repeat(FILE_LINES_MAX));
        assert!(messages("src/a.rs", &tested).is_empty());
        let wide = "x".repeat(LINE_WIDTH_MAX);
        assert_eq!(messages("src/a.rs", &format!("//! {wide}\n")).len(), 1);
        assert!(messages("src/a.rs", &format!("//! | {wide} |\n")).is_empty());
    }

    #[test]
    fn names_of_the_ends_and_of_queues_are_held() {
        let code = |line: &str| messages("a.rs", &format!("//! x\n{line}\n")).len();
        assert_eq!(code("let upstream_offset = 1;"), 1);
        assert_eq!(code("struct DownstreamBroker;"), 1);
        assert_eq!(code("fn copy(dst: &mut [u8])"), 1);
        assert_eq!(code("let (a, b) = unbounded_channel();"), 1);
        assert_eq!(code("let field = \"upstreamOffset\"; // MirrorMaker's name"), 0);
        assert_eq!(code("let dstr = 1;"), 0);
    }

    #[test]
    fn an_error_is_logged_with_its_causes() {
        let code = |line: &str| messages("a.rs", &format!("//! x\n{line}\n")).len();
        assert_eq!(code("tracing::debug!(%error, \"not reached\");"), 1);
        assert_eq!(code("tracing::debug!(broker, error = %error, \"not reached\");"), 1);
        assert_eq!(code("tracing::debug!(error = %halt, \"not reached\");"), 1);
        assert_eq!(code("tracing::debug!(error = %Chain(&error), \"not reached\");"), 0);
        assert_eq!(code("let text = \"by %error\";"), 0);
    }

    #[test]
    fn unfinished_work_and_machine_paths_are_found_in_every_file() {
        let [to_do, fix_me] = unfinished_words();
        assert_eq!(messages("docs/a.md", &format!("{to_do}: later\n")).len(), 1);
        assert_eq!(messages("a.sh", &format!("# {fix_me}\n")).len(), 1);
        assert_eq!(messages("a.sh", &format!("cd {}x\n", machine_paths()[0])).len(), 1);
        assert!(messages("docs/a.md", "a mastodon\n").is_empty());
    }

    #[test]
    fn a_member_takes_its_dependencies_from_the_workspace() {
        let good = "[lints]\nworkspace = true\n[dependencies]\nbytes.workspace = true\n";
        assert!(messages("x/Cargo.toml", good).is_empty());
        let bad = "[lints]\nworkspace = true\n[dependencies]\nbytes = \"1\"\n";
        assert_eq!(messages("x/Cargo.toml", bad).len(), 1);
        assert_eq!(messages("x/Cargo.toml", "[package]\nname = \"x\"\n").len(), 1);
    }
}
