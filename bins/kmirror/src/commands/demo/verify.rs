//! Compares what both clusters have stored, record by record, by the fake clusters' own reading of
//! their logs: no code of the mirror takes part.

use std::collections::BTreeMap;

use bytes::Bytes;
use kmirror_fake::{Cluster, StoredRecord};

/// What the comparison found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// How many records of the source were compared.
    pub(super) records: u64,
    /// Every difference, in words.
    pub(super) differences: Vec<String>,
}

/// Compares every topic of the source.
pub(super) fn compare(source: &Cluster, destination: &Cluster) -> Found {
    let mut found = Found::default();
    for topic in source.topics().iter().filter(|topic| !topic.starts_with("__")) {
        let counts = (source.partition_count(topic), destination.partition_count(topic));
        if counts.0 == counts.1 {
            for partition in 0..counts.0 {
                let wanted = source.records(topic, partition);
                let there = destination.records(topic, partition);
                found.records += wanted.len() as u64;
                let place = format!("{topic}-{partition}");
                found.compare(&place, &contents(wanted), &contents(there));
            }
        } else {
            let wanted = by_key(source, topic, counts.0);
            let mut there = by_key(destination, topic, counts.1);
            for (key, mut wanted) in wanted {
                found.records += wanted.len() as u64;
                let mut there = there.remove(&key).unwrap_or_default();
                if key.is_none() {
                    // Without a key there is no order to keep over partitions.
                    wanted.sort();
                    there.sort();
                }
                found.compare(&format!("{topic}, key {key:?}"), &wanted, &there);
            }
            for key in there.keys() {
                found.differences.push(format!("{topic}: key {key:?} is not at the source"));
            }
        }
    }
    found
}

impl Found {
    fn compare(&mut self, place: &str, wanted: &[Content], there: &[Content]) {
        if wanted.len() != there.len() {
            let (wanted, there) = (wanted.len(), there.len());
            let text =
                format!("{place}: {wanted} records at the source, {there} at the destination");
            self.differences.push(text);
        } else if let Some(at) = wanted.iter().zip(there).position(|(one, other)| one != other) {
            self.differences.push(format!("{place}: record {at} differs"));
        }
    }
}

/// All of a record but its offset.
type Content = (Option<Bytes>, i64, Option<Bytes>, Vec<(Bytes, Option<Bytes>)>);

fn contents(records: Vec<StoredRecord>) -> Vec<Content> {
    records.into_iter().map(content).collect()
}

fn content(record: StoredRecord) -> Content {
    (record.key, record.timestamp_ms, record.value, record.headers)
}

fn by_key(
    cluster: &Cluster,
    topic: &str,
    partitions: i32,
) -> BTreeMap<Option<Bytes>, Vec<Content>> {
    let mut keys: BTreeMap<Option<Bytes>, Vec<Content>> = BTreeMap::new();
    for partition in 0..partitions {
        for record in cluster.records(topic, partition) {
            keys.entry(record.key.clone()).or_default().push(content(record));
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: i64, key: Option<&'static str>) -> Content {
        (key.map(|key| Bytes::from_static(key.as_bytes())), number, None, Vec::new())
    }

    #[test]
    fn a_missing_a_changed_and_a_moved_record_are_found() {
        let wanted = [record(1, None), record(2, Some("k"))];
        let mut found = Found::default();
        found.compare("t-0", &wanted, &wanted);
        assert!(found.differences.is_empty());
        found.compare("t-0", &wanted, &wanted[..1]);
        found.compare("t-1", &wanted, &[wanted[1].clone(), wanted[0].clone()]);
        assert_eq!(
            found.differences,
            ["t-0: 2 records at the source, 1 at the destination", "t-1: record 0 differs"]
        );
    }
}
