//! Collects a response from small pieces, which it copies, and large ones, which it only refers to.
//!
//! Owned by the wire module. Always true: the bytes come out in the order they were put in.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Below this a copy is cheaper than one more slice in the vectored write.
const COPY_BELOW_BYTES: usize = 4096;

/// A response frame under construction.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    done: VecDeque<Bytes>,
    open: BytesMut,
    length: usize,
}

impl Gather {
    pub(crate) fn new(start: BytesMut) -> Gather {
        let length = start.len();
        Gather { done: VecDeque::new(), open: start, length }
    }

    /// Adds a piece of a stored batch.
    pub(crate) fn push(&mut self, piece: Bytes) {
        self.length += piece.len();
        if piece.len() < COPY_BELOW_BYTES {
            self.open.extend_from_slice(&piece);
            return;
        }
        if !self.open.is_empty() {
            self.done.push_back(self.open.split().freeze());
        }
        self.done.push_back(piece);
    }

    /// Lets `write` put small fields.
    pub(crate) fn put(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let before = self.open.len();
        write(&mut self.open);
        self.length += self.open.len() - before;
    }

    /// The frame: four bytes of length, then everything put in.
    pub(crate) fn into_frame(mut self) -> Frame {
        if !self.open.is_empty() {
            self.done.push_back(self.open.freeze());
        }
        let mut prefix = BytesMut::with_capacity(4);
        prefix.put_i32(self.length as i32);
        self.done.push_front(prefix.freeze());
        Frame { pieces: self.done, remaining: self.length + 4 }
    }
}

/// A finished frame, written with vectored writes.
#[derive(Debug)]
pub(crate) struct Frame {
    pieces: VecDeque<Bytes>,
    remaining: usize,
}

impl Frame {
    /// Bytes as they are, without a length prefix.
    pub(crate) fn raw(bytes: Bytes) -> Frame {
        Frame { remaining: bytes.len(), pieces: VecDeque::from([bytes]) }
    }
}

impl Buf for Frame {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| &piece[..])
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.remaining, "invariant: advance stays inside the frame");
        self.remaining -= count;
        while let Some(front) = self.pieces.front_mut() {
            if count < front.len() {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.pieces.pop_front();
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slot, piece) in slices.iter_mut().zip(&self.pieces) {
            *slot = IoSlice::new(piece);
            filled += 1;
        }
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_out_in_the_order_they_went_in() {
        let mut gather = Gather::new(BytesMut::from(&b"head"[..]));
        gather.push(Bytes::from(vec![1_u8; 10_000]));
        gather.put(|out| out.put_u8(2));
        gather.push(Bytes::from_static(&[3; 5]));
        let mut frame = gather.into_frame();
        assert_eq!(frame.remaining(), 4 + 4 + 10_000 + 1 + 5);
        let all = frame.copy_to_bytes(frame.remaining());
        assert_eq!(&all[..8], [&10_010_i32.to_be_bytes()[..], b"head"].concat());
        assert_eq!(&all[10_008..], [2, 3, 3, 3, 3, 3]);
    }
}
