//! Clusters that end with the process that started them, however it ends.

use std::process::{Child, Command, Stdio};

use super::Cluster;
use crate::brokers::Error;

impl Cluster {
    /// Hands the cluster to a guard that stops it when this process ends, however it ends.
    ///
    /// # Errors
    /// When the guard cannot be started.
    pub fn guarded(self) -> Result<Guarded, Error> {
        let mut script = "cat >/dev/null\n".to_owned();
        for node in &self.nodes {
            if let Some(remove) = self.launcher.container(&["rm", "-f"], &node.container) {
                script.push_str(&format!("{remove:?} >/dev/null 2>&1\n"));
            }
        }
        let directory = self.directory.display();
        script.push_str(&format!(
            "for file in '{directory}'/*/pid; do test -f \"$file\" && kill -9 $(cat \"$file\"); \
             done\nsleep 1\nrm -rf '{directory}'\n"
        ));
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).stdin(Stdio::piped()).stderr(Stdio::null());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let guard =
            command.spawn().map_err(|source| Error::Start { program: "sh".to_owned(), source })?;
        Ok(Guarded { cluster: self, guard })
    }
}

/// A cluster that ends with this process, or when it is dropped.
#[derive(Debug)]
pub struct Guarded {
    cluster: Cluster,
    guard: Child,
}

impl std::ops::Deref for Guarded {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl std::ops::DerefMut for Guarded {
    fn deref_mut(&mut self) -> &mut Cluster {
        &mut self.cluster
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Err(error) = self.cluster.stop() {
            eprintln!("{error}");
        }
        drop(self.guard.stdin.take());
        // The guard ends by itself a second after its standard input is closed.
        if let Err(error) = self.guard.wait() {
            eprintln!("{error}");
        }
    }
}
