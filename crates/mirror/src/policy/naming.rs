//! Under which name a source topic lives at the destination. Names from the wire are not trusted:
//! what leaves here is a legal Kafka topic name or an error.

use std::sync::Arc;

/// The longest topic name Kafka takes, in bytes (`Topic.MAX_NAME_LENGTH`).
pub const NAME_BYTES_MAX: usize = 249;

/// A topic that cannot be given a name at the destination.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a legal topic name")]
pub struct Error {
    /// The name it would have had.
    pub name: String,
}

/// How the destination's name follows from the source's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Naming {
    /// The same name: what MirrorMaker does, and MirrorMaker 2's `IdentityReplicationPolicy`.
    #[default]
    Identity,
    /// This text, then the name. `"west."` is MirrorMaker 2's default policy for the alias `west`.
    Prefix(String),
    /// The name, then this text.
    Suffix(String),
}

impl Naming {
    /// The destination's name for a source topic.
    ///
    /// # Errors
    /// [`Error`] when the outcome is not a legal topic name.
    pub fn destination(&self, source: &str) -> Result<Arc<str>, Error> {
        let name: Arc<str> = match self {
            Naming::Identity => source.into(),
            Naming::Prefix(prefix) => format!("{prefix}{source}").into(),
            Naming::Suffix(suffix) => format!("{source}{suffix}").into(),
        };
        if is_legal(&name) { Ok(name) } else { Err(Error { name: name.to_string() }) }
    }

    /// True when a topic can keep its name, so that mirroring a cluster onto itself would feed
    /// itself.
    pub fn keeps_names(&self) -> bool {
        match self {
            Naming::Identity => true,
            Naming::Prefix(text) | Naming::Suffix(text) => text.is_empty(),
        }
    }

    /// True when a source topic already looks like an outcome of this policy: mirrored again within
    /// one cluster it would grow a prefix for ever.
    pub fn is_outcome(&self, topic: &str) -> bool {
        match self {
            Naming::Identity => false,
            Naming::Prefix(prefix) => !prefix.is_empty() && topic.starts_with(prefix.as_str()),
            Naming::Suffix(suffix) => !suffix.is_empty() && topic.ends_with(suffix.as_str()),
        }
    }
}

/// Kafka's rule (`Topic.validate`): 1 to 249 of `[a-zA-Z0-9._-]`, neither `.` nor `..`.
pub fn is_legal(name: &str) -> bool {
    let character = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name != "."
        && name != ".."
        && name.bytes().all(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_keeps_the_name_and_prefix_and_suffix_add_to_it() {
        assert_eq!(&*Naming::Identity.destination("orders").unwrap(), "orders");
        assert_eq!(&*Naming::Prefix("west.".into()).destination("a").unwrap(), "west.a");
        assert_eq!(&*Naming::Suffix("-copy".into()).destination("a").unwrap(), "a-copy");
    }

    #[test]
    fn illegal_names_are_refused() {
        for name in ["", ".", "..", "a/b", "a b", "caf\u{e9}", "a\n"] {
            assert!(!is_legal(name), "{name:?}");
            assert!(Naming::Identity.destination(name).is_err());
        }
        assert!(Naming::Prefix("x".into()).destination(&"a".repeat(NAME_BYTES_MAX)).is_err());
        assert!(is_legal(&"a".repeat(NAME_BYTES_MAX)));
    }

    #[test]
    fn an_empty_prefix_keeps_names() {
        assert!(Naming::Prefix(String::new()).keeps_names());
        assert!(!Naming::Prefix("x".into()).keeps_names());
        assert!(Naming::Prefix("x.".into()).is_outcome("x.a"));
        assert!(!Naming::Identity.is_outcome("x.a"));
    }
}
