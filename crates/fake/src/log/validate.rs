//! What a broker checks before it appends a client's batch, in the order of `ProduceRequest`,
//! `UnifiedLog` and `LogValidator`.
//!
//! Owned by the log. Always true: it needs no lock and no log, only the topic's rules.

use bytes::Bytes;
use kafka_protocol::error::ResponseError;

use crate::batch::build::rewrite;
use crate::batch::records::{RawRecord, Span};
use crate::batch::{self, Batch, Codec};
use crate::versions::Release;

/// What the topic, the request and the emulated release demand.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) produce_version: i16,
    pub(crate) release: Release,
    /// Reject wrong offset deltas in uncompressed batches too, which no real broker does.
    pub(crate) is_strict: bool,
    pub(crate) is_compacted: bool,
    pub(crate) is_log_append_time: bool,
    /// `compression.type`; `None` is `producer`.
    pub(crate) compression: Option<Codec>,
    pub(crate) bytes_max: usize,
    pub(crate) before_max_ms: i64,
    pub(crate) after_max_ms: i64,
    pub(crate) now_ms: i64,
}

/// Why a batch was refused, as a produce response states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub(crate) error: ResponseError,
    pub(crate) message: String,
    /// (index in the batch, reason), KIP-467.
    pub(crate) records: Vec<(i32, String)>,
}

impl Rejection {
    pub(crate) fn new(error: ResponseError, message: impl Into<String>) -> Rejection {
        Rejection { error, message: message.into(), records: Vec::new() }
    }
}

/// The batch to append: the client's own bytes unless a rule made the broker rewrite them.
pub(crate) fn validate(bytes: &Bytes, rules: &Rules) -> Result<Batch, Rejection> {
    check_request(bytes, rules)
        .and_then(|batch| check_log(batch, rules))
        .and_then(|batch| check_records(batch, rules))
        .map_err(|rejection| for_release(rejection, rules.release))
}

/// `ProduceRequest.validateRecords`: one v2 batch, in a codec the version knows.
fn check_request(bytes: &Bytes, rules: &Rules) -> Result<Batch, Rejection> {
    let invalid = |message: &str| Rejection::new(ResponseError::InvalidRecord, message);
    let (batch, rest) = match Batch::parse(bytes) {
        Ok(parsed) => parsed,
        Err(batch::Error::Truncated { .. }) => {
            return Err(invalid("a partition must have at least one record batch"));
        }
        Err(batch::Error::Magic { .. }) => {
            return Err(invalid("only record batches with magic 2 are allowed"));
        }
        Err(error) => {
            return Err(Rejection::new(ResponseError::CorruptMessage, error.to_string()));
        }
    };
    if rules.produce_version < 7 && batch.header().codec() == Ok(Codec::Zstd) {
        let message = "produce requests below version 7 may not use zstd";
        return Err(Rejection::new(ResponseError::UnsupportedCompressionType, message));
    }
    if !matches!(Batch::parse(&rest), Err(batch::Error::Truncated { .. })) {
        return Err(invalid("a partition must have exactly one record batch"));
    }
    Ok(batch)
}

/// `UnifiedLog.analyzeAndValidateRecords`.
fn check_log(batch: Batch, rules: &Rules) -> Result<Batch, Rejection> {
    let base_offset = batch.header().base_offset;
    if base_offset != 0 {
        let message = format!("the base offset should be 0, but it is {base_offset}");
        return Err(Rejection::new(ResponseError::InvalidRecord, message));
    }
    let size = batch.size_bytes();
    if size > rules.bytes_max {
        let message = format!("batch of {size} bytes exceeds {}", rules.bytes_max);
        return Err(Rejection::new(ResponseError::MessageTooLarge, message));
    }
    batch
        .check_crc()
        .map_err(|error| Rejection::new(ResponseError::CorruptMessage, error.to_string()))?;
    Ok(batch)
}

/// `LogValidator.validateBatch` and its walk over the records.
fn check_records(mut batch: Batch, rules: &Rules) -> Result<Batch, Rejection> {
    check_batch(&batch)?;
    let codec = batch
        .header()
        .codec()
        .map_err(|error| Rejection::new(ResponseError::CorruptMessage, error.to_string()))?;
    let walk = walk_records(&batch, rules)?;
    let is_compressed = codec != Codec::None;
    let must_renumber = is_compressed && !walk.is_contiguous;
    if must_renumber && rules.release == Release::V2_4 {
        return Err(unordered());
    }
    if !is_compressed && !walk.is_contiguous && rules.is_strict {
        return Err(unordered());
    }
    let target = rules.compression.unwrap_or(codec);
    if target != codec || must_renumber {
        batch = recompress(&batch, target)?;
    }
    stamp_time(&mut batch, rules, walk.max_timestamp_ms);
    Ok(batch)
}

fn check_batch(batch: &Batch) -> Result<(), Rejection> {
    let header = batch.header();
    let invalid = |message: String| Err(Rejection::new(ResponseError::InvalidRecord, message));
    let from_offsets = i64::from(header.last_offset_delta) + 1;
    if from_offsets <= 0 {
        return invalid("the batch has an invalid offset range".to_owned());
    }
    if header.record_count <= 0 {
        return invalid(format!("invalid count of records: {}", header.record_count));
    }
    if from_offsets != i64::from(header.record_count) {
        let count = header.record_count;
        return invalid(format!("{count} records but an offset range of {from_offsets}"));
    }
    if header.has_producer_id() && header.base_sequence < 0 {
        return invalid(format!("sequence {} with a producer id", header.base_sequence));
    }
    if header.is_control() {
        return invalid("clients are not allowed to write control records".to_owned());
    }
    Ok(())
}

struct Walk {
    is_contiguous: bool,
    max_timestamp_ms: i64,
}

fn walk_records(batch: &Batch, rules: &Rules) -> Result<Walk, Rejection> {
    let corrupt = |error: batch::Error| {
        let code = match &error {
            batch::Error::Record { .. } => ResponseError::InvalidRecord,
            _ => ResponseError::CorruptMessage,
        };
        Rejection::new(code, error.to_string())
    };
    let header = *batch.header();
    let mut records = batch.records().map_err(corrupt)?;
    let mut walk = Walk { is_contiguous: true, max_timestamp_ms: -1 };
    let mut refused = Vec::new();
    let mut index = 0_i32;
    while let Some(span) = records.next_span() {
        let span = span.map_err(corrupt)?;
        let timestamp_ms = header.base_timestamp.wrapping_add(span.timestamp_delta);
        walk.is_contiguous &= span.offset_delta == i64::from(index);
        walk.max_timestamp_ms = walk.max_timestamp_ms.max(timestamp_ms);
        if let Some((error, reason)) = check_record(&span, timestamp_ms, header, rules) {
            refused.push((index, error, reason));
        }
        index += 1;
    }
    let Some(first) = refused.first() else { return Ok(walk) };
    let is_timestamp = refused.iter().any(|entry| entry.1 == ResponseError::InvalidTimestamp);
    let error = if is_timestamp { ResponseError::InvalidTimestamp } else { first.1 };
    Err(Rejection {
        error,
        message: "one or more records have been rejected".to_owned(),
        records: refused.into_iter().map(|(index, _, reason)| (index, reason)).collect(),
    })
}

fn check_record(
    span: &Span,
    timestamp_ms: i64,
    header: batch::Header,
    rules: &Rules,
) -> Option<(ResponseError, String)> {
    if rules.is_compacted && span.key.is_none() {
        let reason = "a compacted topic cannot accept a message without key".to_owned();
        return Some((ResponseError::InvalidRecord, reason));
    }
    // KIP-937 moved this check: from 3.6 on only a LogAppendTime topic refuses the bit.
    let refuses_bit = rules.is_log_append_time || rules.release < Release::V3_9;
    if header.is_log_append_time() && refuses_bit {
        let reason = "a producer may not set the timestamp type to LogAppendTime".to_owned();
        return Some((ResponseError::InvalidTimestamp, reason));
    }
    if rules.is_log_append_time || timestamp_ms == -1 {
        return None;
    }
    let age = rules.now_ms.saturating_sub(timestamp_ms);
    if age > rules.before_max_ms || age.saturating_neg() > rules.after_max_ms {
        let reason = format!("timestamp {timestamp_ms} is out of range");
        return Some((ResponseError::InvalidTimestamp, reason));
    }
    None
}

fn recompress(batch: &Batch, target: Codec) -> Result<Batch, Rejection> {
    let corrupt =
        |error: batch::Error| Rejection::new(ResponseError::CorruptMessage, error.to_string());
    let records = batch.records().map_err(corrupt)?;
    let renumbered: Result<Vec<RawRecord>, batch::Error> = records
        .zip(0..)
        .map(|(record, offset_delta)| Ok(RawRecord { offset_delta, ..record? }))
        .collect();
    Ok(rewrite(batch, target, &renumbered.map_err(corrupt)?))
}

fn stamp_time(batch: &mut Batch, rules: &Rules, max_timestamp_ms: i64) {
    let mut header = batch.header().with_log_append_time(rules.is_log_append_time);
    header.max_timestamp = if rules.is_log_append_time { rules.now_ms } else { max_timestamp_ms };
    if header != *batch.header() {
        batch.seal(header);
    }
}

fn unordered() -> Rejection {
    Rejection::new(ResponseError::InvalidRecord, "the records do not have incremental offsets")
}

/// INVALID_RECORD was added in 2.4; older brokers said CORRUPT_MESSAGE.
fn for_release(mut rejection: Rejection, release: Release) -> Rejection {
    if release < Release::V2_4 && rejection.error == ResponseError::InvalidRecord {
        rejection.error = ResponseError::CorruptMessage;
    }
    rejection
}
