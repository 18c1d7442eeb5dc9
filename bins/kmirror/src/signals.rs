//! SIGINT and SIGTERM: the first asks for a drain, the second for an abort.

use kmirror::shutdown::Trigger;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Failure;

/// The two signals that end a process.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Listens from now on; a signal between now and the first wait is not missed.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let interrupt = signal(SignalKind::interrupt()).map_err(Failure::runtime)?;
        let terminate = signal(SignalKind::terminate()).map_err(Failure::runtime)?;
        Ok(Self { interrupt, terminate })
    }

    /// Waits for one. Cancel-safe.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }

    /// Passes signals on for ever.
    pub(crate) async fn forward(mut self, trigger: Trigger) {
        loop {
            let signal = self.next().await;
            trigger.signal();
            let phase = trigger.phase();
            tracing::info!(signal, ?phase, "signal received; another one ends at once");
        }
    }
}
