//! Walks a request body before it is decoded and refuses counts and lengths that its bytes do not
//! bear.
//!
//! Owned by the wire module. `kafka-protocol` reserves what an array's count claims; a frame of
//! twenty bytes could make it ask for gigabytes and abort the process. Always true: a body that
//! passes holds every element it claims, and nothing after them.
//!
//! Shapes are written as in Kafka's message definitions, in field order: a digit is so many bytes,
//! `s` a string, `b` bytes, `u` a UUID, `[..]` an array of scalars, `{..}` an array of structs, and
//! `@a-b` or `@a+` the versions that have the field.

use std::collections::HashMap;
use std::iter::Peekable;
use std::ops::RangeInclusive;
use std::str::Chars;
use std::sync::LazyLock;

use kafka_protocol::messages::ApiKey;

use crate::error::Error;

/// Whether the body can be decoded without reserving more than it deserves.
pub(crate) fn check(api: ApiKey, version: i16, body: &[u8]) -> Result<(), Error> {
    let Some((flexible_from, fields)) = SHAPES.get(&(api as i16)) else {
        return Err(Error::Frame { reason: "API is not served" });
    };
    let is_flexible = version >= *flexible_from;
    let mut walk = Walk { rest: body, version, is_flexible };
    let walked = walk.fields(fields, true);
    match walked {
        Some(()) if walk.rest.is_empty() => Ok(()),
        Some(()) => Err(Error::Frame { reason: "bytes remain after the request" }),
        None => Err(Error::Frame { reason: "a length or count exceeds the request" }),
    }
}

#[derive(Debug)]
struct Field {
    kind: Kind,
    versions: RangeInclusive<i16>,
}

#[derive(Debug)]
enum Kind {
    Fixed(usize),
    Text,
    Blob,
    Scalars(Vec<Field>),
    Structs(Vec<Field>),
}

struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    is_flexible: bool,
}

impl Walk<'_> {
    fn fields(&mut self, fields: &[Field], is_struct: bool) -> Option<()> {
        for field in fields {
            if field.versions.contains(&self.version) {
                self.field(&field.kind)?;
            }
        }
        if is_struct && self.is_flexible { self.tags() } else { Some(()) }
    }

    fn field(&mut self, kind: &Kind) -> Option<()> {
        match kind {
            Kind::Fixed(size) => self.skip(*size),
            Kind::Text => {
                let length = if self.is_flexible { self.compact()? } else { self.short()? };
                self.skip(length)
            }
            Kind::Blob => {
                let length = self.count()?;
                self.skip(length)
            }
            Kind::Scalars(item) => self.items(item, false),
            Kind::Structs(fields) => self.items(fields, true),
        }
    }

    fn items(&mut self, fields: &[Field], is_struct: bool) -> Option<()> {
        let count = self.count()?;
        // Every element takes a byte at the least.
        if count > self.rest.len() {
            return None;
        }
        (0..count).try_for_each(|_| self.fields(fields, is_struct))
    }

    fn tags(&mut self) -> Option<()> {
        for _ in 0..self.uvarint()? {
            self.uvarint()?;
            let length = self.uvarint()?;
            self.skip(length)?;
        }
        Some(())
    }

    fn count(&mut self) -> Option<usize> {
        if self.is_flexible {
            return self.compact();
        }
        let (count, rest) = self.rest.split_first_chunk::<4>()?;
        self.rest = rest;
        length_of(i32::from_be_bytes(*count))
    }

    fn short(&mut self) -> Option<usize> {
        let (length, rest) = self.rest.split_first_chunk::<2>()?;
        self.rest = rest;
        length_of(i32::from(i16::from_be_bytes(*length)))
    }

    /// A compact length: 0 is null, else one more than the length.
    fn compact(&mut self) -> Option<usize> {
        Some(self.uvarint()?.saturating_sub(1))
    }

    fn uvarint(&mut self) -> Option<usize> {
        let mut value = 0_u64;
        for shift in (0..35).step_by(7) {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return usize::try_from(value).ok();
            }
        }
        None
    }

    fn skip(&mut self, length: usize) -> Option<()> {
        self.rest = self.rest.get(length..)?;
        Some(())
    }
}

/// -1 is null; anything else below zero is nonsense.
fn length_of(length: i32) -> Option<usize> {
    if length == -1 { Some(0) } else { usize::try_from(length).ok() }
}

fn parse(text: &mut Peekable<Chars<'_>>) -> Vec<Field> {
    let mut fields = Vec::new();
    while let Some(next) = text.next() {
        let kind = match next {
            ' ' => continue,
            ']' | '}' => break,
            's' => Kind::Text,
            'b' => Kind::Blob,
            'u' => Kind::Fixed(16),
            '[' => Kind::Scalars(parse(text)),
            '{' => Kind::Structs(parse(text)),
            digit => {
                Kind::Fixed(digit.to_digit(10).expect("invariant: shapes are well formed") as usize)
            }
        };
        let versions = if text.next_if_eq(&'@').is_some() { parse_versions(text) } else { ALL };
        fields.push(Field { kind, versions });
    }
    fields
}

fn parse_versions(text: &mut Peekable<Chars<'_>>) -> RangeInclusive<i16> {
    let number = |text: &mut Peekable<Chars<'_>>| {
        let mut value = 0;
        while let Some(digit) = text.peek().and_then(|next| next.to_digit(10)) {
            value = value * 10 + digit as i16;
            text.next();
        }
        value
    };
    let first = number(text);
    if text.next_if_eq(&'+').is_some() {
        return first..=i16::MAX;
    }
    text.next();
    first..=number(text)
}

const ALL: RangeInclusive<i16> = 0..=i16::MAX;

type Shapes = HashMap<i16, (i16, Vec<Field>)>;

static SHAPES: LazyLock<Shapes> = LazyLock::new(|| {
    let parsed = TABLE.iter().map(|(api, flexible_from, text)| {
        (*api as i16, (*flexible_from, parse(&mut text.chars().peekable())))
    });
    parsed.collect()
});

/// API, first flexible version, request shape.
const TABLE: &[(ApiKey, i16, &str)] = &[
    (ApiKey::Produce, 9, "s@3+ 2 4 {s@0-12 u@13+ {4 b}}"),
    (
        ApiKey::Fetch,
        12,
        "4@0-14 4 4 4@3+ 1@4+ 4@7+ 4@7+ {s@0-12 u@13+ {4 4@9+ 8 4@12+ 8@5+ 4}} \
         {s@7-12 u@13+ [4]}@7+ s@11+",
    ),
    (ApiKey::ListOffsets, 6, "4 1@2+ {s {4 4@4+ 8}} 4@10+"),
    (ApiKey::Metadata, 9, "{u@10+ s} 1@4+ 1@8-10 1@8+"),
    (ApiKey::OffsetCommit, 8, "s 4@1+ s@1+ s@7+ 8@2-4 {s {4 8 4@6+ s}}"),
    (ApiKey::OffsetFetch, 6, "s@0-7 {s [4]}@0-7 {s s@9+ 4@9+ {s [4]}}@8+ 1@7+"),
    (ApiKey::FindCoordinator, 3, "s@0-3 1@1+ [s]@4+"),
    (ApiKey::JoinGroup, 6, "s 4 4@1+ s s@5+ s {s b} s@8+"),
    (ApiKey::Heartbeat, 4, "s 4 s s@3+"),
    (ApiKey::LeaveGroup, 4, "s s@0-2 {s s s@5+}@3+"),
    (ApiKey::SyncGroup, 4, "s 4 s s@3+ s@5+ s@5+ {s b}"),
    (ApiKey::DescribeGroups, 5, "[s] 1@3+"),
    (ApiKey::ListGroups, 3, "[s]@4+ [s]@5+"),
    (ApiKey::ApiVersions, 3, "s@3+ s@3+"),
    (ApiKey::CreateTopics, 5, "{s 4 2 {4 [4]} {s s}} 4 1@1+"),
    (ApiKey::DeleteTopics, 4, "{s u}@6+ [s]@0-5 4"),
    (ApiKey::DeleteRecords, 2, "{s {4 8}} 4"),
    (ApiKey::InitProducerId, 2, "s 4 8@3+ 2@3+"),
    (ApiKey::OffsetForLeaderEpoch, 4, "4@3+ {s {4 4@2+ 4}}"),
    (ApiKey::AddPartitionsToTxn, 3, "s 8 2 {s [4]}"),
    (ApiKey::AddOffsetsToTxn, 3, "s 8 2 s"),
    (ApiKey::EndTxn, 3, "s 8 2 1"),
    (ApiKey::TxnOffsetCommit, 3, "s s 8 2 4@3+ s@3+ s@3+ {s {4 8 4@2+ s}}"),
    (ApiKey::DescribeAcls, 2, "1 s 1@1+ s s 1 1"),
    (ApiKey::DescribeConfigs, 4, "{1 s [s]} 1@1+ 1@3+"),
    (ApiKey::AlterConfigs, 2, "{1 s {s s}} 1"),
    (ApiKey::CreatePartitions, 2, "{s 4 {[4]}} 4 1"),
    (ApiKey::DeleteGroups, 2, "[s]"),
    (ApiKey::IncrementalAlterConfigs, 1, "{1 s {s 1 s}} 1"),
    (ApiKey::OffsetDelete, i16::MAX, "s {s {4}}"),
    (ApiKey::DescribeCluster, 0, "1 1@1+ 1@2+"),
    (ApiKey::DescribeProducers, 0, "{s [4]}"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_beyond_the_body_is_refused_and_a_true_one_passes() {
        let one_topic = [0, 0, 0, 1, 0, 1, b't'];
        check(ApiKey::Metadata, 1, &one_topic).unwrap();
        let mut lying = one_topic;
        lying[0] = 0x7f;
        assert!(check(ApiKey::Metadata, 1, &lying).is_err());
        let two_claimed = [0, 0, 0, 2, 0, 1, b't'];
        assert!(check(ApiKey::Metadata, 1, &two_claimed).is_err());
        let more_behind = [0, 0, 0, 1, 0, 1, b't', 9];
        assert!(check(ApiKey::Metadata, 1, &more_behind).is_err());
    }
}
