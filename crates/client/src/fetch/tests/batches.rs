//! Batches as a broker stores them.

use bytes::{BufMut, Bytes, BytesMut};

use crate::batch::rebuild::Builder;
use crate::batch::{Attributes, Codec, Compressor, Header, Record, Stamp};

/// Attribute bits: of a transaction, and of a control batch.
pub(super) const TRANSACTIONAL: i16 = 1 << 4;
pub(super) const CONTROL: i16 = 1 << 5;
/// Compaction has set when its tombstones go.
pub(super) const DELETE_HORIZON: i16 = 1 << 6;
/// Of a message in the old formats that holds compressed ones.
pub(super) const GZIP: u8 = 1;

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

/// A message in the format v1.
pub(super) fn old(offset: i64, attributes: u8, value: &str) -> Bytes {
    let mut body = BytesMut::new();
    body.put_slice(&[1, attributes]);
    body.put_i64(1000);
    body.put_i32(-1);
    body.put_i32(value.len() as i32);
    body.put_slice(value.as_bytes());
    let mut crc = flate2::Crc::new();
    crc.update(&body);
    let mut out = BytesMut::new();
    out.put_i64(offset);
    out.put_i32(body.len() as i32 + 4);
    out.put_u32(crc.sum());
    out.put_slice(&body);
    out.freeze()
}
