//! The one place that prints: results to standard output, progress to standard error.

use std::error::Error;
use std::path::PathBuf;

use xtask::workspace;

/// Prints a line of result.
#[expect(clippy::print_stdout, reason = "the one place that prints results")]
pub fn result(line: &str) {
    println!("{line}");
}

/// Prints what is being done.
pub fn progress(line: &str) {
    eprintln!("{line}");
}

/// Prints an error with all its causes, once each.
pub fn chain(error: &dyn Error) {
    eprintln!("error: {}", causes(error));
}

/// The same; gives the text as it can be published.
pub fn failure(error: &dyn Error) -> String {
    chain(error);
    without_paths(&causes(error))
}

fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!("\n  because: {error}"));
        cause = error.source();
    }
    text
}

/// `text` without the paths of this machine, so that it can be published.
#[must_use]
pub fn without_paths(text: &str) -> String {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let brokers = std::env::var_os("KMIRROR_BROKERS_DIR").map(PathBuf::from);
    let places = [
        (Some(workspace::target_directory()), "TARGET"),
        (Some(workspace::root()), "WORKSPACE"),
        (brokers, "BROKERS"),
        (Some(std::env::temp_dir()), "TEMPORARY"),
        (home, "HOME"),
    ];
    let mut text = text.to_owned();
    for (place, name) in places {
        let place = place.map(|path| path.display().to_string()).unwrap_or_default();
        if place.len() > 1 {
            text = text.replace(&place, name);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_this_machine_are_not_published() {
        let path = workspace::root().join("a").display().to_string();
        assert_eq!(without_paths(&format!("in {path}")), "in WORKSPACE/a");
        let path = std::env::temp_dir().join("b").display().to_string();
        assert_eq!(without_paths(&path), "TEMPORARY/b");
    }
}
