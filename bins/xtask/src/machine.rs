//! What the machine must have before the real-broker suites and the micro-benchmarks can run, and
//! how it gets there.

use std::{
    io::IsTerminal,
    process::{Command, Stdio},
};

use xtask::brokers;

use crate::say;

const JAVA_MIN: u32 = 17;

/// A program that is missing, and the packages that bring it, the first that is known being taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Missing {
    what: &'static str,
    packages: &'static [&'static str],
}

const JAVA: Missing = Missing {
    what: "Java 17 or later with javac",
    packages: &["openjdk-17-jdk-headless", "openjdk-21-jdk-headless", "default-jdk-headless"],
};
const MAVEN: Missing = Missing { what: "Maven (mvn)", packages: &["maven"] };
const KCAT: Missing = Missing { what: "kcat", packages: &["kcat", "kafkacat"] };
const VALGRIND: Missing = Missing { what: "valgrind", packages: &["valgrind"] };

/// Why the machine cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("this machine lacks {what}; install it, for example with: {how}")]
    Lacks { what: String, how: String },
    #[error("{command} ended with {status}")]
    Install { command: String, status: String },
    #[error("run {program}")]
    Run { program: String, source: std::io::Error },
}

/// Whether this is a CI machine, where nobody can be asked.
pub(crate) fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

/// Checks what the real-broker suites need; installs what is missing if `yes`, or if someone at the
/// keyboard agrees. Brokers in containers need Java and Maven as well: the suites' own Java
/// programs do.
pub(crate) fn for_brokers(yes: bool) -> Result<(), Error> {
    let mut missing = Vec::new();
    if java_version().is_none_or(|version| version < JAVA_MIN) || !has_javac() {
        missing.push(JAVA);
    }
    if !succeeds("mvn", &["--version"]) {
        missing.push(MAVEN);
    }
    if !succeeds("kcat", &["-V"]) {
        missing.push(KCAT);
    }
    prepare(&missing, yes)
}

/// The same for the micro-benchmarks.
pub(crate) fn for_micro(yes: bool) -> Result<(), Error> {
    if succeeds("valgrind", &["--version"]) { Ok(()) } else { prepare(&[VALGRIND], yes) }
}

fn prepare(missing: &[Missing], yes: bool) -> Result<(), Error> {
    if missing.is_empty() {
        return Ok(());
    }
    let what = missing.iter().map(|one| one.what).collect::<Vec<_>>().join(", ");
    let how = format!(
        "apt-get install {}",
        missing.iter().map(|one| one.packages[0]).collect::<Vec<_>>().join(" ")
    );
    if !succeeds("apt-get", &["--version"]) || !(yes || agreed(&what, &how)) {
        return Err(Error::Lacks { what, how });
    }
    eprintln!("installing {what}");
    apt_get(&["update", "-qq"])?;
    for one in missing {
        let known = |package: &&&str| succeeds("apt-cache", &["show", "--quiet=2", package]);
        let package = one.packages.iter().find(known).unwrap_or(&one.packages[0]);
        apt_get(&["install", "-y", "-qq", "--no-install-recommends", package])?;
    }
    Ok(())
}

fn agreed(what: &str, how: &str) -> bool {
    if !std::io::stdin().is_terminal() {
        return false;
    }
    eprint!("this machine lacks {what}. Run `{how}`? [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).is_ok() && answer.trim().eq_ignore_ascii_case("y")
}

/// `apt-get` as root, or through sudo without a password.
fn apt_get(arguments: &[&str]) -> Result<(), Error> {
    let is_root = std::fs::metadata("/proc/self")
        .is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    let mut command = if is_root {
        Command::new("apt-get")
    } else {
        let mut command = Command::new("sudo");
        command.args(["-n", "apt-get"]);
        command
    };
    let status = command
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .status()
        .map_err(|source| Error::Run { program: "apt-get".to_owned(), source })?;
    if status.success() {
        return Ok(());
    }
    let command = format!("apt-get {}", arguments.join(" "));
    Err(Error::Install { command, status: status.to_string() })
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn has_javac() -> bool {
    let javac = brokers::java().with_file_name("javac");
    succeeds(&javac.display().to_string(), &["--version"])
}

fn java_version() -> Option<u32> {
    let output = Command::new(brokers::java()).arg("-version").output().ok()?;
    let version = parse_java_version(&String::from_utf8_lossy(&output.stderr));
    if let Some(version) = version.filter(|version| *version < JAVA_MIN) {
        say::result(&format!("Java {version} is here, too old"));
    }
    version
}

/// `openjdk version "17.0.15" 2025-04-15` is 17; `"1.8.0_292"` is 8.
fn parse_java_version(text: &str) -> Option<u32> {
    let version = text.split('"').nth(1)?;
    let mut parts = version.split(|character: char| !character.is_ascii_digit());
    match parts.next()?.parse().ok()? {
        1 => parts.next()?.parse().ok(),
        major => Some(major),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_versions_old_and_new_are_understood() {
        assert_eq!(parse_java_version("openjdk version \"17.0.15\" 2025-04-15"), Some(17));
        assert_eq!(parse_java_version("java version \"1.8.0_292\""), Some(8));
        assert_eq!(parse_java_version("openjdk version \"21\" 2023-09-19"), Some(21));
        assert_eq!(parse_java_version("command not found"), None);
    }
}
