//! The properties of Kafka's producer, today's and the Scala producer's.

use super::{GIB, Key, Kind};

const BYTES: &str = "a mirror moves bytes and never interprets them";
const BATCHES: &str = "batches arrive from the source as they are; small ones are merged";
const BUDGET: &str = "one budget bounds the memory of the whole mirror";
const PARTITIONER: &str = "partitions are chosen with --partitioning";
const NO_LIMIT: &str =
    "a record is sent until it is acknowledged or cannot be; it is never dropped";
const BYTE_ARRAY: &[&str] =
    &["org.apache.kafka.common.serialization.bytearrayserializer", "bytearrayserializer"];

pub(super) const KEYS: &[Key] = &[
    Key::honoured(
        "compression.type",
        Kind::OneOf(&["none", "gzip", "snappy", "lz4", "zstd"]),
        "",
        "The codec every batch has at the destination. Unset means as at the source, which is \
         what lets batches pass untouched.",
    ),
    Key::honoured(
        "max.request.size",
        Kind::Bytes(0),
        "4194304",
        "The most bytes of one produce request.",
    )
    .within(1_024, GIB),
    Key::honoured(
        "max.in.flight.requests.per.connection",
        Kind::Integer(1),
        "5",
        "How many batches of one partition may await their acknowledgement.",
    )
    .within(1, 5),
    Key::fixed(
        "acks",
        Kind::OneOf(&["all", "-1", "0", "1"]),
        &["all", "-1"],
        "always all: a position is committed only for what every in-sync replica has",
    ),
    Key::fixed(
        "enable.idempotence",
        Kind::Boolean,
        &["true"],
        "always on: a request that is repeated must not be stored twice",
    ),
    Key::ignored("linger.ms", Kind::Milliseconds(0), BATCHES),
    Key::ignored("batch.size", Kind::Bytes(0), BATCHES),
    Key::ignored("buffer.memory", Kind::Bytes(0), BUDGET),
    Key::ignored("max.block.ms", Kind::Milliseconds(0), BUDGET),
    Key::ignored("retries", Kind::Integer(0), NO_LIMIT),
    Key::ignored("delivery.timeout.ms", Kind::Milliseconds(0), NO_LIMIT),
    Key::ignored(
        "compression.gzip.level",
        Kind::Integer(-1),
        "level 3 is used where it compresses",
    ),
    Key::ignored("compression.lz4.level", Kind::Integer(1), "the codec's default level is used"),
    Key::ignored(
        "compression.zstd.level",
        Kind::Integer(-131_072),
        "level 1 is used where it compresses",
    ),
    Key::fixed("key.serializer", Kind::Text, BYTE_ARRAY, BYTES),
    Key::fixed("value.serializer", Kind::Text, BYTE_ARRAY, BYTES),
    Key::refused("interceptor.classes", &[""], "it names Java classes; remove it"),
    Key::refused(
        "partitioner.class",
        &[
            "",
            "org.apache.kafka.clients.producer.internals.defaultpartitioner",
            "kafka.producer.defaultpartitioner",
        ],
        "it names a Java class; remove it and choose with --partitioning",
    ),
    Key::ignored("partitioner.ignore.keys", Kind::Boolean, PARTITIONER),
    Key::ignored("partitioner.adaptive.partitioning.enable", Kind::Boolean, PARTITIONER),
    Key::ignored("partitioner.availability.timeout.ms", Kind::Milliseconds(0), PARTITIONER),
    Key::ignored("metadata.max.idle.ms", Kind::Milliseconds(0), "topics in use are kept in view"),
    Key::refused(
        "transactional.id",
        &[""],
        "the drop-in command delivers at least once; remove it",
    ),
    Key::ignored("transaction.timeout.ms", Kind::Milliseconds(0), "there is no transaction"),
    Key::renamed("metadata.broker.list", "bootstrap.servers"),
    Key::renamed("broker.list", "bootstrap.servers"),
    Key::renamed("compression.codec", "compression.type").with_aliases(&[
        ("0", "none"),
        ("1", "gzip"),
        ("2", "snappy"),
        ("3", "lz4"),
    ]),
    Key::renamed("request.required.acks", "acks"),
    Key::renamed("queue.buffering.max.ms", "linger.ms"),
    Key::renamed("topic.metadata.refresh.interval.ms", "metadata.max.age.ms")
        .with_aliases(&[("-1", "86400000")]),
    Key::renamed("message.send.max.retries", "retries"),
    Key::ignored(
        "producer.type",
        Kind::Text,
        "records are sent without waiting for each other, and a position is committed only after \
         the acknowledgement, so sync has nothing to add",
    ),
    Key::ignored("queue.buffering.max.messages", Kind::Integer(0), BUDGET),
    Key::ignored("queue.enqueue.timeout.ms", Kind::Integer(-1), BUDGET),
    Key::ignored("queue.enqueueTimeout.ms", Kind::Integer(-1), BUDGET),
    Key::ignored("block.on.buffer.full", Kind::Boolean, BUDGET),
    Key::ignored("metadata.fetch.timeout.ms", Kind::Milliseconds(0), BUDGET),
    Key::ignored("timeout.ms", Kind::Milliseconds(0), NO_LIMIT),
    Key::ignored("batch.num.messages", Kind::Integer(1), BATCHES),
    Key::ignored("serializer.class", Kind::Text, BYTES),
    Key::ignored("key.serializer.class", Kind::Text, BYTES),
    Key::ignored("compressed.topics", Kind::List, "compression.type holds for every topic"),
    Key::ignored("reconnect.interval", Kind::Integer(0), "connections are kept open"),
];
