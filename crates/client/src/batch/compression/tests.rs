//! Round trips, limits and damage, for every codec alike.

use proptest::prelude::*;

use super::*;

const LIMIT: usize = 8 << 20;

/// Bytes that compress about as well as JSON does.
fn text(len: usize) -> Vec<u8> {
    let line = b"{\"user\":1234,\"page\":\"/home\"}";
    (0..len).map(|index| line[index % line.len()] ^ (index / 997) as u8).collect()
}

#[test]
fn every_size_survives_every_codec() {
    let mut compressor = Compressor::default();
    let mut decompressor = Decompressor::new(LIMIT);
    for codec in Codec::ALL {
        for len in [0, 1, 100, 32_767, 32_768, 65_535, 65_536, 65_537, 1_000_000, 3 << 20] {
            let input = text(len);
            let compressed = compressor.compress(codec, &input);
            let output = decompressor.decompress(codec, compressed);
            assert_eq!(output.map(<[u8]>::len), Ok(len), "{codec} {len}");
            assert!(output == Ok(&input[..]), "{codec} {len}");
        }
    }
}

#[test]
fn a_bomb_is_refused_at_the_limit() {
    let bomb = vec![0; LIMIT];
    let mut compressor = Compressor::default();
    for codec in Codec::ALL.into_iter().filter(|&codec| codec != Codec::None) {
        let compressed = compressor.compress(codec, &bomb).to_vec();
        let mut decompressor = Decompressor::new(LIMIT - 1);
        assert_eq!(
            decompressor.decompress(codec, &compressed),
            Err(Error::TooLarge { bytes_max: LIMIT - 1 }),
            "{codec}"
        );
        assert!(decompressor.out.buffer.capacity() <= 2 * LIMIT, "{codec}");
        let mut exact = Decompressor::new(LIMIT);
        assert!(exact.decompress(codec, &compressed) == Ok(&bomb[..]), "{codec}");
    }
}

#[test]
fn a_stream_cut_short_is_an_error_everywhere() {
    let mut compressor = Compressor::default();
    let mut decompressor = Decompressor::new(LIMIT);
    for codec in [Codec::Gzip, Codec::Lz4, Codec::Zstd] {
        let compressed = compressor.compress(codec, &text(1000)).to_vec();
        for end in 0..compressed.len() {
            assert!(decompressor.decompress(codec, &compressed[..end]).is_err(), "{codec} {end}");
        }
    }
}

#[test]
fn a_decompressor_stays_usable_after_an_error() {
    let mut compressor = Compressor::default();
    let mut decompressor = Decompressor::new(LIMIT);
    for codec in Codec::ALL.into_iter().filter(|&codec| codec != Codec::None) {
        let input = text(70_000);
        let compressed = compressor.compress(codec, &input).to_vec();
        assert!(decompressor.decompress(codec, &compressed[..compressed.len() / 2]).is_err());
        assert!(decompressor.decompress(codec, &compressed) == Ok(&input[..]), "{codec}");
    }
}

#[test]
fn levels_are_used() {
    let input = text(500_000);
    let sizes = |levels: Levels, codec| Compressor::new(levels).compress(codec, &input).len();
    let fast = Levels { gzip: 1, zstd: -5 };
    let small = Levels { gzip: 9, zstd: 12 };
    for codec in [Codec::Gzip, Codec::Zstd] {
        assert!(sizes(small, codec) < sizes(fast, codec), "{codec}");
    }
}

#[test]
fn raw_snappy_is_read_too() {
    let input = text(5000);
    let raw = snap::raw::Encoder::new().compress_vec(&input).unwrap();
    assert!(Decompressor::new(LIMIT).decompress(Codec::Snappy, &raw) == Ok(&input[..]));
}

#[test]
fn a_snappy_block_cannot_claim_more_than_it_can_hold() {
    // A varint length of 2 GiB and nothing behind it.
    let claim = [0xff, 0xff, 0xff, 0xff, 0x07, 0x00];
    let mut decompressor = Decompressor::new(usize::MAX);
    assert_eq!(
        decompressor.decompress(Codec::Snappy, &claim),
        Err(Error::Invalid { part: "snappy block" })
    );
    assert_eq!(decompressor.out.buffer.capacity(), 0);
}

#[test]
fn gzip_members_with_every_optional_field_are_read() {
    let plain = Compressor::default().compress(Codec::Gzip, b"kafka").to_vec();
    let mut member = plain[..10].to_vec();
    member[3] = 0b0001_1110;
    member.extend_from_slice(&[3, 0, 9, 9, 9]);
    member.extend_from_slice(b"name\0comment\0");
    member.extend_from_slice(&[0, 0]);
    member.extend_from_slice(&plain[10..]);
    let both = [&member[..], &plain[..], b"padding"].concat();
    let mut decompressor = Decompressor::new(LIMIT);
    assert_eq!(decompressor.decompress(Codec::Gzip, &both), Ok(&b"kafkakafka"[..]));
}

#[test]
fn the_wrong_lz4_header_checksum_passes_for_format_v0_only() {
    let mut frame = Compressor::default().compress(Codec::Lz4, b"kafka").to_vec();
    frame[6] ^= 0xff;
    let mut decompressor = Decompressor::new(LIMIT);
    assert_eq!(
        decompressor.decompress(Codec::Lz4, &frame),
        Err(Error::Mismatch { part: "lz4 header checksum" })
    );
    assert_eq!(decompressor.decompress_v0(Codec::Lz4, &frame), Ok(&b"kafka"[..]));
}

#[test]
fn lz4_frames_of_every_kind_are_read() {
    use std::io::Write;

    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

    let input = text(700_000);
    let mut decompressor = Decompressor::new(LIMIT);
    for mode in [BlockMode::Independent, BlockMode::Linked] {
        for size in [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB] {
            for checksums in [false, true] {
                let info = FrameInfo::new()
                    .block_mode(mode)
                    .block_size(size)
                    .block_checksums(checksums)
                    .content_checksum(checksums)
                    .content_size(checksums.then_some(input.len() as u64));
                let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
                encoder.write_all(&input).unwrap();
                let frame = encoder.finish().unwrap();
                assert!(decompressor.decompress(Codec::Lz4, &frame) == Ok(&input[..]));
            }
        }
    }
}

#[test]
fn zstd_frames_without_a_content_size_are_read() {
    use std::io::Write;

    use structured_zstd::encoding::{CompressionLevel, StreamingEncoder};

    let input = vec![7; 3 << 20];
    let mut encoder = StreamingEncoder::new(Vec::new(), CompressionLevel::Level(3));
    encoder.write_all(&input).unwrap();
    let frame = encoder.finish().unwrap();
    assert!(Decompressor::new(LIMIT).decompress(Codec::Zstd, &frame) == Ok(&input[..]));
    assert_eq!(
        Decompressor::new(1 << 20).decompress(Codec::Zstd, &frame),
        Err(Error::TooLarge { bytes_max: 1 << 20 })
    );
}

#[test]
fn codecs_have_kafkas_names_and_numbers() {
    for (id, name) in ["none", "gzip", "snappy", "lz4", "zstd"].into_iter().enumerate() {
        let codec = Codec::from_name(&name.to_uppercase()).unwrap();
        assert_eq!(codec.id(), id as i8);
        assert_eq!(Codec::from_id(id as i8), Some(codec));
        assert_eq!(codec.to_string(), name);
    }
    assert_eq!(Codec::from_id(5), None);
    assert_eq!(Codec::from_name("uncompressed"), None);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
        codec in 0..5i8,
    ) {
        let codec = Codec::from_id(codec).unwrap();
        let mut decompressor = Decompressor::new(1 << 16);
        let _ = decompressor.decompress(codec, &bytes);
        let magic: &[u8] = match codec {
            Codec::Gzip => &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0],
            Codec::Snappy => &[0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0],
            Codec::Lz4 => &[0x04, 0x22, 0x4d, 0x18],
            Codec::Zstd => &[0x28, 0xb5, 0x2f, 0xfd],
            Codec::None => &[],
        };
        let _ = decompressor.decompress_v0(codec, &[magic, &bytes].concat());
    }

    #[test]
    fn damaged_streams_never_panic_nor_pass_the_limit(
        seed in any::<u8>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        codec in 1..5i8,
    ) {
        let codec = Codec::from_id(codec).unwrap();
        let input: Vec<u8> = text(4000).iter().map(|byte| byte.wrapping_add(seed)).collect();
        let mut compressed = Compressor::default().compress(codec, &input).to_vec();
        for (index, byte) in changes {
            let at = index.index(compressed.len());
            compressed[at] = byte;
        }
        let mut decompressor = Decompressor::new(1 << 16);
        if let Ok(output) = decompressor.decompress(codec, &compressed) {
            prop_assert!(output.len() <= 1 << 16);
        }
    }
}

#[test]
fn what_a_large_batch_took_is_given_back() {
    let (small, large) = (vec![7; 1_000], vec![7; KEPT_BYTES_MAX + 1]);
    let mut compressor = Compressor::default();
    let mut decompressor = Decompressor::new(64 << 20);
    for (input, is_kept) in [(small, true), (large, false)] {
        let compressed = compressor.compress(Codec::Lz4, &input).to_vec();
        assert_eq!(decompressor.decompress(Codec::Lz4, &compressed).unwrap(), input);
        decompressor.trim();
        compressor.trim();
        assert_eq!(decompressor.out.buffer.capacity() > 0, is_kept);
        assert!(compressor.out.capacity() <= KEPT_BYTES_MAX);
    }
}
