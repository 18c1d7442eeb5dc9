//! The table of kmirror's own options. It parses a file, checks it and documents it, so that the
//! three cannot differ; `engine.rs` gives each option its effect, and a test there finds one
//! without.

use std::fmt;
use std::time::Duration;

use super::units::{parse_bytes, parse_duration};

/// One option of a section.
#[derive(Debug)]
pub(crate) struct Opt {
    /// Its name in the file.
    pub(crate) name: &'static str,
    /// What its value must look like.
    pub(crate) kind: Kind,
    /// What holds when it is absent, as it would be written; empty for nothing.
    pub(crate) default: &'static str,
    /// Whether the section cannot do without.
    pub(crate) required: bool,
    /// What it means, in whole sentences.
    pub(crate) doc: &'static str,
}

const fn opt(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Opt {
    Opt { name, kind, default, required: false, doc }
}

const fn required(name: &'static str, kind: Kind, doc: &'static str) -> Opt {
    Opt { name, kind, default: "", required: true, doc }
}

/// What a value must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any text but the empty one.
    Text,
    /// A text, or a list of texts.
    Texts,
    /// `true` or `false`.
    Boolean,
    /// A whole number between two, both included.
    Integer(i64, i64),
    /// One of a few words.
    OneOf(&'static [&'static str]),
    /// A time such as `5s`.
    Duration,
    /// A size such as `256MiB`.
    Bytes,
    /// A table of texts.
    Pairs,
    /// A table of Kafka's own properties.
    Properties,
}

/// A value of the right kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Texts(Vec<String>),
    Boolean(bool),
    Integer(i64),
    Duration(Duration),
    Bytes(u64),
    Pairs(Vec<(String, String)>),
}

impl Kind {
    /// Reads a text, as a flag or a default is one. `Properties` have no such form.
    pub(crate) fn parse(self, text: &str) -> Result<Value, String> {
        match self {
            Self::Text if text.trim().is_empty() => Err("must not be empty".to_owned()),
            Self::Text => Ok(Value::Text(text.to_owned())),
            Self::Texts => Ok(Value::Texts(vec![text.to_owned()])),
            Self::Boolean => {
                text.parse().map(Value::Boolean).map_err(|_| "must be true or false".to_owned())
            }
            Self::Integer(least, most) => match text.parse::<i64>() {
                Ok(number) if (least..=most).contains(&number) => Ok(Value::Integer(number)),
                _ => Err(format!("must be a whole number from {least} to {most}")),
            },
            Self::OneOf(words) if words.contains(&text) => Ok(Value::Text(text.to_owned())),
            Self::OneOf(words) => Err(format!("must be one of {}", words.join(", "))),
            Self::Duration => parse_duration(text).map(Value::Duration),
            Self::Bytes => parse_bytes(text).map(Value::Bytes),
            Self::Pairs | Self::Properties => Err(format!("must be {self}")),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => formatter.write_str("text"),
            Self::Texts => formatter.write_str("text or list of texts"),
            Self::Boolean => formatter.write_str("boolean"),
            Self::Integer(least, most) if *most == i64::MAX => write!(formatter, "{least} or more"),
            Self::Integer(least, most) => write!(formatter, "{least} to {most}"),
            Self::OneOf(words) => formatter.write_str(&words.join(", ")),
            Self::Duration => formatter.write_str("time"),
            Self::Bytes => formatter.write_str("size"),
            Self::Pairs => formatter.write_str("table of texts"),
            Self::Properties => formatter.write_str("table of Kafka properties"),
        }
    }
}

/// A part of the file.
#[derive(Debug)]
pub(crate) struct Section {
    /// As its head is written.
    pub(crate) head: &'static str,
    /// What it is for.
    pub(crate) doc: &'static str,
    /// Its options.
    pub(crate) options: &'static [Opt],
}

/// Every part of the file, in the order of the documentation.
pub(crate) const SECTIONS: [&Section; 3] = [&TOP, &CLUSTER, &FLOW];

/// The top of the file.
pub(crate) const TOP: Section = Section {
    head: "",
    doc: "The top of the file. `clusters` and `flows` are its two kinds of parts.",
    options: &[opt(
        "http",
        Kind::Text,
        "",
        "Serve /metrics, /status, /live and /ready at this address, such as 127.0.0.1:9404. A port \
         alone means loopback. --http on the command line wins.",
    )],
};

/// A cluster.
pub(crate) const CLUSTER: Section = Section {
    head: "[clusters.NAME]",
    doc: "A cluster that flows refer to by NAME. It has `bootstrap` or `zookeeper`.",
    options: &[
        opt(
            "bootstrap",
            Kind::Texts,
            "",
            "Brokers to ask first, as host:port; the others are learnt from them.",
        ),
        opt(
            "zookeeper",
            Kind::Text,
            "",
            "ZooKeeper servers to look the brokers up in, as host:port,host:port/chroot, when \
             there is no `bootstrap`.",
        ),
        opt(
            "address_map",
            Kind::Pairs,
            "",
            "What brokers advertise (host:port, or a host alone) and what to dial instead, for \
             clusters on another network.",
        ),
        opt(
            "cluster_id",
            Kind::Text,
            "",
            "The id the cluster must have; the mirror refuses to run when another one answers.",
        ),
        opt(
            "properties",
            Kind::Properties,
            "",
            "Any property that Kafka's consumer and producer share, such as request.timeout.ms.",
        ),
    ],
};

/// A flow.
pub(crate) const FLOW: Section = Section {
    head: "[[flows]]",
    doc: "One mirror from a cluster to another. A file may hold several; each has its own streams, \
          memory and group.",
    options: FLOW_OPTIONS,
};

const HALT_OR_SKIP: Kind = Kind::OneOf(&["halt", "skip"]);

const FLOW_OPTIONS: &[Opt] = &[
    opt("name", Kind::Text, "", "What logs and metrics call it. Unset: SOURCE-DESTINATION."),
    required("source", Kind::Text, "The cluster that is read."),
    required("destination", Kind::Text, "The cluster that is written."),
    required(
        "topics",
        Kind::Texts,
        "Java regular expressions, each a text of its own; a topic is mirrored when its whole name \
         matches one.",
    ),
    opt("exclude", Kind::Texts, "", "Topics that match one of these are left out."),
    opt("internal_topics", Kind::Boolean, "false", "Whether Kafka's own topics may be mirrored."),
    opt("prefix", Kind::Text, "", "What is put before a topic's name at the destination."),
    opt("suffix", Kind::Text, "", "What is put after it; only one of the two may be set."),
    opt(
        "partitioning",
        Kind::OneOf(&["auto", "key-hash", "preserve"]),
        "auto",
        "`auto`: the same partition number when both topics have the same count, the key's hash \
         otherwise. `key-hash`: always by the key, as Kafka's producer does. `preserve`: always \
         the same number. Order per key is kept in all three.",
    ),
    opt(
        "source_is_murmur2",
        Kind::Boolean,
        "false",
        "Your word that every producer of the source chose partitions as Kafka's Java producer \
         does. Whole batches can then pass when the destination's count divides the source's.",
    ),
    opt(
        "streams",
        Kind::Integer(1, 256),
        "1",
        "Threads that each fetch and produce on their own connections; they share nothing.",
    ),
    opt(
        "memory",
        Kind::Bytes,
        "64MiB",
        "The bound of everything fetched and not yet acknowledged, all streams together.",
    ),
    opt(
        "group",
        Kind::Text,
        "",
        "The consumer group on the source whose committed offsets are the positions. Unset: \
         kmirror-NAME.",
    ),
    opt(
        "ownership",
        Kind::OneOf(&["group", "alone"]),
        "group",
        "`group`: instances with the same group share the partitions. `alone`: this process owns \
         all of them, and uses the group for positions only.",
    ),
    opt(
        "membership",
        Kind::OneOf(&["static", "dynamic"]),
        "static",
        "`static`: members are named after a slot of this host, so that a process that was killed \
         takes its old place at once (KIP-345). `dynamic`: the group waits for it to time out. A \
         group.instance.id among the properties wins.",
    ),
    opt(
        "state_directory",
        Kind::Text,
        "",
        "Where the lock files of slots are. Unset: the runtime directory of the user or the host.",
    ),
    opt("commit_interval", Kind::Duration, "5s", "How often positions are committed."),
    opt(
        "start",
        Kind::OneOf(&["earliest", "latest", "none"]),
        "earliest",
        "Where a partition without a position starts. One that appears while the mirror runs \
         starts with its first record. `none`: nowhere; it stops until somebody gives it a \
         position (kmirror groups --reset-offsets).",
    ),
    opt(
        "until_caught_up",
        Kind::Boolean,
        "false",
        "End once everything that was there at the start has been mirrored.",
    ),
    opt(
        "isolation",
        Kind::OneOf(&["read_committed", "read_uncommitted"]),
        "read_committed",
        "Whether records of open and aborted transactions are left out.",
    ),
    opt(
        "compression",
        Kind::OneOf(&["keep", "none", "gzip", "snappy", "lz4", "zstd"]),
        "keep",
        "The codec of every batch at the destination. `keep` leaves each as it is, and is what \
         lets batches pass untouched.",
    ),
    opt(
        "small_batch",
        Kind::Bytes,
        "32KiB",
        "Uncompressed batches smaller than this, and compressed ones smaller than an eighth of it, \
         are merged with their neighbours of the same fetch, or while they wait to be sent; over a \
         long link also larger ones.",
    ),
    opt(
        "batch",
        Kind::Bytes,
        "900KiB",
        "The size merged and rebuilt batches are filled to; split by key, before they are \
         compressed.",
    ),
    opt("create_topics", Kind::Boolean, "true", "Create topics the destination lacks."),
    opt(
        "copy_topic_configs",
        Kind::Boolean,
        "true",
        "Give created topics the source's topic configuration. While it cannot be read they are \
         not created; `false` creates them with the destination's defaults, compacted ones too.",
    ),
    opt(
        "replication_factor",
        Kind::Integer(1, 32_767),
        "",
        "Of created topics. Unset: the source's, lowered to the number of brokers.",
    ),
    opt(
        "grow_partitions",
        Kind::Boolean,
        "true",
        "Add partitions at the destination when the source has got more.",
    ),
    opt("refresh_interval", Kind::Duration, "5s", "How often topics are looked at."),
    opt(
        "on_lost",
        Kind::OneOf(&["halt", "continue"]),
        "halt",
        "What to do when the source no longer has the position (retention, truncation, a topic \
         created again), or the destination topic is not the one that was mirrored to: stop that \
         partition, or go on with the first offset that is there. What is lost is named in both.",
    ),
    opt(
        "on_oversize",
        HALT_OR_SKIP,
        "halt",
        "What to do with a single record the destination finds too large.",
    ),
    opt(
        "on_null_key",
        HALT_OR_SKIP,
        "halt",
        "What to do with a record without a key for a compacted topic.",
    ),
    opt(
        "on_rejected",
        HALT_OR_SKIP,
        "halt",
        "What to do with a batch the destination refuses for another reason.",
    ),
    opt(
        "reach",
        Kind::OneOf(&["partition", "mirror"]),
        "partition",
        "Whether a partition of which the destination refuses records stops alone or stops the \
         whole flow.",
    ),
    opt(
        "source_reach",
        Kind::OneOf(&["partition", "mirror"]),
        "partition",
        "The same for a partition that halts for anything else: its log at the source was \
         overtaken, cut off, made anew or cannot be read, or its destination topic is another one.",
    ),
    opt(
        "append_time",
        Kind::OneOf(&["visible", "created"]),
        "visible",
        "Which time a record of a LogAppendTime topic gets where the destination keeps CreateTime: \
         the one consumers of the source see, or the one its producer gave.",
    ),
    opt(
        "connect_timeout",
        Kind::Duration,
        "",
        "How long the clusters may take to answer at the start before the flow fails. Unset: for \
         ever; which one is waited for, and why, is logged every few seconds.",
    ),
    opt("shutdown_timeout", Kind::Duration, "30s", "How long a drain may take before it is cut."),
    opt("consumer", Kind::Properties, "", "Properties of Kafka's consumer, for the source."),
    opt("producer", Kind::Properties, "", "Properties of Kafka's producer, for the destination."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_documented_and_every_default_is_of_its_kind() {
        for section in SECTIONS {
            let mut names: Vec<_> = section.options.iter().map(|option| option.name).collect();
            names.sort_unstable();
            assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
            for option in section.options {
                assert!(option.doc.ends_with('.'), "{}", option.name);
                if !option.default.is_empty() {
                    assert!(option.kind.parse(option.default).is_ok(), "{}", option.name);
                }
            }
        }
    }
}
