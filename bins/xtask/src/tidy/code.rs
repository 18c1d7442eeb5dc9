//! Rust text without its comments and literals, so that the rules about words see only the names
//! that the code uses. Pure; lines are kept, blanked characters become spaces.

/// Blanks comments, strings and character literals out of `text`.
pub(super) fn names_only(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
            continue;
        }
        for &blanked in &chars[at..end] {
            out.push(if blanked == '\n' { '\n' } else { ' ' });
        }
        at = end;
    }
    out
}

/// Where the comment or literal that begins at `at` ends; `at` if none begins there.
fn literal_end(chars: &[char], at: usize) -> usize {
    let next = chars.get(at + 1).copied();
    match (chars[at], next) {
        ('/', Some('/')) => position(chars, at, |rest| rest[0] == '\n'),
        ('/', Some('*')) => block_comment_end(chars, at),
        ('"', _) => string_end(chars, at + 1),
        ('r', Some('"' | '#')) if !follows_name(chars, at) => raw_string_end(chars, at),
        ('\'', _) => character_end(chars, at),
        _ => at,
    }
}

fn follows_name(chars: &[char], at: usize) -> bool {
    let before = at.checked_sub(1).map(|before| chars[before]);
    // `br"..."` is a literal too; a longer name that ends in r is not.
    before.is_some_and(|before| before != 'b' && (before.is_alphanumeric() || before == '_'))
}

fn block_comment_end(chars: &[char], at: usize) -> usize {
    let mut depth = 0_usize;
    let mut index = at;
    while index + 1 < chars.len() {
        match (chars[index], chars[index + 1]) {
            ('/', '*') => (depth, index) = (depth + 1, index + 2),
            ('*', '/') => (depth, index) = (depth - 1, index + 2),
            _ => index += 1,
        }
        if depth == 0 {
            return index;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

fn raw_string_end(chars: &[char], at: usize) -> usize {
    let hashes = chars[at + 1..].iter().take_while(|&&hash| hash == '#').count();
    let open = at + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return at; // a raw identifier such as r#type
    }
    let closes = |rest: &[char]| {
        rest[0] == '"' && rest[1..].iter().take_while(|&&hash| hash == '#').count() >= hashes
    };
    (position(chars, open + 1, closes) + 1 + hashes).min(chars.len())
}

/// A lifetime has no second quote where a character literal must have one.
fn character_end(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => position(chars, at + 3, |rest| rest[0] == '\'') + 1,
        (Some(_), Some('\'')) => at + 3,
        _ => at,
    }
}

fn position(chars: &[char], from: usize, found: impl Fn(&[char]) -> bool) -> usize {
    (from..chars.len()).find(|&index| found(&chars[index..])).unwrap_or(chars.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> String {
        names_only(text).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_and_literals_are_no_names() {
        assert_eq!(words("a // b\nc /* d /* e */ f */ g"), "a c g");
        assert_eq!(words(r#"a("b \" c") d"#), "a( ) d");
        assert_eq!(words("a(r#\"b \" c\"#) d br\"e\" f"), "a( ) d b f");
        assert_eq!(words("x('\\'') y('\"') z"), "x( ) y( ) z");
    }

    #[test]
    fn lifetimes_and_raw_identifiers_are_names() {
        assert_eq!(words("fn f<'a>(r#type: &'a str)"), "fn f<'a>(r#type: &'a str)");
    }

    #[test]
    fn lines_are_kept() {
        assert_eq!(names_only("a /*\n\n*/ b\n\"\n\" c").lines().count(), 5);
    }
}
