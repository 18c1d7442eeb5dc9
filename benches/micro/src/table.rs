//! All figures, as text.

use std::fmt::Write as _;

use crate::Measured;

/// A line for each case.
pub(crate) fn of(measured: &[Measured]) -> String {
    let mut out = format!(
        "{:<32} {:>12} {:>10} {:>10} {:>7} {:>10} {:>8}\n",
        "case", "instructions", "per byte", "per record", "allocs", "alloc B", "GB/s"
    );
    for one in measured {
        let Measured { case, native, instructions } = one;
        let per = |count: usize| match instructions {
            Some(found) if count > 0 => format!("{:.3}", found.all() as f64 / count as f64),
            _ => "-".to_owned(),
        };
        let all = instructions.map_or("-".to_owned(), |found| found.all().to_string());
        let speed = case.bytes as f64 / native.time.as_nanos().max(1) as f64;
        let written = writeln!(
            out,
            "{:<32} {all:>12} {:>10} {:>10} {:>7} {:>10} {speed:>8.2}",
            case.name,
            per(case.bytes),
            per(case.records),
            native.allocated.allocations,
            native.allocated.bytes,
        );
        written.expect("invariant: writing to a string cannot fail");
    }
    out
}
