//! What the measurements were made on: figures mean nothing without it.

use std::{fs, process::Command};

use serde::{Deserialize, Serialize};

/// The machine and what runs on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name, and its family and model: a virtual machine may name neither.
    pub processor: String,
    /// How many of them this process may use.
    pub cores: usize,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// The kernel's release.
    pub kernel: String,
    /// The Java that runs brokers and peers.
    pub java: String,
    /// The commit that is checked out, with `-dirty` if it was changed since.
    pub commit: String,
}

impl Machine {
    /// Looks around. What cannot be found out is called unknown.
    #[must_use]
    pub fn look() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let kibibytes = memory.and_then(|text| text.trim_end_matches(" kB").parse::<u64>().ok());
        let kernel = read("/proc/sys/kernel/osrelease").trim().to_owned();
        Self {
            processor: processor(&read("/proc/cpuinfo")).unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            memory_mib: kibibytes.unwrap_or_default() / 1024,
            kernel: if kernel.is_empty() { unknown() } else { kernel },
            java: java().unwrap_or_else(unknown),
            commit: commit().filter(|text| !text.is_empty()).unwrap_or_else(unknown),
        }
    }

    /// The machine in one line.
    #[must_use]
    pub fn title(&self) -> String {
        let Self { processor, cores, memory_mib, kernel, java, .. } = self;
        format!("{processor}, {cores} cores, {memory_mib} MiB, Linux {kernel}, {java}")
    }
}

fn processor(text: &str) -> Option<String> {
    let name = field(text, "model name")?;
    let kind = field(text, "cpu family").zip(field(text, "model\t"));
    Some(match kind {
        Some((family, model)) => format!("{name} (family {family}, model {model})"),
        None => name,
    })
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// The value of the first line `name : value`.
fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn java() -> Option<String> {
    let output = Command::new(xtask::brokers::java()).arg("-version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.lines().next().map(str::to_owned)
}

fn commit() -> Option<String> {
    let mut command = Command::new("git");
    command.args(["describe", "--always", "--dirty"]).current_dir(xtask::workspace::root());
    let output = command.stderr(std::process::Stdio::null()).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_name() {
        let text = "processor\t: 0\nmodel name\t: A Processor @ 2 GHz\nmodel name\t: B\n";
        assert_eq!(field(text, "model name").as_deref(), Some("A Processor @ 2 GHz"));
        assert_eq!(field(text, "MemTotal"), None);
    }

    #[test]
    fn a_processor_is_told_by_name_family_and_model() {
        let text = "cpu family\t: 25\nmodel\t\t: 1\nmodel name\t: A Processor\n";
        assert_eq!(processor(text).as_deref(), Some("A Processor (family 25, model 1)"));
        assert_eq!(processor("model name\t: B\n").as_deref(), Some("B"));
    }
}
