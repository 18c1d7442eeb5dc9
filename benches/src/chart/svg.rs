//! The few shapes that charts are made of, as SVG. Pure.
//!
//! Colours are classes: `f-NAME` fills and `l-NAME` draws with the colour of the mirror NAME. The
//! light ones are the default, and a reader who prefers dark pages gets the others.

use std::fmt::Write as _;

/// Colours of a mirror: its name, on light and on dark ground. Tuned and not tuned share a hue.
const COLOURS: [(&str, &str, &str); 6] = [
    ("kmirror", "#d9480f", "#ff8a4c"),
    ("mm1", "#b9c0c7", "#667079"),
    ("mm1-tuned", "#737d87", "#aeb7c0"),
    ("mm2", "#8dbde8", "#3f78ab"),
    ("mm2-tuned", "#1f6fb2", "#7cc0fb"),
    ("franz-go", "#2f8f46", "#62d07c"),
];

/// What the other classes look like, but for their colours.
const SHAPES: &str = "text { font-family: 'DejaVu Sans', Verdana, Helvetica, Arial, sans-serif; }
.title { font-size: 16px; font-weight: bold; }
.panel { font-size: 12px; font-weight: bold; }
.label { font-size: 11px; }
.note { font-size: 10px; }
.value { font-size: 9px; }
.grid { stroke-width: 1; fill: none; }
";

/// A picture that is being drawn.
pub(super) struct Svg {
    text: String,
}

/// Which end of a text stands at its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    /// Its beginning.
    Start,
    /// Its middle.
    Middle,
    /// Its end.
    End,
}

impl Svg {
    /// An empty picture of that width and height, called so by those who cannot see it.
    pub(super) fn new((width, height): (f64, f64), title: &str) -> Self {
        let title = escaped(title);
        let mut svg = Self { text: String::new() };
        svg.put(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"{title}\">\n\
             <title>{title}</title>\n<style>\n{SHAPES}{}\
             @media (prefers-color-scheme: dark) {{\n{}}}\n</style>",
            colours(Theme::Light),
            colours(Theme::Dark)
        ));
        svg.rectangle("ground", (0.0, 0.0), (width, height));
        svg
    }

    /// A text at a point of its base line.
    pub(super) fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let (x, y, text) = (round(x), round(y), escaped(text));
        self.put(format_args!(
            "<text class=\"{class}\" x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }

    /// A rectangle from its upper left corner.
    pub(super) fn rectangle(&mut self, class: &str, (x, y): (f64, f64), size: (f64, f64)) {
        let (x, y, width, height) = (round(x), round(y), round(size.0), round(size.1));
        self.put(format_args!(
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/>"
        ));
    }

    /// A line through all points.
    pub(super) fn line(&mut self, class: &str, points: impl Iterator<Item = (f64, f64)>) {
        let points: Vec<String> =
            points.map(|(x, y)| format!("{},{}", round(x), round(y))).collect();
        let points = points.join(" ");
        self.put(format_args!("<polyline class=\"{class}\" points=\"{points}\"/>"));
    }

    /// A disc.
    pub(super) fn circle(&mut self, class: &str, (x, y): (f64, f64), radius: f64) {
        let (x, y) = (round(x), round(y));
        self.put(format_args!("<circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"{radius}\"/>"));
    }

    /// The whole file.
    pub(super) fn finish(mut self) -> String {
        self.put(format_args!("</svg>"));
        self.text
    }

    fn put(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.text, "{line}").expect("invariant: writing to a string cannot fail");
    }
}

#[derive(Clone, Copy)]
enum Theme {
    Light,
    Dark,
}

fn colours(theme: Theme) -> String {
    let (ground, ink, faint, grid) = match theme {
        Theme::Light => ("#ffffff", "#1f2328", "#59636e", "#d9dee3"),
        Theme::Dark => ("#0d1117", "#f0f6fc", "#9198a1", "#30363d"),
    };
    let mut text = format!(
        ".ground {{ fill: {ground}; }}\ntext {{ fill: {ink}; }}\n.note {{ fill: {faint}; }}\n\
         .grid {{ stroke: {grid}; }}\n"
    );
    for (name, light, dark) in COLOURS {
        let colour = match theme {
            Theme::Light => light,
            Theme::Dark => dark,
        };
        text.push_str(&format!(
            ".f-{name} {{ fill: {colour}; }}\n\
             .l-{name} {{ stroke: {colour}; stroke-width: 2; fill: none; }}\n"
        ));
    }
    text
}

/// A tenth of a pixel is enough.
fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;
    use crate::mirrors::Mirror;

    #[test]
    fn every_mirror_has_a_colour() {
        for mirror in Mirror::value_variants() {
            assert!(COLOURS.iter().any(|(name, _, _)| *name == mirror.name()), "{mirror:?}");
        }
    }
}
