//! What the suites that run the binary share: fake clusters on loopback, and what a run came to.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use kmirror_fake::Cluster;

/// A fake cluster on a thread of its own; it ends with this handle.
pub(crate) struct Fake {
    /// The cluster itself.
    pub(crate) cluster: Cluster,
    _stop: SyncSender<()>,
}

impl Fake {
    pub(crate) fn start(id: &str, topics: &[(&str, i32)]) -> Self {
        let mut builder = Cluster::builder().brokers(2).cluster_id(id).auto_create_topics(false);
        for (name, partitions) in topics {
            builder = builder.topic(*name, *partitions);
        }
        let (started, cluster) = sync_channel(1);
        let (stop, stopped): (_, Receiver<()>) = sync_channel(1);
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                started.send(builder.start().await.unwrap()).unwrap();
                // An error means that the handle is gone, which is what is waited for.
                while stopped.try_recv() != Err(std::sync::mpsc::TryRecvError::Disconnected) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            });
        });
        Self { cluster: cluster.recv().unwrap(), _stop: stop }
    }

    pub(crate) fn values(&self, topic: &str) -> Vec<String> {
        let partitions = 0..self.cluster.partition_count(topic);
        let records = partitions.flat_map(|partition| self.cluster.records(topic, partition));
        records
            .map(|record| String::from_utf8(record.value.unwrap_or_default().to_vec()).unwrap())
            .collect()
    }

    pub(crate) fn kmirror(&self, arguments: &[&str]) -> Ran {
        self.kmirror_with_input(arguments, "")
    }

    pub(crate) fn kmirror_with_input(&self, arguments: &[&str], input: &str) -> Ran {
        let mut command = kmirror();
        command.args(&arguments[..1]).args(["--bootstrap-server", &self.cluster.bootstrap()]);
        let mut child = command.args(&arguments[1..]).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Ran::from(child.wait_with_output().unwrap())
    }
}

pub(crate) fn kmirror() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kmirror"));
    // Lock files of static members stay within the build directory.
    command.env("XDG_RUNTIME_DIR", env!("CARGO_TARGET_TMPDIR"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    pub(crate) fn succeeded(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        self.stdout
    }
}
