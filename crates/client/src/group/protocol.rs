//! The bytes members of a consumer group exchange through the coordinator: subscriptions,
//! assignments and the user data of the sticky assignors.
//!
//! Owned by the group module. Written by hand rather than with the message structs because these
//! bytes come from *other members*: every count is checked against what remains before anything
//! is allocated. Source: `ConsumerProtocol.java`, `StickyAssignor.java`,
//! `CooperativeStickyAssignor.java`.
//!
//! Versions written: 3 of both, as Java 3.5 and later do. A reader of an older version stops early,
//! and a newer version than 3 is read as 3, because versions only ever append.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::name::TopicPartition;

/// The name of the protocol type in JoinGroup, as Java consumers send it.
pub(crate) const PROTOCOL_TYPE: &str = "consumer";

/// The version of both structures that is written.
const VERSION: i16 = 3;

/// The generation of a member that has none.
pub(crate) const NO_GENERATION: i32 = -1;

/// Why another member's bytes could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes end before the structure does, or a count in them claims more than follows.
    #[error("{remaining} bytes remain where {wanted} are needed")]
    Truncated {
        /// How many bytes the next field needs.
        wanted: usize,
        /// How many there are.
        remaining: usize,
    },

    /// A length, a count or a version is negative.
    #[error("negative length, count or version {value}")]
    Negative {
        /// What was read.
        value: i32,
    },

    /// A name is not UTF-8.
    #[error("name is not UTF-8")]
    Name,
}

/// What one member wants and owns (`ConsumerProtocolSubscription`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subscription {
    /// The topics it subscribes to.
    pub(crate) topics: Vec<Arc<str>>,
    /// What its assignor tells the leader's assignor.
    pub(crate) user_data: Option<Bytes>,
    /// The partitions it owns while it joins; none in the eager protocol.
    pub(crate) owned: Vec<TopicPartition>,
    /// The generation in which it came to own them.
    pub(crate) generation: Option<i32>,
    /// Its rack (`client.rack`).
    pub(crate) rack: Option<Arc<str>>,
}

impl Subscription {
    /// The bytes of the newest version, topics and partitions in order.
    pub(crate) fn encode(&self) -> Bytes {
        let mut topics = self.topics.clone();
        topics.sort();
        let mut out = BytesMut::new();
        out.put_i16(VERSION);
        put_count(&mut out, topics.len());
        for topic in &topics {
            put_string(&mut out, topic);
        }
        put_nullable_bytes(&mut out, self.user_data.as_deref());
        put_partitions(&mut out, &self.owned);
        out.put_i32(self.generation.unwrap_or(NO_GENERATION));
        match &self.rack {
            Some(rack) => put_string(&mut out, rack),
            None => out.put_i16(-1),
        }
        out.freeze()
    }

    /// Reads the bytes of any version.
    ///
    /// # Errors
    /// When they are cut short or hold an impossible length.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader { rest: bytes };
        let version = reader.version()?;
        let mut subscription = Subscription::default();
        for _ in 0..reader.count(2)? {
            subscription.topics.push(reader.string()?);
        }
        subscription.user_data = reader.nullable_bytes()?.map(Bytes::copy_from_slice);
        if version >= 1 {
            subscription.owned = reader.partitions()?;
        }
        if version >= 2 {
            subscription.generation = Some(reader.i32()?).filter(|generation| *generation >= 0);
        }
        if version >= 3 {
            subscription.rack = reader.nullable_string()?.filter(|rack| !rack.is_empty());
        }
        Ok(subscription)
    }
}

/// What the leader gives one member (`ConsumerProtocolAssignment`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Assignment {
    /// The partitions, in the leader's order.
    pub(crate) partitions: Vec<TopicPartition>,
}

impl Assignment {
    /// The bytes of the newest version.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_i16(VERSION);
        put_partitions(&mut out, &self.partitions);
        put_nullable_bytes(&mut out, None);
        out.freeze()
    }

    /// Reads the bytes of any version. No bytes at all are an assignment of nothing: that is what a
    /// coordinator hands to a member its leader did not mention.
    ///
    /// # Errors
    /// When they are cut short or hold an impossible length.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let mut reader = Reader { rest: bytes };
        reader.version()?;
        Ok(Self { partitions: reader.partitions()? })
    }
}

/// What a member of a sticky group owned before, and since when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prior {
    /// The partitions it owned.
    pub(crate) partitions: Vec<TopicPartition>,
    /// The generation in which it owned them; absent from members older than Kafka 2.3.
    pub(crate) generation: Option<i32>,
}

impl Prior {
    /// The user data of the sticky assignor, version 1.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        put_partitions(&mut out, &self.partitions);
        out.put_i32(self.generation.unwrap_or(NO_GENERATION));
        out.freeze()
    }

    /// Reads version 1, or version 0 which has no generation. What cannot be read counts as
    /// nothing owned, as in Java: stickiness is a wish.
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let mut reader = Reader { rest: bytes };
        match reader.partitions() {
            Ok(partitions) => Self { partitions, generation: reader.i32().ok() },
            Err(_) => Self::default(),
        }
    }
}

/// The user data of the cooperative sticky assignor: the generation alone.
pub(crate) fn encode_generation(generation: i32) -> Bytes {
    Bytes::copy_from_slice(&generation.to_be_bytes())
}

/// Reads the user data of the cooperative sticky assignor.
pub(crate) fn decode_generation(bytes: &[u8]) -> Option<i32> {
    Reader { rest: bytes }.i32().ok().filter(|generation| *generation >= 0)
}

/// Groups partitions by topic, both in order.
pub(crate) fn by_topic(partitions: &[TopicPartition]) -> BTreeMap<&Arc<str>, Vec<i32>> {
    let mut topics: BTreeMap<&Arc<str>, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(&partition.topic).or_default().push(partition.partition);
    }
    topics.values_mut().for_each(|numbers| numbers.sort_unstable());
    topics
}

fn put_count(out: &mut BytesMut, count: usize) {
    out.put_i32(i32::try_from(count).expect("invariant: fewer than 2^31 topics or partitions"));
}

fn put_string(out: &mut BytesMut, text: &str) {
    let length = i16::try_from(text.len()).expect("invariant: names are below 32 KiB");
    out.put_i16(length);
    out.put_slice(text.as_bytes());
}

fn put_nullable_bytes(out: &mut BytesMut, bytes: Option<&[u8]>) {
    match bytes {
        None => out.put_i32(-1),
        Some(bytes) => {
            put_count(out, bytes.len());
            out.put_slice(bytes);
        }
    }
}

fn put_partitions(out: &mut BytesMut, partitions: &[TopicPartition]) {
    let topics = by_topic(partitions);
    put_count(out, topics.len());
    for (topic, numbers) in topics {
        put_string(out, topic);
        put_count(out, numbers.len());
        numbers.into_iter().for_each(|number| out.put_i32(number));
    }
}

/// Reads fields off the front of untrusted bytes.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, wanted: usize) -> Result<&'a [u8], Error> {
        let remaining = self.rest.len();
        let (head, rest) =
            self.rest.split_at_checked(wanted).ok_or(Error::Truncated { wanted, remaining })?;
        self.rest = rest;
        Ok(head)
    }

    fn i16(&mut self) -> Result<i16, Error> {
        let bytes = self.take(2)?;
        Ok(i16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn i32(&mut self) -> Result<i32, Error> {
        let bytes = self.take(4)?;
        Ok(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn version(&mut self) -> Result<i16, Error> {
        let version = self.i16()?;
        if version < 0 { Err(Error::Negative { value: version.into() }) } else { Ok(version) }
    }

    /// A count of things of at least `size` bytes each; never more than could follow.
    fn count(&mut self, size: usize) -> Result<usize, Error> {
        let value = self.i32()?;
        let count = usize::try_from(value).map_err(|_| Error::Negative { value })?;
        let remaining = self.rest.len();
        let wanted = count.saturating_mul(size);
        if wanted > remaining { Err(Error::Truncated { wanted, remaining }) } else { Ok(count) }
    }

    fn nullable_string(&mut self) -> Result<Option<Arc<str>>, Error> {
        let length = self.i16()?;
        let Ok(length) = usize::try_from(length) else { return Ok(None) };
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| Error::Name)?;
        Ok(Some(Arc::from(text)))
    }

    fn string(&mut self) -> Result<Arc<str>, Error> {
        self.nullable_string()?.ok_or(Error::Negative { value: -1 })
    }

    fn nullable_bytes(&mut self) -> Result<Option<&'a [u8]>, Error> {
        let length = self.i32()?;
        match usize::try_from(length) {
            Ok(length) => self.take(length).map(Some),
            Err(_) => Ok(None),
        }
    }

    fn partitions(&mut self) -> Result<Vec<TopicPartition>, Error> {
        let mut partitions = Vec::new();
        for _ in 0..self.count(6)? {
            let topic = self.string()?;
            for _ in 0..self.count(4)? {
                partitions.push(TopicPartition::new(Arc::clone(&topic), self.i32()?));
            }
        }
        Ok(partitions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn partition(topic: &str, number: i32) -> TopicPartition {
        TopicPartition::new(topic, number)
    }

    fn sample() -> Subscription {
        Subscription {
            topics: vec!["orders".into(), "users".into()],
            user_data: Some(Bytes::from_static(b"data")),
            owned: vec![partition("orders", 0), partition("orders", 2), partition("users", 1)],
            generation: Some(7),
            rack: Some("a".into()),
        }
    }

    #[test]
    fn a_subscription_survives_the_wire() {
        assert_eq!(Subscription::decode(&sample().encode()), Ok(sample()));
        let empty = Subscription::default();
        assert_eq!(Subscription::decode(&empty.encode()), Ok(empty));
    }

    #[test]
    fn a_subscription_has_the_bytes_java_writes() {
        let subscription = Subscription { topics: vec!["t".into()], ..Subscription::default() };
        let expected = [
            0, 3, // version
            0, 0, 0, 1, 0, 1, b't', // topics
            255, 255, 255, 255, // no user data
            0, 0, 0, 0, // nothing owned
            255, 255, 255, 255, // no generation
            255, 255, // no rack
        ];
        assert_eq!(subscription.encode().as_ref(), expected);
    }

    #[test]
    fn older_versions_of_a_subscription_are_read() {
        let version_0 = [0, 0, 0, 0, 0, 1, 0, 1, b't', 255, 255, 255, 255];
        let read = Subscription::decode(&version_0).unwrap();
        assert_eq!(read, Subscription { topics: vec!["t".into()], ..Subscription::default() });

        let mut version_1 = version_0.to_vec();
        version_1[1] = 1;
        version_1.extend([0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 5]);
        assert_eq!(Subscription::decode(&version_1).unwrap().owned, [partition("t", 5)]);
    }

    #[test]
    fn a_newer_version_is_read_as_the_newest_known() {
        let mut bytes = sample().encode().to_vec();
        bytes[1] = 9;
        bytes.extend_from_slice(b"what version 9 appended");
        assert_eq!(Subscription::decode(&bytes), Ok(sample()));
    }

    #[test]
    fn an_assignment_survives_the_wire_and_nothing_is_nothing() {
        let assignment = Assignment { partitions: sample().owned };
        assert_eq!(Assignment::decode(&assignment.encode()), Ok(assignment));
        assert_eq!(Assignment::decode(&[]), Ok(Assignment::default()));
    }

    #[test]
    fn sticky_user_data_is_read_with_and_without_a_generation() {
        let prior = Prior { partitions: sample().owned, generation: Some(3) };
        let bytes = prior.encode();
        assert_eq!(Prior::decode(&bytes), prior);
        let version_0 = &bytes[..bytes.len() - 4];
        assert_eq!(Prior::decode(version_0), Prior { generation: None, ..prior });
        assert_eq!(Prior::decode(b"\xff\xff\xff\xff nonsense"), Prior::default());
        assert_eq!(decode_generation(&encode_generation(9)), Some(9));
        assert_eq!(decode_generation(&encode_generation(NO_GENERATION)), None);
    }

    #[test]
    fn a_count_that_claims_more_than_follows_is_refused_before_it_is_believed() {
        let hostile = [0, 3, 0x7f, 255, 255, 255];
        assert!(matches!(Subscription::decode(&hostile), Err(Error::Truncated { .. })));
        let hostile = [0, 3, 0x7f, 255, 255, 255, 0, 1];
        assert!(matches!(Assignment::decode(&hostile), Err(Error::Truncated { .. })));
        assert_eq!(Subscription::decode(&[255, 255]), Err(Error::Negative { value: -1 }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Subscription::decode(&bytes);
            let _ = Assignment::decode(&bytes);
            let _ = Prior::decode(&bytes);
        }

        #[test]
        fn a_cut_subscription_is_refused(length in 0usize..60) {
            let bytes = sample().encode();
            prop_assume!(length < bytes.len());
            prop_assert!(Subscription::decode(&bytes[..length]).is_err());
        }
    }
}
