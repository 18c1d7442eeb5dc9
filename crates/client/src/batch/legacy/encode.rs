//! Writes messages of format v0 and v1, right or wrong. Tests only.

use bytes::{BufMut, Bytes, BytesMut};

use super::message::crc32;
use crate::batch::compression::{Codec, Compressor};

/// A message to write; `timestamp` counts for v1 only.
#[derive(Debug, Clone)]
pub(in crate::batch) struct Draft {
    pub(in crate::batch) magic: u8,
    pub(in crate::batch) attributes: u8,
    pub(in crate::batch) offset: i64,
    pub(in crate::batch) timestamp: i64,
    pub(in crate::batch) key: Option<Vec<u8>>,
    pub(in crate::batch) value: Option<Vec<u8>>,
}

impl Draft {
    pub(in crate::batch) fn new(magic: u8, offset: i64, value: &str) -> Self {
        Self {
            magic,
            attributes: 0,
            offset,
            timestamp: 1000 + offset,
            key: Some(b"k".to_vec()),
            value: Some(value.as_bytes().to_vec()),
        }
    }

    pub(in crate::batch) fn write(&self, out: &mut BytesMut) {
        let mut body = BytesMut::new();
        body.put_u8(self.magic);
        body.put_u8(self.attributes);
        if self.magic > 0 {
            body.put_i64(self.timestamp);
        }
        for field in [&self.key, &self.value] {
            match field {
                None => body.put_i32(-1),
                Some(bytes) => {
                    body.put_i32(bytes.len() as i32);
                    body.put_slice(bytes);
                }
            }
        }
        out.put_i64(self.offset);
        out.put_i32(body.len() as i32 + 4);
        out.put_u32(crc32(&body));
        out.put_slice(&body);
    }
}

/// The messages one after the other.
pub(in crate::batch) fn plain(drafts: &[Draft]) -> Bytes {
    let mut out = BytesMut::new();
    for draft in drafts {
        draft.write(&mut out);
    }
    out.freeze()
}

/// The messages inside a compressed one of the same format and that offset.
pub(in crate::batch) fn compressed(codec: Codec, offset: i64, drafts: &[Draft]) -> Draft {
    let magic = drafts.first().map_or(1, |draft| draft.magic);
    let mut value = Compressor::default().compress(codec, &plain(drafts)).to_vec();
    if codec == Codec::Lz4 && magic == 0 {
        // What Kafka wrote before KAFKA-3160: the hash of the magic too.
        value[6] = (twox_hash::XxHash32::oneshot(0, &value[..6]) >> 8) as u8;
    }
    Draft {
        magic,
        attributes: codec.id() as u8,
        offset,
        timestamp: drafts.iter().map(|draft| draft.timestamp).max().unwrap_or(-1),
        key: None,
        value: Some(value),
    }
}
