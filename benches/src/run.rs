//! One measurement: a mirror is started, the destination is watched until it holds every record,
//! the mirror is ended.
//!
//! Progress is read from the destination's own end offsets, so that every mirror is measured by the
//! same thing. What watching costs is not counted in the mirror's processor time.

use std::{
    fs::File,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use kmirror_client::clock;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{
    Error,
    case::Case,
    ends::End,
    mirrors::Mirror,
    process::{self, Usage},
    survey::Stored,
};

/// How often the destination is asked.
const POLL: Duration = Duration::from_millis(25);
/// How long nothing may arrive before a mirror counts as stuck.
const STALL: Duration = Duration::from_secs(60);
/// How long a mirror may take to end when asked.
const FAREWELL: Duration = Duration::from_secs(30);
const LOG_TAIL: usize = 3_000;

/// What was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Which mirror.
    pub mirror: Mirror,
    /// From the start of the process to the first record at the destination, in seconds.
    pub first_record_seconds: f64,
    /// From the first record to the last, in seconds.
    pub seconds: f64,
    /// Records in a second, between the first and the last.
    pub records_per_second: f64,
    /// Logical megabytes in a second, between the first and the last.
    pub megabytes_per_second: f64,
    /// The same in bytes of the batches as the source stores them.
    pub wire_megabytes_per_second: f64,
    /// Seconds of processor time from the start to the last record, for each logical gigabyte.
    pub cpu_per_gigabyte: f64,
    /// The same without what was used before the first record.
    pub cpu_per_gigabyte_moving: f64,
    /// The most memory its processes held, each until the last record, in MiB.
    pub peak_memory_mib: f64,
    /// The same figure for the brokers of the source, if they were started here.
    pub source_cpu_per_gigabyte: Option<f64>,
    /// The same figure for the brokers of the destination, if they were started here.
    pub destination_cpu_per_gigabyte: Option<f64>,
    /// Processors that were busy with something else meanwhile, on average: noise.
    pub other_cores: Option<f64>,
    /// Records at the destination beyond those of the source, after the mirror ended.
    pub surplus: i64,
}

impl Outcome {
    /// The figures in a line.
    #[must_use]
    pub fn line(&self) -> String {
        format!(
            "{}: {:.0} MB/s, {:.2} CPU s/GB, {:.0} MiB, first record after {:.2} s, \
             {:.2} cores busy elsewhere",
            self.mirror.name(),
            self.megabytes_per_second,
            self.cpu_per_gigabyte,
            self.peak_memory_mib,
            self.first_record_seconds,
            self.other_cores.unwrap_or(f64::NAN)
        )
    }
}

/// A mirror's process; ended when dropped, or when this process ends in whatever way.
pub struct Running {
    mirror: Mirror,
    child: Child,
    /// Waits for this process to end; asleep all the while.
    guard: Child,
    log: PathBuf,
    begin: Instant,
}

impl Running {
    /// Starts `command`, which prints to `log` and whose arguments name the directory of `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(mirror: Mirror, mut command: Command, log: PathBuf) -> Result<Self, Error> {
        let open = || File::options().create(true).append(true).open(&log);
        let out = open().map_err(Error::file("open", &log))?;
        let err = open().map_err(Error::file("open", &log))?;
        let program = command.get_program().display().to_string();
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let begin = clock::now();
        let mut child = command.spawn().map_err(|source| Error::Run { program, source })?;
        match guard(child.id(), &log) {
            Ok(guard) => Ok(Self { mirror, child, guard, log, begin }),
            Err(source) => {
                // Nobody would end it; that it may have ended by itself does not matter.
                let _ = child.kill().and_then(|()| child.wait());
                Err(Error::Run { program: "sh".to_owned(), source })
            }
        }
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has used so far.
    pub(crate) fn usage(&self) -> Result<Usage, Error> {
        Usage::of(self.child.id())
    }

    /// The error that says how it ended, if it has.
    pub(crate) fn ended(&mut self, records: u64) -> Result<(), Error> {
        let name = self.mirror.name().to_owned();
        let asked = self.child.try_wait();
        match asked.map_err(|source| Error::Run { program: name.clone(), source })? {
            None => Ok(()),
            Some(status) => {
                Err(Error::Ended { name, status: status.to_string(), records, log: self.tail() })
            }
        }
    }

    /// The end of what it printed.
    pub(crate) fn tail(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(LOG_TAIL)..]).into_owned()
    }

    /// Asks it to end (SIGTERM), and makes it end if it does not.
    pub(crate) async fn end(mut self) {
        let id = self.child.id();
        let asked = Command::new("sh").arg("-c").arg(format!("kill -s TERM {id}")).status();
        let deadline = clock::now() + FAREWELL;
        while asked.is_ok() && clock::now() < deadline {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            clock::sleep(POLL).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait()
            && let Err(error) = self.child.kill().and_then(|()| self.child.wait())
        {
            eprintln!("end {}: {error}", self.mirror.name());
        }
        drop(self.guard.stdin.take());
        if let Err(error) = self.guard.wait() {
            eprintln!("end the guard of {}: {error}", self.mirror.name());
        }
    }
}

/// A process that ends process `id` when the pipe to it closes, if `id` is then still the mirror:
/// its arguments name the directory of `log`.
fn guard(id: u32, log: &Path) -> std::io::Result<Child> {
    let directory = log.parent().unwrap_or(log).display();
    let script = format!(
        "cat >/dev/null; grep -qF '{directory}' /proc/{id}/cmdline 2>/dev/null && kill -9 {id}"
    );
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).stdin(Stdio::piped()).stdout(Stdio::null());
    // A group of its own, so that an interrupt at the keyboard does not end it first.
    command.process_group(0).spawn()
}

/// A moment of a measurement, and what had been used by then.
struct Moment {
    at: Instant,
    records: u64,
    mirror: Usage,
}

/// What everybody but the mirror had used at a moment.
struct Others {
    source: Option<Duration>,
    destination: Option<Duration>,
    own: Duration,
    machine: Duration,
}

impl Others {
    fn look(ends: (&End, &End)) -> Result<Self, Error> {
        Ok(Self {
            source: ends.0.cpu(),
            destination: ends.1.cpu(),
            own: Usage::of(0)?.cpu,
            machine: process::machine_busy()?,
        })
    }
}

/// Follows `running`, the processes of one mirror, until the destination holds every record of
/// `case`, and ends them. The source holds the records as `stored` says.
///
/// # Errors
/// When the mirror ends or gets stuck before that, or the destination does not answer.
///
/// # Panics
/// When there is no process.
pub async fn measure(
    mut running: Vec<Running>,
    (case, stored): (&Case, &Stored),
    ends: (&End, &End),
) -> Result<Outcome, Error> {
    let before = Others::look(ends)?;
    let first = reach(&mut running, case, (ends.1, 1)).await?;
    let last = reach(&mut running, case, (ends.1, case.records)).await?;
    let after = Others::look(ends)?;
    let (mirror, begin) = (running[0].mirror, running[0].begin);
    for one in running {
        one.end().await;
    }
    let written = ends.1.length(&case.topic(), case.partitions.destination).await?;

    let gigabytes = case.logical_bytes() as f64 / 1e9;
    let moved = last.records - first.records.min(last.records);
    // A load so small that it came all at once came within one look at the destination.
    let moved = if moved == 0 { last.records as f64 } else { moved as f64 };
    let seconds = last.at.duration_since(first.at).max(POLL).as_secs_f64();
    let used = |before: Option<Duration>, after: Option<Duration>| {
        Some(after?.saturating_sub(before?).as_secs_f64())
    };
    let source = used(before.source, after.source);
    let destination = used(before.destination, after.destination);
    let own = after.own.saturating_sub(before.own).as_secs_f64();
    let busy = after.machine.saturating_sub(before.machine).as_secs_f64();
    let known = source
        .zip(destination)
        .map(|(source, destination)| source + destination + own + last.mirror.cpu.as_secs_f64());
    let all = last.at.duration_since(begin).as_secs_f64();
    let moving = last.mirror.cpu.saturating_sub(first.mirror.cpu).as_secs_f64();
    let moved_gigabytes = moved * case.record_bytes as f64 / 1e9;
    let moved_stored = moved * stored.bytes as f64 / case.records as f64 / 1e6;
    Ok(Outcome {
        mirror,
        first_record_seconds: first.at.duration_since(begin).as_secs_f64(),
        seconds,
        records_per_second: moved / seconds,
        megabytes_per_second: moved_gigabytes * 1e3 / seconds,
        wire_megabytes_per_second: moved_stored / seconds,
        cpu_per_gigabyte: last.mirror.cpu.as_secs_f64() / gigabytes,
        cpu_per_gigabyte_moving: moving / moved_gigabytes,
        peak_memory_mib: last.mirror.peak_memory_bytes as f64 / f64::from(1 << 20),
        source_cpu_per_gigabyte: source.map(|used| used / gigabytes),
        destination_cpu_per_gigabyte: destination.map(|used| used / gigabytes),
        other_cores: known.map(|known| (busy - known).max(0.0) / all),
        surplus: written.cast_signed() - case.records.cast_signed(),
    })
}

/// Waits until the destination holds as many records as are wanted.
async fn reach(
    running: &mut [Running],
    case: &Case,
    (destination, wanted): (&End, u64),
) -> Result<Moment, Error> {
    let topic = case.topic();
    let (mut seen, mut progress_at) = (0, clock::now());
    loop {
        let records = destination.length(&topic, case.partitions.destination).await?;
        let at = clock::now();
        // Before the question whether it still runs: a process that has ended has no usage.
        running.iter_mut().try_for_each(|one| one.ended(records))?;
        if records >= wanted {
            return Ok(Moment { at, records, mirror: usage(running)? });
        }
        if records > seen {
            (seen, progress_at) = (records, at);
        }
        if at.duration_since(progress_at) > STALL {
            return Err(Error::Stalled {
                name: running[0].mirror.name().to_owned(),
                seconds: STALL.as_secs(),
                records,
                expected: case.records,
                log: running.iter().map(Running::tail).collect(),
            });
        }
        clock::sleep(POLL).await;
    }
}

/// What all processes of a mirror have used; of memory the sum of what each held at most.
fn usage(running: &[Running]) -> Result<Usage, Error> {
    let mut all = Usage::default();
    for one in running {
        let Usage { cpu, peak_memory_bytes } = one.usage()?;
        all.cpu += cpu;
        all.peak_memory_bytes += peak_memory_bytes;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(directory: &Path) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg("sleep 60; true").arg(directory);
        command
    }

    fn is_alive(id: u32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    }

    #[test]
    fn a_mirror_ends_with_the_one_who_started_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut mirror = sleeper(directory.path()).spawn().expect("a shell");
        let mut guard = guard(mirror.id(), &directory.path().join("log")).expect("a guard");
        assert!(is_alive(mirror.id()));
        drop(guard.stdin.take());
        guard.wait().expect("the guard ends");
        assert!(!mirror.wait().expect("the mirror ends").success());
    }

    #[test]
    fn a_dropped_mirror_is_gone() {
        let directory = tempfile::tempdir().expect("a directory");
        let log = directory.path().join("log");
        let running = Running::start(Mirror::Kmirror, sleeper(directory.path()), log);
        let running = running.expect("a shell");
        let id = running.child.id();
        drop(running);
        assert!(!is_alive(id));
    }
}
