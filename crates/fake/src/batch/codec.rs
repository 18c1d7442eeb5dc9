//! Compression as brokers and clients of Kafka frame it: gzip, xerial snappy, LZ4 frames, zstd.
//!
//! Owned by the batch module. Always true: decompression never yields more than the limit it is
//! given.

use std::io::{Read, Write};

use bytes::Bytes;

use super::Error;

/// How a batch's payload is compressed (attribute bits 0 to 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Codec {
    /// Not compressed.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy blocks in the framing of the Java library (xerial), or one raw block.
    Snappy,
    /// The LZ4 frame format with independent blocks.
    Lz4,
    /// RFC 8878.
    Zstd,
}

impl Codec {
    /// The number in the attributes.
    #[must_use]
    pub fn bits(self) -> i16 {
        match self {
            Codec::None => 0,
            Codec::Gzip => 1,
            Codec::Snappy => 2,
            Codec::Lz4 => 3,
            Codec::Zstd => 4,
        }
    }

    /// The codec a topic's `compression.type` names; `None` for `producer` and unknown names.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Codec> {
        match name {
            "uncompressed" | "none" => Some(Codec::None),
            "gzip" => Some(Codec::Gzip),
            "snappy" => Some(Codec::Snappy),
            "lz4" => Some(Codec::Lz4),
            "zstd" => Some(Codec::Zstd),
            _ => None,
        }
    }

    pub(crate) fn compress(self, plain: &[u8]) -> Result<Vec<u8>, Error> {
        let result = match self {
            Codec::None => return Ok(plain.to_vec()),
            Codec::Gzip => compress_gzip(plain),
            Codec::Snappy => compress_snappy(plain),
            Codec::Lz4 => compress_lz4(plain),
            Codec::Zstd => {
                use structured_zstd::encoding::{CompressionLevel, compress_slice_to_vec};
                return Ok(compress_slice_to_vec(plain, CompressionLevel::Fastest));
            }
        };
        result.map_err(|reason| Error::Decompress { codec: self, reason })
    }

    /// The payload in the clear, of at most `limit_bytes`.
    pub(crate) fn decompress(self, packed: &Bytes, limit_bytes: usize) -> Result<Bytes, Error> {
        let result = match self {
            Codec::None => return Ok(packed.clone()),
            Codec::Gzip => {
                read_limited(flate2::read::MultiGzDecoder::new(&packed[..]), limit_bytes)
            }
            Codec::Snappy => decompress_snappy(packed, limit_bytes),
            Codec::Lz4 => {
                read_limited(lz4_flex::frame::FrameDecoder::new(&packed[..]), limit_bytes)
            }
            Codec::Zstd => read_limited(
                structured_zstd::decoding::StreamingDecoder::new(&packed[..]),
                limit_bytes,
            ),
        };
        result.map(Bytes::from).map_err(|reason| Error::Decompress { codec: self, reason })
    }
}

impl TryFrom<i16> for Codec {
    type Error = Error;

    fn try_from(bits: i16) -> Result<Codec, Error> {
        match bits {
            0 => Ok(Codec::None),
            1 => Ok(Codec::Gzip),
            2 => Ok(Codec::Snappy),
            3 => Ok(Codec::Lz4),
            4 => Ok(Codec::Zstd),
            codec => Err(Error::Codec { codec }),
        }
    }
}

fn compress_gzip(plain: &[u8]) -> Result<Vec<u8>, String> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).map_err(|error| error.to_string())?;
    encoder.finish().map_err(|error| error.to_string())
}

fn compress_lz4(plain: &[u8]) -> Result<Vec<u8>, String> {
    let info = lz4_flex::frame::FrameInfo::new()
        .block_mode(lz4_flex::frame::BlockMode::Independent)
        .block_size(lz4_flex::frame::BlockSize::Max64KB);
    let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(plain).map_err(|error| error.to_string())?;
    encoder.finish().map_err(|error| error.to_string())
}

fn compress_snappy(plain: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = XERIAL_MAGIC.to_vec();
    out.extend_from_slice(&1_i32.to_be_bytes());
    out.extend_from_slice(&1_i32.to_be_bytes());
    for block in plain.chunks(XERIAL_BLOCK_BYTES) {
        let packed = snap::raw::Encoder::new().compress_vec(block).map_err(|e| e.to_string())?;
        out.extend_from_slice(&(packed.len() as i32).to_be_bytes());
        out.extend_from_slice(&packed);
    }
    Ok(out)
}

fn decompress_snappy(packed: &[u8], limit_bytes: usize) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let Some(mut rest) = packed.strip_prefix(&XERIAL_MAGIC[..]) else {
        snappy_block(packed, limit_bytes, &mut out)?;
        return Ok(out);
    };
    rest = rest.get(8..).ok_or("xerial header is cut short")?;
    while !rest.is_empty() {
        let (length, tail) = rest.split_first_chunk::<4>().ok_or("block length is cut short")?;
        let length = u32::from_be_bytes(*length) as usize;
        let block = tail.get(..length).ok_or("block is cut short")?;
        snappy_block(block, limit_bytes, &mut out)?;
        rest = &tail[length..];
    }
    Ok(out)
}

fn snappy_block(block: &[u8], limit_bytes: usize, out: &mut Vec<u8>) -> Result<(), String> {
    let plain = snap::raw::decompress_len(block).map_err(|error| error.to_string())?;
    if out.len().saturating_add(plain) > limit_bytes {
        return Err(format!("more than {limit_bytes} bytes"));
    }
    // Snappy cannot expand more than about 21 times: a bigger claim is a lie, not worth its memory.
    if plain / 64 > block.len() {
        return Err("claimed length is impossible".to_owned());
    }
    let decoded = snap::raw::Decoder::new().decompress_vec(block).map_err(|e| e.to_string())?;
    out.extend_from_slice(&decoded);
    Ok(())
}

fn read_limited(reader: impl Read, limit_bytes: usize) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut limited = reader.take(limit_bytes as u64 + 1);
    limited.read_to_end(&mut out).map_err(|error| error.to_string())?;
    if out.len() > limit_bytes {
        return Err(format!("more than {limit_bytes} bytes"));
    }
    Ok(out)
}

const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    #[test]
    fn every_codec_gives_back_what_it_was_given() {
        let plain: Vec<u8> = (0..200_000_u32).map(|n| (n / 7 % 251) as u8).collect();
        for codec in CODECS {
            let packed = Bytes::from(codec.compress(&plain).unwrap());
            assert_eq!(codec.decompress(&packed, plain.len()).unwrap(), plain, "{codec:?}");
        }
    }

    #[test]
    fn no_codec_yields_more_than_its_limit() {
        let plain = vec![0_u8; 1 << 20];
        for codec in &CODECS[1..] {
            let packed = Bytes::from(codec.compress(&plain).unwrap());
            assert!(codec.decompress(&packed, 1 << 10).is_err(), "{codec:?}");
        }
    }
}
