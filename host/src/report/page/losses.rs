//! What was measured while networks and images were trained, drawn.

use super::{
    chart::{Curve, chart, legend},
    text::escaped,
};
use crate::run::Line;
use std::fmt::Write;

/// A drawing for each figure of each stage, one line per variant. Of several students the first is shown.
pub fn losses(measurements: &[Line], variants: &[&str]) -> String {
    let mut stages: Vec<&str> = Vec::new();
    for Line { stage, .. } in measurements {
        if is_shown(stage) && !stages.contains(&stage.as_str()) {
            stages.push(stage);
        }
    }
    let mut html = String::new();
    for stage in stages {
        let of_stage: Vec<&Line> = measurements.iter().filter(|each| each.stage == stage).collect();
        let mut names: Vec<&str> = Vec::new();
        for name in of_stage.iter().flat_map(|each| each.metrics.keys()) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        let charts = names.iter().filter_map(|name| chart(name, &lines(&of_stage, name, variants)));
        let charts: String = charts.collect();
        if charts.is_empty() {
            continue;
        }
        let _ = writeln!(html, "<h3>{}</h3>\n<div class=\"charts\">{charts}</div>", escaped(stage));
        let there = variants
            .iter()
            .enumerate()
            .filter(|(_, name)| of_stage.iter().any(|each| each.variant == ***name));
        html.push_str(&legend(there.map(|(number, name)| (number, *name))));
    }
    if html.is_empty() { html } else { format!("<h2>On the way</h2>\n{html}") }
}

/// Whether the stage is drawn: no evaluation, and of students the first of each network.
fn is_shown(stage: &str) -> bool {
    let number = stage.rsplit(' ').next().and_then(|word| word.parse::<u64>().ok());
    !stage.starts_with("evaluate ") && number.is_none_or(|number| number == 1)
}

fn lines<'a>(of_stage: &[&Line], name: &str, variants: &[&'a str]) -> Vec<Curve<'a>> {
    let line = |(number, label): (usize, &&'a str)| {
        let own = of_stage.iter().filter(|each| each.variant == *label);
        let points = own.filter_map(|each| {
            let value = each.metrics.get(name)?.as_f64()?;
            Some((each.iteration as f64, value))
        });
        Curve { number, label, points: points.collect() }
    };
    variants.iter().enumerate().map(line).filter(|line| !line.points.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_students_the_first_is_drawn_and_no_evaluation() {
        let stages = [
            "train",
            "distill",
            "student 1",
            "student 2",
            "resnet18 1",
            "evaluate teacher",
            "evaluate student 1",
        ];
        let shown: Vec<&str> = stages.into_iter().filter(|stage| is_shown(stage)).collect();
        assert_eq!(shown, ["train", "distill", "student 1", "resnet18 1"]);
    }

    #[test]
    fn every_figure_has_a_drawing_with_a_line_per_variant() {
        let measured = |variant: &str, iteration| Line {
            variant: variant.into(),
            stage: "train".into(),
            iteration,
            metrics: serde_json::from_str(r#"{"loss/total":1.5,"loss/curvature":null}"#).unwrap(),
        };
        let html =
            losses(&[measured("a", 0), measured("a", 10), measured("b", 0), measured("b", 10)], &["a", "b"]);
        assert_eq!(html.matches("<svg").count(), 1, "{html}");
        assert_eq!(html.matches("<polyline").count(), 2, "{html}");
        assert!(losses(&[], &["a"]).is_empty());
    }
}
