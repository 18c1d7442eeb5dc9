//! Whether there can be a topic that several selections select: what decides if flows that keep
//! names form a circle. Pure; looks at the patterns, not at the topics that happen to be there.
//!
//! Patterns are walked as automata, side by side, shortest names first. An answer is always true
//! of the selections themselves, since each name that is found is put to them. None may be found
//! where there is one: where a pattern refers back to what it matched, or the walk is too long.

use std::collections::{HashSet, VecDeque};

use regex_automata::hybrid::LazyStateID;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::{Anchored, Input, MatchKind};

use super::filter::{Pattern, Selection};
use super::naming;

/// The most names that are walked through.
const WALK_MAX: usize = 20_000;

/// The memory of one automaton, in bytes.
const CACHE_BYTES: usize = 1 << 20;

const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-_.";

/// The name of a topic, not an internal one, that all of these select.
pub fn common_topic(selections: &[&Selection]) -> Option<String> {
    let mut walkers: Vec<Walker> = selections
        .iter()
        .flat_map(|selection| {
            let number = selection.include.len();
            selection
                .include
                .iter()
                .enumerate()
                .map(move |(at, pattern)| (pattern, at + 1 == number))
        })
        .map(|(pattern, is_last)| Walker::new(pattern, is_last))
        .collect::<Option<_>>()?;
    let start: Vec<LazyStateID> = walkers.iter_mut().map(Walker::start).collect::<Option<_>>()?;
    let mut seen = HashSet::from([start.clone()]);
    let mut open = VecDeque::from([(String::new(), start)]);
    while let Some((name, states)) = open.pop_front() {
        let is_common = naming::is_legal(&name)
            && selections.iter().all(|selection| selection.selects(&name, false));
        if is_common {
            return Some(name);
        }
        for letter in LETTERS {
            if seen.len() >= WALK_MAX {
                return None;
            }
            let step = |(walker, state): (&mut Walker, &LazyStateID)| walker.step(*state, *letter);
            let next: Vec<LazyStateID> =
                walkers.iter_mut().zip(&states).map(step).collect::<Option<_>>()?;
            if is_alive(&walkers, &next) && seen.insert(next.clone()) {
                open.push_back((format!("{name}{}", char::from(*letter)), next));
            }
        }
    }
    None
}

/// Whether each selection may still match.
fn is_alive(walkers: &[Walker], states: &[LazyStateID]) -> bool {
    let mut is_any = false;
    for (walker, state) in walkers.iter().zip(states) {
        is_any |= !state.is_dead();
        if walker.is_last {
            if !is_any {
                return false;
            }
            is_any = false;
        }
    }
    true
}

/// One pattern of those that a selection includes.
struct Walker {
    automaton: DFA,
    cache: Cache,
    /// The last one of its selection.
    is_last: bool,
}

impl Walker {
    /// Matches at least what the pattern does.
    fn new(pattern: &Pattern, is_last: bool) -> Option<Walker> {
        let text = pattern.translated();
        let exact = automaton(&text).or_else(|| automaton(&without_look_around(&text)));
        let automaton = exact.or_else(|| automaton(".*"))?;
        let cache = automaton.create_cache();
        Some(Walker { automaton, cache, is_last })
    }

    fn start(&mut self) -> Option<LazyStateID> {
        let input = Input::new("").anchored(Anchored::Yes);
        self.automaton.start_state_forward(&mut self.cache, &input).ok()
    }

    fn step(&mut self, state: LazyStateID, letter: u8) -> Option<LazyStateID> {
        self.automaton.next_state(&mut self.cache, state, letter).ok()
    }
}

fn automaton(text: &str) -> Option<DFA> {
    let config = DFA::config()
        .match_kind(MatchKind::All)
        .cache_capacity(CACHE_BYTES)
        .skip_cache_capacity_check(true)
        // A state keeps its name for as long as the walk lasts.
        .minimum_cache_clear_count(Some(0));
    DFA::builder().configure(config).build(&format!("^(?:{text})$")).ok()
}

/// The pattern without `(?=...)`, `(?!...)`, `(?<=...)` and `(?<!...)`: it matches no less.
fn without_look_around(text: &str) -> String {
    let mut output = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let heads = ["(?=", "(?!", "(?<=", "(?<!"];
        let length = if heads.iter().any(|head| rest.starts_with(head)) {
            group_length(rest)
        } else {
            let length = letter.len_utf8() + if letter == '\\' { 1 } else { 0 };
            output.push_str(rest.get(..length).unwrap_or(rest));
            length
        };
        rest = rest.get(length..).unwrap_or("");
    }
    output
}

/// The length of the group that `text` begins with.
fn group_length(text: &str) -> usize {
    let mut depth = 0;
    let mut in_class = false;
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => drop(letters.next()),
            '[' => in_class = true,
            ']' => in_class = false,
            '(' if !in_class => depth += 1,
            ')' if !in_class => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(include: &[&str], exclude: &[&str]) -> Selection {
        let pattern = |text: &&str| Pattern::try_new(text).unwrap();
        let mut patterns = include.iter().map(pattern);
        let first = Selection::new(patterns.next().unwrap());
        let selection = patterns.fold(first, Selection::with_include);
        exclude.iter().map(pattern).fold(selection, Selection::with_exclude)
    }

    fn common(one: Selection, other: Selection) -> Option<String> {
        common_topic(&[&one, &other])
    }

    #[test]
    fn a_name_that_both_select_is_found_wherever_their_patterns_meet() {
        let found =
            |one: &str, other: &str| common(selection(&[one], &[]), selection(&[other], &[]));
        assert_eq!(found(".*", ".*").unwrap(), "a");
        assert_eq!(found(".*", "orders").unwrap(), "orders");
        assert_eq!(found("orders.*", ".*-eu").unwrap(), "orders-eu");
        assert_eq!(found("(?!__).*", "(?!__)orders-[0-9]{2,3}").unwrap(), "orders-00");
        assert_eq!(found("(a|b)-\\1", "b-b").unwrap(), "b-b");
        assert_eq!(found("__consumer_offsets", ".*"), None);
    }

    #[test]
    fn selections_that_part_the_topics_have_none_in_common() {
        let orders = || selection(&["orders.*", "o-.*"], &[]);
        assert_eq!(common(orders(), selection(&["payments.*"], &[])), None);
        assert_eq!(common(orders(), selection(&[".*"], &["orders.*", "o-.*"])), None);
        assert_eq!(common(orders(), selection(&[".*"], &["o-.*"])).unwrap(), "orders");
        let three = [&orders(), &selection(&[".*-eu"], &[]), &selection(&["o-.*"], &[])];
        assert_eq!(common_topic(&three).unwrap(), "o-eu");
    }

    #[test]
    fn look_around_is_taken_out_whole() {
        for (text, left) in [
            ("(?!__).*", ".*"),
            ("a(?=(b|[)]))c", "ac"),
            (r"\(?!a\)", r"\(?!a\)"),
            ("(?<!x)y(?:z)", "y(?:z)"),
        ] {
            assert_eq!(without_look_around(text), left);
        }
    }
}
