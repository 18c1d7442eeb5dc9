//! The two steps of an end: *drain* (close the left end and let what was fetched be produced and
//! committed) and *abort* (drop everything now). Signals only move forward; they are latched, so
//! nobody misses one by looking late.

use tokio::sync::watch;

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Phase {
    /// Nothing was asked for.
    Running,
    /// Nothing new is fetched; what was fetched is finished.
    Draining,
    /// Everything is dropped.
    Aborting,
}

/// The end that asks. Cloneable; every clone asks the same mirror. Dropping it asks for nothing.
#[derive(Debug, Clone)]
pub struct Trigger {
    phase: watch::Sender<Phase>,
}

impl Trigger {
    /// Asks for a drain the first time and for an abort the second: what Ctrl-C should call.
    pub fn signal(&self) {
        self.phase.send_if_modified(|phase| {
            let next = match phase {
                Phase::Running => Phase::Draining,
                Phase::Draining | Phase::Aborting => Phase::Aborting,
            };
            std::mem::replace(phase, next) != next
        });
    }

    /// Asks for a drain; does nothing when one is under way.
    pub fn drain(&self) {
        self.advance(Phase::Draining);
    }

    /// Asks for an abort.
    pub fn abort(&self) {
        self.advance(Phase::Aborting);
    }

    /// Another end that listens.
    pub fn subscribe(&self) -> Shutdown {
        Shutdown { phase: self.phase.subscribe() }
    }

    /// How far it has come.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let forward = *phase < to;
            if forward {
                *phase = to;
            }
            forward
        });
    }
}

/// The end that listens.
#[derive(Debug, Clone)]
pub struct Shutdown {
    phase: watch::Receiver<Phase>,
}

impl Shutdown {
    /// How far it has come.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Returns once the phase is at least `phase`. Cancel-safe. When nobody is left who could ask,
    /// it never returns.
    pub async fn reached(&mut self, phase: Phase) {
        if self.phase.wait_for(|now| *now >= phase).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// A pair of ends that belong together.
pub fn channel() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(Phase::Running);
    (Trigger { phase: sender }, Shutdown { phase: receiver })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_signal_aborts_and_nothing_goes_back() {
        let (trigger, shutdown) = channel();
        assert_eq!(shutdown.phase(), Phase::Running);
        trigger.signal();
        assert_eq!(shutdown.phase(), Phase::Draining);
        trigger.drain();
        assert_eq!(shutdown.phase(), Phase::Draining);
        trigger.signal();
        trigger.signal();
        assert_eq!(shutdown.phase(), Phase::Aborting);
        trigger.drain();
        assert_eq!(shutdown.phase(), Phase::Aborting);
    }

    #[tokio::test]
    async fn a_late_listener_still_hears_the_signal() {
        let (trigger, _shutdown) = channel();
        trigger.drain();
        let mut late = trigger.subscribe();
        late.reached(Phase::Draining).await;
        assert_eq!(late.phase(), Phase::Draining);
    }
}
