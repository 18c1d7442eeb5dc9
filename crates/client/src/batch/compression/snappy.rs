//! Snappy, in the framing of xerial's snappy-java, which is what Kafka's Java client writes.
//!
//! Private to [`compression`](super). The framing is a 16-byte header and then blocks, each a
//! big-endian length and a raw snappy block. Some clients write one raw block without any
//! framing, so that is read as well. The two cannot be confused: read as a raw block, the magic
//! is a length and then a copy of bytes that are not there yet.

use snap::raw;

use super::{Error, Output};

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// Version 1, readable by version 1.
const VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
/// The block size of snappy-java.
const BLOCK_BYTES: usize = 32 * 1024;

pub(super) struct Encoder {
    raw: raw::Encoder,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { raw: raw::Encoder::new() }
    }
}

impl Encoder {
    pub(super) fn encode(&mut self, input: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSIONS);
        for block in input.chunks(BLOCK_BYTES) {
            let length_at = out.len();
            let block_at = length_at + 4;
            out.resize(block_at + raw::max_compress_len(block.len()), 0);
            let len = self
                .raw
                .compress(block, &mut out[block_at..])
                .expect("invariant: the block has the room it may need");
            out[length_at..block_at].copy_from_slice(&(len as u32).to_be_bytes());
            out.truncate(block_at + len);
        }
    }
}

pub(super) fn decode(input: &[u8], out: &mut Output) -> Result<(), Error> {
    let Some(framed) = input.strip_prefix(&MAGIC) else {
        return decode_block(input, out);
    };
    let (_versions, mut rest) = framed.split_first_chunk::<8>().ok_or(Error::Truncated)?;
    while !rest.is_empty() {
        // snappy-java appends whole streams to one another; a header may come again.
        if let Some(again) = rest.strip_prefix(&MAGIC) {
            rest = again.get(VERSIONS.len()..).ok_or(Error::Truncated)?;
            continue;
        }
        let (len, after) = rest.split_first_chunk::<4>().ok_or(Error::Truncated)?;
        let len = u32::from_be_bytes(*len) as usize;
        let (block, after) = after.split_at_checked(len).ok_or(Error::Truncated)?;
        decode_block(block, out)?;
        rest = after;
    }
    Ok(())
}

fn decode_block(block: &[u8], out: &mut Output) -> Result<(), Error> {
    const INVALID: Error = Error::Invalid { part: "snappy block" };
    /// A copy of 64 bytes takes three: no block grows more than this.
    const GROWTH_MAX: usize = 22;
    if block.is_empty() {
        return Ok(());
    }
    let len = raw::decompress_len(block).map_err(|_| INVALID)?;
    if len > block.len().saturating_mul(GROWTH_MAX) {
        return Err(INVALID);
    }
    let room = out.room(len)?;
    let written = raw::Decoder::new().decompress(block, room).map_err(|_| INVALID)?;
    out.filled += written;
    Ok(())
}
