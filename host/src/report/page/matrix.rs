//! Squares of shares, class by class, as heat maps: confusions and soft labels.

use super::{pictures::picture, text::escaped};
use crate::run::encode_png;
use guard_sdk::{Kind, Result, Tensor};
use std::fmt::Write;

/// Up to so many classes have their names and figures beside them.
const NAMED: usize = 20;

/// The side of a cell, and about that of a letter.
const CELL: f64 = 26.0;
const LETTER: f64 = 6.2;

/// Rows add up to 1. Rows and columns are the classes in order.
pub fn matrix(title: &str, classes: &[String], rows: &[Vec<f64>]) -> Result<String> {
    let title = escaped(title);
    if classes.len() > NAMED {
        let shares: Vec<f64> = rows.iter().flatten().copied().collect();
        let side = classes.len() as i64;
        let shades = Tensor::f_from_slice(&shares)?.f_reshape([1, side, side])? * -255.0 + 255.0;
        let map = picture(&encode_png(&shades.round().to_kind(Kind::Uint8))?, "map", &title);
        return Ok(format!("<figure>{map}<figcaption>{title}; dark is 1</figcaption></figure>\n"));
    }
    let longest = classes.iter().map(|class| shortened(class).chars().count()).max().unwrap_or(0);
    let names = 12.0 + LETTER * longest as f64;
    let width = names + CELL * classes.len() as f64 + 2.0;
    let mut svg = format!(
        "<figure><svg viewBox=\"0 0 {width} {width}\" width=\"{width}\" role=\"img\" aria-label=\"{title}\" font-size=\"10\" fill=\"currentColor\">\n"
    );
    for (place, class) in classes.iter().enumerate() {
        let (at, name) = (names + CELL * (place as f64 + 0.5), escaped(&shortened(class)));
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text><text transform=\"translate({:.1} {}) rotate(-60)\">{name}</text>",
            names - 6.0,
            at + 4.0,
            at + 2.0,
            names - 6.0
        );
    }
    for (row, shares) in rows.iter().enumerate() {
        for (column, &share) in shares.iter().enumerate() {
            let (x, y) = (names + CELL * column as f64, names + CELL * row as f64);
            let _ = write!(
                svg,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{CELL}\" height=\"{CELL}\" fill=\"#0072b2\" fill-opacity=\"{share:.3}\" stroke=\"#8884\"/>"
            );
            if share >= 0.005 {
                let light = if share > 0.5 { " fill=\"#fff\"" } else { "" };
                let _ = write!(
                    svg,
                    "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\"{light}>{:.0}</text>",
                    x + CELL / 2.0,
                    y + CELL / 2.0 + 4.0,
                    100.0 * share
                );
            }
        }
        svg.push('\n');
    }
    Ok(format!("{svg}</svg><figcaption>{title}, in %</figcaption></figure>\n"))
}

fn shortened(class: &str) -> String {
    match class.chars().count() {
        0..=14 => class.to_string(),
        _ => class.chars().take(13).chain(['…']).collect(),
    }
}

/// Of the examples of each class, the share that is taken for each class; a class without examples has none.
pub fn confusion<'a>(classes: usize, judged: impl Iterator<Item = (&'a [i64], Vec<i64>)>) -> Vec<Vec<f64>> {
    let mut counts = vec![vec![0.0; classes]; classes];
    for (labels, predicted) in judged {
        for (&label, predicted) in labels.iter().zip(predicted) {
            counts[label as usize][predicted as usize] += 1.0;
        }
    }
    for row in &mut counts {
        let all: f64 = row.iter().sum();
        row.iter_mut().for_each(|count| *count /= all.max(1.0));
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confusions_are_shares_of_each_class_over_all_networks() {
        let labels = [0, 0, 1];
        let judged = [(&labels[..], vec![0, 1, 1]), (&labels[..], vec![0, 0, 1])];
        let rows = confusion(3, judged.into_iter());
        assert_eq!(rows, [vec![0.75, 0.25, 0.0], vec![0.0, 1.0, 0.0], vec![0.0, 0.0, 0.0]]);
    }

    #[test]
    fn few_classes_have_names_and_figures_and_many_are_a_picture() {
        let square = |side: usize| {
            (0..side)
                .map(|row| (0..side).map(|column| f64::from(u8::from(row == column))).collect())
                .collect::<Vec<Vec<f64>>>()
        };
        let names = |side: usize| (0..side).map(|class| format!("class <{class}>")).collect::<Vec<_>>();
        let small = matrix("x", &names(3), &square(3)).unwrap();
        assert!(small.contains("class &lt;2&gt;") && small.matches(">100</text>").count() == 3, "{small}");
        let large = matrix("x", &names(100), &square(100)).unwrap();
        assert!(large.contains("data:image/png;base64,") && large.len() < 5000, "{large}");
    }
}
