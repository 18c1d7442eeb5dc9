//! Processes that outlive the one that starts them: started with their own process group and log,
//! found again by process id, and only ever signalled when the id still belongs to them.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::Error;

const LOG_TAIL_BYTES: u64 = 6_000;

/// The `java` of `JAVA_HOME`, or of the path.
#[must_use]
pub fn java() -> PathBuf {
    match std::env::var_os("JAVA_HOME") {
        Some(home) if Path::new(&home).join("bin/java").exists() => {
            Path::new(&home).join("bin/java")
        }
        _ => PathBuf::from("java"),
    }
}

/// A signal that this tool sends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Signal {
    Terminate,
    Kill,
    Stop,
    Continue,
}

impl Signal {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Terminate => "TERM",
            Self::Kill => "KILL",
            Self::Stop => "STOP",
            Self::Continue => "CONT",
        }
    }
}

/// Starts `command` in the background with its output appended to `log`.
pub(super) fn spawn(mut command: Command, log: &Path) -> Result<u32, Error> {
    let open = || OpenOptions::new().create(true).append(true).open(log);
    let out = open().map_err(Error::file("open", log))?;
    let err = open().map_err(Error::file("open", log))?;
    let program = command.get_program().display().to_string();
    command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
    let child = command.spawn().map_err(|source| Error::Start { program, source })?;
    Ok(child.id())
}

/// Runs `command` to its end.
pub(super) fn run(mut command: Command, what: &str) -> Result<(), Error> {
    let program = command.get_program().display().to_string();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::Start { program: program.clone(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let start = text.char_indices().rev().nth(4_000).map_or(0, |(index, _)| index);
    Err(Error::Failed {
        program: format!("{program} ({what})"),
        status: output.status.to_string(),
        output: text[start..].to_owned(),
    })
}

/// Whether process `pid` runs, and its command line names `marker` (so that it is the one that was
/// started and not another one that was given the same id later).
pub(super) fn is_alive(pid: u32, marker: &Path) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start().chars().next());
    if matches!(state, Some(Some('Z' | 'X')) | None) {
        return false;
    }
    let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    // Between the exec of a new process and the writing of its arguments there are none to read.
    line.is_empty() || String::from_utf8_lossy(&line).contains(&marker.display().to_string())
}

/// Sends `signal` to process `pid` if it is still the one that `marker` names.
pub(super) fn send(pid: u32, marker: &Path, signal: Signal) -> Result<(), Error> {
    if !is_alive(pid, marker) {
        return Ok(());
    }
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("kill -s {} {pid}", signal.name()));
    run(command, "kill")
}

/// The end of a log file, for an error message.
pub(super) fn log_tail(path: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_else(|error| format!("(no log: {error})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use std::time::Duration;

    #[test]
    fn a_process_is_found_by_id_and_marker_until_it_is_killed() {
        let directory = tempfile::tempdir().expect("a directory");
        let marker = directory.path().join("marker");
        let mut command = Command::new("sh");
        command.arg("-c").arg("sleep 60; true").arg(&marker);
        let pid = spawn(command, &directory.path().join("log")).expect("a shell");
        // Until its arguments can be read it passes for anybody's.
        let somebody_else = Path::new("/somebody-else");
        let found = || (is_alive(pid, &marker) && !is_alive(pid, somebody_else)).then_some(());
        clock::poll(Duration::from_secs(5), Duration::from_millis(5), found).expect("it runs");
        send(pid, &marker, Signal::Kill).expect("a signal");
        let gone = || (!is_alive(pid, &marker)).then_some(());
        clock::poll(Duration::from_secs(5), Duration::from_millis(5), gone).expect("it ends");
    }

    #[test]
    fn a_failing_command_shows_what_it_printed() {
        let mut command = Command::new("sh");
        command.arg("-c").arg("echo the reason >&2; exit 3");
        let error = run(command, "example").expect_err("it fails").to_string();
        assert!(error.contains("the reason") && error.contains('3'), "{error}");
    }
}
