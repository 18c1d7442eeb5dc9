//! The values that flow from stage to stage.

/// How a batch got from the source's form to the destination's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Path {
    /// Its header was patched; nothing was decompressed for writing.
    Passthrough,
    /// Several tiny ones became one.
    Coalesce,
    /// Its records were written into new batches.
    Rebuild,
    /// It was cut to what the destination takes.
    Split,
    /// It came in a format older than Kafka 0.11's.
    Legacy,
}

impl Path {
    /// The word in metrics and the status.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Path::Passthrough => "passthrough",
            Path::Coalesce => "coalesce",
            Path::Rebuild => "rebuild",
            Path::Split => "split",
            Path::Legacy => "legacy",
        }
    }
}

macro_rules! ways {
    ($($(#[$doc:meta])* $name:ident => $path:ident, $reason:literal;)*) => {
        /// A [`Path`] and the reason it was taken: what batches are counted by.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum Way { $($(#[$doc])* $name,)* }

        impl Way {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Way] = &[$(Way::$name,)*];

            /// The path.
            pub fn path(self) -> Path {
                match self { $(Way::$name => Path::$path,)* }
            }

            /// The word for the reason.
            pub fn reason(self) -> &'static str {
                match self { $(Way::$name => $reason,)* }
            }
        }
    };
}

ways! {
    /// The whole partition has one destination.
    Whole => Passthrough, "whole";
    /// Keys were read, and all of the batch's have one destination.
    OneDestination => Passthrough, "one_destination";
    /// Several small batches waited.
    Small => Coalesce, "small";
    /// Its offsets have gaps, as compaction leaves them.
    Gaps => Rebuild, "gaps";
    /// It begins before the position.
    Resume => Rebuild, "resume";
    /// Its records have several destinations.
    Keys => Rebuild, "keys";
    /// Its times are the source's append time, which the destination would not show.
    AppendTime => Rebuild, "append_time";
    /// Another codec was asked for.
    Codec => Rebuild, "codec";
    /// Its header says something that cannot be passed on.
    Header => Rebuild, "header";
    /// Records that the destination would never take were left out.
    Skip => Rebuild, "skip";
    /// It is larger than the destination's known limit.
    Limit => Split, "limit";
    /// The destination answered that it is too large.
    Refused => Split, "refused";
    /// Its format is version 0 or 1.
    Format => Legacy, "format";
}
