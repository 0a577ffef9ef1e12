//! A small drawing of figures over iterations, one line per variant.

use super::text::escaped;
use std::fmt::Write;

/// Lines told apart by colour, and where there are many by dashes.
pub const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"];

/// The drawing's size, and that of the field inside its margins.
const SIZE: (f64, f64) = (330.0, 190.0);
const FIELD: (f64, f64) = (250.0, 130.0);
const LEFT: f64 = 66.0;
const TOP: f64 = 26.0;

/// More points than these cannot be told apart.
const POINTS: usize = 250;

/// A curve: its number, which its colour goes by, what it is of, and its points.
pub struct Curve<'a> {
    pub number: usize,
    pub label: &'a str,
    pub points: Vec<(f64, f64)>,
}

/// How the line `number` is drawn.
pub fn stroke(number: usize) -> String {
    let dashes = match number / COLOURS.len() * 3 {
        0 => "none".to_string(),
        length => length.to_string(),
    };
    format!("fill=\"none\" stroke=\"{}\" stroke-dasharray=\"{dashes}\"", COLOURS[number % COLOURS.len()])
}

/// What the lines are of, as text.
pub fn legend<'a>(labels: impl Iterator<Item = (usize, &'a str)>) -> String {
    let entries = labels.map(|(number, label)| {
        let line = if number < COLOURS.len() { "━━" } else { "╍╍" };
        let colour = COLOURS[number % COLOURS.len()];
        format!("<span style=\"color:{colour}\">{line}</span> {} &nbsp; ", escaped(label))
    });
    format!("<p>{}</p>\n", entries.collect::<String>())
}

/// The drawing; nothing where no line has two points.
pub fn chart(title: &str, lines: &[Curve]) -> Option<String> {
    let all = || lines.iter().filter(|line| line.points.len() > 1).flat_map(|line| &line.points);
    let over = |values: &mut dyn Iterator<Item = f64>| {
        values
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
    };
    let (first, last) = over(&mut all().map(|point| point.0));
    let (low, high) = over(&mut all().map(|point| point.1));
    if !(first < last && low.is_finite() && high.is_finite()) {
        return None;
    }
    let span = if high > low { high - low } else { 1.0 };
    let x = |at: f64| LEFT + FIELD.0 * (at - first) / (last - first);
    let y = |value: f64| TOP + FIELD.1 * (1.0 - (value - low) / span);
    let title = escaped(title);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {} {}\" width=\"{}\" role=\"img\" aria-label=\"{title}\" font-size=\"11\" fill=\"currentColor\">\n\
         <text x=\"{LEFT}\" y=\"14\" font-weight=\"bold\">{title}</text>\n",
        SIZE.0, SIZE.1, SIZE.0
    );
    for value in if high > low { vec![low, high] } else { vec![low] } {
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {at:.1}h{}\" stroke=\"#8886\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            FIELD.0,
            LEFT - 6.0,
            y(value) + 4.0,
            short(value),
            at = y(value)
        );
    }
    for (at, anchor) in [(first, "start"), (last, "end")] {
        let (x, y) = (x(at), TOP + FIELD.1 + 18.0);
        let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{at}</text>");
    }
    for Curve { number, label, points } in lines {
        let step = points.len().div_ceil(POINTS).max(1);
        let shown =
            points.iter().enumerate().filter(|(place, _)| place % step == 0 || place + 1 == points.len());
        let points: Vec<String> =
            shown.map(|(_, point)| format!("{:.1},{:.1}", x(point.0), y(point.1))).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" {} stroke-width=\"1.5\"><title>{}</title></polyline>",
            points.join(" "),
            stroke(*number),
            escaped(label)
        );
    }
    Some(svg + "</svg>\n")
}

/// Three digits that matter.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if !(1e-3..1e5).contains(&size) => format!("{value:.2e}"),
        size => format!("{value:.*}", (2 - size.log10().floor() as i64).clamp(0, 6) as usize),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_fill_the_field() {
        let line = Curve { number: 0, label: "a < b", points: vec![(0.0, 1.0), (10.0, 3.0), (20.0, 2.0)] };
        let svg = chart("loss", &[line]).unwrap();
        let (left, middle, right) = (LEFT, LEFT + FIELD.0 / 2.0, LEFT + FIELD.0);
        let (top, centre, bottom) = (TOP, TOP + FIELD.1 / 2.0, TOP + FIELD.1);
        let points = format!("{left:.1},{bottom:.1} {middle:.1},{top:.1} {right:.1},{centre:.1}");
        assert!(svg.contains(&points) && svg.contains("a &lt; b"), "{points} in {svg}");
    }

    #[test]
    fn a_single_point_is_no_chart_and_many_are_thinned() {
        assert_eq!(chart("loss", &[Curve { number: 0, label: "", points: vec![(0.0, 1.0)] }]), None);
        let points = (0..10_000).map(|at| (f64::from(at), 1.0)).collect();
        let svg = chart("loss", &[Curve { number: 0, label: "", points }]).unwrap();
        assert!(svg.len() < 20 * POINTS, "{}", svg.len());
        assert!(svg.contains(&format!("{:.1},", LEFT + FIELD.0)), "the last one is missing");
    }

    #[test]
    fn numbers_are_short() {
        let values = [0.0, 2.345678, 0.012345, 123456.0, -45.678, 1e-7];
        assert_eq!(values.map(short), ["0", "2.35", "0.0123", "1.23e5", "-45.7", "1.00e-7"]);
    }
}
