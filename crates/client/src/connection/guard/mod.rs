//! Checks an answer's lengths and counts before it is decoded.
//!
//! kafka-protocol allocates what an array's count claims before it reads the first element, so a
//! broker that is broken or hostile could make us allocate hundreds of gigabytes with a few bytes.
//! This walk over the bytes, led by the message's shape, makes sure first that every element that
//! is claimed is there. It allocates nothing and looks at no value.

mod shapes;

use kafka_protocol::messages::ApiKey;

/// What is wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// A length or a count claims more than there is.
    #[error("it claims more bytes than came, {at} bytes before its end")]
    TooShort {
        /// How many bytes were left where it was noticed.
        at: usize,
    },
    /// A length is negative where that means nothing, or a variable-length number has no end.
    #[error("it has a length that is no number, {at} bytes before its end")]
    BadLength {
        /// How many bytes were left where it was noticed.
        at: usize,
    },
    /// There is no shape for this version: a fault of this client.
    #[error("its version has no known shape")]
    UnknownShape,
}

/// A message: its fields, and from which version on it is flexible (KIP-482).
#[derive(Debug)]
struct Message {
    /// The highest version whose shape is known.
    known_to: i16,
    flexible_from: i16,
    fields: &'static [Field],
}

/// A field in the versions that have it.
#[derive(Debug)]
struct Field {
    first: i16,
    last: i16,
    /// Its number, for a field that comes among the tagged ones.
    tag: Option<u32>,
    shape: Shape,
}

/// How a field lies in the bytes.
#[derive(Debug)]
enum Shape {
    /// So many bytes.
    Fixed(usize),
    /// A length and as many bytes; null has none.
    Text,
    /// The same with a longer length.
    Blob,
    /// Fields, one after the other.
    Struct(&'static [Field]),
    /// A count and as many structs.
    List(&'static [Field]),
    /// A count and as many elements that are no structs.
    Scalars(&'static Shape),
}

/// Checks the body of an answer of `api` in `version`.
pub(super) fn check(api: ApiKey, version: i16, body: &[u8]) -> Result<(), Error> {
    let message = shapes::answer(api).filter(|message| version <= message.known_to);
    let message = message.ok_or(Error::UnknownShape)?;
    let is_flexible = version >= message.flexible_from;
    Walk { version, is_flexible, rest: body }.fields(message.fields)
}

struct Walk<'a> {
    version: i16,
    is_flexible: bool,
    rest: &'a [u8],
}

impl Walk<'_> {
    fn fields(&mut self, fields: &[Field]) -> Result<(), Error> {
        for field in fields {
            let is_here = field.first <= self.version && self.version <= field.last;
            if is_here && field.tag.is_none() {
                self.shape(&field.shape)?;
            }
        }
        if self.is_flexible { self.tagged(fields) } else { Ok(()) }
    }

    fn shape(&mut self, shape: &Shape) -> Result<(), Error> {
        match shape {
            Shape::Fixed(bytes) => self.skip(*bytes),
            Shape::Text => {
                let length = if self.is_flexible { self.compact()? } else { self.short()? };
                self.skip(length)
            }
            Shape::Blob => {
                let length = self.count()?;
                self.skip(length)
            }
            Shape::Struct(fields) => self.fields(fields),
            Shape::List(fields) => {
                (0..self.count()?).try_for_each(|_| self.element(|walk| walk.fields(fields)))
            }
            Shape::Scalars(shape) => {
                (0..self.count()?).try_for_each(|_| self.element(|walk| walk.shape(shape)))
            }
        }
    }

    /// An element takes at least a byte, so that a count is bounded by the bytes that are left.
    fn element(&mut self, walk: impl FnOnce(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        let before = self.rest.len();
        walk(self)?;
        if self.rest.len() < before { Ok(()) } else { Err(self.too_short()) }
    }

    fn tagged(&mut self, fields: &[Field]) -> Result<(), Error> {
        for _ in 0..self.varint()? {
            let tag = self.varint()?;
            let length = self.varint()? as usize;
            let inside = self.rest.get(..length).ok_or_else(|| self.too_short())?;
            self.rest = &self.rest[length..];
            if let Some(field) = fields.iter().find(|field| field.tag == Some(tag)) {
                Walk { rest: inside, ..*self }.shape(&field.shape)?;
            }
        }
        Ok(())
    }

    /// A count or a long length; nothing for null.
    fn count(&mut self) -> Result<usize, Error> {
        if self.is_flexible {
            return self.compact();
        }
        let bytes = self.take::<4>()?;
        self.length(i64::from(i32::from_be_bytes(bytes)))
    }

    fn short(&mut self) -> Result<usize, Error> {
        let bytes = self.take::<2>()?;
        self.length(i64::from(i16::from_be_bytes(bytes)))
    }

    fn compact(&mut self) -> Result<usize, Error> {
        Ok((self.varint()? as usize).saturating_sub(1))
    }

    /// -1 says null.
    fn length(&self, length: i64) -> Result<usize, Error> {
        if length == -1 {
            return Ok(0);
        }
        usize::try_from(length).map_err(|_| Error::BadLength { at: self.rest.len() })
    }

    fn varint(&mut self) -> Result<u32, Error> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.take::<1>()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Error::BadLength { at: self.rest.len() })
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(|| self.too_short())?;
        self.rest = rest;
        Ok(*taken)
    }

    fn skip(&mut self, bytes: usize) -> Result<(), Error> {
        self.rest = self.rest.get(bytes..).ok_or_else(|| self.too_short())?;
        Ok(())
    }

    fn too_short(&self) -> Error {
        Error::TooShort { at: self.rest.len() }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::metadata_response::{
        MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
    };
    use kafka_protocol::messages::{FetchResponse, MetadataResponse, TopicName};
    use kafka_protocol::protocol::{Encodable, StrBytes};
    use proptest::prelude::*;

    use super::*;

    fn metadata(version: i16) -> BytesMut {
        let partition = MetadataResponsePartition::default()
            .with_replica_nodes(vec![1.into(), 2.into()])
            .with_isr_nodes(vec![1.into()]);
        let topic = MetadataResponseTopic::default()
            .with_name(Some(TopicName(StrBytes::from_static_str("orders"))))
            .with_partitions(vec![partition]);
        let broker = MetadataResponseBroker::default().with_host(StrBytes::from_static_str("b"));
        let mut body = BytesMut::new();
        MetadataResponse::default()
            .with_brokers(vec![broker])
            .with_topics(vec![topic])
            .encode(&mut body, version)
            .unwrap();
        body
    }

    #[test]
    fn whole_answers_pass_in_every_version() {
        for version in 0..=12 {
            check(ApiKey::Metadata, version, &metadata(version)).unwrap();
        }
    }

    #[test]
    fn an_answer_that_was_cut_is_refused_wherever_it_was_cut() {
        for version in 0..=12 {
            let body = metadata(version);
            for length in 0..body.len() {
                assert!(check(ApiKey::Metadata, version, &body[..length]).is_err());
            }
        }
    }

    #[test]
    fn a_count_without_its_elements_is_refused() {
        let mut body = BytesMut::new();
        FetchResponse::default().encode(&mut body, 4).unwrap();
        let count = body.len() - 4;
        body[count..].copy_from_slice(&i32::MAX.to_be_bytes());
        assert_eq!(check(ApiKey::Fetch, 4, &body), Err(Error::TooShort { at: 0 }));
    }

    proptest! {
        #[test]
        fn what_passes_can_be_decoded_or_refused_without_a_panic(
            version in 4i16..=16,
            body in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            if check(ApiKey::Fetch, version, &body).is_ok() {
                let body = bytes::Bytes::from(body);
                let _ = super::super::codec::decode::<FetchResponse>(body, version);
            }
        }
    }
}
