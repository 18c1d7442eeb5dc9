//! kcat, which is librdkafka: the second independent client of the suites.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use crate::{End, Record};

/// Separators that no test record contains.
const FIELD: char = '\u{1f}';
const LINE: char = '\u{1e}';

/// Produces `records`, in order, with librdkafka properties `config`. kcat cannot write null and
/// empty apart from each other except that `-Z` makes every empty key or value null, so empty
/// means null here; headers are the same for all records.
///
/// # Panics
/// When kcat is missing or fails.
pub fn produce(end: &End, topic: &str, config: &[(&str, &str)], records: &[Record]) {
    let mut command = kcat(end, config);
    command.args(["-P", "-t", topic, "-Z", "-K", &FIELD.to_string(), "-D", &LINE.to_string()]);
    if let Some(first) = records.first() {
        if let Some(partition) = first.partition {
            command.args(["-p", &partition.to_string()]);
        }
        for (name, value) in &first.headers {
            let value = value.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            command.arg("-H").arg(format!("{name}={value}"));
        }
    }
    let mut child = command.stdin(Stdio::piped()).spawn().expect("kcat is installed");
    let mut input = child.stdin.take().expect("invariant: standard input is piped");
    for record in records {
        let key = record.key.as_deref().unwrap_or_default();
        let value = record.value.as_deref().unwrap_or_default();
        let line = [key, FIELD.to_string().as_bytes(), value, LINE.to_string().as_bytes()].concat();
        input.write_all(&line).expect("kcat reads");
    }
    drop(input);
    let status = child.wait().expect("kcat ends");
    assert!(status.success(), "kcat -P ended with {status}");
}

/// Reads a topic to its end, all partitions, as librdkafka sees it (committed records only).
///
/// # Panics
/// When kcat is missing or fails.
#[must_use]
pub fn consume(end: &End, topic: &str) -> Vec<Record> {
    let mut command = kcat(end, &[("isolation.level", end.isolation())]);
    // Lengths tell null (-1) from empty (0); headers are printed as name=value with commas.
    let fields = ["%p", "%o", "%T", "%K", "%k", "%S", "%s", "%h"].join(&FIELD.to_string());
    command.args(["-C", "-e", "-q", "-t", topic, "-o", "beginning", "-f"]);
    let output = command.arg(format!("{fields}{LINE}")).output().expect("kcat is installed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "kcat -C ended with {}: {errors}", output.status);
    let text = String::from_utf8(output.stdout).expect("test records are text for kcat");
    text.split_terminator(LINE).map(parse).collect()
}

fn parse(line: &str) -> Record {
    let fields: Vec<&str> = line.split(FIELD).collect();
    let [partition, offset, timestamp, key_length, key, value_length, value, headers] = fields[..]
    else {
        panic!("kcat printed {} fields: {line:?}", fields.len());
    };
    let bytes = |length: &str, text: &str| (length != "-1").then(|| text.as_bytes().to_vec());
    let header = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.to_owned(), (value != "NULL").then(|| value.as_bytes().to_vec()))
    };
    Record {
        partition: partition.parse().ok(),
        offset: offset.parse().ok(),
        timestamp_ms: timestamp.parse().ok(),
        key: bytes(key_length, key),
        value: bytes(value_length, value),
        headers: headers.split(',').filter(|pair| !pair.is_empty()).map(header).collect(),
    }
}

fn kcat(end: &End, config: &[(&str, &str)]) -> Command {
    let mut command = Command::new("kcat");
    command.args(["-b", &end.bootstrap]);
    for (key, value) in config {
        command.arg("-X").arg(format!("{key}={value}"));
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_empty_are_told_apart() {
        let line = ["3", "7", "99", "-1", "", "0", "", "a=1,a=2"].join(&FIELD.to_string());
        let record = parse(&line);
        assert_eq!((record.key, record.value), (None, Some(Vec::new())));
        assert_eq!(record.headers.len(), 2);
        assert_eq!(
            (record.partition, record.offset, record.timestamp_ms),
            (Some(3), Some(7), Some(99))
        );
    }
}
