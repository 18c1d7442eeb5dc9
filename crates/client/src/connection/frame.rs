//! Frames: a length of four bytes, big endian, and as many bytes.
//!
//! The length of a frame that comes in is checked before anything is allocated for it.

use std::io::{self, IoSlice};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::buffers::{Buffer, Buffers};

/// A frame that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The stream failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The stream ended between frames.
    #[error("the broker closed it")]
    End,
    /// The length is negative, or too small to hold an answer's header.
    #[error("a frame of length {length} came, which no Kafka broker sends")]
    BadLength {
        /// The length as it came.
        length: i32,
    },
    /// The length is larger than what is accepted.
    #[error("a frame of {length} bytes came, where at most {limit} are taken")]
    TooLong {
        /// The length as it came, in bytes.
        length: i32,
        /// The largest length taken, in bytes.
        limit: usize,
    },
}

impl Error {
    /// Whether the other side sent what no broker sends, rather than nothing.
    pub(super) fn is_garbled(&self) -> bool {
        match self {
            Error::BadLength { .. } | Error::TooLong { .. } => true,
            Error::Io(_) | Error::End => false,
        }
    }
}

/// The most pieces given to one vectored write (Linux takes 1,024).
const PIECES_MAX: usize = 128;

/// Reads one frame, without its length. `buffers` is asked when the frame has begun.
pub(super) async fn read<'a>(
    stream: &mut (impl AsyncRead + Unpin),
    frame_bytes_max: usize,
    buffers: impl FnOnce() -> Option<&'a Buffers>,
) -> Result<Bytes, Error> {
    let mut prefix = [0u8; 4];
    match stream.read_exact(&mut prefix).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(Error::End),
        Err(error) => return Err(error.into()),
    }
    let length = i32::from_be_bytes(prefix);
    let bytes = usize::try_from(length).map_err(|_| Error::BadLength { length })?;
    if bytes < 4 {
        return Err(Error::BadLength { length });
    }
    if bytes > frame_bytes_max {
        return Err(Error::TooLong { length, limit: frame_bytes_max });
    }
    let mut frame = buffers().map_or_else(|| Buffer::new(bytes), |buffers| buffers.take(bytes));
    while frame.len() < bytes {
        let missing = bytes - frame.len();
        let read = stream.read(&mut frame.spare()[..missing]).await?;
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        frame.advance(read);
    }
    Ok(frame.freeze())
}

/// Writes all pieces, in as few calls as the stream takes, without joining them.
pub(super) async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    mut segments: &mut [Bytes],
) -> io::Result<()> {
    while let Some(first) = segments.first() {
        if first.is_empty() {
            segments = &mut segments[1..];
            continue;
        }
        let mut pieces = [IoSlice::new(&[]); PIECES_MAX];
        let count = segments.len().min(PIECES_MAX);
        for (piece, segment) in pieces.iter_mut().zip(segments.iter()) {
            *piece = IoSlice::new(segment);
        }
        let mut left = stream.write_vectored(&pieces[..count]).await?;
        if left == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while left > 0 {
            let taken = left.min(segments[0].len());
            segments[0].advance(taken);
            left -= taken;
            if segments[0].is_empty() {
                segments = &mut segments[1..];
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_length_over_the_limit_is_refused_before_it_is_allocated() {
        let mut stream: &[u8] = &i32::MAX.to_be_bytes();
        let error = read(&mut stream, 1024, || None).await.unwrap_err();
        assert!(matches!(error, Error::TooLong { length: i32::MAX, limit: 1024 }), "{error}");
    }

    #[tokio::test]
    async fn a_negative_length_is_refused() {
        let mut stream: &[u8] = &(-2i32).to_be_bytes();
        let error = read(&mut stream, 1024, || None).await.unwrap_err();
        assert!(matches!(error, Error::BadLength { length: -2 }), "{error}");
    }

    #[tokio::test]
    async fn an_end_between_frames_is_told_from_one_inside() {
        let mut stream: &[u8] = &[];
        assert!(matches!(read(&mut stream, 1024, || None).await, Err(Error::End)));
        let mut stream: &[u8] = &[0, 0, 0, 9, 1];
        assert!(matches!(read(&mut stream, 1024, || None).await, Err(Error::Io(_))));
    }

    #[tokio::test]
    async fn pieces_are_written_in_order_however_little_is_taken_at_once() {
        let (mut near, mut far) = tokio::io::duplex(3);
        let mut segments: Vec<Bytes> =
            ["abcd", "", "ef", "g"].into_iter().map(|s| Bytes::from_static(s.as_bytes())).collect();
        let writer = async {
            write(&mut near, &mut segments).await.unwrap();
            drop(near);
        };
        let reader = async {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.unwrap();
            all
        };
        let ((), all) = futures::join!(writer, reader);
        assert_eq!(all, b"abcdefg");
    }
}
