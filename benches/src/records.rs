//! The records: events as JSON, of an exact size, the same at every run.
//!
//! Half of each is what differs between events (numbers, ids), the rest what repeats (field names,
//! words), so that codecs find about as much to save as in real events.

use std::fmt::Write as _;

/// Makes one record's value after the other.
#[derive(Clone, Debug)]
pub struct Values {
    chance: Chance,
    bytes: usize,
    text: String,
}

impl Values {
    /// Values of `bytes` each; another `seed` makes others.
    #[must_use]
    pub fn new(bytes: usize, seed: u64) -> Self {
        Self { chance: Chance(seed), bytes, text: String::with_capacity(bytes + 64) }
    }

    /// The next value.
    pub fn next_value(&mut self) -> &[u8] {
        let Self { chance, bytes, text } = self;
        text.clear();
        let (id, session) = (chance.next(), chance.next());
        let (user, device, page) =
            (chance.below(1_000_000), chance.below(5_000), chance.below(400));
        let (x, y, cents) = (chance.below(1_920), chance.below(1_080), chance.below(100_000));
        let (kind, place) = (chance.pick(KINDS), chance.pick(PLACES));
        let written = write!(
            text,
            "{{\"event_id\":\"{id:016x}\",\"session\":\"{session:016x}\",\"type\":\"{kind}\",\
             \"user\":{user},\"device\":\"device-{device}\",\"place\":\"{place}\",\
             \"page\":\"/catalogue/items/{page}\",\"position\":{{\"x\":{x},\"y\":{y}}},\
             \"amount\":{}.{:02},\"currency\":\"EUR\",\"note\":\"",
            cents / 100,
            cents % 100
        );
        written.expect("invariant: writing to a string cannot fail");
        while text.len() + END.len() < *bytes {
            text.push_str(chance.pick(WORDS));
            text.push(' ');
        }
        text.truncate(bytes.saturating_sub(END.len()));
        text.push_str(&END[..END.len().min(*bytes)]);
        text.as_bytes()
    }
}

const END: &str = "\"}";
const KINDS: &[&str] = &["view", "click", "search", "basket", "order", "payment", "refund"];
const PLACES: &[&str] = &["Amsterdam", "Berlin", "Dublin", "London", "Madrid", "Paris", "Vienna"];
const WORDS: &[&str] = &[
    "about",
    "account",
    "added",
    "after",
    "again",
    "answer",
    "arrived",
    "basket",
    "before",
    "blue",
    "box",
    "bring",
    "broken",
    "button",
    "cable",
    "called",
    "cannot",
    "change",
    "colour",
    "customer",
    "date",
    "delivered",
    "different",
    "door",
    "early",
    "email",
    "empty",
    "evening",
    "every",
    "first",
    "found",
    "garden",
    "gift",
    "given",
    "green",
    "half",
    "home",
    "house",
    "inside",
    "invoice",
    "item",
    "kitchen",
    "large",
    "late",
    "letter",
    "light",
    "list",
    "longer",
    "made",
    "missing",
    "morning",
    "name",
    "never",
    "number",
    "often",
    "open",
    "order",
    "other",
    "paid",
    "parcel",
    "part",
    "price",
    "quickly",
    "red",
    "return",
    "second",
    "sent",
    "shop",
    "size",
    "small",
    "street",
    "table",
    "thanks",
    "today",
    "twice",
    "under",
    "wanted",
    "water",
    "window",
    "wrong",
];

/// A small random generator (splitmix64) whose every run is the same.
#[derive(Clone, Debug)]
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        let index = usize::try_from(self.below(from.len() as u64));
        from[index.expect("invariant: an index below the length")]
    }
}

#[cfg(test)]
mod tests {
    use kmirror_client::batch::{Codec, Compressor};

    use super::*;

    #[test]
    fn values_have_exactly_the_size_asked_for() {
        for bytes in [0, 1, 2, 3, 100, 1024, 10_000] {
            let mut values = Values::new(bytes, 1);
            for _ in 0..3 {
                assert_eq!(values.next_value().len(), bytes);
            }
        }
    }

    #[test]
    fn values_are_json_and_differ() {
        let mut values = Values::new(1024, 1);
        let first = values.next_value().to_vec();
        let json: serde_json::Value = serde_json::from_slice(&first).expect("json");
        assert!(json["note"].is_string());
        assert_ne!(first, values.next_value());
        assert_eq!(first, Values::new(1024, 1).next_value());
        assert_ne!(first, Values::new(1024, 2).next_value());
    }

    #[test]
    fn codecs_find_about_as_much_as_in_events() {
        let mut values = Values::new(1024, 1);
        let body: Vec<u8> = (0..256).flat_map(|_| values.next_value().to_vec()).collect();
        let mut compressor = Compressor::default();
        let mut ratio = |codec| body.len() as f64 / compressor.compress(codec, &body).len() as f64;
        let (lz4, zstd) = (ratio(Codec::Lz4), ratio(Codec::Zstd));
        assert!((2.0..4.0).contains(&lz4), "lz4 {lz4:.2}");
        assert!((3.5..6.5).contains(&zstd), "zstd {zstd:.2}");
    }
}
