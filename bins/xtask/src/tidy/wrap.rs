//! Wraps comments that are too wide, which rustfmt leaves as they are. Pure.
//!
//! The words that stick out move to the next line of the same paragraph, or to a new line. Tables,
//! code blocks and lists keep their lines; only what is too wide is touched.

use super::rules::LINE_WIDTH_MAX;

/// `text` with its wide comment lines wrapped.
pub(super) fn wrap_comments(text: &str) -> String {
    let mut out: Vec<String> = Vec::new();
    let mut moved: Option<Moved> = None;
    let mut in_code = false;
    for line in text.lines() {
        let comment = Comment::parse(line);
        if comment.is_some_and(|comment| comment.words.starts_with("```")) {
            in_code = !in_code;
        }
        let mut line = line.to_owned();
        if let Some(moved) = moved.take() {
            match comment {
                Some(comment) if moved.prefix == comment.prefix && comment.continues() => {
                    line = format!("{}{} {}", moved.prefix, moved.words, comment.words);
                }
                _ => out.push(format!("{}{}", moved.prefix, moved.words)),
            }
        }
        while let Some((kept, rest)) = cut(&line, in_code) {
            out.push(kept);
            if Comment::parse(&format!("{}{}", rest.prefix, rest.words))
                .is_some_and(|_| rest.prefix.len() + rest.words.len() <= LINE_WIDTH_MAX)
            {
                line.clear();
                moved = Some(rest);
                break;
            }
            line = format!("{}{}", rest.prefix, rest.words);
        }
        if moved.is_none() {
            out.push(line);
        }
    }
    if let Some(moved) = moved {
        out.push(format!("{}{}", moved.prefix, moved.words));
    }
    out.join("\n") + "\n"
}

/// Words that stuck out of a line, and what the next line must begin with.
struct Moved {
    prefix: String,
    words: String,
}

#[derive(Clone, Copy)]
struct Comment<'a> {
    /// Indent, slashes and one space.
    prefix: &'a str,
    words: &'a str,
}

impl<'a> Comment<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let body = line.trim_start();
        let marker = ["/// ", "//! ", "// "].into_iter().find(|marker| body.starts_with(marker))?;
        let (prefix, words) = line.split_at(line.len() - body.len() + marker.len());
        Some(Self { prefix, words })
    }

    fn is_numbered(self) -> bool {
        self.words.split_once(". ").is_some_and(|(number, _)| number.parse::<u8>().is_ok())
    }

    /// Whether this line goes on with the paragraph of the line before.
    fn continues(self) -> bool {
        let first = self.words.chars().next();
        first.is_some_and(|first| first.is_alphanumeric() || "`([\"".contains(first))
            && !self.words.starts_with("```")
            && !self.is_numbered()
    }
}

/// Cuts a wide comment line before the first word that sticks out.
fn cut(line: &str, in_code: bool) -> Option<(String, Moved)> {
    if line.chars().count() <= LINE_WIDTH_MAX || in_code {
        return None;
    }
    let comment = Comment::parse(line)?;
    if comment.words.starts_with('|') {
        return None;
    }
    let bullet = comment.words.starts_with("- ") || comment.words.starts_with("* ");
    let limit = line.char_indices().nth(LINE_WIDTH_MAX + 1).map_or(line.len(), |(at, _)| at);
    let start = comment.prefix.len() + if bullet { 2 } else { 0 };
    let at = start + line.get(start..limit)?.rfind(' ')?;
    let mut prefix = comment.prefix.to_owned();
    let indent = comment.words.len() - comment.words.trim_start().len();
    prefix.push_str(&" ".repeat(indent + if bullet { 2 } else { 0 }));
    Some((line[..at].trim_end().to_owned(), Moved { prefix, words: line[at..].trim().to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn widest(text: &str) -> usize {
        text.lines().map(|line| line.chars().count()).max().unwrap_or(0)
    }

    #[test]
    fn words_that_stick_out_move_to_the_next_line_of_the_paragraph() {
        let text = format!("    /// {} b\n    /// c\n", "a ".repeat(50).trim());
        let wrapped = wrap_comments(&text);
        assert!(widest(&wrapped) <= LINE_WIDTH_MAX);
        assert!(wrapped.lines().count() == 2 && wrapped.ends_with(" b c\n"), "{wrapped}");
    }

    #[test]
    fn a_list_item_keeps_its_indent_and_the_next_item_its_line() {
        let text = format!("/// - {}\n/// - next\n", "word ".repeat(30).trim());
        let wrapped = wrap_comments(&text);
        let lines: Vec<&str> = wrapped.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[1].starts_with("///   word"), "{wrapped}");
        assert_eq!(lines[2], "/// - next");
    }

    #[test]
    fn code_tables_and_narrow_lines_stay() {
        let wide = "x ".repeat(60);
        let text = format!("/// | {wide}|\n/// ```\n/// {wide}\n/// ```\nfn f() {{}}\n// a\n");
        assert_eq!(wrap_comments(&text), text);
    }

    #[test]
    fn very_wide_lines_become_several() {
        let text = format!("//! {}\nfn f() {{}}\n", "word ".repeat(100).trim());
        let wrapped = wrap_comments(&text);
        assert!(widest(&wrapped) <= LINE_WIDTH_MAX);
        assert_eq!(wrapped.matches("word").count(), 100);
        assert!(wrapped.lines().rev().skip(1).all(|line| line.starts_with("//! ")));
    }
}
