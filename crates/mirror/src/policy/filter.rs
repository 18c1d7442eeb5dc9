//! Which source topics are mirrored. A pattern is a *Java* regular expression that the whole topic
//! name has to match. Matching never runs away: patterns the linear-time engine takes are matched
//! by it, the others by a backtracking one with a bound on its steps.
//!
//! What Java refuses is refused, and so is what can match no topic by mistake: a comma or a space
//! that was meant to separate names. [`from_mirror_maker`] reads those.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::error::chain;

/// The most steps the backtracking engine may take for one topic name before the name is refused.
pub const BACKTRACK_STEPS_MAX: usize = 100_000;

/// The longest pattern accepted, in bytes.
pub const PATTERN_BYTES_MAX: usize = 64 * 1024;

/// A pattern that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is nothing in the pattern.
    #[error("the topic pattern is empty")]
    Empty,
    /// Longer than [`PATTERN_BYTES_MAX`].
    #[error("the topic pattern has {bytes} bytes, more than {PATTERN_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Neither engine understands it.
    #[error("the topic pattern {pattern:?} is not a regular expression: {reason}")]
    Invalid {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It holds what is in no topic's name.
    #[error(
        "the topic pattern {pattern:?} matches no topic, since no name has {found:?} in it; give \
         several patterns as a list of texts, or put | between them"
    )]
    Separated {
        /// The pattern.
        pattern: String,
        /// The comma or space.
        found: char,
    },
}

/// One pattern over topic names.
#[derive(Clone)]
pub struct Pattern {
    text: Arc<str>,
    engine: Engine,
}

#[derive(Clone)]
enum Engine {
    Linear(regex::Regex),
    Backtracking(Arc<fancy_regex::Regex>),
}

impl Pattern {
    /// Reads a pattern in Java's syntax, which the whole name must match.
    ///
    /// # Errors
    /// [`Error`] when it is empty, too long, not a regular expression, or holds a comma or a space
    /// that no name can match.
    pub fn try_new(text: &str) -> Result<Pattern, Error> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err(Error::TooLong { bytes: text.len() });
        }
        if text.is_empty() {
            return Err(Error::Empty);
        }
        check(text)?;
        let anchored = format!("^(?:{})$", from_java(text));
        let engine = if has_possessive_quantifier(text) {
            None // the linear engine reads `a*+` as `(a*)+`, which is something else
        } else {
            regex::Regex::new(&anchored).ok().map(Engine::Linear)
        };
        let engine = match engine {
            Some(engine) => engine,
            None => backtracking(text, &anchored)?,
        };
        Ok(Pattern { text: text.into(), engine })
    }

    /// True when the whole of `topic` matches. A name that exhausts the backtracking bound does not
    /// match.
    pub fn matches(&self, topic: &str) -> bool {
        match &self.engine {
            Engine::Linear(regex) => regex.is_match(topic),
            Engine::Backtracking(regex) => regex.is_match(topic).unwrap_or_else(|error| {
                let error = chain(&error);
                tracing::warn!(pattern = %self.text, topic, error, "topic pattern gave up");
                false
            }),
        }
    }

    /// The pattern in the syntax of the engines here.
    pub(super) fn translated(&self) -> String {
        from_java(&self.text)
    }

    /// The pattern as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Pattern").field(&self.text).finish()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// Which topics of the source are mirrored.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Selection {
    /// A topic must match one of these.
    pub include: Vec<Pattern>,
    /// A topic must match none of these.
    pub exclude: Vec<Pattern>,
    /// Whether topics that Kafka calls internal (`__consumer_offsets` and its kin) may be mirrored.
    /// Default: no.
    pub internal: bool,
}

impl Selection {
    /// Every topic that matches `include` and is not internal.
    pub fn new(include: Pattern) -> Selection {
        Selection { include: vec![include], exclude: Vec::new(), internal: false }
    }

    /// Also selects what matches `include`.
    #[must_use]
    pub fn with_include(mut self, include: Pattern) -> Selection {
        self.include.push(include);
        self
    }

    /// Also leaves out what matches `exclude`.
    #[must_use]
    pub fn with_exclude(mut self, exclude: Pattern) -> Selection {
        self.exclude.push(exclude);
        self
    }

    /// The only topics it can select, where `include` spells out their names; `None` where it is a
    /// pattern.
    pub(crate) fn names(&self) -> Option<BTreeSet<Arc<str>>> {
        self.include.iter().flat_map(|pattern| pattern.text.split('|')).map(literal).collect()
    }

    /// Whether a topic is mirrored; `internal` is what the broker's metadata says about it.
    pub fn selects(&self, topic: &str, internal: bool) -> bool {
        let internal = internal || INTERNAL.contains(&topic);
        (self.internal || !internal)
            && self.include.iter().any(|include| include.matches(topic))
            && !self.exclude.iter().any(|exclude| exclude.matches(topic))
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |patterns: &[Pattern]| {
            patterns.iter().map(Pattern::as_str).collect::<Vec<_>>().join(", ")
        };
        formatter.write_str(&list(&self.include))?;
        if !self.exclude.is_empty() {
            write!(formatter, " without {}", list(&self.exclude))?;
        }
        Ok(())
    }
}

/// The one name an alternative matches, if it is just a name: a dot that stands for itself is
/// escaped.
fn literal(alternative: &str) -> Option<Arc<str>> {
    let name = alternative.replace("\\.", ".");
    let escaped = alternative.matches("\\.").count();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let dots = name.matches('.').count();
    (!name.is_empty() && dots == escaped && name.chars().all(is_plain)).then(|| name.into())
}

/// Topics brokers keep for themselves; old ones do not flag all of them in their metadata.
const INTERNAL: [&str; 4] =
    ["__consumer_offsets", "__transaction_state", "__share_group_state", "__cluster_metadata"];

/// The pattern that `kafka.tools.MirrorMaker` makes of the text of its `--include` (Kafka class
/// `TopicFilter`): trimmed, `,` to `|`, without spaces and surrounding quotes.
pub fn from_mirror_maker(raw: &str) -> String {
    let text: String =
        raw.trim().chars().filter(|c| *c != ' ').map(|c| if c == ',' { '|' } else { c }).collect();
    text.trim_matches(|c| c == '"' || c == '\'').to_owned()
}

fn backtracking(text: &str, anchored: &str) -> Result<Engine, Error> {
    fancy_regex::RegexBuilder::new(anchored)
        .backtrack_limit(BACKTRACK_STEPS_MAX)
        .build()
        .map(|regex| Engine::Backtracking(Arc::new(regex)))
        .map_err(|error| Error::Invalid { pattern: text.to_owned(), reason: error.to_string() })
}

/// Refuses what Java refuses and the engines here take for ordinary text: a brace that does not
/// begin a repetition. Refuses what separates names for people, and matches none.
fn check(text: &str) -> Result<(), Error> {
    let invalid =
        |reason: &str| Error::Invalid { pattern: text.to_owned(), reason: reason.to_owned() };
    let mut in_class = false;
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let mut length = character.len_utf8();
        match character {
            '\\' => length = escape_length(rest),
            '[' => in_class = true,
            ']' => in_class = false,
            _ if in_class => {}
            '{' => length = repetition_length(rest).map_err(invalid)?,
            ',' | ' ' => {
                return Err(Error::Separated { pattern: text.to_owned(), found: character });
            }
            _ => {}
        }
        rest = &rest[length..];
    }
    Ok(())
}

/// The length of the escape that `text` begins with, with its braces or up to the end of its quote.
fn escape_length(text: &str) -> usize {
    if let Some(quoted) = text.strip_prefix("\\Q") {
        return quoted.find("\\E").map_or(text.len(), |end| end + 4);
    }
    let escaped = text[1..].chars().next().map_or(0, char::len_utf8);
    let length = 1 + escaped;
    if text[length..].starts_with('{') && matches!(&text[1..length], "p" | "P" | "x" | "N") {
        return text.find('}').map_or(length, |end| end + 1);
    }
    length
}

/// The length of the `{n}`, `{n,}` or `{n,m}` that `text` begins with, or what Java says of it.
fn repetition_length(text: &str) -> Result<usize, &'static str> {
    let is_digit = |letter: char| letter.is_ascii_digit();
    let digits = |text: &str| text.find(|letter| !is_digit(letter)).unwrap_or(text.len());
    let first = digits(&text[1..]);
    if first == 0 {
        return Err("illegal repetition");
    }
    let mut length = 1 + first;
    if text[length..].starts_with(',') {
        length += 1;
        length += digits(&text[length..]);
    }
    if text[length..].starts_with('}') { Ok(length + 1) } else { Err("unclosed counted closure") }
}

/// `*+`, `++`, `?+` or `}+` outside a class and not escaped: Java takes the `+` as "never give
/// back".
fn has_possessive_quantifier(text: &str) -> bool {
    let mut in_class = false;
    let mut previous = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                characters.next();
                previous = None;
                continue;
            }
            '[' => in_class = true,
            ']' => in_class = false,
            '+' if !in_class && matches!(previous, Some('*' | '+' | '?' | '}')) => return true,
            _ => {}
        }
        previous = Some(character);
    }
    false
}

/// Rewrites what Java spells differently: `\Q...\E` quotes and the POSIX classes in `\p{...}`.
fn from_java(text: &str) -> String {
    let mut output = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        output.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(quoted) = rest.strip_prefix("\\Q") {
            let end = quoted.find("\\E").unwrap_or(quoted.len());
            output.push_str(&regex::escape(&quoted[..end]));
            rest = quoted[end..].strip_prefix("\\E").unwrap_or("");
            continue;
        }
        if let Some((class, length)) = posix_class(rest) {
            output.push_str(class);
            rest = &rest[length..];
            continue;
        }
        let escaped = 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
        output.push_str(&rest[..escaped]);
        rest = &rest[escaped..];
    }
    output.push_str(rest);
    output
}

/// The class that stands for a leading `\p{Name}` of Java's US-ASCII ones, and the length it
/// replaces.
fn posix_class(text: &str) -> Option<(&'static str, usize)> {
    let name = text.strip_prefix("\\p{")?;
    let name = &name[..name.find('}')?];
    let class = POSIX.iter().find(|(java, _)| *java == name)?.1;
    Some((class, name.len() + 4))
}

const POSIX: [(&str, &str); 13] = [
    ("Lower", "[a-z]"),
    ("Upper", "[A-Z]"),
    ("ASCII", "[\\x00-\\x7F]"),
    ("Alpha", "[a-zA-Z]"),
    ("Digit", "[0-9]"),
    ("Alnum", "[a-zA-Z0-9]"),
    ("Punct", "[[:punct:]]"),
    ("Graph", "[[:graph:]]"),
    ("Print", "[[:print:]]"),
    ("Blank", "[ \\t]"),
    ("Cntrl", "[[:cntrl:]]"),
    ("XDigit", "[0-9a-fA-F]"),
    ("Space", "[ \\t\\n\\x0B\\f\\r]"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::try_new(text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
    }

    #[test]
    fn a_list_of_names_matches_each_name_and_nothing_longer() {
        let pattern = pattern(&from_mirror_maker(" orders, payments ,audit "));
        assert_eq!(pattern.as_str(), "orders|payments|audit");
        for topic in ["orders", "payments", "audit"] {
            assert!(pattern.matches(topic), "{topic}");
        }
        for topic in ["orders2", "my-orders", "orders|payments", ""] {
            assert!(!pattern.matches(topic), "{topic}");
        }
    }

    #[test]
    fn quotes_around_the_pattern_vanish() {
        assert_eq!(from_mirror_maker("\"test.*\""), "test.*");
        assert_eq!(from_mirror_maker("'test.*'"), "test.*");
    }

    #[test]
    fn a_comma_in_a_repetition_is_an_alternative_to_mirror_maker_which_java_refuses() {
        let text = from_mirror_maker("a{1,3}");
        assert_eq!(text, "a{1|3}");
        let error = Pattern::try_new(&text).unwrap_err();
        assert!(error.to_string().contains("unclosed counted closure"), "{error}");
    }

    #[test]
    fn a_repetition_with_two_bounds_is_one() {
        let pattern = pattern("orders-[0-9]{1,3}");
        for (topic, matches) in [("orders-7", true), ("orders-777", true), ("orders-7777", false)] {
            assert_eq!(pattern.matches(topic), matches, "{topic}");
        }
        for text in ["a{2}", "a{2,}", r"\{2", r"\Qa{b\E", "[{]", r"\p{Lower}{2}", r"\x{41}"] {
            Pattern::try_new(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
        for text in ["a{", "a{,3}", "a{x}", "a{1;2}", "a{1", "{"] {
            let error = Pattern::try_new(text).unwrap_err();
            assert!(matches!(error, Error::Invalid { .. }), "{text}: {error}");
        }
    }

    #[test]
    fn what_was_meant_to_separate_names_is_not_taken_for_a_part_of_one() {
        for text in ["orders,payments", "orders, payments", " orders", "a b"] {
            let error = Pattern::try_new(text).unwrap_err();
            assert!(matches!(error, Error::Separated { .. }), "{text}: {error}");
        }
        let both = Selection::new(pattern("orders")).with_include(pattern("payments"));
        assert!(both.selects("orders", false) && both.selects("payments", false));
        assert_eq!(both.with_exclude(pattern("p.*")).to_string(), "orders, payments without p.*");
    }

    #[test]
    fn a_lone_star_is_refused() {
        assert!(matches!(Pattern::try_new("*"), Err(Error::Invalid { .. })));
        assert_eq!(Pattern::try_new(&from_mirror_maker("  ")).unwrap_err(), Error::Empty);
    }

    #[test]
    fn lookaround_and_backreferences_work() {
        let not_internal = pattern("(?!__).*");
        assert!(not_internal.matches("orders"));
        assert!(!not_internal.matches("__consumer_offsets"));
        assert!(pattern("(a|b)-\\1").matches("a-a"));
        assert!(!pattern("(a|b)-\\1").matches("a-b"));
    }

    #[test]
    fn a_possessive_quantifier_never_gives_back() {
        assert!(!pattern("a*+a").matches("aaa"));
        assert!(pattern("a*+b").matches("aab"));
        assert!(pattern("[*+]+").matches("+*"));
    }

    #[test]
    fn java_quotes_and_posix_classes_are_translated() {
        assert!(pattern("\\Qa.b\\E.*").matches("a.b-c"));
        assert!(!pattern("\\Qa.b\\E.*").matches("aXb-c"));
        assert!(pattern("\\p{Lower}+\\p{Digit}").matches("topic7"));
        assert!(!pattern("\\p{Lower}+").matches("Topic"));
        assert!(pattern("a\\.b").matches("a.b"));
    }

    #[test]
    fn a_pattern_that_runs_away_does_not_match_and_returns() {
        let evil = pattern("(?=x)x(a+)+\\1b|(a+)+(?!c)$");
        let topic = "a".repeat(200);
        let _ = evil.matches(&format!("x{topic}"));
    }

    #[test]
    fn internal_topics_are_left_out_unless_asked_for() {
        let mut selection = Selection::new(pattern(".*"));
        assert!(!selection.selects("__consumer_offsets", false));
        assert!(!selection.selects("strange", true));
        assert!(selection.selects("orders", false));
        selection.internal = true;
        assert!(selection.selects("__consumer_offsets", true));
    }

    #[test]
    fn exclusion_wins() {
        let selection = Selection::new(pattern(".*")).with_exclude(pattern("tmp-.*"));
        assert!(!selection.selects("tmp-a", false));
        assert!(selection.selects("a-tmp-", false));
    }

    #[test]
    fn names_that_are_spelled_out_are_told_from_patterns() {
        let names = |pattern: &str| {
            let pattern = Pattern::try_new(&from_mirror_maker(pattern)).unwrap();
            let names = Selection::new(pattern).names()?;
            Some(names.iter().map(|name| name.to_string()).collect::<Vec<_>>())
        };
        assert_eq!(names("orders, pay-ments").unwrap(), ["orders", "pay-ments"]);
        assert_eq!(names(r"orders\.v1|a_b").unwrap(), ["a_b", "orders.v1"]);
        for pattern in ["orders.v1", r"a\.b.c", "a|", "a|b*", ".*", r"\d", "(a|b)", "a$"] {
            assert_eq!(names(pattern), None, "{pattern}");
        }
    }
}
