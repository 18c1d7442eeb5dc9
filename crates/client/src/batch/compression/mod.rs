//! The five codecs of record batches, behind one enum.
//!
//! Owned by [`batch`](crate::batch); one file for each codec. A [`Decompressor`] and a
//! [`Compressor`] keep their buffers and tables between batches, so that one of each serves a
//! thread for good. Decompression never yields more than the limit it was made with, and never
//! holds more than about twice that, whatever the compressed bytes claim. The framings are
//! those of Kafka's Java client: gzip members, xerial snappy, LZ4 frames, zstd frames.

mod gzip;
mod lz4;
mod snappy;
mod zstd;

use std::fmt;

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Codec {
    /// Not at all.
    #[default]
    None = 0,
    /// gzip (RFC 1952).
    Gzip = 1,
    /// Snappy, in the framing of xerial's Java library.
    Snappy = 2,
    /// LZ4 frames.
    Lz4 = 3,
    /// Zstandard (KIP-110); batches of format v2 only.
    Zstd = 4,
}

impl Codec {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The number batches carry in their attributes.
    #[must_use]
    pub const fn id(self) -> i8 {
        self as i8
    }

    /// The codec of that number.
    #[must_use]
    pub const fn from_id(id: i8) -> Option<Self> {
        match id {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The name Kafka's `compression.type` property has for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The codec of that name, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why bytes do not decompress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// They are more than the limit, decompressed.
    #[error("more than {bytes_max} bytes decompressed")]
    TooLarge {
        /// The limit.
        bytes_max: usize,
    },
    /// They end before the stream does.
    #[error("the compressed stream is cut short")]
    Truncated,
    /// They are not what the codec writes.
    #[error("invalid {part}")]
    Invalid {
        /// The part of the stream that is not right.
        part: &'static str,
    },
    /// The stream is whole, but a checksum or length inside says it is not the right one.
    #[error("the {part} does not match")]
    Mismatch {
        /// What does not match.
        part: &'static str,
    },
}

/// How hard to compress.
///
/// The defaults are lower than Kafka's, because only what cannot pass through is compressed at all
/// and then holds up what follows: on 128 KiB of JSON, logs and text, gzip at 3 was 1.6 to 3 times
/// as fast as at 6 and 2 to 8 % larger, zstd at 1 was twice as fast as at 3 and 3 % smaller to 5 %
/// larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Levels {
    /// 1, fast, to 9, small. Default 3; Kafka's is 6.
    pub gzip: u32,
    /// 1, fast, to 22, small; below 1 faster still. Default 1; Kafka's is 3.
    pub zstd: i32,
}

impl Default for Levels {
    fn default() -> Self {
        Self { gzip: 3, zstd: 1 }
    }
}

/// Compresses batches one after the other.
///
/// ```
/// use kmirror_client::batch::{Codec, Compressor, Decompressor};
///
/// let mut compressor = Compressor::default();
/// let mut decompressor = Decompressor::new(1 << 20);
/// for codec in Codec::ALL {
///     let compressed = compressor.compress(codec, b"round and round and round");
///     let again = decompressor.decompress(codec, compressed)?;
///     assert_eq!(again, b"round and round and round");
/// }
/// # Ok::<(), kmirror_client::batch::compression::Error>(())
/// ```
#[derive(Default)]
pub struct Compressor {
    levels: Levels,
    gzip: Option<Box<gzip::Encoder>>,
    snappy: Option<Box<snappy::Encoder>>,
    lz4: Option<Box<lz4::Encoder>>,
    zstd: Option<Box<zstd::Encoder>>,
    out: Vec<u8>,
}

impl Compressor {
    /// One that compresses that hard. Codecs are set up when first used.
    #[must_use]
    pub fn new(levels: Levels) -> Self {
        Self { levels, ..Self::default() }
    }

    /// Compresses `input` whole. Uncompressed input comes back as it is; otherwise the result
    /// lies in a buffer of the compressor.
    pub fn compress<'a>(&'a mut self, codec: Codec, input: &'a [u8]) -> &'a [u8] {
        let out = &mut self.out;
        out.clear();
        match codec {
            Codec::None => return input,
            Codec::Gzip => self
                .gzip
                .get_or_insert_with(|| Box::new(gzip::Encoder::new(self.levels.gzip)))
                .encode(input, out),
            Codec::Snappy => self.snappy.get_or_insert_default().encode(input, out),
            Codec::Lz4 => self.lz4.get_or_insert_default().encode(input, out),
            Codec::Zstd => self
                .zstd
                .get_or_insert_with(|| Box::new(zstd::Encoder::new(self.levels.zstd)))
                .encode(input, out),
        }
        &self.out
    }
}

impl Compressor {
    /// Gives what the last batch took back to the system, if it was a large one.
    pub fn trim(&mut self) {
        if self.out.capacity() > KEPT_BYTES_MAX {
            self.out = Vec::new();
        }
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").field("levels", &self.levels).finish_non_exhaustive()
    }
}

/// The largest buffer that is kept for the next batch when a codec is trimmed.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// Decompresses batches one after the other, into one buffer.
///
/// The buffer grows to the largest batch seen and stays until the decompressor is trimmed or
/// dropped.
pub struct Decompressor {
    bytes_max: usize,
    gzip: Option<Box<gzip::Decoder>>,
    zstd: Option<Box<zstd::Decoder>>,
    out: Output,
}

impl Decompressor {
    /// One that refuses anything larger than `bytes_max` decompressed.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, gzip: None, zstd: None, out: Output::new(bytes_max) }
    }

    /// The limit it was made with, in bytes.
    #[must_use]
    pub const fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Decompresses `input` whole. Uncompressed input comes back as it is, however large: it
    /// is there already.
    ///
    /// # Errors
    /// [`Error::TooLarge`] past the limit; the other errors if `input` is not what the codec
    /// writes. A decompressor stays usable after an error.
    pub fn decompress<'a>(&'a mut self, codec: Codec, input: &'a [u8]) -> Result<&'a [u8], Error> {
        self.decompress_as(codec, lz4::HeaderChecksum::Verify, input)
    }

    /// [`Self::decompress`] for messages of format v0, whose LZ4 frames have a wrong header
    /// checksum (KAFKA-3160).
    pub(super) fn decompress_v0<'a>(
        &'a mut self,
        codec: Codec,
        input: &'a [u8],
    ) -> Result<&'a [u8], Error> {
        self.decompress_as(codec, lz4::HeaderChecksum::Ignore, input)
    }

    fn decompress_as<'a>(
        &'a mut self,
        codec: Codec,
        header_checksum: lz4::HeaderChecksum,
        input: &'a [u8],
    ) -> Result<&'a [u8], Error> {
        let out = &mut self.out;
        out.filled = 0;
        let result = match codec {
            Codec::None => return Ok(input),
            Codec::Gzip => self.gzip.get_or_insert_default().decode(input, out),
            Codec::Snappy => snappy::decode(input, out),
            Codec::Lz4 => lz4::decode(input, header_checksum, out),
            Codec::Zstd => self.zstd.get_or_insert_default().decode(input, out),
        };
        result.map(|()| self.out.as_slice())
    }
}

impl Decompressor {
    /// Gives what the last batch took back to the system, if it was a large one.
    pub fn trim(&mut self) {
        if self.out.buffer.capacity() > KEPT_BYTES_MAX {
            self.out = Output::new(self.bytes_max);
        }
    }
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decompressor").field("bytes_max", &self.bytes_max).finish_non_exhaustive()
    }
}

/// Where decoders write: a buffer that only grows, up to a limit, so that its bytes are zeroed
/// once and not for every batch.
struct Output {
    buffer: Vec<u8>,
    filled: usize,
    bytes_max: usize,
}

impl Output {
    const fn new(bytes_max: usize) -> Self {
        Self { buffer: Vec::new(), filled: 0, bytes_max }
    }

    fn as_slice(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }

    /// Room for `wanted` more bytes, less if the limit is nearer, and always more than none.
    fn room_up_to(&mut self, wanted: usize) -> Result<&mut [u8], Error> {
        let end = self.filled.saturating_add(wanted).min(self.bytes_max);
        if end == self.filled {
            return Err(self.too_large());
        }
        self.grow(end);
        Ok(&mut self.buffer[self.filled..end])
    }

    /// Room for exactly `wanted` more bytes.
    fn room(&mut self, wanted: usize) -> Result<&mut [u8], Error> {
        let end = self.filled.saturating_add(wanted);
        if end > self.bytes_max {
            return Err(self.too_large());
        }
        self.grow(end);
        Ok(&mut self.buffer[self.filled..end])
    }

    fn grow(&mut self, end: usize) {
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
    }

    fn too_large(&self) -> Error {
        Error::TooLarge { bytes_max: self.bytes_max }
    }
}

#[cfg(test)]
mod tests;
