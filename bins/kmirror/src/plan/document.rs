//! Reads kmirror's own file, TOML, against the table of options. Whatever is wrong is reported
//! with its line, all of it at once; what is returned holds only values of the right kind.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use kmirror_client::config::keys::{Finding, Level, suggest};
use kmirror_client::config::properties::{Origin, Properties};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::options::{CLUSTER, FLOW, Kind, Opt, Section, TOP, Value};

/// The file, checked option by option.
#[derive(Debug, Default)]
pub(crate) struct Document {
    /// The top of the file.
    pub(crate) top: Settings,
    /// The clusters by name.
    pub(crate) clusters: BTreeMap<String, Settings>,
    /// The flows, in their order.
    pub(crate) flows: Vec<Settings>,
    /// What there is to say. With an error among them the rest is incomplete.
    pub(crate) findings: Vec<Finding>,
}

/// The options that one section sets.
#[derive(Debug, Default, Clone)]
pub(crate) struct Settings {
    /// Where the section begins.
    pub(crate) origin: Option<Origin>,
    values: BTreeMap<&'static str, (Value, Origin)>,
    properties: BTreeMap<&'static str, Properties>,
}

impl Settings {
    /// Sets an option; an earlier value is replaced.
    pub(crate) fn set(&mut self, name: &'static str, value: Value, origin: Origin) {
        self.values.insert(name, (value, origin));
    }

    /// A value and where it was written.
    pub(crate) fn entry(&self, name: &str) -> Option<(&Value, &Origin)> {
        self.values.get(name).map(|(value, origin)| (value, origin))
    }

    /// A text, if the option is set.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match self.values.get(name) {
            Some((Value::Text(text), _)) => Some(text),
            _ => None,
        }
    }

    /// A list of texts; empty if the option is not set.
    pub(crate) fn texts(&self, name: &str) -> &[String] {
        match self.values.get(name) {
            Some((Value::Texts(texts), _)) => texts,
            _ => &[],
        }
    }

    /// Every option that is set, Kafka's properties apart.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, &Value, &Origin)> {
        self.values.iter().map(|(name, (value, origin))| (*name, value, origin))
    }

    /// A table of Kafka's properties; empty if it is not there.
    pub(crate) fn properties(&self, name: &str) -> Properties {
        self.properties.get(name).cloned().unwrap_or_default()
    }
}

/// Reads a file's text; `place` names it in findings.
pub(crate) fn read(place: &str, text: &str) -> Document {
    let mut reader = Reader { place: place.into(), text, findings: Vec::new() };
    let mut document = match DeTable::parse(text) {
        Ok(table) => reader.document(table.get_ref()),
        Err(error) => {
            let at = error.span().unwrap_or_default();
            reader.report(Level::Error, at, "", error.message().trim().replace('\n', ", "));
            Document::default()
        }
    };
    reader.findings.sort_by_key(|finding| finding.origin.line);
    document.findings = reader.findings;
    document
}

struct Reader<'text> {
    place: Arc<str>,
    text: &'text str,
    findings: Vec<Finding>,
}

type Node<'text> = Spanned<DeValue<'text>>;

impl<'text> Reader<'text> {
    fn document(&mut self, table: &DeTable<'text>) -> Document {
        let mut document = Document::default();
        let mut top = DeTable::new();
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "clusters" => self.clusters(value, &mut document),
                "flows" => self.flows(value, &mut document),
                _ => drop(top.insert(key.clone(), value.clone())),
            }
        }
        document.top = self.section(&TOP, "", &top, 0..0);
        document
    }

    fn clusters(&mut self, value: &Node<'text>, document: &mut Document) {
        let Some(table) = value.get_ref().as_table() else {
            let text = "must be tables of the form [clusters.NAME]".to_owned();
            return self.report(Level::Error, value.span(), "clusters", text);
        };
        for (name, value) in table {
            let path = format!("clusters.{}", name.get_ref());
            match value.get_ref().as_table() {
                Some(table) => {
                    let settings = self.section(&CLUSTER, &path, table, name.span());
                    document.clusters.insert(name.get_ref().to_string(), settings);
                }
                None => {
                    let text = "must be a table of the form [clusters.NAME]".to_owned();
                    self.report(Level::Error, value.span(), &path, text);
                }
            }
        }
    }

    fn flows(&mut self, value: &Node<'text>, document: &mut Document) {
        let tables: Vec<_> = match value.get_ref().as_array() {
            Some(array) => {
                array.iter().map(|item| (item.span(), item.get_ref().as_table())).collect()
            }
            None => vec![(value.span(), None)],
        };
        for (number, (span, table)) in tables.into_iter().enumerate() {
            let path = format!("flows[{number}]");
            match table {
                Some(table) => {
                    let settings = self.section(&FLOW, &path, table, span);
                    document.flows.push(settings);
                }
                None => {
                    let text = "must be tables of the form [[flows]]".to_owned();
                    self.report(Level::Error, span, "flows", text);
                }
            }
        }
    }

    fn section(
        &mut self,
        section: &'static Section,
        path: &str,
        table: &DeTable<'text>,
        span: Range<usize>,
    ) -> Settings {
        let origin = Some(self.origin(span.clone()));
        let mut settings = Settings { origin, ..Settings::default() };
        for (key, value) in table {
            let name: &str = key.get_ref().as_ref();
            let full = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            match section.options.iter().find(|option| option.name == name) {
                Some(option) => self.option(option, &full, value, &mut settings),
                None => {
                    let known = section.options.iter().map(|option| option.name);
                    let near = suggest(name, known);
                    let near = near.map(|near| format!("; did you mean {near}?"));
                    let text = format!("is not an option{}", near.unwrap_or_default());
                    self.report(Level::Error, key.span(), &full, text);
                }
            }
        }
        for option in section.options.iter().filter(|option| option.required) {
            if settings.entry(option.name).is_none() && !table.contains_key(option.name) {
                let full = format!("{path}.{}", option.name);
                self.report(Level::Error, span.clone(), &full, "is missing".to_owned());
            }
        }
        settings
    }

    fn option(
        &mut self,
        option: &'static Opt,
        full: &str,
        value: &Node<'text>,
        settings: &mut Settings,
    ) {
        if option.kind == Kind::Properties {
            let mut properties = Properties::default();
            self.properties(full, "", value, &mut properties);
            settings.properties.insert(option.name, properties);
            return;
        }
        match self.value(option.kind, value) {
            Ok(value_read) => {
                settings.set(option.name, value_read, self.origin(value.span()));
            }
            Err(text) => self.report(Level::Error, value.span(), full, text),
        }
    }

    fn value(&self, kind: Kind, value: &Node<'text>) -> Result<Value, String> {
        let wrong = || format!("must be {kind}, not {}", value.get_ref().type_str());
        match (kind, value.get_ref()) {
            (Kind::Texts, DeValue::Array(items)) => {
                let texts = items.iter().map(|item| item.get_ref().as_str().map(str::to_owned));
                texts.collect::<Option<Vec<_>>>().map(Value::Texts).ok_or_else(wrong)
            }
            (Kind::Pairs, DeValue::Table(table)) => {
                let pairs = table.iter().map(|(key, value)| {
                    Some((key.get_ref().to_string(), value.get_ref().as_str()?.to_owned()))
                });
                pairs.collect::<Option<Vec<_>>>().map(Value::Pairs).ok_or_else(wrong)
            }
            (Kind::Integer(..) | Kind::Bytes, DeValue::Integer(number)) if number.radix() == 10 => {
                kind.parse(&number.as_str().replace('_', ""))
            }
            (Kind::Boolean, DeValue::Boolean(truth)) => Ok(Value::Boolean(*truth)),
            (Kind::Boolean | Kind::Integer(..) | Kind::Pairs, _) => Err(wrong()),
            (_, DeValue::String(text)) => kind.parse(text),
            _ => Err(wrong()),
        }
    }

    /// Kafka's names hold dots, which TOML reads as tables within tables unless they are quoted;
    /// both ways of writing mean the same here.
    fn properties(
        &mut self,
        full: &str,
        prefix: &str,
        value: &Node<'text>,
        properties: &mut Properties,
    ) {
        let text = match value.get_ref() {
            DeValue::Table(table) => {
                for (key, value) in table {
                    let dot = if prefix.is_empty() { "" } else { "." };
                    let name = format!("{prefix}{dot}{}", key.get_ref());
                    self.properties(full, &name, value, properties);
                }
                return;
            }
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().replace('_', ""),
            DeValue::Float(number) => number.as_str().to_owned(),
            DeValue::Boolean(truth) => truth.to_string(),
            other => {
                let text = format!("must be text, number or boolean, not {}", other.type_str());
                return self.report(Level::Error, value.span(), &format!("{full}.{prefix}"), text);
            }
        };
        if prefix.is_empty() {
            let text = "must be a table of Kafka properties".to_owned();
            return self.report(Level::Error, value.span(), full, text);
        }
        properties.set(prefix, text, self.origin(value.span()));
    }

    fn origin(&self, span: Range<usize>) -> Origin {
        let before = self.text.as_bytes().get(..span.start).unwrap_or_default();
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        Origin { place: Arc::clone(&self.place), line: Some(line) }
    }

    fn report(&mut self, level: Level, span: Range<usize>, key: &str, text: String) {
        let origin = self.origin(span);
        self.findings.push(Finding { level, origin, key: key.to_owned(), text });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> Vec<String> {
        read("k.toml", text).findings.iter().map(ToString::to_string).collect()
    }

    const GOOD: &str = r#"
http = "127.0.0.1:9404"
[clusters.west]
bootstrap = ["a:9092", "b:9092"]
address_map = { "a:9092" = "10.0.0.1:9092" }
[clusters.west.properties]
request.timeout.ms = 10_000
"client.id" = "mirror"
[clusters.east]
zookeeper = "zk0:2181/kafka"
[[flows]]
source = "west"
destination = "east"
topics = "orders.*"
streams = 4
memory = "64MiB"
commit_interval = "10s"
consumer = { "auto.offset.reset" = "latest" }
"#;

    #[test]
    fn a_good_file_is_read_whole() {
        let document = read("k.toml", GOOD);
        assert!(document.findings.is_empty(), "{:?}", document.findings);
        let west = &document.clusters["west"];
        assert_eq!(west.texts("bootstrap"), ["a:9092", "b:9092"]);
        let properties = west.properties("properties");
        assert_eq!(properties.value("request.timeout.ms"), Some("10000"));
        assert_eq!(properties.value("client.id"), Some("mirror"));
        assert_eq!(properties.entry("client.id").unwrap().origin.to_string(), "k.toml:8");
        let flow = &document.flows[0];
        assert_eq!(flow.text("source"), Some("west"));
        assert_eq!(flow.entry("memory").unwrap().0, &Value::Bytes(64 << 20));
        assert_eq!(flow.properties("consumer").value("auto.offset.reset"), Some("latest"));
    }

    #[test]
    fn everything_wrong_is_named_with_its_line_at_once() {
        let text = "htp = \"x\"\n[clusters.a]\nbootstrap = 5\n[[flows]]\nsource = \"a\"\n\
                    topics = [\"t\"]\nstreams = 0\npartitioning = \"hash\"\nmemory = \"big\"\n";
        assert_eq!(
            findings(text),
            [
                "k.toml:1: htp is not an option; did you mean http?",
                "k.toml:3: clusters.a.bootstrap must be text or list of texts, not integer",
                "k.toml:4: flows[0].destination is missing",
                "k.toml:7: flows[0].streams must be a whole number from 1 to 256",
                "k.toml:8: flows[0].partitioning must be one of auto, key-hash, preserve",
                "k.toml:9: flows[0].memory must be a size such as 65536, 900KiB, 256MiB or 1GiB",
            ]
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_odd_to_be_read(text in "\\PC{0,200}", cut in 0..GOOD.len()) {
            let _ = read("k.toml", &text);
            let (before, after) = GOOD.split_at(cut);
            let _ = read("k.toml", &format!("{before}{text}{after}"));
        }
    }

    #[test]
    fn a_syntax_error_names_its_line() {
        let found = findings("[clusters.a]\nbootstrap = \n");
        assert!(found[0].starts_with("k.toml:2: "), "{found:?}");
    }

    #[test]
    fn flows_that_are_no_tables_are_refused() {
        assert_eq!(findings("flows = 3"), ["k.toml:1: flows must be tables of the form [[flows]]"]);
    }
}
