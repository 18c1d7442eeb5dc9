//! Instructions of a turn: each case runs in a process of its own under callgrind, which counts
//! between the beginning and the end of one function.
//!
//! Always true: the process has an environment of its own, so that the caller's does not matter;
//! and the C library is told to choose its ways by fixed sizes, and not by the size of a cache.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::Measured;

/// The function between whose beginning and end is counted, in any mangling.
const COUNTED_FUNCTION: &str = "--toggle-collect=*measured_turn*";

/// Beyond these sizes the C library copies in other ways; by default they depend on the caches.
const TUNABLES: &str =
    "glibc.cpu.x86_non_temporal_threshold=0x4000000:glibc.cpu.x86_rep_movsb_threshold=0x4000000";

/// Why instructions could not be counted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("run valgrind; without it, --no-instructions measures the rest")]
    Run { source: std::io::Error },
    #[error("valgrind on {name} ended with {status}: {output}")]
    Ended { name: String, status: String, output: String },
    #[error("find the counts of {name}")]
    Read { name: String, source: std::io::Error },
    #[error("the counts of {name} are empty")]
    Empty { name: String },
}

/// Instructions of one turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Instructions {
    /// Of this program, with all its crates.
    pub(crate) program: u64,
    /// Of the C library: copies and allocations.
    pub(crate) libc: u64,
}

impl Instructions {
    /// Both.
    pub(crate) fn all(self) -> u64 {
        self.program + self.libc
    }
}

/// Counts for every case; as many at a time as there are processors.
pub(crate) fn count(measured: &mut [Measured]) -> Result<(), Error> {
    let names: Vec<&str> = measured.iter().map(|one| one.case.name.as_str()).collect();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let counted = count_one(name);
                    let mut results = results.lock().expect("invariant: nobody panics with it");
                    results.push(((*name).to_owned(), counted));
                }
            });
        }
    });
    for (name, counted) in results.into_inner().expect("invariant: nobody panics with it") {
        let counted = counted?;
        let of_name = measured.iter_mut().find(|one| one.case.name == name);
        of_name.expect("invariant: it was asked for").instructions = Some(counted);
    }
    Ok(())
}

fn count_one(name: &str) -> Result<Instructions, Error> {
    let own = std::env::current_exe().map_err(|source| Error::Run { source })?;
    let directory = own.parent().unwrap_or(Path::new("."));
    let file = format!("callgrind.{}.{}", std::process::id(), name.replace('/', "-"));
    let file = directory.join(file);
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--collect-atstart=no", COUNTED_FUNCTION]);
    valgrind.args(["--dump-line=no", "--quiet"]);
    valgrind.arg(format!("--callgrind-out-file={}", file.display()));
    valgrind.arg(&own).args(["turn", name]);
    let path = std::env::var_os("PATH").unwrap_or_default();
    valgrind.env_clear().env("PATH", path).env("GLIBC_TUNABLES", TUNABLES);
    let output = valgrind.stdin(Stdio::null()).output().map_err(|source| Error::Run { source })?;
    let counts = std::fs::read_to_string(&file);
    let _ = std::fs::remove_file(&file);
    if !output.status.success() {
        let status = output.status.to_string();
        let output = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Error::Ended { name: name.to_owned(), status, output });
    }
    let counts = counts.map_err(|source| Error::Read { name: name.to_owned(), source })?;
    let own = own.file_name().unwrap_or_default().to_string_lossy();
    let counted = parse(&counts, &own);
    if counted.program == 0 {
        return Err(Error::Empty { name: name.to_owned() });
    }
    Ok(counted)
}

/// Adds up what callgrind wrote: lines of a place and a count, each belonging to the object (`ob=`)
/// named last. The line after `calls=` repeats what was counted in the callee.
fn parse(text: &str, own: &str) -> Instructions {
    let mut objects: Vec<(&str, bool)> = Vec::new();
    let mut is_own = false;
    let mut is_call = false;
    let mut counted = Instructions::default();
    for line in text.lines() {
        if let Some((_, object)) = line.split_once("ob=").filter(|(word, _)| word.len() <= 1) {
            let (number, name) = object.split_once(')').unwrap_or((object, ""));
            if !name.is_empty() {
                objects.push((number, name.ends_with(own)));
            }
            if line.starts_with("ob=") {
                is_own = objects.iter().any(|(known, own)| *known == number && *own);
            }
        } else if line.starts_with("calls=") {
            is_call = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            let count = line.split(' ').nth(1).and_then(|count| count.parse::<u64>().ok());
            match (std::mem::take(&mut is_call), count) {
                (false, Some(count)) if is_own => counted.program += count,
                (false, Some(count)) => counted.libc += count,
                _ => {}
            }
        }
    }
    counted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_told_apart_by_object_and_calls_are_not_counted_twice() {
        let text = "version: 1\nevents: Ir\n\nob=(1) /x/kmirror-micro\nfn=(1) turn\n0 10\n\
                    cob=(2) /lib/libc.so.6\ncfn=(2) memcpy\ncalls=3 0\n0 300\n+4 5\n\n\
                    ob=(2)\nfn=(2)\n0 300\n\nob=(1)\nfn=(3)\n* 7\n\ntotals: 322\n";
        let counted = parse(text, "kmirror-micro");
        assert_eq!(counted, Instructions { program: 22, libc: 300 });
        assert_eq!(counted.all(), 322);
    }
}
