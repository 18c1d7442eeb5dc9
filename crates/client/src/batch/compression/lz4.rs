//! LZ4 frames around the blocks of lz4_flex.
//!
//! Private to [`compression`](super). The frame is written and read here, and not by
//! lz4_flex's own frame type, for three reasons: blocks are decoded straight into the output
//! under its limit, the hash table is kept from batch to batch, and messages of format v0 have
//! a wrong header checksum that has to be passed over. Written frames are those of Kafka's
//! `Lz4BlockOutputStream`: independent blocks of 64 KiB, no checksums, no content size.

use lz4_flex::block::{self, CompressTable, DecompressError};
use twox_hash::XxHash32;

use super::{Error, Output};

const MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();
const SKIPPABLE: std::ops::RangeInclusive<u32> = 0x184d_2a50..=0x184d_2a5f;

const FLAG_VERSION: u8 = 0b1100_0000;
const FLAG_VERSION_1: u8 = 0b0100_0000;
const FLAG_INDEPENDENT: u8 = 1 << 5;
const FLAG_BLOCK_CHECKSUM: u8 = 1 << 4;
const FLAG_CONTENT_SIZE: u8 = 1 << 3;
const FLAG_CONTENT_CHECKSUM: u8 = 1 << 2;
const FLAG_DICTIONARY: u8 = 1;

const BLOCK_BYTES: usize = 64 * 1024;
const BLOCK_SIZE_64_KIB: u8 = 4 << 4;
const UNCOMPRESSED: u32 = 1 << 31;
/// How far back a block may refer when blocks are linked.
const WINDOW_BYTES: usize = 64 * 1024;

/// What to do about the checksum over a frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderChecksum {
    Verify,
    /// Format v0: Kafka computed it over the wrong bytes.
    Ignore,
}

#[derive(Default)]
pub(super) struct Encoder {
    table: CompressTable,
}

impl Encoder {
    pub(super) fn encode(&mut self, input: &[u8], out: &mut Vec<u8>) {
        let descriptor = [FLAG_VERSION_1 | FLAG_INDEPENDENT, BLOCK_SIZE_64_KIB];
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&descriptor);
        out.push(header_checksum(&descriptor));
        for content in input.chunks(BLOCK_BYTES) {
            let length_at = out.len();
            let block_at = length_at + 4;
            out.resize(block_at + block::get_maximum_output_size(content.len()), 0);
            let room = &mut out[block_at..];
            let len = block::compress_into_with_table(content, room, &mut self.table)
                .expect("invariant: the block has the room it may need");
            let (len, flag) = if len < content.len() {
                (len, 0)
            } else {
                out[block_at..block_at + content.len()].copy_from_slice(content);
                (content.len(), UNCOMPRESSED)
            };
            out[length_at..block_at].copy_from_slice(&(len as u32 | flag).to_le_bytes());
            out.truncate(block_at + len);
        }
        out.extend_from_slice(&[0; 4]);
    }
}

pub(super) fn decode(
    input: &[u8],
    header_checksum: HeaderChecksum,
    out: &mut Output,
) -> Result<(), Error> {
    let mut rest = Rest(input);
    loop {
        let magic = rest.take::<4>()?;
        if magic == MAGIC {
            decode_frame(&mut rest, header_checksum, out)?;
        } else if SKIPPABLE.contains(&u32::from_le_bytes(magic)) {
            let len = rest.u32()?;
            rest.slice(len as usize)?;
        } else {
            return Err(Error::Invalid { part: "lz4 magic" });
        }
        if rest.0.is_empty() {
            return Ok(());
        }
    }
}

fn decode_frame(
    rest: &mut Rest<'_>,
    header_checksum: HeaderChecksum,
    out: &mut Output,
) -> Result<(), Error> {
    let descriptor = Descriptor::read(rest, header_checksum)?;
    let from = out.filled;
    loop {
        let size = rest.u32()?;
        if size == 0 {
            break;
        }
        let block = rest.slice((size & !UNCOMPRESSED) as usize)?;
        if block.len() > descriptor.block_bytes_max {
            return Err(Error::Invalid { part: "lz4 block length" });
        }
        if descriptor.has(FLAG_BLOCK_CHECKSUM) && rest.u32()? != XxHash32::oneshot(0, block) {
            return Err(Error::Mismatch { part: "lz4 block checksum" });
        }
        if size & UNCOMPRESSED != 0 {
            out.room(block.len())?.copy_from_slice(block);
            out.filled += block.len();
        } else {
            decode_block(&descriptor, block, from, out)?;
        }
    }
    let content = &out.buffer[from..out.filled];
    if descriptor.content_len.is_some_and(|len| len != content.len() as u64) {
        return Err(Error::Mismatch { part: "lz4 content length" });
    }
    if descriptor.has(FLAG_CONTENT_CHECKSUM) && rest.u32()? != XxHash32::oneshot(0, content) {
        return Err(Error::Mismatch { part: "lz4 content checksum" });
    }
    Ok(())
}

fn decode_block(
    descriptor: &Descriptor,
    block: &[u8],
    frame_from: usize,
    out: &mut Output,
) -> Result<(), Error> {
    let at = out.filled;
    let room = out.room_up_to(descriptor.block_bytes_max)?.len();
    let (before, after) = out.buffer.split_at_mut(at);
    let window = if descriptor.has(FLAG_INDEPENDENT) {
        &[][..]
    } else {
        &before[frame_from.max(at.saturating_sub(WINDOW_BYTES))..]
    };
    let written =
        block::decompress_into_with_dict(block, &mut after[..room], window).map_err(|error| {
            match error {
                DecompressError::OutputTooSmall { .. } if room < descriptor.block_bytes_max => {
                    out.too_large()
                }
                _ => Error::Invalid { part: "lz4 block" },
            }
        })?;
    out.filled += written;
    Ok(())
}

/// What a frame says of itself.
struct Descriptor {
    flags: u8,
    block_bytes_max: usize,
    content_len: Option<u64>,
}

impl Descriptor {
    fn read(rest: &mut Rest<'_>, header_checksum: HeaderChecksum) -> Result<Self, Error> {
        const INVALID: Error = Error::Invalid { part: "lz4 frame header" };
        let from = rest.0;
        let [flags, sizes] = rest.take::<2>()?;
        if flags & FLAG_VERSION != FLAG_VERSION_1 || flags & FLAG_DICTIONARY != 0 {
            return Err(INVALID);
        }
        let block_bytes_max = match sizes >> 4 {
            size @ 4..=7 => 1 << (2 * size + 8),
            _ => return Err(INVALID),
        };
        let content_len = if flags & FLAG_CONTENT_SIZE != 0 {
            Some(u64::from_le_bytes(rest.take::<8>()?))
        } else {
            None
        };
        let covered = &from[..from.len() - rest.0.len()];
        let [stored] = rest.take::<1>()?;
        if header_checksum == HeaderChecksum::Verify && stored != self::header_checksum(covered) {
            return Err(Error::Mismatch { part: "lz4 header checksum" });
        }
        Ok(Self { flags, block_bytes_max, content_len })
    }

    const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// The second byte of the hash of a frame's descriptor.
fn header_checksum(descriptor: &[u8]) -> u8 {
    (XxHash32::oneshot(0, descriptor) >> 8) as u8
}

/// The input not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn slice(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Error::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Error::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u32(&mut self) -> Result<u32, Error> {
        self.take().map(u32::from_le_bytes)
    }
}
