//! Zstandard frames, by structured-zstd.
//!
//! Private to [`compression`](super). zstd-jni, which Kafka's Java client uses, writes frames
//! that do not say their content size, so the output starts at a guess and grows until the
//! frame fits; as the buffer stays, a stream of like batches soon fits at the first try. The
//! window a frame may demand is capped by the library at 128 MiB, the cap zstd itself has.

use structured_zstd::decoding::errors::FrameDecoderError;
use structured_zstd::decoding::{FrameContentSize, FrameDecoder, read_frame_content_size};
use structured_zstd::encoding::{CompressionLevel, FrameCompressor};

use super::{Error, Output};

/// The first guess at what a frame of unknown size needs, for each compressed byte.
const GROWTH_GUESS: usize = 8;
/// The first guess is never less than this.
const GUESS_BYTES_MIN: usize = 64 * 1024;

pub(super) struct Encoder {
    compressor: FrameCompressor,
}

impl Encoder {
    pub(super) fn new(level: i32) -> Self {
        Self { compressor: FrameCompressor::new(CompressionLevel::Level(level)) }
    }

    pub(super) fn encode(&mut self, input: &[u8], out: &mut Vec<u8>) {
        self.compressor.compress_independent_frame_into(input, out);
    }
}

#[derive(Default)]
pub(super) struct Decoder {
    decoder: Option<FrameDecoder>,
}

impl Decoder {
    pub(super) fn decode(&mut self, input: &[u8], out: &mut Output) -> Result<(), Error> {
        if input.is_empty() {
            return Err(Error::Truncated);
        }
        let mut wanted = match read_frame_content_size(input) {
            Ok(FrameContentSize::Known(size)) => {
                let size = usize::try_from(size).unwrap_or(usize::MAX);
                if size > out.bytes_max {
                    return Err(out.too_large());
                }
                size
            }
            _ => input.len().saturating_mul(GROWTH_GUESS).max(GUESS_BYTES_MIN),
        };
        // Each turn has four times the room, so there are fewer turns than bits in the limit.
        loop {
            let wanted_now = wanted.max(out.buffer.len()).clamp(1, out.bytes_max.max(1));
            let room = out.room_up_to(wanted_now)?;
            let whole = room.len();
            let mut decoder = self.decoder.take().unwrap_or_default();
            match decoder.decode_all(input, room) {
                Ok(written) => {
                    out.filled += written;
                    self.decoder = Some(decoder);
                    return Ok(());
                }
                Err(FrameDecoderError::TargetTooSmall) if whole < out.bytes_max => {
                    self.decoder = Some(decoder);
                    wanted = whole.saturating_mul(4);
                }
                Err(FrameDecoderError::TargetTooSmall) => return Err(out.too_large()),
                // The decoder's state is not worth trusting after this; it is dropped.
                Err(_) => return Err(Error::Invalid { part: "zstd frame" }),
            }
        }
    }
}
