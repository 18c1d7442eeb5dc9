//! A machine that has other things to do: processes that use the processors while a test runs, so
//! that what depends on speed shows.

use std::process::{Child, Command, Stdio};

/// Processes that do nothing but compute; they end with this value.
#[derive(Debug)]
pub struct Busy {
    children: Vec<Child>,
}

impl Busy {
    /// Starts `count` of them.
    ///
    /// # Panics
    /// When there is no shell.
    #[must_use]
    pub fn start(count: usize) -> Self {
        let spin = |_| {
            let mut command = Command::new("sh");
            command.args(["-c", "while :; do :; done"]).stdin(Stdio::null());
            command.spawn().expect("a shell starts")
        };
        Self { children: (0..count).map(spin).collect() }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.children {
            if let Err(error) = child.kill().and_then(|()| child.wait()) {
                eprintln!("end a busy process: {error}");
            }
        }
    }
}
