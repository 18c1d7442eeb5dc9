//! From a record to a line, as Kafka's `DefaultMessageFormatter` does it. Keys, values and headers
//! are written byte for byte.

use kmirror_client::batch::{Record, TimestampType};

/// How records are written. The names of the properties are those of `kafka-console-consumer.sh`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LineWriter {
    timestamp: bool,
    partition: bool,
    offset: bool,
    epoch: bool,
    headers: bool,
    key: bool,
    value: bool,
    key_separator: Vec<u8>,
    line_separator: Vec<u8>,
    headers_separator: Vec<u8>,
    null_literal: Vec<u8>,
}

impl Default for LineWriter {
    fn default() -> Self {
        Self {
            timestamp: false,
            partition: false,
            offset: false,
            epoch: false,
            headers: false,
            key: false,
            value: true,
            key_separator: b"\t".to_vec(),
            line_separator: b"\n".to_vec(),
            headers_separator: b",".to_vec(),
            null_literal: b"null".to_vec(),
        }
    }
}

/// What a batch says of all its records.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Of {
    /// The partition they are in.
    pub(crate) partition: i32,
    /// The leader epoch they were written in; -1 unknown.
    pub(crate) leader_epoch: i32,
    /// Whose clock their timestamps are from.
    pub(crate) timestamp_type: TimestampType,
}

impl LineWriter {
    /// The names of the properties, for suggestions.
    pub(crate) const PROPERTIES: [&'static str; 11] = [
        "print.timestamp",
        "print.partition",
        "print.offset",
        "print.epoch",
        "print.headers",
        "print.key",
        "print.value",
        "key.separator",
        "line.separator",
        "headers.separator",
        "null.literal",
    ];

    /// Prints nothing of any record.
    pub(crate) fn silence(&mut self) {
        *self = Self { value: false, line_separator: Vec::new(), ..Self::default() };
    }

    /// Sets a property.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let truth = value.trim().eq_ignore_ascii_case("true");
        let bytes = value.as_bytes().to_vec();
        match name {
            "print.timestamp" => self.timestamp = truth,
            "print.partition" => self.partition = truth,
            "print.offset" => self.offset = truth,
            "print.epoch" => self.epoch = truth,
            "print.headers" => self.headers = truth,
            "print.key" => self.key = truth,
            "print.value" => self.value = truth,
            "key.separator" => self.key_separator = bytes,
            "line.separator" => self.line_separator = bytes,
            "headers.separator" => self.headers_separator = bytes,
            "null.literal" => self.null_literal = bytes,
            _ => return Err("is not a property of the formatter".to_owned()),
        }
        Ok(())
    }

    /// Appends the record's line.
    pub(crate) fn write(&self, record: &Record<'_>, of: Of, out: &mut Vec<u8>) {
        let columns = [
            (self.timestamp, Column::Timestamp),
            (self.partition, Column::Partition),
            (self.offset, Column::Offset),
            (self.epoch, Column::Epoch),
            (self.headers, Column::Headers),
            (self.key, Column::Key),
            (self.value, Column::Value),
        ];
        let mut first = true;
        for (_, column) in columns.into_iter().filter(|(printed, _)| *printed) {
            if !first {
                out.extend_from_slice(&self.key_separator);
            }
            first = false;
            self.column(column, record, of, out);
        }
        if !first {
            out.extend_from_slice(&self.line_separator);
        }
    }

    fn column(&self, column: Column, record: &Record<'_>, of: Of, out: &mut Vec<u8>) {
        let text = match column {
            Column::Timestamp if record.timestamp < 0 => "NO_TIMESTAMP".to_owned(),
            Column::Timestamp => match of.timestamp_type {
                TimestampType::CreateTime => format!("CreateTime:{}", record.timestamp),
                TimestampType::LogAppendTime => format!("LogAppendTime:{}", record.timestamp),
            },
            Column::Partition => format!("Partition:{}", of.partition),
            Column::Offset => format!("Offset:{}", record.offset),
            Column::Epoch if of.leader_epoch < 0 => "Epoch:NOT_PRESENT".to_owned(),
            Column::Epoch => format!("Epoch:{}", of.leader_epoch),
            Column::Headers => return self.headers(record, out),
            Column::Key => return out.extend_from_slice(record.key.unwrap_or(&self.null_literal)),
            Column::Value => {
                return out.extend_from_slice(record.value.unwrap_or(&self.null_literal));
            }
        };
        out.extend_from_slice(text.as_bytes());
    }

    fn headers(&self, record: &Record<'_>, out: &mut Vec<u8>) {
        if record.headers.is_empty() {
            out.extend_from_slice(b"NO_HEADERS");
        }
        for (at, header) in record.headers.iter().enumerate() {
            if at > 0 {
                out.extend_from_slice(&self.headers_separator);
            }
            out.extend_from_slice(header.key);
            out.push(b':');
            out.extend_from_slice(header.value.unwrap_or(&self.null_literal));
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Column {
    Timestamp,
    Partition,
    Offset,
    Epoch,
    Headers,
    Key,
    Value,
}

#[cfg(test)]
mod tests {
    use kmirror_client::batch::HeadersBuffer;

    use super::*;

    fn written(properties: &[&str], record: &Record<'_>) -> String {
        let mut writer = LineWriter::default();
        for property in properties {
            let (name, value) = property.split_once('=').unwrap();
            writer.set(name, value).unwrap();
        }
        let of = Of { partition: 3, leader_epoch: 5, timestamp_type: TimestampType::CreateTime };
        let mut out = Vec::new();
        writer.write(record, of, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_value_is_all_that_is_printed_by_default() {
        let record = Record::new(Some(b"k"), Some(b"v"));
        assert_eq!(written(&[], &record), "v\n");
        assert_eq!(written(&[], &Record::new(None, None)), "null\n");
        assert_eq!(written(&["print.value=false"], &record), "");
    }

    #[test]
    fn the_columns_stand_in_the_order_of_kafkas_tool() {
        let mut headers = HeadersBuffer::new();
        headers.push(b"a", Some(b"1"));
        headers.push(b"a", None);
        let record = Record::new(Some(b"k"), Some(b"v"))
            .with_timestamp(1_234)
            .with_headers(headers.as_headers());
        let all = [
            "print.key=true",
            "print.headers=TRUE",
            "print.epoch=true",
            "print.offset=true",
            "print.partition=true",
            "print.timestamp=true",
            "key.separator=|",
        ];
        assert_eq!(
            written(&all, &record),
            "CreateTime:1234|Partition:3|Offset:0|Epoch:5|a:1,a:null|k|v\n"
        );
    }

    #[test]
    fn what_is_missing_is_written_as_kafkas_tool_writes_it() {
        let record = Record::new(None, Some(b"v"));
        let properties =
            ["print.timestamp=true", "print.headers=true", "print.key=true", "null.literal=-"];
        assert_eq!(written(&properties, &record), "NO_TIMESTAMP\tNO_HEADERS\t-\tv\n");
    }

    #[test]
    fn every_property_there_is_can_be_set_and_no_other() {
        let mut writer = LineWriter::default();
        for name in LineWriter::PROPERTIES {
            assert_eq!(writer.set(name, "true"), Ok(()));
        }
        assert!(writer.set("print.keys", "true").is_err());
    }
}
