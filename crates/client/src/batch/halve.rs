//! Two batches out of one that is too large for the destination.
//!
//! Owned by [`batch`](crate::batch). The cut is where half of the bytes are, not half of the
//! records; halving again makes any size of which a single record is not too large itself.

use super::outgoing::Outgoing;
use super::rebuild::{self, Recoder};
use super::renumber::RawRecords;

/// Why a batch cannot be halved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It has one record only.
    #[error("a single record cannot be halved")]
    SingleRecord,
    /// It cannot be read.
    #[error("read the batch to halve")]
    Source(#[from] rebuild::Error),
}

impl Error {
    /// Whether trying again can help: it cannot.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        false
    }
}

impl Recoder {
    /// Splits `batch` in two of the same codec, each with at least one record: those of the
    /// first and then those of the second are the records of the batch, in order.
    ///
    /// # Errors
    /// [`Error`]; the batch is untouched.
    ///
    /// ```
    /// use kmirror_client::batch::rebuild::{Builder, Recoder};
    /// use kmirror_client::batch::{Codec, Compressor, Levels, Record};
    ///
    /// let mut builder = Builder::new(Codec::Lz4);
    /// for value in [b"one", b"two", b"six"] {
    ///     builder.push(&Record::new(None, Some(value))).unwrap();
    /// }
    /// let whole = builder.finish(&mut Compressor::default()).unwrap();
    ///
    /// let mut recoder = Recoder::new(Levels::default(), 16 << 20);
    /// let [first, second] = recoder.halve(&whole)?;
    /// assert_eq!(first.records_count() + second.records_count(), 3);
    /// # Ok::<(), kmirror_client::batch::halve::Error>(())
    /// ```
    pub fn halve(&mut self, batch: &Outgoing) -> Result<[Outgoing; 2], Error> {
        if batch.records_count() < 2 {
            return Err(Error::SingleRecord);
        }
        let body = batch.body(&mut self.decompressor).map_err(rebuild::Error::Source)?;
        let mut records = RawRecords::new(batch.header(), body);
        let first_count = count_of_half(records.clone(), body.len())?;
        self.builder.clear();
        self.builder.set_codec(batch.codec());
        let mut half = |count| {
            self.builder.begin(body.len() / 2);
            self.builder.append_raw(&mut records, count)?;
            self.builder.finish(&mut self.compressor).ok_or(Error::SingleRecord)
        };
        Ok([half(first_count)?, half(usize::MAX)?])
    }
}

/// How many of two or more records make up about half of `body_len`: not none, and not all.
fn count_of_half(mut records: RawRecords<'_>, body_len: usize) -> Result<usize, Error> {
    let mut count = 0;
    let mut taken = 0;
    while let Some(record) = records.next().map_err(rebuild::Error::Source)? {
        // The last record always goes to the second half.
        if records.is_at_end() || (count > 0 && taken + record.len / 2 >= body_len / 2) {
            break;
        }
        count += 1;
        taken += record.len;
    }
    Ok(count)
}

#[cfg(test)]
mod tests;
