//! The table of Kafka's property names: what each means to kmirror, and what it does with it.
//!
//! Every key of `ConsumerConfig` and `ProducerConfig` up to Kafka 4.0 is here, and those of the
//! ZooKeeper consumer and the Scala producer that MirrorMaker once read. The table checks a file,
//! translates old keys, and prints the documentation, so that the three cannot differ. A key that
//! is not in the table is reported with its line and the nearest name, never dropped silently.

mod common;
mod consumer;
mod producer;

use std::fmt;

use super::properties::{Origin, Properties};
use crate::connection::Address;

/// Which of the two clients a file configures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Reads the source.
    Consumer,
    /// Writes the destination.
    Producer,
    /// Describes and changes topics and groups; takes the keys both of the others share.
    Admin,
}

impl Role {
    /// The keys of this role, common ones first, each name once.
    pub fn keys(self) -> impl Iterator<Item = &'static Key> {
        let own: &[Key] = match self {
            Self::Consumer => consumer::KEYS,
            Self::Producer => producer::KEYS,
            Self::Admin => &[],
        };
        common::KEYS.iter().chain(own)
    }

    /// The key of that name.
    #[must_use]
    pub fn key(self, name: &str) -> Option<&'static Key> {
        self.keys().find(|key| key.name == name)
    }
}

/// One property name.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// As it is written in the file.
    pub name: &'static str,
    /// What its value must look like.
    pub kind: Kind,
    /// What holds when it is not set; empty for nothing.
    pub default: &'static str,
    /// What kmirror does with it.
    pub handling: Handling,
    /// What it means, for an honoured key.
    pub doc: &'static str,
    /// Old spellings of values, each with the one that replaced it.
    pub aliases: &'static [(&'static str, &'static str)],
    /// The least and the most that an honoured number can be; what Java takes beyond them counts as
    /// the nearer one.
    pub bounds: Option<(i64, i64)>,
}

impl Key {
    const fn new(name: &'static str, kind: Kind, handling: Handling) -> Self {
        Self { name, kind, default: "", handling, doc: "", aliases: &[], bounds: None }
    }

    const fn honoured(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        doc: &'static str,
    ) -> Self {
        Self { default, doc, ..Self::new(name, kind, Handling::Honoured) }
    }

    const fn ignored(name: &'static str, kind: Kind, reason: &'static str) -> Self {
        Self::new(name, kind, Handling::Ignored { unless: &[], reason })
    }

    /// One value is what kmirror does anyway; the others are ignored aloud.
    const fn fixed(
        name: &'static str,
        kind: Kind,
        unless: &'static [&'static str],
        reason: &'static str,
    ) -> Self {
        Self::new(name, kind, Handling::Ignored { unless, reason })
    }

    const fn refused(
        name: &'static str,
        unless: &'static [&'static str],
        instead: &'static str,
    ) -> Self {
        Self::new(name, Kind::Text, Handling::Refused { unless, instead })
    }

    const fn renamed(name: &'static str, to: &'static str) -> Self {
        Self::new(name, Kind::Text, Handling::Renamed { to })
    }

    const fn with_aliases(self, aliases: &'static [(&'static str, &'static str)]) -> Self {
        Self { aliases, ..self }
    }

    const fn within(self, least: i64, most: i64) -> Self {
        Self { bounds: Some((least, most)), ..self }
    }

    /// The value that stands for `value` if that is beyond the bounds.
    fn bounded(&self, value: &str) -> Option<i64> {
        let (least, most) = self.bounds?;
        let number: i64 = value.trim().parse().ok()?;
        Some(number.clamp(least, most)).filter(|bounded| *bounded != number)
    }

    const fn secret(self) -> Self {
        Self { kind: Kind::Secret, ..self }
    }
}

/// What kmirror does with a key that is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handling {
    /// It has the effect it has in Kafka's clients.
    Honoured,
    /// It has no effect. Setting it to one of `unless` is what happens anyway and is not remarked.
    Ignored {
        /// Values that need no remark.
        unless: &'static [&'static str],
        /// Why it has none.
        reason: &'static str,
    },
    /// It asks for something kmirror does not do; only the values in `unless` are accepted.
    Refused {
        /// Harmless values.
        unless: &'static [&'static str],
        /// What to do instead.
        instead: &'static str,
    },
    /// An old name of another key, which is set in its place unless the file sets that one too.
    Renamed {
        /// The name that replaced it.
        to: &'static str,
    },
}

/// What a value must look like. Java trims numbers, booleans and lists, and so does this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// A whole number of at least the one given.
    Integer(i64),
    /// A whole number of milliseconds of at least the one given.
    Milliseconds(i64),
    /// A whole number of bytes of at least the one given.
    Bytes(i64),
    /// A decimal fraction.
    Decimal,
    /// One of a few words, in any case.
    OneOf(&'static [&'static str]),
    /// Any text.
    Text,
    /// Texts separated by commas.
    List,
    /// Addresses of brokers separated by commas.
    Servers,
    /// A text that is never shown.
    Secret,
}

impl Kind {
    /// What is wrong with `value`, if anything.
    #[must_use]
    pub fn fault(self, value: &str) -> Option<String> {
        let value = value.trim();
        match self {
            Self::Boolean => (!["true", "false"].contains(&value.to_ascii_lowercase().as_str()))
                .then(|| "must be true or false".to_owned()),
            Self::Integer(least) | Self::Milliseconds(least) | Self::Bytes(least) => {
                match value.parse::<i64>() {
                    Ok(number) if number >= least => None,
                    _ => Some(format!("must be a whole number, {least} or more")),
                }
            }
            Self::Decimal => value.parse::<f64>().err().map(|_| "must be a number".to_owned()),
            Self::OneOf(words) => (!words.iter().any(|word| word.eq_ignore_ascii_case(value)))
                .then(|| format!("must be one of {}", words.join(", "))),
            Self::Servers => {
                let entries = value.split(',').map(str::trim).filter(|entry| !entry.is_empty());
                let wrong = entries.filter_map(|entry| entry.parse::<Address>().err()).next();
                wrong.map(|wrong| format!("must name plaintext listeners, host:port: {wrong}"))
            }
            Self::Text | Self::List | Self::Secret => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean => formatter.write_str("boolean"),
            Self::Integer(_) => formatter.write_str("integer"),
            Self::Milliseconds(_) => formatter.write_str("ms"),
            Self::Bytes(_) => formatter.write_str("bytes"),
            Self::Decimal => formatter.write_str("decimal"),
            Self::OneOf(words) => formatter.write_str(&words.join(", ")),
            Self::Text => formatter.write_str("text"),
            Self::List | Self::Servers => formatter.write_str("list"),
            Self::Secret => formatter.write_str("secret"),
        }
    }
}

/// Something to tell the operator about one property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// Where the property was written.
    pub origin: Origin,
    /// Its name as written.
    pub key: String,
    /// What there is to say; never holds the value of a secret.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {} {}", self.origin, self.key.escape_debug(), self.text)
    }
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Worth knowing; nothing is lost.
    Note,
    /// Something written has not the effect its author may expect.
    Warning,
    /// The file cannot be used as it is.
    Error,
}

/// The longest time that a request, a fetch or a pause may take, in milliseconds.
const HOUR: i64 = 3_600_000;

/// The longest time between two looks at a cluster, in milliseconds.
const DAY: i64 = 24 * HOUR;

/// The most that Java's `int` holds, which is what times of the group protocol are.
const INT_MAX: i64 = i32::MAX as i64;

/// The most bytes of an answer or a request.
const GIB: i64 = 1 << 30;

/// Replaces old names and old values by today's, and reports on every key that is not simply
/// honoured. What is returned holds only honoured keys with well-formed values.
#[must_use]
pub fn resolve(properties: &Properties, role: Role) -> (Properties, Vec<Finding>) {
    let mut resolved = Properties::default();
    let mut findings = Vec::new();
    for entry in properties.iter() {
        let mut report = |level, text: String| {
            let (key, origin) = (entry.key.clone(), entry.origin.clone());
            findings.push(Finding { level, origin, key, text });
        };
        let Some(mut key) = role.key(&entry.key) else {
            report(Level::Warning, unknown(&entry.key, role));
            continue;
        };
        let mut value = replace_alias(key, &entry.value);
        if let Handling::Renamed { to } = key.handling {
            if properties.entry(to).is_some() {
                report(Level::Warning, format!("is ignored: {to}, its new name, is set too"));
                continue;
            }
            report(Level::Note, format!("is read as {to}, its new name"));
            key = role.key(to).expect("invariant: a renamed key points to a key of its role");
            value = replace_alias(key, &value);
        }
        let shown = value.trim().to_ascii_lowercase();
        // What has no effect is refused all the same where Kafka's own clients would refuse it.
        if let Some(fault) = key.kind.fault(&value) {
            report(Level::Error, fault);
            continue;
        }
        match key.handling {
            Handling::Honoured => {
                if let Some(bounded) = key.bounded(&value) {
                    report(Level::Note, format!("counts as {bounded}, the nearest that is used"));
                    value = bounded.to_string();
                }
                resolved.set(key.name, value, entry.origin.clone());
            }
            Handling::Ignored { unless, reason } if !unless.contains(&shown.as_str()) => {
                let level = if unless.is_empty() { Level::Note } else { Level::Warning };
                report(level, format!("is ignored: {reason}"));
            }
            Handling::Refused { unless, instead } if !unless.contains(&shown.as_str()) => {
                report(Level::Error, format!("is not supported: {instead}"));
            }
            Handling::Ignored { .. } | Handling::Refused { .. } | Handling::Renamed { .. } => {}
        }
    }
    (resolved, findings)
}

/// The known name that is nearest to what was written, if any is near.
#[must_use]
pub fn suggest<'names>(
    written: &str,
    names: impl Iterator<Item = &'names str>,
) -> Option<&'names str> {
    let bound = if written.len() < 4 { 1 } else { (written.len() / 4).clamp(2, 4) };
    names
        .map(|name| (distance(written, name), name))
        .filter(|(distance, _)| *distance <= bound)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

fn unknown(name: &str, role: Role) -> String {
    let other = match role {
        Role::Consumer => Role::Producer,
        Role::Producer | Role::Admin => Role::Consumer,
    };
    if other.key(name).is_some() {
        let owner = if other == Role::Producer { "the producer" } else { "the consumer" };
        return format!("is ignored: it is a property of {owner}");
    }
    match suggest(name, role.keys().map(|key| key.name)) {
        Some(near) => format!("is unknown and ignored; did you mean {near}?"),
        None => "is unknown and ignored".to_owned(),
    }
}

fn replace_alias(key: &Key, value: &str) -> String {
    let written = value.trim();
    let replaced = key.aliases.iter().find(|(old, _)| old.eq_ignore_ascii_case(written));
    replaced.map_or(value, |(_, new)| *new).to_owned()
}

/// Levenshtein's distance. Names are short, so a row at a time is enough; a text of more
/// than 100 characters is near to nothing.
fn distance(left: &str, right: &str) -> usize {
    if left.len() > 100 || right.len() > 100 {
        return usize::MAX;
    }
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (at, letter) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (column, other) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(role: Role, text: &str) -> Vec<String> {
        let properties = Properties::parse("f", text.as_bytes().to_vec()).unwrap();
        resolve(&properties, role).1.iter().map(ToString::to_string).collect()
    }

    fn value(role: Role, text: &str, key: &str) -> Option<String> {
        let properties = Properties::parse("f", text.as_bytes().to_vec()).unwrap();
        resolve(&properties, role).0.value(key).map(str::to_owned)
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_an_error_even_where_it_has_no_effect() {
        let text = "bootstrap.servers=a:1\nacks=banana\nlinger.ms=soon\nretries=3\n";
        let properties = Properties::parse("file", text.into()).unwrap();
        let (_, findings) = resolve(&properties, Role::Producer);
        let errors: Vec<_> = findings.iter().filter(|one| one.level == Level::Error).collect();
        assert_eq!(errors.iter().map(|one| &*one.key).collect::<Vec<_>>(), ["acks", "linger.ms"]);
    }

    #[test]
    fn no_name_stands_twice_and_every_honoured_key_is_described() {
        for role in [Role::Consumer, Role::Producer] {
            let mut names: Vec<_> = role.keys().map(|key| key.name).collect();
            names.sort_unstable();
            let count = names.len();
            names.dedup();
            assert_eq!(names.len(), count, "{role:?}");
            for key in role.keys().filter(|key| key.handling == Handling::Honoured) {
                assert!(!key.doc.is_empty(), "{}", key.name);
                assert!(key.default.is_empty() || key.kind.fault(key.default).is_none(), "{key:?}");
            }
        }
    }

    #[test]
    fn every_renamed_key_points_to_one_of_its_role() {
        for role in [Role::Consumer, Role::Producer] {
            for key in role.keys() {
                if let Handling::Renamed { to } = key.handling {
                    let target = role.key(to).expect(to);
                    assert!(!matches!(target.handling, Handling::Renamed { .. }), "{}", key.name);
                }
            }
        }
    }

    #[test]
    fn an_unknown_key_is_reported_with_its_line_and_the_nearest_name() {
        assert_eq!(
            findings(Role::Consumer, "group.id=g\nauto.ofset.reset=latest\nxyz=1"),
            [
                "f:2: auto.ofset.reset is unknown and ignored; did you mean auto.offset.reset?",
                "f:3: xyz is unknown and ignored",
            ]
        );
    }

    #[test]
    fn a_key_of_the_other_client_is_named_as_such() {
        assert_eq!(
            findings(Role::Producer, "group.id=g"),
            ["f:1: group.id is ignored: it is a property of the consumer"]
        );
    }

    #[test]
    fn old_names_and_values_are_read_as_the_new_ones() {
        let consumer = |text, key| value(Role::Consumer, text, key);
        let earliest = Some("earliest".to_owned());
        assert_eq!(consumer("auto.offset.reset=smallest", "auto.offset.reset"), earliest);
        assert_eq!(
            consumer("fetch.message.max.bytes=7", "max.partition.fetch.bytes"),
            Some("7".to_owned())
        );
        let producer = |text, key| value(Role::Producer, text, key);
        assert_eq!(
            producer("metadata.broker.list=a:1", "bootstrap.servers"),
            Some("a:1".to_owned())
        );
    }

    #[test]
    fn a_new_name_wins_over_its_old_one() {
        let text = "fetch.message.max.bytes=7\nmax.partition.fetch.bytes=8";
        assert_eq!(value(Role::Consumer, text, "max.partition.fetch.bytes"), Some("8".to_owned()));
        assert!(findings(Role::Consumer, text)[0].contains("its new name, is set too"));
    }

    #[test]
    fn a_value_out_of_range_is_an_error_and_is_not_kept() {
        let text = "fetch.min.bytes=-1";
        assert_eq!(
            findings(Role::Consumer, text),
            ["f:1: fetch.min.bytes must be a whole number, 0 or more"]
        );
        assert_eq!(value(Role::Consumer, text, "fetch.min.bytes"), None);
    }

    #[test]
    fn what_java_takes_and_no_mirror_can_use_counts_as_the_nearest_and_is_noted() {
        let max = "2147483647";
        for (role, key, written, used) in [
            (Role::Producer, "request.timeout.ms", max, "3600000"),
            (Role::Consumer, "request.timeout.ms", "0", "1"),
            (Role::Consumer, "fetch.max.wait.ms", max, "3600000"),
            (Role::Consumer, "fetch.max.bytes", "0", "1024"),
            (Role::Consumer, "max.partition.fetch.bytes", max, "1073741824"),
            (Role::Producer, "max.request.size", max, "1073741824"),
            (Role::Consumer, "retry.backoff.ms", "0", "10"),
            (Role::Producer, "reconnect.backoff.max.ms", "0", "10"),
            (Role::Producer, "metadata.max.age.ms", "9223372036854775807", "86400000"),
            (Role::Producer, "topic.metadata.refresh.interval.ms", "-1", "86400000"),
            (Role::Producer, "max.in.flight.requests.per.connection", "10", "5"),
        ] {
            let text = format!("{key}={written}");
            let name = if key.starts_with("topic.") { "metadata.max.age.ms" } else { key };
            assert_eq!(value(role, &text, name).as_deref(), Some(used), "{text}");
            let told = format!("f:1: {key} counts as {used}, the nearest that is used");
            assert!(key.starts_with("topic.") || findings(role, &text) == [told], "{text}");
        }
        assert!(findings(Role::Consumer, "max.poll.interval.ms=2147483647").is_empty());
    }

    #[test]
    fn another_listener_than_a_plain_one_is_refused_with_its_line() {
        let found = findings(Role::Consumer, "bootstrap.servers=PLAINTEXT://a:1,SASL_SSL://b:2");
        assert!(found[0].starts_with("f:1: bootstrap.servers must name plaintext"), "{found:?}");
        assert!(findings(Role::Consumer, "bootstrap.servers=PLAINTEXT://a:1, b:2,").is_empty());
    }

    #[test]
    fn what_happens_anyway_is_not_remarked_and_the_contrary_is() {
        assert!(findings(Role::Producer, "acks=all").is_empty());
        assert!(findings(Role::Producer, "acks=-1").is_empty());
        assert!(findings(Role::Producer, "acks=1")[0].starts_with("f:1: acks is ignored: "));
    }

    #[test]
    fn a_class_that_would_have_to_be_loaded_is_refused() {
        let text = "interceptor.classes=com.example.Audit";
        assert!(findings(Role::Consumer, text)[0].contains("is not supported"));
        assert!(findings(Role::Consumer, "interceptor.classes=").is_empty());
    }
}
