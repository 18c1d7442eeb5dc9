//! From a line to a record, as Kafka's `LineMessageReader` does it, but on bytes: what is no UTF-8
//! is not changed.

use kmirror_client::batch::HeadersBuffer;

use crate::plan::units::find;

/// How lines are read. The names of the properties are those of `kafka-console-producer.sh`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LineReader {
    parse_key: bool,
    key_separator: Vec<u8>,
    parse_headers: bool,
    headers_delimiter: Vec<u8>,
    headers_separator: Vec<u8>,
    headers_key_separator: Vec<u8>,
    null_marker: Option<Vec<u8>>,
    ignore_error: bool,
}

impl Default for LineReader {
    fn default() -> Self {
        Self {
            parse_key: false,
            key_separator: b"\t".to_vec(),
            parse_headers: false,
            headers_delimiter: b"\t".to_vec(),
            headers_separator: b",".to_vec(),
            headers_key_separator: b":".to_vec(),
            null_marker: None,
            ignore_error: false,
        }
    }
}

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Parsed<'line> {
    /// The record's key.
    pub(crate) key: Option<&'line [u8]>,
    /// Its value.
    pub(crate) value: Option<&'line [u8]>,
    /// Its headers, in order.
    pub(crate) headers: Vec<Header<'line>>,
}

impl Parsed<'_> {
    /// The headers in the form of a batch.
    pub(crate) fn headers_buffer(&self) -> HeadersBuffer {
        let mut buffer = HeadersBuffer::new();
        for (key, value) in &self.headers {
            buffer.push(key, *value);
        }
        buffer
    }
}

/// A header's key and value.
pub(crate) type Header<'line> = (&'line [u8], Option<&'line [u8]>);

/// The line lacks what its properties say it has.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {number} has no {missing}")]
pub(crate) struct Missing {
    number: u64,
    missing: &'static str,
}

impl LineReader {
    /// The properties there are, with their defaults, for help and suggestions.
    pub(crate) const PROPERTIES: [(&'static str, &'static str); 8] = [
        ("parse.key", "false"),
        ("key.separator", "TAB"),
        ("parse.headers", "false"),
        ("headers.delimiter", "TAB"),
        ("headers.separator", ","),
        ("headers.key.separator", ":"),
        ("null.marker", "none"),
        ("ignore.error", "false"),
    ];

    /// Sets a property.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let truth = || value.trim().eq_ignore_ascii_case("true");
        let filled = || match value {
            "" => Err("must not be empty".to_owned()),
            _ => Ok(value.as_bytes().to_vec()),
        };
        match name {
            "parse.key" => self.parse_key = truth(),
            "key.separator" => self.key_separator = filled()?,
            "parse.headers" => self.parse_headers = truth(),
            "headers.delimiter" => self.headers_delimiter = filled()?,
            "headers.separator" => self.headers_separator = filled()?,
            "headers.key.separator" => self.headers_key_separator = filled()?,
            "null.marker" => self.null_marker = Some(value.as_bytes().to_vec()),
            "ignore.error" => self.ignore_error = truth(),
            _ => return Err("is not a property of the reader".to_owned()),
        }
        Ok(())
    }

    /// Reads a line, without its line end; `number` counts from 1.
    pub(crate) fn parse<'line>(
        &self,
        line: &'line [u8],
        number: u64,
    ) -> Result<Parsed<'line>, Missing> {
        let mut rest = line;
        let mut headers = Vec::new();
        if self.parse_headers
            && let Some(text) =
                self.part(&mut rest, &self.headers_delimiter, "headers delimiter", number)?
            && self.marked(text).is_some()
        {
            headers = self.headers(text, number)?;
        }
        let key = if self.parse_key {
            self.part(&mut rest, &self.key_separator, "key separator", number)?
        } else {
            None
        };
        let key = key.and_then(|key| self.marked(key));
        Ok(Parsed { key, value: self.marked(rest), headers })
    }

    /// What stands before `separator`, which is skipped with it.
    fn part<'line>(
        &self,
        rest: &mut &'line [u8],
        separator: &[u8],
        missing: &'static str,
        number: u64,
    ) -> Result<Option<&'line [u8]>, Missing> {
        match find(rest, separator) {
            Some(at) => {
                let part = &rest[..at];
                *rest = &rest[at + separator.len()..];
                Ok(Some(part))
            }
            None if self.ignore_error => Ok(None),
            None => Err(Missing { number, missing }),
        }
    }

    fn headers<'line>(
        &self,
        mut text: &'line [u8],
        number: u64,
    ) -> Result<Vec<Header<'line>>, Missing> {
        let mut headers = Vec::new();
        loop {
            let end = find(text, &self.headers_separator);
            let pair = &text[..end.unwrap_or(text.len())];
            match find(pair, &self.headers_key_separator) {
                Some(at) => {
                    let value = &pair[at + self.headers_key_separator.len()..];
                    headers.push((&pair[..at], self.marked(value)));
                }
                None if self.ignore_error => headers.push((pair, None)),
                None => return Err(Missing { number, missing: "header key separator" }),
            }
            match end {
                Some(end) => text = &text[end + self.headers_separator.len()..],
                None => return Ok(headers),
            }
        }
    }

    /// Null where the text is the null marker.
    fn marked<'line>(&self, text: &'line [u8]) -> Option<&'line [u8]> {
        (self.null_marker.as_deref() != Some(text)).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(properties: &[(&str, &str)]) -> LineReader {
        let mut reader = LineReader::default();
        for (name, value) in properties {
            reader.set(name, value).unwrap();
        }
        reader
    }

    fn bytes(text: Option<&str>) -> Option<&[u8]> {
        text.map(str::as_bytes)
    }

    #[test]
    fn a_line_is_a_value_by_default() {
        let reader = reader(&[]);
        let parsed = reader.parse(b"a\tb", 1).unwrap();
        assert_eq!((parsed.key, parsed.value), (None, bytes(Some("a\tb"))));
        assert_eq!(reader.parse(b"", 2).unwrap().value, bytes(Some("")));
    }

    #[test]
    fn a_key_stands_before_its_separator() {
        let tab = reader(&[("parse.key", "true")]);
        let parsed = tab.parse(b"k\tv\tw", 1).unwrap();
        assert_eq!((parsed.key, parsed.value), (bytes(Some("k")), bytes(Some("v\tw"))));
        let colon = reader(&[("parse.key", "true"), ("key.separator", "::")]);
        assert_eq!(colon.parse(b"::v", 1).unwrap().key, bytes(Some("")));
    }

    #[test]
    fn a_missing_separator_names_the_line_unless_errors_are_ignored() {
        let strict = reader(&[("parse.key", "true")]);
        let error = strict.parse(b"v", 7).unwrap_err();
        assert_eq!(error.to_string(), "line 7 has no key separator");
        let lenient = reader(&[("parse.key", "true"), ("ignore.error", "true")]);
        let parsed = lenient.parse(b"v", 7).unwrap();
        assert_eq!((parsed.key, parsed.value), (None, bytes(Some("v"))));
    }

    #[test]
    fn headers_stand_first_and_may_repeat() {
        let reader = reader(&[("parse.headers", "true"), ("parse.key", "true")]);
        let parsed = reader.parse(b"a:1,b:,a:2\tk\tv", 1).unwrap();
        let (one, none, two): (&[u8], &[u8], &[u8]) = (b"1", b"", b"2");
        assert_eq!(
            parsed.headers,
            [
                (b"a".as_slice(), Some(one)),
                (b"b".as_slice(), Some(none)),
                (b"a".as_slice(), Some(two))
            ]
        );
        assert_eq!((parsed.key, parsed.value), (bytes(Some("k")), bytes(Some("v"))));
        assert_eq!(parsed.headers_buffer().as_headers().len(), 3);
    }

    #[test]
    fn the_null_marker_means_null_in_keys_values_and_headers() {
        let reader =
            reader(&[("parse.headers", "true"), ("parse.key", "true"), ("null.marker", "NULL")]);
        let parsed = reader.parse(b"a:NULL\tNULL\tNULL", 1).unwrap();
        assert_eq!((parsed.key, parsed.value), (None, None));
        assert_eq!(parsed.headers, [(b"a".as_slice(), None)]);
        assert!(reader.parse(b"NULL\tk\tv", 1).unwrap().headers.is_empty());
    }

    proptest::proptest! {
        #[test]
        fn a_line_is_taken_apart_without_loss(line: Vec<u8>, key: Vec<u8>) {
            let separator = b"\0\xff";
            let mut reader = reader(&[("parse.key", "true")]);
            reader.key_separator = separator.to_vec();
            let _ = reader.parse(&line, 1);
            if find(&key, separator).is_none() && key.last() != Some(&0) {
                let whole = [&key[..], separator, &line[..]].concat();
                let parsed = reader.parse(&whole, 1).unwrap();
                proptest::prop_assert_eq!(parsed.key, Some(&key[..]));
                proptest::prop_assert_eq!(parsed.value, Some(&line[..]));
            }
        }
    }

    #[test]
    fn an_unknown_property_and_an_empty_separator_are_refused() {
        let mut reader = LineReader::default();
        assert!(reader.set("key.seperator", ":").is_err());
        assert!(reader.set("key.separator", "").is_err());
    }
}
