//! What a connection knows of its requests. Pure: no bytes are moved and no clock is read here.
//!
//! A broker answers the requests of one connection in the order it got them, so an answer must
//! carry the correlation id of the oldest request that awaits one; any other id means that the two
//! ends no longer agree and the connection must close.
//!
//! A request is `queued` until the driver takes it to write; from then on it is finished or the
//! connection dies. A caller that goes away from a queued request takes it back; from a written
//! one, it leaves a place in the line whose answer is read and thrown away, and is still due in
//! time.

use std::collections::VecDeque;

use bytes::Bytes;
use tokio::time::Instant;

/// The largest number of requests that a connection holds, queued and awaiting answers.
pub(super) const REQUESTS_MAX: usize = 128;

/// A request as the driver writes it.
#[derive(Debug)]
pub(super) struct Outbound {
    /// The frame, length prefix included, in pieces that are written one after the other.
    pub segments: Vec<Bytes>,
    /// Whether the broker will answer.
    pub is_answered: bool,
    /// When the answer must have come.
    pub deadline: Instant,
}

/// A request whose answer is due.
#[derive(Debug)]
struct Awaited<W> {
    id: i32,
    written_at: Instant,
    deadline: Instant,
    /// `None` when they went away.
    waiter: Option<W>,
}

/// The requests of one connection. `W` is whoever waits for an answer.
#[derive(Debug)]
pub(super) struct State<W> {
    next_id: i32,
    queued: VecDeque<(i32, Outbound, W)>,
    written: VecDeque<Awaited<W>>,
    is_closed: bool,
}

/// Why a request was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// [`REQUESTS_MAX`] are held already.
    Full,
    /// The connection is closed.
    Closed,
}

/// What going away from a request did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cancelled {
    /// Not a byte had left: it never will.
    TakenBack,
    /// It had been taken to write, or answered.
    Written,
}

/// An answer that no request awaits.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("answer {found} where {expected:?} is next")]
pub(super) struct UnexpectedAnswer {
    /// The correlation id that came.
    found: i32,
    /// The one that was next, if any.
    expected: Option<i32>,
}

impl<W> Default for State<W> {
    fn default() -> Self {
        Self { next_id: 0, queued: VecDeque::new(), written: VecDeque::new(), is_closed: false }
    }
}

impl<W> State<W> {
    /// The correlation id that the next request gets.
    pub(super) fn next_id(&self) -> i32 {
        self.next_id
    }

    /// Queues the request that was framed with [`State::next_id`].
    pub(super) fn enqueue(&mut self, outbound: Outbound, waiter: W) -> Result<i32, (Refused, W)> {
        if self.is_closed {
            return Err((Refused::Closed, waiter));
        }
        if self.queued.len() + self.written.len() >= REQUESTS_MAX {
            return Err((Refused::Full, waiter));
        }
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        self.queued.push_back((id, outbound, waiter));
        Ok(id)
    }

    /// Takes the next request to write now. The second value is whoever waits, if no answer will
    /// come.
    pub(super) fn take_to_write(&mut self, now: Instant) -> Option<(Outbound, Option<W>)> {
        let (id, outbound, waiter) = self.queued.pop_front()?;
        if outbound.is_answered {
            let deadline = outbound.deadline;
            let awaited = Awaited { id, written_at: now, deadline, waiter: Some(waiter) };
            self.written.push_back(awaited);
            return Some((outbound, None));
        }
        Some((outbound, Some(waiter)))
    }

    /// When the request that the answer `id` belongs to was taken to write, and whoever waits for
    /// it; `None` if they went away.
    pub(super) fn answered(&mut self, id: i32) -> Result<(Instant, Option<W>), UnexpectedAnswer> {
        let expected = self.written.front().map(|awaited| awaited.id);
        let is_next = expected == Some(id);
        match is_next.then(|| self.written.pop_front()).flatten() {
            Some(awaited) => Ok((awaited.written_at, awaited.waiter)),
            None => Err(UnexpectedAnswer { found: id, expected }),
        }
    }

    /// When the answer that comes next is due, whoever waits for it.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.written.front().map(|awaited| awaited.deadline)
    }

    /// Whoever waited for `id` has gone away.
    pub(super) fn cancel(&mut self, id: i32) -> Cancelled {
        if let Some(place) = self.queued.iter().position(|(queued, ..)| *queued == id) {
            self.queued.remove(place);
            return Cancelled::TakenBack;
        }
        if let Some(awaited) = self.written.iter_mut().find(|awaited| awaited.id == id) {
            awaited.waiter = None;
        }
        Cancelled::Written
    }

    /// Takes no more requests, and gives back everybody who waits, with whether bytes had left.
    pub(super) fn close(&mut self) -> Vec<(W, bool)> {
        self.is_closed = true;
        let written = self.written.drain(..).filter_map(|awaited| Some((awaited.waiter?, true)));
        let queued = self.queued.drain(..).map(|(_, _, waiter)| (waiter, false));
        written.chain(queued).collect()
    }

    /// Takes no more requests, unless there is one. Whether it does so.
    pub(super) fn close_if_idle(&mut self) -> bool {
        self.is_closed |= self.queued.is_empty() && self.written.is_empty();
        self.is_closed
    }

    /// Whether the connection has been closed.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::now;

    fn request() -> Outbound {
        let segments = vec![Bytes::from_static(b"x")];
        Outbound { segments, is_answered: true, deadline: now() }
    }

    #[test]
    fn answers_go_to_their_requests_in_order() {
        let mut state = State::default();
        let first = state.enqueue(request(), "a").unwrap();
        let second = state.enqueue(request(), "b").unwrap();
        state.take_to_write(now()).unwrap();
        state.take_to_write(now()).unwrap();
        assert_eq!(state.answered(first).unwrap().1, Some("a"));
        assert_eq!(state.answered(second).unwrap().1, Some("b"));
    }

    #[test]
    fn an_answer_out_of_turn_is_refused() {
        let mut state = State::default();
        let first = state.enqueue(request(), "a").unwrap();
        let second = state.enqueue(request(), "b").unwrap();
        state.take_to_write(now()).unwrap();
        state.take_to_write(now()).unwrap();
        assert_eq!(
            state.answered(second),
            Err(UnexpectedAnswer { found: second, expected: Some(first) })
        );
    }

    #[test]
    fn a_cancelled_request_that_was_written_leaves_its_place_in_the_line() {
        let mut state = State::default();
        let first = state.enqueue(request(), "a").unwrap();
        let second = state.enqueue(request(), "b").unwrap();
        state.take_to_write(now()).unwrap();
        assert_eq!(state.cancel(first), Cancelled::Written);
        assert_eq!(state.cancel(second), Cancelled::TakenBack);
        assert!(state.take_to_write(now()).is_none());
        assert_eq!(state.answered(first).unwrap().1, None);
    }

    #[test]
    fn closing_tells_whose_bytes_had_left() {
        let mut state = State::default();
        state.enqueue(request(), "a").unwrap();
        state.enqueue(request(), "b").unwrap();
        state.take_to_write(now()).unwrap();
        assert_eq!(state.close(), vec![("a", true), ("b", false)]);
        assert_eq!(state.enqueue(request(), "c"), Err((Refused::Closed, "c")));
    }

    #[test]
    fn a_full_connection_refuses_without_losing_the_waiter() {
        let mut state = State::default();
        for _ in 0..REQUESTS_MAX {
            state.enqueue(request(), 0).unwrap();
        }
        assert_eq!(state.enqueue(request(), 1), Err((Refused::Full, 1)));
    }

    #[test]
    fn a_request_without_an_answer_is_done_when_written() {
        let mut state = State::default();
        state.enqueue(Outbound { is_answered: false, ..request() }, "a").unwrap();
        let (_, waiter) = state.take_to_write(now()).unwrap();
        assert_eq!(waiter, Some("a"));
        assert!(state.close().is_empty());
    }
}
