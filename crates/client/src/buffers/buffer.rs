//! One buffer: memory that is filled from the front, grows if need be, and returns to where it came
//! from.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use bytes::Bytes;
use memmap2::MmapMut;

use super::{LARGE_BYTES_MIN, Store};

/// Initialised bytes. Large ones are pages of their own: the system takes them back when they are
/// dropped, which an allocator does not promise.
pub(super) enum Memory {
    Heap(Vec<u8>),
    Pages(MmapMut),
}

impl Memory {
    pub(super) fn new(bytes: usize, pages_from: usize) -> Self {
        let pages = (bytes >= pages_from).then(|| map(bytes)).flatten();
        pages.map_or_else(|| Self::Heap(vec![0; bytes]), Self::Pages)
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Heap(bytes) => bytes.len(),
            Self::Pages(pages) => pages.len(),
        }
    }
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Pages(pages) => pages,
        }
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Pages(pages) => pages,
        }
    }
}

/// Pages of their own, huge ones if they are many: each is faulted in by itself and has its place
/// in the processor's buffer of translations.
fn map(bytes: usize) -> Option<MmapMut> {
    let pages = MmapMut::map_anon(bytes).ok()?;
    #[cfg(target_os = "linux")]
    if bytes >= HUGE_PAGE_BYTES {
        // A kernel that has none leaves them small.
        let _ = pages.advise(memmap2::Advice::HugePage);
    }
    Some(pages)
}

/// A huge page, as most processors have them.
#[cfg(target_os = "linux")]
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Memory to be filled, which returns to where it came from.
pub(crate) struct Buffer {
    memory: Memory,
    filled: usize,
    store: Option<Arc<Store>>,
}

impl Buffer {
    /// A buffer that belongs to no store.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { memory: Memory::new(bytes, LARGE_BYTES_MIN), filled: 0, store: None }
    }

    pub(super) fn of(memory: Memory, store: Arc<Store>) -> Self {
        Self { memory, filled: 0, store: Some(store) }
    }

    /// Bytes written.
    pub(crate) fn len(&self) -> usize {
        self.filled
    }

    /// Bytes there is memory for.
    pub(crate) fn capacity(&self) -> usize {
        self.memory.len()
    }

    /// Where the next bytes are written; [`Buffer::advance`] says how many were.
    pub(crate) fn spare(&mut self) -> &mut [u8] {
        &mut self.memory[self.filled..]
    }

    /// `bytes` more are written.
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.filled = (self.filled + bytes).min(self.memory.len());
    }

    /// Forgets what was written after the first `bytes`.
    #[inline]
    pub(crate) fn truncate(&mut self, bytes: usize) {
        self.filled = self.filled.min(bytes);
    }

    /// Makes room for `more` bytes.
    #[inline]
    pub(crate) fn reserve(&mut self, more: usize) {
        if more > self.memory.len() - self.filled {
            self.grow(more);
        }
    }

    #[inline]
    pub(crate) fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.memory[self.filled..][..bytes.len()].copy_from_slice(bytes);
        self.filled += bytes.len();
    }

    #[cold]
    fn grow(&mut self, more: usize) {
        let bytes = self.filled.saturating_add(more).max(self.filled.saturating_mul(2));
        let mut larger = match &self.store {
            Some(store) => store.give(bytes),
            None => Memory::new(bytes, LARGE_BYTES_MIN),
        };
        larger[..self.filled].copy_from_slice(&self.memory[..self.filled]);
        let smaller = std::mem::replace(&mut self.memory, larger);
        if let Some(store) = &self.store {
            store.give_back(smaller);
        }
    }

    /// What was written, which can be sliced and shared without copying.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Clone for Buffer {
    /// What was written, in memory that belongs to no store.
    fn clone(&self) -> Self {
        let mut copy = Self::new(self.filled);
        copy.extend_from_slice(self.as_ref());
        copy
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.filled]
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("filled", &self.filled).finish_non_exhaustive()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(store) = self.store.take() {
            store.give_back(std::mem::replace(&mut self.memory, Memory::Heap(Vec::new())));
        }
    }
}
