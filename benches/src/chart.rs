//! Charts as SVG: bars in groups, or lines along an axis, in panels under each other. Pure.
//!
//! A chart is a picture of its own, readable on a light and on a dark page: it brings its own
//! background, and its colours follow what the reader prefers.

mod axis;
mod svg;

use self::{
    axis::Axis,
    svg::{Anchor, Svg},
};

/// A chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// On what it was measured, a line or two.
    pub subtitles: Vec<String>,
    /// The names of what is compared, each with the class of its colour (see `svg`).
    pub series: Vec<&'static str>,
    /// Where values stand: names of groups of bars, or positions of points.
    pub positions: Positions,
    /// The figures.
    pub panels: Vec<Panel>,
}

/// Where values stand.
#[derive(Clone, Debug, PartialEq)]
pub enum Positions {
    /// Groups of bars, one after the other.
    Groups(Vec<String>),
    /// Points on a logarithmic axis with a name; all are above 0.
    Axis(String, Vec<f64>),
}

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// The figure with its unit, and which way is better.
    pub title: String,
    /// For each position the value of each series, if there is one.
    pub values: Vec<Vec<Option<f64>>>,
}

impl Chart {
    /// The picture.
    #[must_use]
    pub fn svg(&self) -> String {
        let head = TITLE + LINE * self.subtitles.len() as f64 + LEGEND;
        let height = head + PANEL * self.panels.len() as f64 + FOOT;
        let mut svg = Svg::new((WIDTH, height), &self.title);
        svg.text("title", (LEFT_TITLE, 26.0), Anchor::Start, &self.title);
        for (subtitle, row) in self.subtitles.iter().zip(0_u8..) {
            let y = TITLE + LINE * f64::from(row) + 8.0;
            svg.text("note", (LEFT_TITLE, y), Anchor::Start, subtitle);
        }
        self.legend(&mut svg, head - LEGEND / 2.0);
        for (panel, row) in self.panels.iter().zip(0_u8..) {
            let top = head + PANEL * f64::from(row);
            let axis = Axis::up_to(panel.values.iter().flatten().flatten().copied());
            let plot = Plot { top: top + PANEL_TITLE, bottom: top + PANEL - PANEL_LABELS, axis };
            svg.text("panel", (LEFT_TITLE, top + 12.0), Anchor::Start, &panel.title);
            plot.grid(&mut svg);
            match &self.positions {
                Positions::Groups(names) => self.bars(&mut svg, &plot, (names, &panel.values)),
                Positions::Axis(name, xs) => {
                    self.lines(&mut svg, &plot, (xs, &panel.values));
                    let below = (f64::midpoint(LEFT, RIGHT), plot.bottom + 30.0);
                    svg.text("note", below, Anchor::Middle, name);
                }
            }
        }
        svg.finish()
    }

    fn legend(&self, svg: &mut Svg, y: f64) {
        let mut x = LEFT_TITLE;
        for name in &self.series {
            svg.rectangle(&format!("f-{name}"), (x, y - 9.0), (10.0, 10.0));
            svg.text("label", (x + 15.0, y), Anchor::Start, name);
            x += 15.0 + LETTER * name.len() as f64 + 18.0;
        }
    }

    fn bars(&self, svg: &mut Svg, plot: &Plot, (names, values): (&[String], &[Vec<Option<f64>>])) {
        let group = (RIGHT - LEFT) / names.len().max(1) as f64;
        let bar = (group * 0.84 / self.series.len().max(1) as f64).min(BAR_MAX);
        let mut middle = LEFT + group / 2.0;
        for (name, values) in names.iter().zip(values) {
            svg.text("label", (middle, plot.bottom + 16.0), Anchor::Middle, name);
            let mut x = middle - bar * self.series.len() as f64 / 2.0;
            for (name, value) in self.series.iter().zip(values) {
                let centre = x + bar / 2.0;
                match value {
                    Some(value) => {
                        let y = plot.y(*value);
                        let size = (bar - 2.0, plot.bottom - y);
                        svg.rectangle(&format!("f-{name}"), (x + 1.0, y), size);
                        svg.text("value", (centre, y - 3.0), Anchor::Middle, &short(*value));
                    }
                    None => svg.text("value", (centre, plot.bottom - 3.0), Anchor::Middle, "-"),
                }
                x += bar;
            }
            middle += group;
        }
    }

    fn lines(&self, svg: &mut Svg, plot: &Plot, (xs, values): (&[f64], &[Vec<Option<f64>>])) {
        let at = positions(xs);
        for (x, position) in xs.iter().zip(&at) {
            svg.text("label", (*position, plot.bottom + 16.0), Anchor::Middle, &count(*x));
        }
        let mut ends = Vec::new();
        for (index, name) in self.series.iter().enumerate() {
            let value = |values: &Vec<Option<f64>>| values.get(index).copied().flatten();
            let points: Vec<(f64, f64, f64)> = at
                .iter()
                .zip(values)
                .filter_map(|(x, values)| value(values).map(|one| (*x, plot.y(one), one)))
                .collect();
            svg.line(&format!("l-{name}"), points.iter().map(|(x, y, _)| (*x, *y)));
            for (x, y, _) in &points {
                svg.circle(&format!("f-{name}"), (*x, *y), 3.5);
            }
            if let Some((x, y, value)) = points.last() {
                ends.push((*y, *x + 8.0, short(*value)));
            }
        }
        for (y, x, text) in apart(ends) {
            svg.text("value", (x, y + 3.0), Anchor::Start, &text);
        }
    }
}

/// Where a panel's values are drawn.
struct Plot {
    top: f64,
    bottom: f64,
    axis: Axis,
}

impl Plot {
    fn y(&self, value: f64) -> f64 {
        self.bottom - (self.bottom - self.top) * (value / self.axis.end).clamp(0.0, 1.0)
    }

    fn grid(&self, svg: &mut Svg) {
        for tick in self.axis.ticks() {
            let y = self.y(tick);
            svg.line("grid", [(LEFT, y), (RIGHT, y)].into_iter());
            svg.text("note", (LEFT - 6.0, y + 3.5), Anchor::End, &short(tick));
        }
    }
}

/// Positions between the edges whose distances are as the logarithms'.
fn positions(xs: &[f64]) -> Vec<f64> {
    let logarithm = |x: f64| x.max(f64::MIN_POSITIVE).ln();
    let least = xs.iter().copied().map(logarithm).fold(f64::INFINITY, f64::min);
    let most = xs.iter().copied().map(logarithm).fold(f64::NEG_INFINITY, f64::max);
    let (from, to) = (LEFT + 40.0, RIGHT - 60.0);
    let of = |x: f64| match most - least {
        span if span > 0.0 => from + (to - from) * (logarithm(x) - least) / span,
        _ => f64::midpoint(from, to),
    };
    xs.iter().map(|x| of(*x)).collect()
}

/// The same labels, moved down where two would lie on each other.
fn apart(mut labels: Vec<(f64, f64, String)>) -> Vec<(f64, f64, String)> {
    labels.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut free = f64::NEG_INFINITY;
    for (y, _, _) in &mut labels {
        *y = y.max(free);
        free = *y + LABEL_HEIGHT;
    }
    labels
}

/// A value with two or three digits that mean something.
fn short(value: f64) -> String {
    match value {
        _ if value == 0.0 => "0".to_owned(),
        _ if value.abs() < 1.0 => format!("{value:.2}"),
        _ if value.abs() < 10.0 && value.fract() != 0.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// A whole number with `k` and `M` for thousands and millions.
fn count(value: f64) -> String {
    match value {
        _ if value >= 1e6 => format!("{}M", value / 1e6),
        _ if value >= 1e4 => format!("{}k", value / 1e3),
        _ => format!("{value}"),
    }
}

const WIDTH: f64 = 880.0;
const LEFT_TITLE: f64 = 16.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = WIDTH - 16.0;
const TITLE: f64 = 36.0;
const LINE: f64 = 15.0;
const LEGEND: f64 = 32.0;
const PANEL: f64 = 226.0;
const PANEL_TITLE: f64 = 34.0;
const PANEL_LABELS: f64 = 44.0;
const FOOT: f64 = 4.0;
const BAR_MAX: f64 = 40.0;
/// About the width of a letter of a label.
const LETTER: f64 = 6.8;
const LABEL_HEIGHT: f64 = 11.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(positions: Positions) -> Chart {
        let values = vec![vec![Some(250.0), Some(80.0)], vec![Some(900.0), None]];
        Chart {
            title: "1 KiB & more".to_owned(),
            subtitles: vec!["a machine <2 cores>".to_owned()],
            series: vec!["kmirror", "mm2"],
            positions,
            panels: vec![Panel { title: "MB/s".to_owned(), values }],
        }
    }

    #[test]
    fn a_bar_is_as_high_as_its_value() {
        let svg = chart(Positions::Groups(vec!["none".to_owned(), "zstd".to_owned()])).svg();
        let heights: Vec<f64> = svg
            .lines()
            .filter(|line| line.contains("class=\"f-kmirror\"") && !line.contains("height=\"10\""))
            .filter_map(|line| line.split("height=\"").nth(1)?.split('"').next()?.parse().ok())
            .collect();
        assert_eq!(heights.len(), 2, "{svg}");
        assert!((heights[1] / heights[0] - 900.0 / 250.0).abs() < 0.01, "{heights:?}");
    }

    #[test]
    fn what_was_not_measured_has_no_bar() {
        let svg = chart(Positions::Groups(vec!["none".to_owned(), "zstd".to_owned()])).svg();
        // One bar, and one square in the legend.
        assert_eq!(svg.matches("<rect class=\"f-mm2\"").count(), 2, "{svg}");
        assert!(svg.contains(">-</text>"));
    }

    #[test]
    fn text_is_escaped() {
        let svg = chart(Positions::Axis("records".to_owned(), vec![1.0, 10.0])).svg();
        assert!(svg.contains("1 KiB &amp; more") && svg.contains("&lt;2 cores&gt;"), "{svg}");
    }

    #[test]
    fn ten_times_as_much_is_one_step_on_the_axis() {
        let at = positions(&[8.0, 80.0, 800.0]);
        assert!((at[2] - at[1] - (at[1] - at[0])).abs() < 1e-9, "{at:?}");
        assert_eq!(positions(&[5.0]).len(), 1);
    }

    #[test]
    fn labels_do_not_lie_on_each_other() {
        let label = |y| (y, 0.0, String::new());
        let ys: Vec<f64> =
            apart(vec![label(12.0), label(10.0), label(50.0)]).iter().map(|one| one.0).collect();
        assert_eq!(ys, [10.0, 21.0, 50.0]);
    }

    #[test]
    fn numbers_are_short() {
        let values = [0.0, 0.51, 1.6, 17.8, 1035.2];
        assert_eq!(values.map(short), ["0", "0.51", "1.6", "18", "1035"]);
        assert_eq!([8.0, 800.0, 400_000.0, 4e6].map(count), ["8", "800", "400k", "4M"]);
    }
}
