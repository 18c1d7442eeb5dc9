//! The one place that prints: results to standard output, everything else to standard error.

use std::error::Error;

/// Prints a line of result.
#[expect(clippy::print_stdout, reason = "the one place that prints results")]
pub(crate) fn result(line: &str) {
    println!("{line}");
}

/// Prints an error with all its causes, once each.
pub(crate) fn chain(error: &dyn Error) {
    eprintln!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because: {error}");
        cause = error.source();
    }
}
