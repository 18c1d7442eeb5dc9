//! What an answer means for a batch. Pure tables; owned by the producer.
//!
//! Facts: KIP-98 and KIP-360; Kafka's `Errors`, `Sender.completeBatch` and
//! `TransactionManager.canRetry`.

use crate::error_code::ErrorCode;

use super::error::Rejection;

/// What one partition's answer, or the lack of one, means for the batch that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// It is in the log, as often as `acks` asks.
    Written(Written),
    /// It is not in the log by this try; the same may succeed later.
    Retry(ErrorCode),
    /// Nobody knows whether this try wrote it; the same sequence must be sent until somebody does.
    Unknown(ErrorCode),
    /// The broker expects another sequence number, or does not know the producer at all.
    OutOfSequence(ErrorCode),
    /// It is not in the log by this try and never will be.
    Rejected(Rejection),
    /// Another producer has this identity.
    Fenced(ErrorCode),
}

/// Where a batch was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Written {
    /// None when the broker no longer knows (`DUPLICATE_SEQUENCE_NUMBER`, `acks=0`).
    pub(super) base_offset: Option<i64>,
    /// Set when the topic stamps records with the time of their arrival.
    pub(super) log_append_time: Option<i64>,
}

/// Reads the answer for one partition.
pub(super) fn classify(
    rejection: Rejection,
    written: Written,
    log_start_offset: Option<i64>,
) -> Reply {
    let code = rejection.code;
    match code {
        ErrorCode::NONE => Reply::Written(written),
        // The sequence is further along than the broker remembers: it has been written.
        ErrorCode::DUPLICATE_SEQUENCE_NUMBER => Reply::Written(Written::default()),
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER => Reply::OutOfSequence(code),
        // Without a log start offset the partition was moving away: ask again until it is known.
        ErrorCode::UNKNOWN_PRODUCER_ID if log_start_offset.is_some() => Reply::OutOfSequence(code),
        ErrorCode::UNKNOWN_PRODUCER_ID => Reply::Retry(code),
        ErrorCode::INVALID_PRODUCER_EPOCH | ErrorCode::PRODUCER_FENCED => Reply::Fenced(code),
        // After these the leader may have appended the batch.
        ErrorCode::REQUEST_TIMED_OUT
        | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
        | ErrorCode::NETWORK_EXCEPTION
        | ErrorCode::KAFKA_STORAGE_ERROR
        | ErrorCode::UNKNOWN_SERVER_ERROR => Reply::Unknown(code),
        // Retryable in Kafka's table, but each says what is wrong with this very batch.
        ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::INVALID_RECORD => Reply::Rejected(rejection),
        // An offset is told only of what was appended: that the broker does not lead any more, or
        // does not know the partition, is also said of a batch that waited for the followers when
        // the partition moved away (`DelayedProduce.tryComplete` changes nothing but the code).
        _ if code.is_retryable() && written.base_offset.is_some() => Reply::Unknown(code),
        _ if code.is_retryable() => Reply::Retry(code),
        _ => Reply::Rejected(rejection),
    }
}

/// Whether the code says that the metadata are old.
pub(super) fn wants_metadata(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NOT_LEADER_OR_FOLLOWER
            | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            | ErrorCode::LEADER_NOT_AVAILABLE
            | ErrorCode::REPLICA_NOT_AVAILABLE
            | ErrorCode::FENCED_LEADER_EPOCH
            | ErrorCode::UNKNOWN_LEADER_EPOCH
            | ErrorCode::KAFKA_STORAGE_ERROR
            | ErrorCode::NETWORK_EXCEPTION
            | ErrorCode::UNKNOWN_TOPIC_ID
            | ErrorCode::INCONSISTENT_TOPIC_ID
    )
}

/// The sequence number `count` records after `sequence`: they wrap to 0 after 2^31 - 1
/// (`DefaultRecordBatch.incrementSequence`).
pub(super) fn sequence_after(sequence: i32, count: i32) -> i32 {
    sequence.wrapping_add(count) & i32::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_wrap_to_zero_after_the_largest() {
        assert_eq!(sequence_after(0, 10), 10);
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 4, 10), 5);
    }

    #[test]
    fn a_duplicate_is_a_success() {
        for code in [ErrorCode::NONE, ErrorCode::DUPLICATE_SEQUENCE_NUMBER] {
            let reply = classify(Rejection::of(code), Written::default(), None);
            assert!(matches!(reply, Reply::Written(_)), "{code}");
        }
    }

    #[test]
    fn a_batch_that_may_have_been_appended_is_unknown() {
        for code in [
            ErrorCode::REQUEST_TIMED_OUT,
            ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
            ErrorCode::UNKNOWN_SERVER_ERROR,
        ] {
            let reply = classify(Rejection::of(code), Written::default(), None);
            assert_eq!(reply, Reply::Unknown(code));
        }
    }

    #[test]
    fn a_batch_with_an_offset_was_appended_by_a_leader_that_moved_away_then() {
        for code in [
            ErrorCode::NOT_LEADER_OR_FOLLOWER,
            ErrorCode::REPLICA_NOT_AVAILABLE,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ] {
            let appended = Written { base_offset: Some(7), log_append_time: None };
            assert_eq!(classify(Rejection::of(code), appended, None), Reply::Unknown(code));
            let refused = Written::default();
            assert_eq!(classify(Rejection::of(code), refused, None), Reply::Retry(code));
        }
    }

    #[test]
    fn an_unknown_producer_is_asked_again_until_the_log_start_is_known() {
        let rejection = || Rejection::of(ErrorCode::UNKNOWN_PRODUCER_ID);
        assert!(matches!(classify(rejection(), Written::default(), None), Reply::Retry(_)));
        assert!(matches!(
            classify(rejection(), Written::default(), Some(7)),
            Reply::OutOfSequence(_)
        ));
    }

    #[test]
    fn what_is_wrong_with_the_batch_itself_is_not_retried() {
        for code in [
            ErrorCode::MESSAGE_TOO_LARGE,
            ErrorCode::RECORD_LIST_TOO_LARGE,
            ErrorCode::INVALID_RECORD,
            ErrorCode::INVALID_TIMESTAMP,
            ErrorCode::POLICY_VIOLATION,
            ErrorCode::TOPIC_AUTHORIZATION_FAILED,
        ] {
            let reply = classify(Rejection::of(code), Written::default(), None);
            assert!(matches!(reply, Reply::Rejected(_)), "{code}");
        }
    }
}
