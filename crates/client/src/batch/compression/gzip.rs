//! gzip: RFC 1952 members around deflate streams of zlib-rs.
//!
//! Private to [`compression`](super). The framing is written here rather than taken from
//! flate2's readers and writers, so that the deflate state (a quarter of a megabyte to
//! compress) is kept from batch to batch. Reads what `GZIPInputStream` does: several members
//! one after the other, anything behind the last one ignored.

use flate2::{Compress, Compression, Crc, Decompress, FlushCompress, FlushDecompress, Status};

use super::{Error, Output};

const MAGIC: [u8; 2] = [0x1f, 0x8b];
const DEFLATE: u8 = 8;
const UNKNOWN_SYSTEM: u8 = 255;
const TRAILER_LEN: usize = 8;

const FLAG_HEADER_CRC: u8 = 1 << 1;
const FLAG_EXTRA: u8 = 1 << 2;
const FLAG_NAME: u8 = 1 << 3;
const FLAG_COMMENT: u8 = 1 << 4;

/// How much more room a stream gets when it has used what it had.
const GROW_BYTES: usize = 64 * 1024;

pub(super) struct Encoder {
    deflate: Compress,
    crc: Crc,
}

impl Encoder {
    pub(super) fn new(level: u32) -> Self {
        let level = Compression::new(level.min(9));
        Self { deflate: Compress::new(level, false), crc: Crc::new() }
    }

    pub(super) fn encode(&mut self, input: &[u8], out: &mut Vec<u8>) {
        self.deflate.reset();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[DEFLATE, 0, 0, 0, 0, 0, 0, UNKNOWN_SYSTEM]);
        out.reserve(input.len() / 2 + 64);
        loop {
            let read = self.deflate.total_in() as usize;
            let status = self
                .deflate
                .compress_vec(&input[read..], out, FlushCompress::Finish)
                .expect("invariant: deflating whole input into memory cannot fail");
            if status == Status::StreamEnd {
                break;
            }
            out.reserve(out.len() / 2 + 64);
        }
        self.crc.reset();
        self.crc.update(input);
        out.extend_from_slice(&self.crc.sum().to_le_bytes());
        out.extend_from_slice(&(input.len() as u32).to_le_bytes());
    }
}

pub(super) struct Decoder {
    inflate: Decompress,
    crc: Crc,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { inflate: Decompress::new(false), crc: Crc::new() }
    }
}

impl Decoder {
    pub(super) fn decode(&mut self, input: &[u8], out: &mut Output) -> Result<(), Error> {
        let mut rest = self.member(input, out)?;
        while rest.starts_with(&MAGIC) {
            rest = self.member(rest, out)?;
        }
        Ok(())
    }

    /// Decodes one member and returns what follows it.
    fn member<'a>(&mut self, input: &'a [u8], out: &mut Output) -> Result<&'a [u8], Error> {
        let body = skip_header(input)?;
        let from = out.filled;
        let after = self.inflate(body, out)?;
        let (trailer, rest) = after.split_first_chunk::<TRAILER_LEN>().ok_or(Error::Truncated)?;
        let member = &out.buffer[from..out.filled];
        self.crc.reset();
        self.crc.update(member);
        if trailer[..4] != self.crc.sum().to_le_bytes() {
            return Err(Error::Mismatch { part: "gzip checksum" });
        }
        if trailer[4..] != (member.len() as u32).to_le_bytes() {
            return Err(Error::Mismatch { part: "gzip length" });
        }
        Ok(rest)
    }

    fn inflate<'a>(&mut self, body: &'a [u8], out: &mut Output) -> Result<&'a [u8], Error> {
        self.inflate.reset(false);
        // A first guess that fits most batches; a stream that needs more asks again.
        let mut wanted = (body.len() * 3).max(GROW_BYTES);
        let mut full = false;
        loop {
            let (read, written) = (self.inflate.total_in(), self.inflate.total_out());
            // A stream that fills its room to the last byte may still be at its end, so it
            // runs once more with no room before it is called too large.
            let room = if full { &mut [][..] } else { out.room_up_to(wanted)? };
            let rest = &body[read as usize..];
            let status = self
                .inflate
                .decompress(rest, room, FlushDecompress::None)
                .map_err(|_| Error::Invalid { part: "deflate stream" })?;
            let grown = (self.inflate.total_out() - written) as usize;
            out.filled += grown;
            if status == Status::StreamEnd {
                return Ok(&body[self.inflate.total_in() as usize..]);
            }
            if full {
                return Err(out.too_large());
            }
            let stalled = grown == 0 && self.inflate.total_in() == read;
            if stalled || (self.inflate.total_in() as usize == body.len() && grown == 0) {
                return Err(Error::Truncated);
            }
            full = out.filled == out.bytes_max;
            wanted = GROW_BYTES.max(out.filled);
        }
    }
}

/// What follows the header of a member.
fn skip_header(input: &[u8]) -> Result<&[u8], Error> {
    const INVALID: Error = Error::Invalid { part: "gzip header" };
    let (fixed, mut rest) = input.split_first_chunk::<10>().ok_or(Error::Truncated)?;
    if fixed[..2] != MAGIC || fixed[2] != DEFLATE {
        return Err(INVALID);
    }
    let flags = fixed[3];
    if flags & FLAG_EXTRA != 0 {
        let (len, after) = rest.split_first_chunk::<2>().ok_or(Error::Truncated)?;
        rest = after.get(usize::from(u16::from_le_bytes(*len))..).ok_or(Error::Truncated)?;
    }
    for flag in [FLAG_NAME, FLAG_COMMENT] {
        if flags & flag != 0 {
            let end = rest.iter().position(|&byte| byte == 0).ok_or(Error::Truncated)?;
            rest = &rest[end + 1..];
        }
    }
    if flags & FLAG_HEADER_CRC != 0 {
        rest = rest.get(2..).ok_or(Error::Truncated)?;
    }
    Ok(rest)
}
