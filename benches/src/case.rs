//! One kind of load. Pure: what can be asked for, how it is named, what it comes to.

use std::{fmt, str::FromStr};

use kmirror_client::batch::Codec;
use serde::{Deserialize, Deserializer, Serialize, de};

/// How records are put into batches at the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batching {
    /// One record in each, as with `batch.size=1` or a lonely `linger.ms=0`.
    One,
    /// As many as fit into this number of bytes, as `batch.size` counts: after compression.
    Bytes(usize),
}

/// How many partitions the topic has at each end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partitions {
    /// At the source.
    pub source: i32,
    /// At the destination.
    pub destination: i32,
}

/// One kind of load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// How many records there are to mirror.
    pub records: u64,
    /// Bytes of each record's value.
    pub record_bytes: usize,
    /// Over how many keys; 0 for records without a key.
    pub keys: u64,
    /// How batches are compressed.
    #[serde(serialize_with = "as_text", deserialize_with = "codec_from_text")]
    pub codec: Codec,
    /// How they are batched.
    #[serde(serialize_with = "as_text", deserialize_with = "batching_from_text")]
    pub batching: Batching,
    /// The partitions at both ends.
    pub partitions: Partitions,
    /// Whether there were more records, every fourth, that the source has compacted away: its
    /// batches then lack offsets. Each record has a key of its own.
    pub gaps: bool,
}

impl Case {
    /// The name of the topic that holds this load; cases that differ only in what happens at the
    /// destination share it.
    #[must_use]
    pub fn topic(&self) -> String {
        let Self { records, record_bytes, keys, codec, batching, partitions, gaps } = self;
        let (source, gaps) = (partitions.source, if *gaps { "-gaps" } else { "" });
        format!("bench-{records}-{record_bytes}-{keys}-{codec}-{batching}-{source}{gaps}")
    }

    /// Bytes of all values: what "logical" means in every figure.
    #[must_use]
    pub fn logical_bytes(&self) -> u64 {
        self.records * self.record_bytes as u64
    }

    /// The batches that a mirror may make of these at best. Producing alone is measured with them,
    /// or a mirror that puts lonely records together would seem to pass the ceiling.
    #[must_use]
    pub fn batching_at_best(&self) -> Batching {
        match self.batching {
            Batching::One => Batching::Bytes(TOGETHER_BYTES),
            batching @ Batching::Bytes(_) => batching,
        }
    }

    /// Whether a record goes to the partition of the same number.
    #[must_use]
    pub fn keeps_partitions(&self) -> bool {
        self.partitions.source == self.partitions.destination
    }

    /// Whether a record is larger than clients and brokers let pass unless they are told.
    #[must_use]
    pub fn is_large(&self) -> bool {
        self.record_bytes > RECORD_BYTES_USUAL
    }

    /// The case in a few words.
    #[must_use]
    pub fn title(&self) -> String {
        let Partitions { source, destination } = self.partitions;
        let keys = match self.keys {
            _ if self.gaps => ", compacted with gaps".to_owned(),
            0 => String::new(),
            keys => format!(", {keys} keys"),
        };
        format!(
            "{} records of {} B{keys}, {}, batches of {}, {source} to {destination} partitions",
            self.records, self.record_bytes, self.codec, self.batching
        )
    }
}

impl fmt::Display for Batching {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One => formatter.write_str("one"),
            Self::Bytes(bytes) if bytes % 1024 == 0 => write!(formatter, "{}KiB", bytes / 1024),
            Self::Bytes(bytes) => write!(formatter, "{bytes}B"),
        }
    }
}

impl FromStr for Batching {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "one" {
            return Ok(Self::One);
        }
        let (digits, unit) = match text {
            _ if text.ends_with("MiB") => (text.trim_end_matches("MiB"), 1 << 20),
            _ if text.ends_with("KiB") => (text.trim_end_matches("KiB"), 1 << 10),
            _ => (text.trim_end_matches('B'), 1),
        };
        let bytes = digits.parse::<usize>().ok().and_then(|number| number.checked_mul(unit));
        match bytes {
            Some(bytes) if (1..=BATCH_BYTES_MAX).contains(&bytes) => Ok(Self::Bytes(bytes)),
            _ => Err(format!("{text:?} is neither `one` nor a size such as 256KiB (up to 1MiB)")),
        }
    }
}

impl FromStr for Partitions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (source, destination) = text.split_once(':').unwrap_or((text, text));
        let count =
            |text: &str| text.parse::<i32>().ok().filter(|count| (1..=10_000).contains(count));
        match (count(source), count(destination)) {
            (Some(source), Some(destination)) => Ok(Self { source, destination }),
            _ => Err(format!("{text:?} is not SOURCE:DESTINATION such as 8:8")),
        }
    }
}

/// Reads the name of a codec.
///
/// # Errors
/// When there is no such codec.
pub fn codec(text: &str) -> Result<Codec, String> {
    let names: Vec<&str> = Codec::ALL.iter().map(|codec| codec.name()).collect();
    Codec::from_name(text).ok_or_else(|| format!("one of {}", names.join(", ")))
}

/// What the tuned peers put together too.
const TOGETHER_BYTES: usize = 256 << 10;
/// With some room for what surrounds it, a record of this size still fits into 1 MB.
const RECORD_BYTES_USUAL: usize = 900_000;
/// A broker takes batches of a little over this (`message.max.bytes`).
const BATCH_BYTES_MAX: usize = 1 << 20;

fn as_text<S: serde::Serializer>(value: &impl fmt::Display, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

fn codec_from_text<'de, D: Deserializer<'de>>(from: D) -> Result<Codec, D::Error> {
    codec(&String::deserialize(from)?).map_err(de::Error::custom)
}

fn batching_from_text<'de, D: Deserializer<'de>>(from: D) -> Result<Batching, D::Error> {
    String::deserialize(from)?.parse().map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batchings_read_back_as_they_are_written() {
        for text in ["one", "256KiB", "1000B", "1024KiB"] {
            assert_eq!(text.parse::<Batching>().expect(text).to_string(), text);
        }
        assert_eq!("1MiB".parse(), Ok(Batching::Bytes(1 << 20)));
        for text in ["", "two", "0", "2MiB", "-1KiB", "99999999999999999999KiB"] {
            assert!(text.parse::<Batching>().is_err(), "{text}");
        }
    }

    #[test]
    fn partitions_are_one_number_or_two() {
        assert_eq!("8:12".parse(), Ok(Partitions { source: 8, destination: 12 }));
        assert_eq!("3".parse(), Ok(Partitions { source: 3, destination: 3 }));
        assert!("0:1".parse::<Partitions>().is_err());
        assert!("1:x".parse::<Partitions>().is_err());
    }

    #[test]
    fn loads_that_differ_at_the_source_have_topics_of_their_own() {
        let case = Case {
            records: 10,
            record_bytes: 1024,
            keys: 0,
            codec: Codec::Lz4,
            batching: Batching::One,
            partitions: Partitions { source: 8, destination: 8 },
            gaps: false,
        };
        assert_eq!(case.topic(), "bench-10-1024-0-lz4-one-8");
        assert_ne!(case.topic(), Case { records: 11, ..case.clone() }.topic());
        assert_ne!(case.topic(), Case { gaps: true, ..case.clone() }.topic());
        let spread = Partitions { source: 8, destination: 9 };
        assert_eq!(case.topic(), Case { partitions: spread, ..case.clone() }.topic());
        assert_eq!(case.logical_bytes(), 10_240);
        assert_eq!(case.batching_at_best(), Batching::Bytes(256 << 10));
    }

    #[test]
    fn a_case_reads_back_as_it_is_written() {
        let case = Case {
            records: 10,
            record_bytes: 1 << 20,
            keys: 3,
            codec: Codec::Gzip,
            batching: Batching::Bytes(16 << 10),
            partitions: Partitions { source: 8, destination: 12 },
            gaps: true,
        };
        let text = serde_json::to_string(&case).expect("plain data");
        assert_eq!(serde_json::from_str::<Case>(&text).expect("a case"), case);
        assert!(case.is_large() && !case.keeps_partitions());
    }
}
