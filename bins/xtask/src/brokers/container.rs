//! How a Java program is started: by the Java of this machine, or in a container that has Java and
//! the jars. Both read the same files at the same paths, so that everything else is shared.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use serde::{Deserialize, Serialize};

use super::{Error, Home, Jars, Options, Runtime, Version, process};

/// The means to start Java programs of one version of Kafka.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Launcher {
    /// Jars in a directory of this machine.
    Jars {
        /// That directory.
        directory: PathBuf,
    },
    /// A container of an image that has `java` and `/opt/kafka/libs`.
    Container {
        /// `docker` or `podman`.
        program: String,
        /// The image.
        image: String,
    },
    /// Nothing is ever started.
    Nothing,
}

/// One Java program to start.
pub(super) struct Program<'a> {
    /// Name of the container, if there is one.
    pub(super) name: &'a str,
    /// The directory it may write to.
    pub(super) directory: &'a Path,
    /// Flags for the Java virtual machine.
    pub(super) flags: &'a [String],
    /// Main class and its arguments.
    pub(super) main: &'a [&'a str],
}

impl Launcher {
    pub(super) fn new(home: &Home, options: &Options) -> Result<Self, Error> {
        let program = match options.runtime {
            Runtime::Jars => {
                let directory = Jars::fetch(home, &options.version)?.directory().to_owned();
                return Ok(Self::Jars { directory });
            }
            Runtime::External => return Ok(Self::Nothing),
            Runtime::Podman => "podman",
            Runtime::Docker => "docker",
        };
        let no_image = || Error::NoImage { version: options.version.clone() };
        let image = options.image.clone().or_else(|| options.version.image());
        let image = image.ok_or_else(no_image)?;
        Ok(Self::Container { program: program.to_owned(), image })
    }

    /// The command that runs `java`; nothing is started yet.
    pub(super) fn command(&self, version: &Version, java: &Program<'_>) -> Result<Command, Error> {
        let mut command = match self {
            Self::Jars { directory } => {
                let mut command = Command::new(process::java());
                command.args(java.flags).args(version.jvm_flags());
                command.arg("-cp").arg(format!("{}/*", directory.display()));
                command
            }
            Self::Container { program, image } => {
                let mut command = Command::new(program);
                // Some hosts can run containers only with a runtime other than the default one.
                if let Some(runtime) = std::env::var_os("KMIRROR_OCI_RUNTIME") {
                    command.arg("--runtime").arg(runtime);
                }
                let directory = java.directory.display();
                let owner =
                    fs::metadata(java.directory).map_err(Error::file("read", java.directory))?;
                command.args(["run", "--rm", "--network", "host", "--name", java.name]);
                command.args(["--entrypoint", "java"]);
                let own = fs::read_to_string("/proc/self/limits").unwrap_or_default();
                for limit in limits(&own) {
                    command.arg("--ulimit").arg(limit);
                }
                command.arg("--user").arg(format!("{}:{}", owner.uid(), owner.gid()));
                command.arg("--volume").arg(format!("{directory}:{directory}"));
                command.arg(image).args(java.flags).args(version.jvm_flags());
                command.args(["-cp", "/opt/kafka/libs/*"]);
                command
            }
            Self::Nothing => Command::new("true"),
        };
        command.args(java.main);
        Ok(command)
    }

    /// The command that does `action` (`kill -s STOP`, `rm -f`) to container `name`, if the
    /// program runs in one.
    pub(super) fn container(&self, action: &[&str], name: &str) -> Option<Command> {
        let Self::Container { program, .. } = self else { return None };
        let mut command = Command::new(program);
        command.args(action).arg(name);
        Some(command)
    }
}

/// The limits of a container: those of this process, as its `/proc/self/limits` says. Podman would
/// raise them by default, which not every host allows, and Kafka needs files rather than few.
fn limits(own: &str) -> Vec<String> {
    const FILES: u64 = 20_000;
    const PROCESSES: u64 = 16_384;
    let hard = |title: &str| {
        let line = own.lines().find_map(|line| line.strip_prefix(title))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    let files = hard("Max open files").map_or(FILES, |hard| hard.min(FILES));
    let mut limits = vec![format!("nofile={files}:{files}")];
    limits.extend(
        hard("Max processes")
            .map(|hard| hard.min(PROCESSES))
            .map(|processes| format!("nproc={processes}:{processes}")),
    );
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_never_asks_for_more_than_this_process_may() {
        let own = "Limit             Soft Limit  Hard Limit  Units\n\
                   Max processes     100         4000        processes\n\
                   Max open files    1024        9000        files\n";
        assert_eq!(limits(own), ["nofile=9000:9000", "nproc=4000:4000"]);
        assert_eq!(limits("Max processes unlimited unlimited processes"), ["nofile=20000:20000"]);
    }
}
