//! The names kmirror can be called by. As `kafka.tools.MirrorMaker` or `kafka-mirror-maker.sh`, by
//! a link or as its first argument, it takes that tool's flags.

use std::ffi::OsString;
use std::path::Path;

/// The class that Kafka's launcher was given.
const CLASS: &str = "kafka.tools.MirrorMaker";

/// Names of a link to this binary that mean [`CLASS`].
const LINKS: [&str; 3] = [CLASS, "kafka-mirror-maker.sh", "kafka-mirror-maker"];

/// Puts the subcommand where an old invocation implies it.
pub(crate) fn normalise(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let name = arguments.first().and_then(|first| Path::new(first).file_name());
    if LINKS.iter().any(|link| name == Some((*link).as_ref())) {
        arguments.insert(1, SUBCOMMAND.into());
    } else if arguments.get(1).is_some_and(|first| first == CLASS) {
        arguments[1] = SUBCOMMAND.into();
    }
    arguments
}

const SUBCOMMAND: &str = "mirror-maker";

#[cfg(test)]
mod tests {
    use super::*;

    fn normalised(arguments: &[&str]) -> Vec<OsString> {
        normalise(arguments.iter().map(OsString::from).collect())
    }

    #[test]
    fn the_launchers_class_is_the_subcommand() {
        let expected = ["kmirror", "mirror-maker", "--num.streams", "4"];
        let typed = ["kmirror", "kafka.tools.MirrorMaker", "--num.streams", "4"];
        assert_eq!(normalised(&typed), expected);
    }

    #[test]
    fn a_link_with_the_tools_name_is_the_subcommand() {
        let typed = ["/opt/bin/kafka-mirror-maker.sh", "--help"];
        assert_eq!(normalised(&typed)[1..], ["mirror-maker", "--help"]);
    }

    #[test]
    fn anything_else_is_left_alone() {
        assert_eq!(normalised(&["kmirror", "topics"]), ["kmirror", "topics"]);
        assert_eq!(normalised(&["kmirror"]), ["kmirror"]);
        assert!(normalised(&[]).is_empty());
    }
}
