//! The documentation of every option, printed from the tables that give the options their effect:
//! `docs/CONFIGURATION.md`, and the same as plain text.

use std::fmt::Write;

use clap::{Arg, Command, CommandFactory};
use kmirror_client::config::keys::{Handling, Key, Role};

use crate::cli::Cli;
use crate::exit::Code;
use crate::plan::options::SECTIONS;

/// `docs/CONFIGURATION.md`.
pub(crate) fn markdown() -> String {
    let mut text = String::from(INTRODUCTION);
    sections(&mut text);
    text.push_str(PROPERTIES);
    properties(&mut text, "Kafka properties of both ends", &Role::Admin.keys().collect::<Vec<_>>());
    properties(&mut text, "Kafka properties of the source (consumer)", &own(Role::Consumer));
    properties(&mut text, "Kafka properties of the destination (producer)", &own(Role::Producer));
    commands(&mut text);
    text.push_str("\n## Exit codes\n\n| Code | Meaning |\n|---|---|\n");
    for code in Code::ALL {
        let _ = writeln!(text, "| {} | {} |", code.number(), code.meaning());
    }
    text
}

/// Every option of kmirror's own file and every property that is honoured, for a terminal.
pub(crate) fn text() -> String {
    let mut text = String::new();
    for section in SECTIONS {
        let head = if section.head.is_empty() { "(top of the file)" } else { section.head };
        let _ = writeln!(text, "{head}");
        for option in section.options {
            let _ =
                writeln!(text, "  {} = {}", option.name, shown(option.default, option.required));
            let _ = writeln!(text, "      {}  ({})", option.doc, option.kind);
        }
        text.push('\n');
    }
    let roles = [
        ("both ends", Role::Admin),
        ("the source", Role::Consumer),
        ("the destination", Role::Producer),
    ];
    for (end, role) in roles {
        let _ = writeln!(text, "Kafka properties of {end} that are honoured");
        let keys = if role == Role::Admin { role.keys().collect() } else { own(role) };
        for key in keys.iter().filter(|key| key.handling == Handling::Honoured) {
            let _ = writeln!(text, "  {} = {}", key.name, shown(key.default, false));
            let _ = writeln!(text, "      {}  ({})", key.doc, kind(key));
        }
        text.push('\n');
    }
    text.push_str("All others, and what is done with them: kmirror config --markdown\n");
    text
}

const INTRODUCTION: &str = "\
# Configuration

Printed by the program (`kmirror config --markdown`) from the tables that parse and check the
options; a test keeps this file true. `kmirror config --check FILE` checks a file without running
anything.

kmirror is configured in one of two ways:

- `kmirror run FILE`: a file of its own, in TOML, with any number of flows;
- `kmirror mirror-maker`: the flags and the two properties files of `kafka.tools.MirrorMaker`.

Times are whole numbers with `ms`, `s`, `m`, `h` or `d`. Sizes are whole numbers, alone for bytes
or with `kB`, `KiB`, `MB`, `MiB`, `GB` or `GiB`.

## The file of `kmirror run`

```toml
[clusters.west]
bootstrap = [\"wn0-west:9092\", \"wn1-west:9092\"]

[clusters.east]
bootstrap = \"wn0-east:9092\"
[clusters.east.properties]
request.timeout.ms = 60000

[[flows]]
source = \"west\"
destination = \"east\"
topics = [\"orders.*\", \"payments\"]
streams = 4
```

An option that is not known, or a value of the wrong kind, is an error that names the line.
";

const PROPERTIES: &str = "
## Kafka's own properties

They stand in the two files of `kmirror mirror-maker`, and in the tables `properties`, `consumer`
and `producer` of `kmirror run`. What a file sets is kept. A property that is not in these tables is
reported with its line and the nearest name; none is dropped silently. A number beyond the bounds
that stand here counts as the nearest within them, and is noted.
";

fn shown(default: &str, required: bool) -> &str {
    match (default, required) {
        (_, true) => "(required)",
        ("", false) => "(unset)",
        _ => default,
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn code(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{}`", cell(text)) }
}

fn sections(text: &mut String) {
    for section in SECTIONS {
        let head = if section.head.is_empty() { "Top of the file" } else { section.head };
        let _ = write!(text, "\n### `{head}`\n\n{}\n\n", section.doc);
        text.push_str("| Option | Value | Default | Meaning |\n|---|---|---|---|\n");
        for option in section.options {
            let default =
                if option.required { "required".to_owned() } else { code(option.default) };
            let kind = cell(&option.kind.to_string());
            let doc = cell(option.doc);
            let _ = writeln!(text, "| `{}` | {kind} | {default} | {doc} |", option.name);
        }
    }
}

/// What a property's value must look like, and within which bounds it counts.
fn kind(key: &Key) -> String {
    match key.bounds {
        Some((least, most)) => format!("{}, {least} to {most}", key.kind),
        None => key.kind.to_string(),
    }
}

fn own(role: Role) -> Vec<&'static Key> {
    role.keys().filter(|key| Role::Admin.key(key.name).is_none()).collect()
}

fn properties(text: &mut String, title: &str, keys: &[&Key]) {
    let _ = write!(text, "\n### {title}\n\n");
    text.push_str("| Property | Value | Default | Meaning |\n|---|---|---|---|\n");
    for key in keys.iter().filter(|key| key.handling == Handling::Honoured) {
        let (kind, default) = (cell(&kind(key)), code(key.default));
        let _ = writeln!(text, "| `{}` | {kind} | {default} | {} |", key.name, cell(key.doc));
    }
    text.push_str("\n| Not honoured | What happens | Why, or what to do |\n|---|---|---|\n");
    for key in keys {
        let (outcome, reason) = match key.handling {
            Handling::Honoured => continue,
            Handling::Ignored { unless: [], reason } => ("ignored, noted".to_owned(), reason),
            Handling::Ignored { unless, reason } => {
                (format!("ignored with a warning, except {}", words(unless)), reason)
            }
            Handling::Refused { unless: [] | [""], instead } => ("refused".to_owned(), instead),
            Handling::Refused { unless, instead } => {
                (format!("refused, except {}", words(unless)), instead)
            }
            Handling::Renamed { to } => {
                let _ = writeln!(text, "| `{}` | read as `{to}` | its old name |", key.name);
                continue;
            }
        };
        let _ = writeln!(text, "| `{}` | {outcome} | {} |", key.name, cell(reason));
    }
}

fn words(words: &[&str]) -> String {
    words
        .iter()
        .filter(|word| !word.is_empty())
        .map(|word| code(word))
        .collect::<Vec<_>>()
        .join(", ")
}

fn commands(text: &mut String) {
    text.push_str("\n## Flags\n");
    let mut root = Cli::command();
    root.build();
    arguments(text, "kmirror (every subcommand)", &root, true);
    for command in root.get_subcommands().filter(|command| command.get_name() != "help") {
        if command.has_subcommands() {
            for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
                let title = format!("kmirror {} {}", command.get_name(), inner.get_name());
                arguments(text, &title, inner, false);
            }
        } else {
            arguments(text, &format!("kmirror {}", command.get_name()), command, false);
        }
    }
}

fn arguments(text: &mut String, title: &str, command: &Command, global: bool) {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let _ = write!(text, "\n### `{title}`\n\n{about}.\n\n");
    let hidden = |argument: &&Arg| {
        argument.is_hide_set()
            || ["help", "version"].contains(&argument.get_id().as_str())
            || argument.is_global_set() != global
    };
    let shown: Vec<_> = command.get_arguments().filter(|argument| !hidden(argument)).collect();
    if shown.is_empty() {
        text.push_str("No flags.\n");
        return;
    }
    text.push_str("| Flag | Default | Meaning |\n|---|---|---|\n");
    for argument in shown {
        let values: Vec<_> = argument
            .get_value_names()
            .unwrap_or_default()
            .iter()
            .map(|name| name.to_string())
            .collect();
        let takes_value = argument.get_action().takes_values();
        let value = if takes_value { format!(" {}", values.join(" ")) } else { String::new() };
        let flag = match argument.get_long() {
            Some(long) => format!("--{long}{value}"),
            None => value.trim().to_owned(),
        };
        let defaults: Vec<_> =
            argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        let default = if takes_value { code(&defaults.join(",")) } else { String::new() };
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(text, "| `{}` | {default} | {} |", cell(&flag), cell(&help));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_and_every_property_is_documented() {
        let markdown = markdown();
        for option in SECTIONS.iter().flat_map(|section| section.options) {
            assert!(markdown.contains(&format!("| `{}` |", option.name)), "{}", option.name);
        }
        for key in Role::Consumer.keys().chain(Role::Producer.keys()) {
            assert!(markdown.contains(&format!("| `{}` |", key.name)), "{}", key.name);
        }
        assert!(markdown.contains("--consumer.config FILE"));
    }

    #[test]
    fn the_file_in_the_introduction_is_a_good_one() {
        let (_, rest) = INTRODUCTION.split_once("```toml\n").unwrap();
        let (example, _) = rest.split_once("```").unwrap();
        let plan = crate::plan::native::resolve_document(crate::plan::document::read("x", example));
        assert_eq!(plan.findings, []);
        assert_eq!(plan.flows.len(), 1);
    }
}
