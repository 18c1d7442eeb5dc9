//! What happens to what cannot be mirrored: records the destination refuses, positions the source
//! no longer has. Every default stops the partition: nothing is lost in silence.

/// What to do when a position the mirror needs is gone from the source: deleted by retention, or
/// cut off by an unclean leader election, or swept away with its topic. Also when the destination
/// topic is not the one that everything before the position was mirrored to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lost {
    /// Stop that partition, naming what was lost.
    #[default]
    Halt,
    /// Report what was lost, count it, and go on with the first offset that is there, once what was
    /// fetched is written. At a destination topic that is a new one, go on at the position.
    Continue,
}

/// What to do with one record the destination will never take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// Stop that partition before the record.
    #[default]
    Halt,
    /// Leave the record out, write its place to the ledger (log target `kmirror::ledger`) and count
    /// it.
    Skip,
}

/// How far the trouble of one partition reaches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reach {
    /// The partition stops alone; the others flow.
    #[default]
    Partition,
    /// The whole mirror stops, as MirrorMaker does with `--abort.on.send.failure true` when the
    /// destination refuses records. What was acknowledged before is committed, so that starting it
    /// again repeats nothing.
    Mirror,
}

/// Where a partition without a committed position starts. One that was not there when the mirror
/// first looked starts with its first record in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// At the first record the source has. Unlike MirrorMaker's default (`latest`) this does not
    /// lose the first records of a new topic.
    #[default]
    Earliest,
    /// After the last record the source has.
    Latest,
    /// Nowhere: it stops until somebody gives it a position.
    Halt,
}

/// Which time a record of a source topic with `message.timestamp.type=LogAppendTime` carries at a
/// destination topic with `CreateTime`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AppendTime {
    /// The time consumers of the source see. Such batches are rebuilt.
    #[default]
    Visible,
    /// The time the producer gave, which consumers of the source cannot see. Such batches pass
    /// through.
    Created,
}
