//! Records as the suites write, read and compare them: everything that a record is to those who
//! read it, and nothing of how it was stored.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

/// One record. `Some(vec![])` is an empty key or value, `None` is null: they are not the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// The partition to write to, or that it was read from.
    pub partition: Option<i32>,
    /// The offset it was read from.
    pub offset: Option<i64>,
    /// Its timestamp in milliseconds; when written, `None` lets the producer choose.
    pub timestamp_ms: Option<i64>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; null is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its headers, in order, with repeated names.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    /// A record with this key and value.
    #[must_use]
    pub fn new(key: &str, value: &str) -> Self {
        Self {
            key: Some(key.as_bytes().to_vec()),
            value: Some(value.as_bytes().to_vec()),
            ..Self::default()
        }
    }

    /// The same with a timestamp.
    #[must_use]
    pub fn at(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }

    /// The same for one partition.
    #[must_use]
    pub fn to(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// The same with one more header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: Option<&[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.map(<[u8]>::to_vec)));
        self
    }

    /// What a reader sees, without where it was: for comparing the two ends.
    #[must_use]
    pub fn content(&self) -> Self {
        Self { partition: None, offset: None, ..self.clone() }
    }

    /// The number that [`Java::load`](crate::Java::load) put at the start of the value.
    ///
    /// # Panics
    /// When the value is not of that form.
    #[must_use]
    pub fn number(&self) -> u64 {
        let value = self.value.as_deref().expect("a numbered record has a value");
        let digits: String =
            value.iter().take_while(|byte| byte.is_ascii_digit()).map(|&b| char::from(b)).collect();
        digits.parse().expect("a numbered record begins with its number")
    }

    pub(crate) fn to_json(&self) -> Value {
        let headers: Vec<Value> =
            self.headers.iter().map(|(name, value)| json!([name, hex(value.as_deref())])).collect();
        json!({
            "partition": self.partition,
            "timestamp": self.timestamp_ms,
            "key": hex(self.key.as_deref()),
            "value": hex(self.value.as_deref()),
            "headers": headers,
        })
    }

    pub(crate) fn from_json(line: &Value) -> Self {
        let headers = line["headers"].as_array().map_or(&[][..], Vec::as_slice);
        let header =
            |pair: &Value| (pair[0].as_str().expect("a header's name").to_owned(), unhex(&pair[1]));
        Self {
            partition: line["partition"].as_i64().and_then(|number| i32::try_from(number).ok()),
            offset: line["offset"].as_i64(),
            timestamp_ms: line["timestamp"].as_i64(),
            key: unhex(&line["key"]),
            value: unhex(&line["value"]),
            headers: headers.iter().map(header).collect(),
        }
    }
}

/// The records of each partition, in order.
#[must_use]
pub fn by_partition(records: &[Record]) -> BTreeMap<i32, Vec<Record>> {
    let mut partitions: BTreeMap<i32, Vec<Record>> = BTreeMap::new();
    for record in records {
        let partition = record.partition.expect("a record that was read has a partition");
        partitions.entry(partition).or_default().push(record.content());
    }
    partitions
}

/// The records of each key, in order; all without a key are one.
#[must_use]
pub fn by_key(records: &[Record]) -> BTreeMap<Option<Vec<u8>>, Vec<Record>> {
    let mut keys: BTreeMap<Option<Vec<u8>>, Vec<Record>> = BTreeMap::new();
    for record in records {
        keys.entry(record.key.clone()).or_default().push(record.content());
    }
    keys
}

/// Panics unless both ends hold the same records, in the same order, in the same partitions.
///
/// # Panics
/// Naming the first difference.
pub fn assert_same_partitions(source: &[Record], destination: &[Record]) {
    let (source, destination) = (by_partition(source), by_partition(destination));
    assert_eq!(counts(&source), counts(&destination), "records in each partition");
    for (partition, records) in &source {
        assert_same(&format!("partition {partition}"), records, &destination[partition]);
    }
}

/// Panics unless both ends hold the same records of each key, in the same order, wherever they are.
/// Records without a key have no order among partitions; they are compared as a heap.
///
/// # Panics
/// Naming the first difference.
pub fn assert_same_keys(source: &[Record], destination: &[Record]) {
    let (mut source, mut destination) = (by_key(source), by_key(destination));
    for keyless in [source.get_mut(&None), destination.get_mut(&None)].into_iter().flatten() {
        keyless.sort();
    }
    assert_eq!(counts(&source), counts(&destination), "records of each key");
    for (key, records) in &source {
        assert_same(&format!("key {key:?}"), records, &destination[key]);
    }
}

fn counts<K: Ord + Clone>(groups: &BTreeMap<K, Vec<Record>>) -> BTreeMap<K, usize> {
    groups.iter().map(|(key, records)| (key.clone(), records.len())).collect()
}

fn assert_same(place: &str, source: &[Record], destination: &[Record]) {
    for (index, (wanted, found)) in source.iter().zip(destination).enumerate() {
        assert_eq!(wanted, found, "{place}, record {index}: source, then destination");
    }
}

/// How numbered records arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    /// Numbers that were written and never arrived.
    pub missing: Vec<u64>,
    /// How many records arrived more than once, counting each time after the first.
    pub repeated: usize,
    /// Numbers whose first arrival came after that of a higher number of the same key.
    pub disordered: Vec<u64>,
}

/// Compares what arrived with the numbers below `count`, each of which was written once.
#[must_use]
pub fn arrival(count: u64, arrived: &[Record]) -> Arrival {
    let mut times: HashMap<u64, usize> = HashMap::new();
    let mut highest: HashMap<Option<&[u8]>, u64> = HashMap::new();
    let mut arrival = Arrival::default();
    for record in arrived {
        let number = record.number();
        let seen = times.entry(number).or_default();
        *seen += 1;
        if *seen > 1 {
            arrival.repeated += 1;
            continue;
        }
        let highest = highest.entry(record.key.as_deref()).or_default();
        if number < *highest {
            arrival.disordered.push(number);
        }
        *highest = number.max(*highest);
    }
    arrival.missing = (0..count).filter(|number| !times.contains_key(number)).collect();
    arrival
}

/// Lower-case hexadecimal, or nothing.
pub(crate) fn hex(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn unhex(value: &Value) -> Option<Vec<u8>> {
    let text = value.as_str()?.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |pair: &[u8]| Some(digit(pair[0])? * 16 + digit(*pair.get(1)?)?);
    text.chunks(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_from_its_json() {
        let record = Record::new("k", "v").at(7).to(3).with_header("h", None);
        let record = record.with_header("h", Some(b"\xff")).with_header("e", Some(b""));
        assert_eq!(Record::from_json(&record.to_json()), record);
        let null = Record::default();
        assert_eq!(Record::from_json(&null.to_json()), null);
    }

    #[test]
    fn missing_repeated_and_disordered_numbers_are_told() {
        let numbered = |key: &str, number: u64| Record::new(key, &format!("{number} ..."));
        let arrived =
            [numbered("a", 0), numbered("b", 3), numbered("a", 0), numbered("b", 1)].to_vec();
        let expected = Arrival { missing: vec![2], repeated: 1, disordered: vec![1] };
        assert_eq!(arrival(4, &arrived), expected);
    }

    #[test]
    #[should_panic(expected = "partition 0, record 1")]
    fn a_swap_within_a_partition_is_a_difference() {
        let records: Vec<Record> =
            ["a", "b", "c"].iter().map(|key| Record::new(key, "v").to(0)).collect();
        let mut swapped = records.clone();
        swapped.swap(1, 2);
        assert_same_partitions(&records, &swapped);
    }
}
