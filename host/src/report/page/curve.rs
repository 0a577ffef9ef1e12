//! Accuracy against ε as a small drawing for the page: one line per network, from the clean accuracy at ε = 0.

use super::{
    chart::{legend, stroke},
    text::escaped,
};
use crate::{engine::rounded, report::summary::Summary};
use std::fmt::Write;

/// The drawing's size, and that of the field inside its margins.
const SIZE: (f64, f64) = (575.0, 290.0);
const FIELD: (f64, f64) = (500.0, 240.0);
const LEFT: f64 = 45.0;
const TOP: f64 = 12.0;

/// The room of a radius.
const LABEL: f64 = 38.0;

/// The drawing, where there are several budgets; ε is to scale.
pub fn curve(summary: &Summary) -> Option<String> {
    if summary.budgets.len() < 2 {
        return None;
    }
    let mut order: Vec<usize> = (0..summary.budgets.len()).collect();
    order.sort_by(|&a, &b| summary.budgets[a].epsilon.total_cmp(&summary.budgets[b].epsilon));
    let largest = summary.budgets[order[order.len() - 1]].epsilon.max(f64::MIN_POSITIVE);
    let at = |epsilon: f64| LEFT + FIELD.0 * epsilon / largest;
    let radii: Vec<f64> =
        std::iter::once(0.0).chain(order.iter().map(|&index| summary.budgets[index].epsilon)).collect();
    let height = |share: f64| TOP + FIELD.1 * (1.0 - share);

    let mut svg = format!(
        "<svg viewBox=\"0 0 {} {}\" width=\"{}\" role=\"img\" aria-label=\"accuracy against ε\" font-size=\"11\" fill=\"currentColor\">\n",
        SIZE.0, SIZE.1, SIZE.0
    );
    for percent in [0, 25, 50, 75, 100] {
        let y = height(f64::from(percent) / 100.0);
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {y:.1}h{}\" stroke=\"#8886\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{percent} %</text>",
            FIELD.0,
            LEFT - 6.0,
            y + 4.0
        );
    }
    // The largest first, and no others where they would run into each other.
    let mut free = f64::INFINITY;
    for &radius in radii.iter().rev() {
        let (x, y) = (at(radius), TOP + FIELD.1 + 18.0);
        if x + LABEL <= free {
            let _ = writeln!(
                svg,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>",
                rounded(radius)
            );
            free = x;
        }
    }
    for (number, row) in summary.rows.iter().enumerate() {
        let robust = order.iter().map(|&index| row.robust[index].as_ref().map(|robust| robust.worst.mean));
        let points: Vec<String> = std::iter::once(Some(row.clean.mean))
            .chain(robust)
            .zip(&radii)
            .filter_map(|(share, &radius)| Some(format!("{:.1},{:.1}", at(radius), height(share?))))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" {} stroke-width=\"2\"><title>{}, {}</title></polyline>",
            points.join(" "),
            stroke(number),
            escaped(&row.label()),
            row.network
        );
    }
    let names: Vec<String> =
        summary.rows.iter().map(|row| format!("{}, {}", row.label(), row.network)).collect();
    let _ = write!(svg, "</svg>\n{}", legend(names.iter().map(String::as_str).enumerate()));
    Some(svg)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::summary::{Robust, Row, Spread};
    use guard_sdk::{Budget, Norm, attack::Knowledge};

    fn summary(epsilons: &[f64], robust: &[f64]) -> Summary {
        Summary {
            dataset: "digits".into(),
            images: 10,
            split: "test",
            attacks: vec!["pgd".into()],
            options: Vec::new(),
            knowledge: Knowledge::WhiteBox,
            budgets: epsilons.iter().map(|&epsilon| Budget { norm: Norm::Linf, epsilon }).collect(),
            rows: vec![Row {
                curvature: None,
                variant: "a < b".into(),
                baseline: true,
                images_per_class: None,
                network: "teacher".into(),
                clean: Spread::of(&[1.0]),
                robust: robust
                    .iter()
                    .map(|&share| Some(Robust { worst: Spread::of(&[share]), attacks: Vec::new() }))
                    .collect(),
                flags: Vec::new(),
            }],
            each_attack: false,
        }
    }

    #[test]
    fn the_line_starts_at_the_clean_accuracy_and_follows_rising_radii() {
        let svg = curve(&summary(&[0.2, 0.1], &[0.0, 0.5])).unwrap();
        let (top, middle, bottom) = (TOP, TOP + FIELD.1 / 2.0, TOP + FIELD.1);
        let (second, third) = (LEFT + FIELD.0 / 2.0, LEFT + FIELD.0);
        let points = format!("{LEFT:.1},{top:.1} {second:.1},{middle:.1} {third:.1},{bottom:.1}");
        assert!(svg.contains(&points), "{points} in {svg}");
        assert!(svg.contains("a &lt; b (baseline)"), "{svg}");
    }

    #[test]
    fn a_single_radius_is_no_curve() {
        assert_eq!(curve(&summary(&[0.1], &[0.5])), None);
    }
}
