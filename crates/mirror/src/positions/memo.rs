//! What is written beside a committed offset: which log the offset belongs to, and to which topic
//! everything before it was mirrored. A later run, or another instance, knows by it whether either
//! topic was deleted and created again meanwhile.
//!
//! Words with a value, separated by spaces, after our name. Words that are not known are left out,
//! and offsets that others committed have none.

use std::sync::Arc;

use kmirror_client::fetch::Position;
use uuid::Uuid;

use super::Place;
use crate::control::plan::Destination;

const NAME: &str = "kmirror";
const TOPIC_ID: &str = "topic-id";
const TO_CLUSTER: &str = "to-cluster";
const TO_TOPIC_ID: &str = "to-topic-id";

/// The words for a place.
pub(super) fn write(place: &Place) -> Arc<str> {
    let mut memo = NAME.to_owned();
    let mut put = |word: &str, value: Option<String>| {
        if let Some(value) = value {
            memo.extend([" ", word, "=", &value]);
        }
    };
    put(TOPIC_ID, place.position.topic_id.map(|id| id.to_string()));
    let destination = place.destination.as_deref();
    put(TO_CLUSTER, destination.and_then(|to| Some(to.cluster_id.as_deref()?.to_owned())));
    put(TO_TOPIC_ID, destination.and_then(|to| Some(to.topic_id?.to_string())));
    memo.into()
}

/// The place of an offset that was written with `memo`.
pub(super) fn read(next_offset: i64, leader_epoch: i32, memo: &str) -> Place {
    let leader_epoch = (leader_epoch >= 0).then_some(leader_epoch);
    let mut position = Position { leader_epoch, ..Position::at(next_offset) };
    let mut words = memo.split_ascii_whitespace();
    if words.next() != Some(NAME) {
        return Place { position, destination: None };
    }
    let mut destination = Destination::default();
    let id = |value: &str| Uuid::parse_str(value).ok();
    for (word, value) in words.filter_map(|word| word.split_once('=')) {
        match word {
            TOPIC_ID => position.topic_id = id(value),
            TO_CLUSTER => destination.cluster_id = Some(value.into()),
            TO_TOPIC_ID => destination.topic_id = id(value),
            _ => {}
        }
    }
    Place { position, destination: Some(Arc::new(destination)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_whatever_of_it_is_known() {
        for (topic_id, cluster_id, to) in [
            (Some(Uuid::from_u128(1)), Some("lkc-1"), Some(Uuid::from_u128(2))),
            (None, Some("lkc-1"), None),
            (Some(Uuid::from_u128(1)), None, None),
            (None, None, None),
        ] {
            let position = Position { next_offset: 7, leader_epoch: Some(3), topic_id };
            let destination = Destination { cluster_id: cluster_id.map(Into::into), topic_id: to };
            let place = Place { position, destination: Some(Arc::new(destination)) };
            assert_eq!(read(7, 3, &write(&place)), place);
        }
    }

    #[test]
    fn what_others_wrote_says_nothing() {
        for memo in ["", "topic-id=x", "some words of an application"] {
            let place = Place { position: Position::at(7), destination: None };
            assert_eq!(read(7, -1, memo), place);
        }
        let unknown = read(7, -1, "kmirror topic-id=none colour=blue to-cluster=lkc-1");
        assert_eq!(unknown.position, Position::at(7));
        assert_eq!(unknown.destination.unwrap().cluster_id.as_deref(), Some("lkc-1"));
    }
}
