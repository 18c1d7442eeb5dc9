//! The figures that were accepted, and what is worse than they.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Measured;
use crate::callgrind::Instructions;
use crate::environment::Environment;

/// How much instructions may rise, in per cent.
const RISE_MAX_PERCENT: f64 = 5.0;

/// Why the figures cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("read {path}; if there are none yet, --bless writes them")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("understand {path}")]
    Parse { path: PathBuf, source: serde_json::Error },
    #[error("write {path}")]
    Write { path: PathBuf, source: std::io::Error },
}

/// The accepted figures of every case.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Baseline {
    environment: Environment,
    cases: BTreeMap<String, Accepted>,
}

/// Those of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Accepted {
    program_instructions: u64,
    libc_instructions: u64,
    allocations: usize,
    allocated_bytes: usize,
}

/// What a comparison says.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// For information.
    pub(crate) notes: Vec<String>,
    /// What fails.
    pub(crate) worse: Vec<String>,
}

impl Baseline {
    /// Those in the file at `path`.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Read { path: path.to_owned(), source })?;
        serde_json::from_str(&text).map_err(|source| Error::Parse { path: path.to_owned(), source })
    }

    /// Replaces the file at `path`.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(self).expect("invariant: figures are plain data");
        std::fs::write(path, text + "\n")
            .map_err(|source| Error::Write { path: path.to_owned(), source })
    }

    /// Takes what was measured as good; `is_whole` if every case was.
    pub(crate) fn accept(
        &mut self,
        environment: Environment,
        measured: &[Measured],
        is_whole: bool,
    ) {
        if is_whole {
            self.cases.clear();
        }
        self.environment = environment;
        for one in measured {
            let instructions = one.instructions.unwrap_or_default();
            let accepted = Accepted {
                program_instructions: instructions.program,
                libc_instructions: instructions.libc,
                allocations: one.native.allocated.allocations,
                allocated_bytes: one.native.allocated.bytes,
            };
            self.cases.insert(one.case.name.clone(), accepted);
        }
    }

    /// Holds what was measured in `here` against what was accepted.
    pub(crate) fn judge(
        &self,
        here: &Environment,
        measured: &[Measured],
        is_whole: bool,
    ) -> Verdict {
        let mut verdict = Verdict::default();
        let counted = if measured.iter().any(|one| one.instructions.is_none()) {
            Counted::Nothing
        } else {
            self.comparable(here, &mut verdict)
        };
        for one in measured {
            let name = &one.case.name;
            match self.cases.get(name) {
                Some(accepted) => judge_case(one, accepted, counted, &mut verdict),
                None => verdict.worse.push(format!("{name}: new, not in the baseline")),
            }
        }
        if is_whole {
            let is_gone = |name: &&String| !measured.iter().any(|one| one.case.name == **name);
            let gone = self.cases.keys().filter(is_gone);
            verdict.worse.extend(gone.map(|name| format!("{name}: in the baseline, not measured")));
        }
        verdict
    }

    fn comparable(&self, here: &Environment, verdict: &mut Verdict) -> Counted {
        let there = &self.environment;
        if !here.has_same_code(there) {
            verdict.notes.push(format!(
                "warning: instructions not compared, the baseline is of {}, {} and this is {}, {}; \
                 bless it anew",
                there.compiler, there.processor, here.compiler, here.processor
            ));
            return Counted::Nothing;
        }
        if here.is_same(there) {
            return Counted::All;
        }
        verdict.notes.push(format!(
            "note: the C library's instructions are not compared, the baseline is of {}, {} and \
             this is {}, {}",
            there.libc, there.valgrind, here.libc, here.valgrind
        ));
        Counted::Program
    }
}

/// Whose instructions are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counted {
    Nothing,
    Program,
    All,
}

fn judge_case(one: &Measured, accepted: &Accepted, counted: Counted, verdict: &mut Verdict) {
    let name = &one.case.name;
    let before =
        Instructions { program: accepted.program_instructions, libc: accepted.libc_instructions };
    let pair = one.instructions.and_then(|now| match counted {
        Counted::Nothing => None,
        Counted::Program => Some((before.program, now.program)),
        Counted::All => Some((before.all(), now.all())),
    });
    if let Some((before, now)) = pair {
        let percent = (now as f64 / before.max(1) as f64 - 1.0) * 100.0;
        if percent > RISE_MAX_PERCENT {
            let line = format!("{name}: instructions rose by {percent:.1} %, {before} to {now}");
            verdict.worse.push(line);
        } else if percent < -RISE_MAX_PERCENT {
            let line = format!("{name}: instructions fell by {:.1} %; bless to keep it", -percent);
            verdict.notes.push(line);
        }
    }
    let (before, now) = (accepted.allocations, one.native.allocated.allocations);
    if now > before {
        verdict.worse.push(format!("{name}: allocations rose, {before} to {now}"));
    } else if now < before {
        verdict
            .notes
            .push(format!("{name}: allocations fell, {before} to {now}; bless to keep it"));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cases;
    use crate::measure::{Allocated, Native};

    fn measured(program: u64, libc: u64, allocations: usize) -> Vec<Measured> {
        let case = cases::all().swap_remove(0);
        let allocated = Allocated { allocations, bytes: 100 };
        let native = Native { allocated, time: Duration::from_nanos(1) };
        vec![Measured { case, native, instructions: Some(Instructions { program, libc }) }]
    }

    fn here() -> Environment {
        Environment { compiler: "rustc 1".to_owned(), ..Environment::default() }
    }

    fn worse(here: &Environment, now: &[Measured]) -> Vec<String> {
        let mut baseline = Baseline::default();
        baseline.accept(self::here(), &measured(1000, 1000, 5), true);
        baseline.judge(here, now, true).worse
    }

    #[test]
    fn a_rise_beyond_the_limit_is_told_with_its_size() {
        assert!(worse(&here(), &measured(1050, 1040, 5)).is_empty());
        let told = worse(&here(), &measured(1200, 1000, 6));
        assert_eq!(told.len(), 2);
        assert!(told[0].ends_with("instructions rose by 10.0 %, 2000 to 2200"), "{}", told[0]);
        assert!(told[1].ends_with("allocations rose, 5 to 6"), "{}", told[1]);
    }

    #[test]
    fn another_compiler_fails_nothing_but_allocations() {
        let other = Environment { compiler: "rustc 2".to_owned(), ..here() };
        assert!(worse(&other, &measured(9000, 9000, 5)).is_empty());
        assert_eq!(worse(&other, &measured(9000, 9000, 6)).len(), 1);
    }

    #[test]
    fn another_c_library_fails_for_the_programs_own_instructions_alone() {
        let other = Environment { libc: "glibc 9".to_owned(), ..here() };
        assert!(worse(&other, &measured(1000, 9000, 5)).is_empty());
        assert_eq!(worse(&other, &measured(1100, 1000, 5)).len(), 1);
    }

    #[test]
    fn a_case_that_is_new_or_gone_fails() {
        assert_eq!(Baseline::default().judge(&here(), &measured(1, 1, 1), true).worse.len(), 1);
        assert_eq!(worse(&here(), &[]).len(), 1);
    }

    #[test]
    fn what_is_written_is_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("baseline.json");
        let mut baseline = Baseline::default();
        baseline.accept(here(), &measured(1000, 1000, 5), true);
        baseline.write(&path).expect("written");
        let again = Baseline::read(&path).expect("read");
        assert!(again.judge(&here(), &measured(1000, 1000, 5), true).worse.is_empty());
    }
}
