//! A Java `.properties` file as Kafka's tools read it, remembering where each value stood.
//!
//! The format is `java.util.Properties`: Latin-1, `\uXXXX`, continuation lines, and the last of
//! several entries with one key wins. A file is read whole up to [`FILE_LEN_MAX`]. Values may be
//! secrets, so `Debug` never shows one.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use java_properties::{LineContent, PropertiesIter};

/// The longest file read. Kafka's own files have a few kilobytes.
pub const FILE_LEN_MAX: u64 = 1 << 20;

/// Keys and values with their origin. Keys are unique; their order is that of the file.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties {
    entries: Vec<Entry>,
}

/// One key with its value.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key, unescaped.
    pub key: String,
    /// The value, unescaped. `java.util.Properties` keeps trailing spaces; Kafka trims numbers,
    /// booleans and lists, and so do the readers here.
    pub value: String,
    /// Where it was written.
    pub origin: Origin,
}

/// Where a property was written: a file and a line, or a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The file's path as given, or what stands for it, such as `--bootstrap-server`.
    pub place: Arc<str>,
    /// The line, from 1.
    pub line: Option<usize>,
}

impl Origin {
    /// An origin that is no line of a file.
    #[must_use]
    pub fn new(place: &str) -> Self {
        Self { place: place.into(), line: None }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(formatter, "{}:{line}", self.place),
            None => formatter.write_str(&self.place),
        }
    }
}

impl Properties {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::TooLong`] or [`Error::Malformed`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Read { path: path.to_owned(), source };
        let mut text = Vec::new();
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(FILE_LEN_MAX + 1).read_to_end(&mut text).map_err(failed)?;
        if text.len() as u64 > FILE_LEN_MAX {
            return Err(Error::TooLong { path: path.to_owned() });
        }
        Self::parse(&path.display().to_string(), text)
    }

    /// Reads the bytes of a file; `place` names it in findings.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a `\u` escape without four digits.
    pub fn parse(place: &str, mut text: Vec<u8>) -> Result<Self, Error> {
        let place: Arc<str> = place.into();
        let mut properties = Self::default();
        // The reader drops a last line that ends in a continuation unless a line follows it.
        text.push(b'\n');
        for line in PropertiesIter::new(text.as_slice()) {
            let line = line.map_err(|cause| Error::Malformed {
                place: Arc::clone(&place),
                line: cause.line_number(),
                source: Box::new(cause),
            })?;
            let origin = Origin { place: Arc::clone(&place), line: Some(line.line_number()) };
            if let LineContent::KVPair(key, value) = line.consume_content() {
                // A blank line reads as an empty key without a value.
                if !(key.is_empty() && value.is_empty()) {
                    properties.set(&key, value, origin);
                }
            }
        }
        Ok(properties)
    }

    /// Sets a value; an earlier one with this key is replaced.
    pub fn set(&mut self, key: &str, value: impl Into<String>, origin: Origin) {
        let entry = Entry { key: key.to_owned(), value: value.into(), origin };
        match self.entries.iter_mut().find(|known| known.key == key) {
            Some(known) => *known = entry,
            None => self.entries.push(entry),
        }
    }

    /// Removes and returns a key.
    pub fn remove(&mut self, key: &str) -> Option<Entry> {
        let at = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.remove(at))
    }

    /// The entry of a key.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The value of a key, trimmed.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&str> {
        self.entry(key).map(|entry| entry.value.trim())
    }

    /// Every entry, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl FromIterator<Entry> for Properties {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        let mut properties = Self::default();
        for entry in entries {
            properties.set(&entry.key, entry.value, entry.origin);
        }
        properties
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(&self.entries).finish()
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.key, self.origin)
    }
}

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Longer than [`FILE_LEN_MAX`]: not a properties file.
    #[error("{} is longer than {FILE_LEN_MAX} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// An escape that Java refuses as well.
    #[error("{place}:{} is malformed", line.unwrap_or(0))]
    Malformed {
        /// The file.
        place: Arc<str>,
        /// The line, from 1.
        line: Option<usize>,
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// Never: a file does not change by waiting. Kept so that every error answers the question.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Properties {
        Properties::parse("file", text.as_bytes().to_vec()).unwrap()
    }

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text).iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect()
    }

    #[test]
    fn reads_what_java_reads() {
        let text =
            "# comment\n! another\na=1\nb : 2\nc 3\n\nd\\ e=x\\ty\nf=\\u00e9\ng=one,\\\n   two\n";
        let expected = [("a", "1"), ("b", "2"), ("c", "3"), ("d e", "x\ty"), ("f", "\u{e9}")];
        let mut expected: Vec<_> =
            expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        expected.push(("g".to_owned(), "one,two".to_owned()));
        assert_eq!(pairs(text), expected);
    }

    #[test]
    fn the_last_of_two_entries_wins_and_its_line_is_kept() {
        let properties = parse("a=1\nb=2\na=3\n");
        assert_eq!(properties.value("a"), Some("3"));
        assert_eq!(properties.entry("a").unwrap().origin.to_string(), "file:3");
        assert_eq!(properties.iter().count(), 2);
    }

    #[test]
    fn a_last_line_that_ends_in_a_continuation_is_not_lost() {
        assert_eq!(parse("a=1\\").value("a"), Some("1"));
        assert_eq!(parse("a=1").value("a"), Some("1"));
    }

    #[test]
    fn latin_1_is_not_taken_for_utf_8() {
        let properties = Properties::parse("file", b"a=caf\xe9".to_vec()).unwrap();
        assert_eq!(properties.value("a"), Some("caf\u{e9}"));
    }

    #[test]
    fn a_malformed_escape_is_an_error_that_names_the_line() {
        let error = Properties::parse("file", b"a=1\nb=\\u00zz".to_vec()).unwrap_err();
        assert_eq!(error.to_string(), "file:2 is malformed");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_are_too_odd_to_be_read(bytes: Vec<u8>) {
            let _ = Properties::parse("file", bytes);
        }
    }

    #[test]
    fn values_do_not_show_in_debug() {
        let shown = format!("{:?}", parse("ssl.key.password=hunter2"));
        assert!(shown.contains("ssl.key.password") && !shown.contains("hunter2"), "{shown}");
    }
}
