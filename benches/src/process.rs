//! What a process and the whole machine have used so far, as the kernel counts it.
//!
//! Everything is read from `/proc`; nothing is estimated. Processor time has the kernel's own
//! resolution there, a hundredth of a second.

use std::{fs, ops::Sub, path::PathBuf, time::Duration};

use crate::Error;

/// What a process has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time on a processor, in user and in kernel mode, of all its threads.
    pub cpu: Duration,
    /// The most memory it ever held at once (`VmHWM`), in bytes.
    pub peak_memory_bytes: u64,
}

impl Usage {
    /// Reads what process `id` has used; 0 stands for this one.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn of(id: u32) -> Result<Self, Error> {
        let directory = match id {
            0 => PathBuf::from("/proc/self"),
            id => PathBuf::from(format!("/proc/{id}")),
        };
        let read = |name: &str| {
            let path = directory.join(name);
            fs::read_to_string(&path).map_err(Error::file("read", &path))
        };
        let cpu = parse_stat(&read("stat")?).unwrap_or_default();
        let peak_memory_bytes = parse_status(&read("status")?, "VmHWM:").unwrap_or_default();
        Ok(Self { cpu, peak_memory_bytes })
    }
}

/// The memory that process `id` holds now (`VmRSS`), in bytes.
///
/// # Errors
/// When there is no such process.
pub(crate) fn resident_bytes(id: u32) -> Result<u64, Error> {
    let path = PathBuf::from(format!("/proc/{id}/status"));
    let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
    Ok(parse_status(&text, "VmRSS:").unwrap_or_default())
}

/// Time that all processors together have been busy since the machine started.
///
/// # Errors
/// When the kernel does not tell.
pub fn machine_busy() -> Result<Duration, Error> {
    let path = PathBuf::from("/proc/stat");
    let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
    Ok(parse_machine(&text).unwrap_or_default())
}

/// Ticks in a second of every time that `/proc` tells (`USER_HZ`; 100 on every Linux there is).
const TICKS_PER_SECOND: u64 = 100;

fn ticks(count: u64) -> Duration {
    Duration::from_millis(count * 1000 / TICKS_PER_SECOND)
}

/// Fields 14 and 15 of `/proc/PID/stat`. The second field is the program's name in parentheses and
/// may hold anything, so counting starts after the last parenthesis.
fn parse_stat(text: &str) -> Option<Duration> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(ticks(user + system))
}

/// The memory that a line of `/proc/PID/status` tells of, in bytes.
fn parse_status(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// user, nice, system, idle, iowait, irq, softirq, steal: all but the two idle ones are busy.
fn parse_machine(text: &str) -> Option<Duration> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> =
        line.split_ascii_whitespace().map_while(|field| field.parse().ok()).take(8).collect();
    let idle: u64 = fields.iter().skip(3).take(2).sum();
    Some(ticks(fields.iter().sum::<u64>().sub(idle)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_spaces_and_parentheses_is_read_over() {
        let text = "12 (a) (b c) S 1 1 1 0 -1 4194560 500 0 0 0 250 50 7 7 20 0 1 0 100 5 6";
        assert_eq!(parse_stat(text), Some(Duration::from_secs(3)));
        assert_eq!(parse_stat("nonsense"), None);
    }

    #[test]
    fn memory_is_in_bytes() {
        let text = "Name:\tx\nVmHWM:\t   2048 kB\nVmRSS:\t1 kB\n";
        assert_eq!(parse_status(text, "VmHWM:"), Some(2 << 20));
        assert_eq!(parse_status(text, "VmRSS:"), Some(1 << 10));
        assert_eq!(parse_status("Name:\tx\n", "VmHWM:"), None);
    }

    #[test]
    fn the_machine_is_busy_when_it_is_neither_idle_nor_waiting() {
        let text = "cpu  100 0 50 9000 800 0 25 25 0 0\ncpu0 1 1 1 1\n";
        assert_eq!(parse_machine(text), Some(Duration::from_secs(2)));
    }

    #[test]
    fn this_process_has_used_something() {
        let usage = Usage::of(0).expect("a process knows itself");
        assert!(usage.peak_memory_bytes > 100_000);
        assert!(Usage::of(u32::MAX).is_err());
    }
}
