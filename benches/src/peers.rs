//! Peers that are built here: the copier of records in Go, from `benches/peers/franz-go`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use xtask::workspace;

use crate::Error;

/// The copier in Go, built when it is first wanted.
#[derive(Clone, Debug, Default)]
pub struct FranzGo {
    built: OnceLock<Result<PathBuf, String>>,
}

impl FranzGo {
    /// The program.
    ///
    /// # Errors
    /// When there is no Go, or it does not build; the error says what to do.
    pub fn program(&self) -> Result<&Path, Error> {
        let failed = |reason: &String| Error::Peer { name: "franz-go", reason: reason.clone() };
        self.built.get_or_init(build).as_deref().map_err(failed)
    }

    /// The version of franz-go and of the Go that builds it, if it builds.
    #[must_use]
    pub fn version(&self) -> Option<String> {
        self.program().ok()?;
        let manifest = fs::read_to_string(directory().join("go.mod")).ok()?;
        let client = required(&manifest, "github.com/twmb/franz-go")?;
        let output = Command::new("go").args(["env", "GOVERSION"]).output().ok()?;
        let go = String::from_utf8_lossy(&output.stdout);
        Some(format!("franz-go {client} ({})", go.trim()))
    }
}

/// Builds it into the build directory; or says why not.
fn build() -> Result<PathBuf, String> {
    let program = workspace::target_directory().join("peers").join("franz-go");
    let mut command = Command::new("go");
    command.args(["build", "-trimpath", "-buildvcs=false", "-o"]).arg(&program).arg(".");
    command.current_dir(directory()).stdin(Stdio::null());
    let failed = |error| format!("cannot run `go build` ({error}); {ADVICE}");
    let output = command.output().map_err(failed)?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`go build` says:\n{}\n{ADVICE}", text.trim_end()));
    }
    Ok(program)
}

const ADVICE: &str = "this peer is left out. It needs Go 1.26 or later on the PATH \
    (https://go.dev/dl) and, the first time, its modules from a module proxy; or name other \
    --mirrors";

fn directory() -> PathBuf {
    workspace::root().join(Path::new("benches/peers/franz-go"))
}

/// The version of `module` in a `go.mod`, without its `v`.
fn required<'a>(manifest: &'a str, module: &str) -> Option<&'a str> {
    let of = |line: &'a str| {
        let mut words = line.split_whitespace().skip_while(|word| *word == "require");
        (words.next()? == module).then(|| words.next())?
    };
    manifest.lines().find_map(of)?.strip_prefix('v')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_peer_is_read_from_its_manifest() {
        let text = "module a\n\nrequire b.org/c v1.2.3\n\nrequire (\n\td.org/e v4.5.6 // x\n)\n";
        assert_eq!(required(text, "b.org/c"), Some("1.2.3"));
        assert_eq!(required(text, "d.org/e"), Some("4.5.6"));
        assert_eq!(required(text, "d.org"), None);
    }

    #[test]
    fn the_peer_pins_its_version_and_names_no_proxy() {
        let manifest = fs::read_to_string(directory().join("go.mod")).expect("go.mod");
        assert!(required(&manifest, "github.com/twmb/franz-go").is_some());
        assert!(!manifest.contains("proxy") && !manifest.contains("replace"));
    }
}
