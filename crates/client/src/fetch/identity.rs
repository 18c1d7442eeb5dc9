//! Which log a partition is read from, and whether it is still that one. Pure; owned by
//! [`Partition`](super::partition::Partition).
//!
//! A topic that is deleted and created anew has other records at the same offsets. Its id tells,
//! where brokers have ids (from 2.8). Where they have none, the last batch that was read is kept in
//! mind, and after whatever may hide such a change reading begins with that batch: in the same log
//! it is still there. What else cannot be in the same log counts as well: ends that went back, a
//! batch that reaches over the position.
//!
//! Not told without ids: a log made anew while nothing of the partition was being fetched, if it
//! has grown past the position since; one of which nothing had been read yet; and where
//! compaction has taken out what was kept in mind, or may have written it anew.

use uuid::Uuid;

use crate::batch::{Codec, Entry};

use super::partition::Ends;

/// What is known of a log.
#[derive(Clone, Debug, Default)]
pub(super) struct Identity {
    pub(super) topic_id: Option<Uuid>,
    /// The last batch that was read, if any was.
    mark: Option<Mark>,
    /// The last leader's epoch; in one log they never go back.
    leader_epoch: Option<i32>,
    doubt: Doubt,
    /// The log seems to end before the mark. A new leader's does for a moment, until it knows how
    /// far its followers are. So it is asked for the position: it refuses what it does not have.
    seeks_end: bool,
}

/// A batch, as it can be recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    base_offset: i64,
    next_offset: i64,
    crc: u32,
    /// Whether compaction wrote it anew, or may have done so without a trace. Replicas do that each
    /// for itself, so the same batch may have come before or after it elsewhere.
    is_rewritten: bool,
}

/// Whether something happened behind which a topic may have been made anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Doubt {
    #[default]
    None,
    /// Reading was interrupted.
    Interrupted,
    /// The partition was not there for a while, or is led in an earlier epoch than before.
    Vanished,
}

/// What a log has where the last batch was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// That batch, or something that does not speak against it.
    Same,
    /// Another: the log was made anew.
    Another,
    /// Nothing that could be compared.
    Nothing,
}

impl Identity {
    /// Reading was interrupted: nobody knows what happened meanwhile.
    pub(super) fn interrupt(&mut self) {
        self.raise(Doubt::Interrupted);
    }

    /// The leader changed, and its epoch with it; -1 is none.
    pub(super) fn lead(&mut self, epoch: Option<i32>) {
        let epoch = epoch.filter(|epoch| *epoch >= 0);
        match (self.leader_epoch, epoch) {
            (Some(before), Some(now)) if now < before => self.vanish(),
            _ => self.interrupt(),
        }
        self.leader_epoch = epoch.or(self.leader_epoch);
    }

    /// The partition is not there, or was not for a while.
    pub(super) fn vanish(&mut self) {
        self.raise(Doubt::Vanished);
    }

    fn raise(&mut self, doubt: Doubt) {
        if self.topic_id.is_none() {
            self.doubt = self.doubt.max(doubt);
            self.seeks_end = false;
        }
    }

    /// The metadata tell the topic's id. An older broker of the cluster may not.
    pub(super) fn learn(&mut self, topic_id: Option<Uuid>) {
        self.topic_id = self.topic_id.or(topic_id);
        if self.topic_id.is_some() {
            self.doubt = Doubt::None;
        }
    }

    /// The ends of the log went from `before` to `now`, as its leader says: in one log they never
    /// go back.
    pub(super) fn compare(&mut self, before: Option<Ends>, now: Ends) {
        let has_gone_back = before.is_some_and(|before| {
            now.high_watermark < before.high_watermark
                || now.log_start_offset < before.log_start_offset
        });
        if has_gone_back {
            self.interrupt();
        }
    }

    /// Where to fetch a partition from that stands at `next_offset`.
    pub(super) fn fetch_offset(&self, next_offset: i64) -> i64 {
        let mark = self.doubted().filter(|_| !self.seeks_end);
        mark.map_or(next_offset, |mark| mark.base_offset)
    }

    /// The batch that is to be found again before anything else is read.
    fn doubted(&self) -> Option<Mark> {
        self.mark.filter(|_| self.doubt != Doubt::None)
    }

    /// Looks at the first batch of an answer, for a partition that stands at `next_offset`.
    pub(super) fn find(&mut self, first: Option<Mark>, next_offset: i64) -> Found {
        let found = match (self.mark, first) {
            (None, _) => Found::Same,
            (Some(_), None) => Found::Nothing,
            (Some(mark), Some(first)) if self.doubt != Doubt::None => mark.find(first),
            (Some(mark), Some(first)) => {
                let reaches_over = mark.next_offset == next_offset
                    && self.topic_id.is_none()
                    && first.base_offset < next_offset;
                if reaches_over { Found::Another } else { Found::Same }
            }
        };
        if found == Found::Same {
            self.doubt = Doubt::None;
        }
        found
    }

    /// Nothing was found in a log that is replicated up to `high_watermark`. Whether that is before
    /// what was read last, so that the position is to be asked for.
    pub(super) fn seek_end(&mut self, high_watermark: i64) -> bool {
        self.seeks_end = self.doubted().is_some_and(|mark| high_watermark <= mark.base_offset);
        self.seeks_end
    }

    /// The position was asked for and not refused: it is in the log. Whether that was to be known,
    /// so that what was read last is to be found next.
    pub(super) fn find_end(&mut self) -> bool {
        std::mem::take(&mut self.seeks_end)
    }

    /// The log begins at `log_start_offset`: what was deleted cannot be found again.
    pub(super) fn forget_before(&mut self, log_start_offset: i64) -> bool {
        let is_gone = self.doubted().is_some_and(|mark| mark.base_offset < log_start_offset);
        if is_gone {
            self.doubt = Doubt::None;
        }
        is_gone
    }

    /// What was read last.
    pub(super) fn read(&mut self, last: Option<Mark>) {
        self.mark = last.or(self.mark);
    }

    /// Whether a log that ends before the position must be taken for one made anew, if no id proves
    /// that the topic is the same. Within one leader epoch a log never ends earlier than it did.
    pub(super) fn is_another(&self, has_newer_epoch: Option<bool>) -> bool {
        self.doubt == Doubt::Vanished || has_newer_epoch == Some(false)
    }

    /// Whether what was read last is of the topic that has the id.
    pub(super) fn is_proven(&self) -> bool {
        self.topic_id.is_some() && self.mark.is_some()
    }
}

impl Mark {
    pub(super) fn of(entry: &Entry) -> Self {
        let (base_offset, next_offset) = (entry.base_offset(), entry.next_offset());
        let (crc, is_rewritten) = match entry {
            Entry::Batch(batch) => {
                let header = batch.header();
                let is_thinned = header.records_count <= header.last_offset_delta;
                (header.crc, is_thinned || header.attributes.has_delete_horizon())
            }
            // What was taken out of a compressed message does not show from without.
            Entry::Legacy(set) => (first_crc(set.bytes()), set.codec() != Codec::None),
        };
        Self { base_offset, next_offset, crc, is_rewritten }
    }

    /// Whether the batch that a log has at this place is this one. A run of old messages is as long
    /// as the answer, so its end says nothing.
    fn find(self, found: Mark) -> Found {
        // Compaction may have taken it out, or written it anew.
        let is_rewritten = self.is_rewritten || found.is_rewritten;
        let cannot_tell = found.base_offset > self.base_offset || is_rewritten;
        let is_same = (found.base_offset, found.crc) == (self.base_offset, self.crc);
        if cannot_tell || is_same { Found::Same } else { Found::Another }
    }
}

/// The checksum of the first of some messages in the old formats.
fn first_crc(messages: &[u8]) -> u32 {
    const AT: usize = 12;
    let crc = messages.get(AT..).and_then(<[u8]>::first_chunk);
    crc.map_or(0, |crc| u32::from_be_bytes(*crc))
}
