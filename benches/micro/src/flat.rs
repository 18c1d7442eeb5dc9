//! What must not grow: a batch that passes through costs no allocation for its bytes, and one that
//! is rebuilt none for its records. Holds whatever the baseline says.

use kmirror_client::batch::Codec;

use crate::cases::{Case, coalesce, gaps, keys, pass};
use crate::data::Shape;
use crate::measure;

/// Allocations ten times the records may bring: buffers that grow by doubling.
const GROWTH_MAX: usize = 4;

/// The limits that are broken, one line each.
pub(crate) fn check() -> Vec<String> {
    let shape = |codec, records| Shape { codec, records, value_bytes: 100 };
    let mut broken = Vec::new();
    broken.extend(grows(&pass(16), &pass(1024), Allowed { allocations: 0, bytes: Some(0) }));
    for codec in Codec::ALL {
        let allowed = Allowed { allocations: GROWTH_MAX, bytes: None };
        for part in [gaps, keys, coalesce] {
            broken.extend(grows(&part(shape(codec, 100)), &part(shape(codec, 1000)), allowed));
        }
    }
    broken
}

/// How much more the larger of two cases may cost.
#[derive(Debug, Clone, Copy)]
struct Allowed {
    allocations: usize,
    bytes: Option<usize>,
}

fn grows(small: &Case, large: &Case, allowed: Allowed) -> Option<String> {
    let (less, more) = (measure::once(small), measure::once(large));
    let is_flat = more.allocations <= less.allocations + allowed.allocations
        && allowed.bytes.is_none_or(|bytes| more.bytes <= less.bytes + bytes);
    (!is_flat).then(|| {
        format!(
            "{}: {} allocations of {} bytes, where {} has {} of {}: it grows with its batch",
            large.name, more.allocations, more.bytes, small.name, less.allocations, less.bytes
        )
    })
}
