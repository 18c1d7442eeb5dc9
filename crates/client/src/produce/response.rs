//! A Produce answer, read into what it means for each partition. Pure; owned by the driver.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::ProduceResponse;
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::protocol::{Decodable, StrBytes};

use crate::error::{Error as ClientError, Fate};
use crate::error_code::ErrorCode;
use crate::name::TopicPartition;

use super::error::{RecordError, Rejection};
use super::reply::{Reply, Written, classify};

/// From this version on the broker does not wait itself when it throttles (KIP-219).
const CLIENT_THROTTLES_FROM: i16 = 6;

/// What came of one request.
pub(super) enum Answer {
    /// The broker's answer.
    Response { partitions: HashMap<(StrBytes, i32), PartitionProduceResponse>, throttle: Duration },
    /// With `acks=0` there is none: the bytes have left.
    Unasked,
    /// There is none, or none that can be read.
    Lost { fate: Fate, code: ErrorCode },
}

impl Answer {
    /// Reads an answer's body, whose lengths the connection has checked.
    pub(super) fn read(mut body: Bytes, version: i16) -> Answer {
        let Ok(response) = ProduceResponse::decode(&mut body, version) else {
            return Answer::Lost { fate: Fate::Unknown, code: ErrorCode::UNKNOWN_SERVER_ERROR };
        };
        let millis = u64::try_from(response.throttle_time_ms).unwrap_or(0);
        let is_ours = version >= CLIENT_THROTTLES_FROM;
        let partitions = response.responses.into_iter().flat_map(|topic| {
            let name = topic.name.0;
            let partitions = topic.partition_responses.into_iter();
            partitions.map(move |partition| ((name.clone(), partition.index), partition))
        });
        Answer::Response {
            partitions: partitions.collect(),
            throttle: Duration::from_millis(if is_ours { millis } else { 0 }),
        }
    }

    /// What it means that there is no answer.
    pub(super) fn lost(error: &ClientError) -> Answer {
        let code = match error {
            ClientError::Timeout { .. } => ErrorCode::REQUEST_TIMED_OUT,
            ClientError::Decode { .. } => ErrorCode::UNKNOWN_SERVER_ERROR,
            _ => ErrorCode::NETWORK_EXCEPTION,
        };
        Answer::Lost { fate: error.fate(), code }
    }

    /// What it means for one partition of the request.
    pub(super) fn reply(&mut self, partition: &TopicPartition) -> Reply {
        match self {
            Answer::Unasked => Reply::Written(Written::default()),
            Answer::Lost { fate: Fate::NotWritten, code } => Reply::Retry(*code),
            Answer::Lost { fate: Fate::Unknown, code } => Reply::Unknown(*code),
            Answer::Response { partitions, .. } => {
                let topic = StrBytes::from_string(partition.topic.to_string());
                match partitions.remove(&(topic, partition.partition)) {
                    Some(response) => read_partition(response),
                    // A broker that says nothing of a batch may have written it.
                    None => Reply::Unknown(ErrorCode::UNKNOWN_SERVER_ERROR),
                }
            }
        }
    }
}

fn read_partition(response: PartitionProduceResponse) -> Reply {
    let known = |number: i64| (number >= 0).then_some(number);
    let written = Written {
        base_offset: known(response.base_offset),
        log_append_time: known(response.log_append_time_ms),
    };
    let records = response.record_errors.into_iter().map(|error| RecordError {
        index: error.batch_index,
        message: error.batch_index_error_message.map(|text| text.as_str().into()),
    });
    let rejection = Rejection {
        code: ErrorCode(response.error_code),
        message: response.error_message.map(|text| text.as_str().into()),
        records: records.collect(),
    };
    classify(rejection, written, known(response.log_start_offset))
}
