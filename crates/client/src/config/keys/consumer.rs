//! The properties of Kafka's consumer, today's and the ZooKeeper consumer's.

use super::{GIB, HOUR, INT_MAX, Key, Kind};

const BYTES: &str = "a mirror moves bytes and never interprets them";
const OWN_COMMITS: &str = "positions are committed after the destination acknowledged the records";
const ZOOKEEPER_OLD: &str = "it belongs to the ZooKeeper consumer; Kafka's group protocol is used";
const BYTE_ARRAY: &[&str] =
    &["org.apache.kafka.common.serialization.bytearraydeserializer", "bytearraydeserializer"];

pub(super) const KEYS: &[Key] = &[
    Key::honoured(
        "group.id",
        Kind::Text,
        "",
        "The consumer group on the source. Its committed offsets are the mirror's positions, and \
         instances with the same group share the partitions.",
    ),
    Key::honoured(
        "group.instance.id",
        Kind::Text,
        "",
        "Makes membership static (KIP-345): a restart within session.timeout.ms moves nothing. A \
         stream appends its number.",
    ),
    Key::honoured(
        "auto.offset.reset",
        Kind::OneOf(&["earliest", "latest", "none"]),
        "earliest",
        "Where a partition without a committed offset starts. MirrorMaker's default is latest, \
         which loses the first records of a new topic. none: such a partition stops, and so does \
         one whose offset is gone.",
    )
    .with_aliases(&[("smallest", "earliest"), ("largest", "latest")]),
    Key::honoured(
        "isolation.level",
        Kind::OneOf(&["read_uncommitted", "read_committed"]),
        "read_committed",
        "Whether records of open and aborted transactions are mirrored too. MirrorMaker's default \
         is read_uncommitted, which copies what its producer took back.",
    ),
    Key::honoured(
        "fetch.min.bytes",
        Kind::Bytes(0),
        "1",
        "How much a fetch waits for, up to fetch.max.wait.ms; never more than fetch.max.bytes.",
    )
    .within(0, GIB),
    Key::honoured(
        "fetch.max.bytes",
        Kind::Bytes(0),
        "52428800",
        "The most a fetch returns; less where the memory does not hold four answers of each \
         stream, or two over a long link. A first batch larger than this still passes.",
    )
    .within(1_024, GIB),
    Key::honoured(
        "fetch.max.wait.ms",
        Kind::Milliseconds(0),
        "500",
        "How long a fetch waits for fetch.min.bytes.",
    )
    .within(0, HOUR),
    Key::honoured(
        "max.partition.fetch.bytes",
        Kind::Bytes(0),
        "2097152",
        "The most a fetch returns of one partition where many are read; few share the whole \
         answer. A first batch larger than this still passes.",
    )
    .within(1, GIB),
    Key::honoured(
        "session.timeout.ms",
        Kind::Milliseconds(1),
        "",
        "How long the group waits for a member that went silent. Unset: 45 s for a static \
         member, 10 s for a dynamic one.",
    )
    .within(1, INT_MAX),
    Key::honoured(
        "heartbeat.interval.ms",
        Kind::Milliseconds(1),
        "3000",
        "How often a member shows that it is alive; it must be below session.timeout.ms.",
    )
    .within(1, INT_MAX),
    Key::honoured(
        "max.poll.interval.ms",
        Kind::Milliseconds(1),
        "60000",
        "How long the group waits, when it rebalances, for members to hand over their partitions.",
    )
    .within(1, INT_MAX),
    Key::honoured(
        "partition.assignment.strategy",
        Kind::List,
        "cooperative-sticky",
        "The assignors offered to the group, best first: range, roundrobin, sticky, \
         cooperative-sticky or their Java class names.",
    ),
    Key::honoured(
        "exclude.internal.topics",
        Kind::Boolean,
        "true",
        "Whether a pattern leaves Kafka's own topics (__consumer_offsets and the like) out.",
    ),
    Key::honoured(
        "zookeeper.connect",
        Kind::Text,
        "",
        "Where the brokers of the source are looked up when bootstrap.servers is absent: \
         host:port,host:port/chroot.",
    ),
    Key::honoured(
        "zookeeper.connection.timeout.ms",
        Kind::Milliseconds(0),
        "10000",
        "How long ZooKeeper may take to accept a connection, and for each answer.",
    )
    .within(1, HOUR),
    Key::fixed("enable.auto.commit", Kind::Boolean, &["false"], OWN_COMMITS),
    Key::ignored(
        "auto.commit.interval.ms",
        Kind::Milliseconds(0),
        "--offset.commit.interval.ms says how often positions are committed",
    ),
    Key::fixed("check.crcs", Kind::Boolean, &["true"], "every batch is verified"),
    Key::fixed("key.deserializer", Kind::Text, BYTE_ARRAY, BYTES),
    Key::fixed("value.deserializer", Kind::Text, BYTE_ARRAY, BYTES),
    Key::refused("interceptor.classes", &[""], "it names Java classes; remove it"),
    Key::ignored("max.poll.records", Kind::Integer(1), "batches move, not single records"),
    Key::fixed(
        "allow.auto.create.topics",
        Kind::Boolean,
        &["false"],
        "reading never creates a topic on the source",
    ),
    Key::ignored("client.rack", Kind::Text, "records are fetched from leaders"),
    Key::refused(
        "group.protocol",
        &["classic"],
        "only the classic group protocol is spoken; remove it or say classic",
    ),
    Key::ignored("group.remote.assignor", Kind::Text, "the classic group protocol has none"),
    Key::renamed("auto.commit.enable", "enable.auto.commit"),
    // Kafka has no such property, yet files on the internet do.
    Key::ignored("auto.commit.enabled", Kind::Text, OWN_COMMITS),
    Key::renamed("fetch.message.max.bytes", "max.partition.fetch.bytes"),
    Key::renamed("fetch.wait.max.ms", "fetch.max.wait.ms"),
    Key::renamed("socket.receive.buffer.bytes", "receive.buffer.bytes"),
    Key::renamed("socket.timeout.ms", "request.timeout.ms"),
    Key::fixed(
        "offsets.storage",
        Kind::Text,
        &["kafka"],
        "positions are kept in Kafka; where it has none, those that zookeeper.connect leads to are \
         taken over once",
    ),
    Key::ignored("dual.commit.enabled", Kind::Boolean, "positions are kept in Kafka only"),
    Key::ignored("offsets.channel.backoff.ms", Kind::Integer(0), ZOOKEEPER_OLD),
    Key::ignored("offsets.channel.socket.timeout.ms", Kind::Integer(0), ZOOKEEPER_OLD),
    Key::ignored("offsets.commit.max.retries", Kind::Integer(0), "commits are repeated until done"),
    Key::ignored("consumer.id", Kind::Text, ZOOKEEPER_OLD),
    Key::ignored("consumer.timeout.ms", Kind::Integer(-1), "the mirror waits for records for ever"),
    Key::ignored("num.consumer.fetchers", Kind::Integer(1), ZOOKEEPER_OLD),
    Key::ignored("queued.max.message.chunks", Kind::Integer(1), "one budget bounds the memory"),
    Key::ignored("rebalance.max.retries", Kind::Integer(0), ZOOKEEPER_OLD),
    Key::ignored("rebalance.backoff.ms", Kind::Integer(0), ZOOKEEPER_OLD),
    Key::ignored("refresh.leader.backoff.ms", Kind::Integer(0), "a moved leader is found at once"),
    Key::ignored("zookeeper.session.timeout.ms", Kind::Integer(0), ZOOKEEPER_OLD),
    Key::ignored("zookeeper.sync.time.ms", Kind::Integer(0), ZOOKEEPER_OLD),
    Key::ignored("shallow.iterator.enable", Kind::Boolean, "compressed batches pass untouched"),
    Key::ignored("mirror.topics.whitelist", Kind::Text, "topics are chosen with --include"),
    Key::ignored("mirror.topics.blacklist", Kind::Text, "topics are left out with --blacklist"),
];
