//! Batches as a broker stores them.

use bytes::{Bytes, BytesMut};

use crate::batch::rebuild::Builder;
use crate::batch::{Attributes, Codec, Compressor, Header, Record, Stamp};

/// Attribute bits: of a transaction, and of a control batch.
pub(super) const TRANSACTIONAL: i16 = 1 << 4;
pub(super) const CONTROL: i16 = 1 << 5;

/// Of a stored batch, what matters here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored {
    pub(super) base_offset: i64,
    pub(super) producer_id: i64,
    pub(super) attributes: i16,
    pub(super) leader_epoch: i32,
}

impl Stored {
    pub(super) fn plain(base_offset: i64) -> Self {
        Self { base_offset, producer_id: -1, attributes: 0, leader_epoch: 0 }
    }

    pub(super) fn transactional(base_offset: i64, producer_id: i64) -> Self {
        Self { base_offset, producer_id, attributes: TRANSACTIONAL, leader_epoch: 0 }
    }

    /// A batch with these values.
    pub(super) fn with(self, values: &[&str]) -> Bytes {
        let mut builder = Builder::new(Codec::None);
        for value in values {
            builder.push(&Record::new(None, Some(value.as_bytes()))).expect("fits");
        }
        self.finish(builder)
    }

    /// The control batch that ends a transaction here.
    pub(super) fn marker(mut self, commits: bool) -> Bytes {
        self.attributes |= CONTROL | TRANSACTIONAL;
        let key = [0, 0, 0, u8::from(commits)];
        let mut builder = Builder::new(Codec::None);
        builder.push(&Record::new(Some(&key), Some(&[0; 6]))).expect("fits");
        self.finish(builder)
    }

    fn finish(self, mut builder: Builder) -> Bytes {
        let batch = builder.finish(&mut Compressor::default()).expect("builds");
        let mut bytes = BytesMut::from(&batch.stamped(Stamp::NONE)[..]);
        bytes.extend_from_slice(batch.payload());
        let header = Header {
            base_offset: self.base_offset,
            producer_id: self.producer_id,
            attributes: Attributes::from_bits(self.attributes),
            partition_leader_epoch: self.leader_epoch,
            ..*batch.header()
        };
        bytes[..61].copy_from_slice(&header.encode());
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        bytes.freeze()
    }
}
