//! Which batches are small enough to be put together with their neighbours. Pure.

use kmirror_client::batch::{Codec, Outgoing};

/// By how much a compressed batch has to be smaller than another one to count as small: it has to
/// be compressed again, which is worth it for the tiniest only.
const COMPRESSED_SMALLER: usize = 8;

/// Whether `batch` is small where uncompressed batches of fewer than `bytes` are.
pub(super) fn is_small(batch: &Outgoing, bytes: usize) -> bool {
    let bytes = match batch.codec() {
        Codec::None => bytes,
        _ => bytes / COMPRESSED_SMALLER,
    };
    batch.len_bytes() < bytes
}
