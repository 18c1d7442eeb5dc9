//! The part of the state machine that keeps the session: heartbeats, what the coordinator answers
//! them, and when a session is over by our own account.
//!
//! Owned by the group module; see the contract in the parent module.

use std::time::Duration;

use tokio::time::Instant;

use super::{Failure, Identity, LostCause, Machine, NO_GENERATION, Phase, RETRY, is_final};
use crate::error_code::ErrorCode;
use crate::group::config::heartbeat_timeout;
use crate::group::state::Action;

/// The first pause between two heartbeats after an assignment; it doubles from then on.
pub(super) const QUICK_HEARTBEAT: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Heartbeat {
    pub(super) due: Instant,
    /// From one that is answered well to the next; grows to the configured interval.
    pause: Duration,
    /// When the one under way was sent, and under which identity.
    sent: Option<(Instant, Identity)>,
    /// When the last one was sent.
    asked: Instant,
}

impl Heartbeat {
    pub(super) fn new(now: Instant, pause: Duration) -> Self {
        Self { due: now, pause, sent: None, asked: now }
    }
}

impl Machine {
    /// When the session is over by our own account: whoever is part of the group, and whoever still
    /// owns something, must have heard of the coordinator by then.
    pub(super) fn session_end(&self) -> Option<Instant> {
        let counts = match self.phase {
            Phase::Stable => true,
            Phase::Waiting(_) | Phase::Joining | Phase::Assigning(..) | Phase::Syncing => {
                !self.owned.is_empty()
            }
            Phase::Leaving | Phase::Ended => false,
        };
        counts.then(|| self.last_contact + self.session_timeout)
    }

    /// Whether the session is over. Silence only counts if the coordinator was asked: a thread that
    /// was busy has asked nobody, and has not read what was answered. It asks once more, and that
    /// heartbeat's answer, or its time-out, decides.
    pub(super) fn is_session_over(&self, now: Instant) -> bool {
        let Some(end) = self.session_end() else { return false };
        let asked = self.heartbeat.asked;
        if now < end {
            false
        } else if asked < end {
            asked + heartbeat_timeout(self.session_timeout) >= end
        } else {
            self.heartbeat.sent.is_none()
        }
    }

    pub(super) fn lose_session(&mut self, now: Instant) {
        self.lose(LostCause::SessionTimedOut);
        // The member id may still be known; if not, the join says so.
        self.identity.generation = NO_GENERATION;
        self.phase = Phase::Waiting(now);
    }

    /// When the next heartbeat is to be sent, if one is. They go on during a join, as long as we
    /// are of some generation: the join may be stuck where the coordinator does not see it.
    pub(super) fn heartbeat_due(&self) -> Option<Instant> {
        let beats = match self.phase {
            Phase::Joining => self.identity().is_some(),
            Phase::Assigning(..) | Phase::Syncing | Phase::Stable => true,
            Phase::Waiting(_) | Phase::Leaving | Phase::Ended => false,
        };
        (beats && self.heartbeat.sent.is_none()).then_some(self.heartbeat.due)
    }

    pub(super) fn beat_if_due(&mut self, now: Instant) {
        if self.heartbeat_due().is_some_and(|due| now >= due) {
            self.heartbeat.asked = now;
            self.heartbeat.sent = Some((now, self.identity.clone()));
            self.actions.push_back(Action::Heartbeat(self.identity.clone()));
        }
    }

    pub(super) fn on_heartbeat(&mut self, now: Instant, result: Result<(), Failure>) {
        let Some((sent_at, sent_by)) = self.heartbeat.sent.take() else { return };
        self.heartbeat.due = sent_at + self.heartbeat.pause;
        self.heartbeat.pause = (self.heartbeat.pause * 2).min(self.config.heartbeat_interval);
        if sent_by != self.identity {
            return;
        }
        let failure = match result {
            Ok(()) => {
                self.refusal = None;
                return self.last_contact = self.last_contact.max(sent_at);
            }
            Err(failure) => failure,
        };
        match (failure, &self.phase) {
            (Failure::Code(ErrorCode::REBALANCE_IN_PROGRESS), phase) => {
                self.last_contact = self.last_contact.max(sent_at);
                // While we join or sync ourselves, the answer to that says more.
                if matches!(phase, Phase::Stable) {
                    self.want_rejoin(now, "the group rebalances");
                }
            }
            // The group has a new generation: the answer that makes us part of it is on its way.
            (Failure::Code(ErrorCode::ILLEGAL_GENERATION), Phase::Joining) => {
                self.last_contact = self.last_contact.max(sent_at);
            }
            (Failure::Code(code), Phase::Stable | Phase::Joining) => self.on_refusal(now, code),
            (Failure::Fatal(error), _) => self.fail(error),
            (Failure::Unreachable | Failure::Code(_), _) => self.hurry_heartbeat(now),
        }
    }

    /// Beats often for a while. Members come and go together, as the streams of a process that
    /// starts do, and whoever joins waits until all others have heard of it, which they do by a
    /// heartbeat.
    pub(super) fn quicken_heartbeat(&mut self, now: Instant) {
        self.heartbeat.pause = QUICK_HEARTBEAT.min(self.config.heartbeat_interval);
        self.heartbeat.due = self.heartbeat.due.min(now + self.heartbeat.pause);
    }

    /// Tries the next heartbeat sooner than usual: something is wrong with the coordinator.
    fn hurry_heartbeat(&mut self, now: Instant) {
        self.heartbeat.due = self.heartbeat.due.min(now + RETRY.0 * 5);
    }

    /// The coordinator refused a heartbeat or a commit of our present identity.
    pub(super) fn on_refusal(&mut self, now: Instant, code: ErrorCode) {
        match code {
            ErrorCode::REBALANCE_IN_PROGRESS => self.want_rejoin(now, "the group rebalances"),
            ErrorCode::UNKNOWN_MEMBER_ID => self.start_over(now, LostCause::Expelled),
            ErrorCode::ILLEGAL_GENERATION => {
                // The member id is still good (KAFKA-12906); only the generation is not.
                self.lose(LostCause::Expelled);
                self.identity.generation = NO_GENERATION;
                self.phase = Phase::Waiting(now);
            }
            ErrorCode::FENCED_INSTANCE_ID => self.on_fenced(now),
            code if is_final(code) => self.fail(self.refused(code)),
            code => {
                self.note_refusal(code);
                self.hurry_heartbeat(now);
            }
        }
    }
}
