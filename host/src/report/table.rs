//! The table on stdout.

use super::summary::{Robust, Row, Spread, Summary};
use crate::engine::{Evaluation, Flag, UnderThreat, accuracy, count, rounded};
use comfy_table::{CellAlignment, Table, presets};
use guard_sdk::attack::Knowledge;
use std::fmt::Write;

/// The figures as text: the threat model first, since no number means anything without it.
pub fn table(summary: &Summary) -> String {
    let mut text = caption(summary);
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(header(summary));
    for row in &summary.rows {
        table.add_row(cells(summary, row));
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for line in table.to_string().lines() {
        let _ = write!(text, "\n{}", line.trim_end());
    }
    for (Flag { code, message }, who) in summary.flags() {
        let _ = write!(text, "\nflag {code}: {who}: {message}");
    }
    text + "\n"
}

/// One network's accuracy without attack, under each, and under the worst of them for each image, by ε.
pub fn evaluation_table(dataset: &str, images: usize, evaluation: &Evaluation) -> String {
    let mut text = format!("accuracy in % (and number right) on {images} test images of {dataset}");
    let threats = &evaluation.threats;
    if let Some(first) = threats.first() {
        let _ = write!(
            text,
            "; {} ball of radius ε in pixels [0,1], {}",
            first.budget.norm.name(),
            seen(first.knowledge())
        );
    }
    let cell = |correct: &[bool]| format!("{:.2} ({})", 100.0 * accuracy(correct), count(correct));
    let mut table = Table::new();
    let mut header = vec!["attack".to_string()];
    header.extend(threats.iter().map(|threat| format!("ε = {}", rounded(threat.budget.epsilon))));
    if threats.is_empty() {
        header.push("accuracy".into());
    }
    let columns = header.len() - 1;
    table.load_style(presets::ASCII_MARKDOWN).set_header(header);
    let mut row = |name: &str, cells: Vec<String>| {
        table.add_row(std::iter::once(name.to_string()).chain(cells));
    };
    row("none (clean)", vec![cell(&evaluation.clean); columns]);
    let attacks = threats.first().map_or(&[][..], |threat| &threat.attacks);
    for (index, attack) in attacks.iter().enumerate() {
        row(&attack.name, threats.iter().map(|threat| cell(&threat.attacks[index].correct)).collect());
        for (place, member) in attack.members.iter().enumerate() {
            let left = |threat: &UnderThreat| {
                let right = threat.attacks[index].members.get(place).map_or(0, |member| member.correct);
                format!("{:.2} ({right})", 100.0 * right as f64 / images.max(1) as f64)
            };
            row(&format!("… after {}", member.name), threats.iter().map(left).collect());
        }
    }
    if attacks.len() > 1 {
        row("worst case", threats.iter().map(|threat| cell(&evaluation.worst_case(threat))).collect());
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    text.push('\n');
    for line in table.to_string().lines() {
        let _ = write!(text, "\n{}", line.trim_end());
    }
    for flag in &evaluation.flags {
        let _ = write!(text, "\nflag {}: {}", flag.code, flag.message);
    }
    text + "\n"
}

/// The column of accuracies without attack.
pub(super) const CLEAN: &str = "clean";

/// What was not measured.
pub(super) const NONE: &str = "–";

/// Data, threat model and attacks in a sentence.
pub(super) fn caption(summary: &Summary) -> String {
    let Summary { dataset, images, split, options, knowledge, budgets, .. } = summary;
    let attacks: Vec<String> = (summary.attacks.iter().enumerate())
        .map(|(place, attack)| match options.get(place).map_or("", String::as_str) {
            "" => attack.clone(),
            options => format!("{attack} ({options})"),
        })
        .collect();
    let mut text = format!("accuracy in % on the {images} {split} images of {dataset}");
    if let Some(first) = budgets.first() {
        let attacks = if attacks.is_empty() { "no attack".to_string() } else { attacks.join(" and ") };
        let _ = write!(
            text,
            "; robust: {} ball of radius ε in pixels [0,1], {}, {attacks}",
            first.norm.name(),
            seen(*knowledge)
        );
        if attacks.contains(" and ") {
            text.push_str(", worst case per image");
        }
    }
    if summary.rows.iter().any(|row| row.curvature.is_some()) {
        text.push_str(
            "; curvature: largest eigenvalue of the loss's Hessian along the input, mean over images",
        );
    }
    if summary.rows.iter().any(|row| row.clean.std.is_some()) {
        text.push_str("; ± standard deviation over students");
    }
    text.push('\n');
    text
}

pub(super) fn header(summary: &Summary) -> Vec<String> {
    let mut header = vec!["variant".to_string(), "network".into()];
    if sizes_differ(summary) {
        header.push("images per class".into());
    }
    header.push(CLEAN.into());
    for budget in &summary.budgets {
        let epsilon = format!("ε = {}", rounded(budget.epsilon));
        if summary.each_attack {
            header.extend(summary.attacks.iter().map(|attack| format!("{epsilon}, {attack}")));
            header.push(format!("{epsilon}, worst case"));
        } else {
            header.push(epsilon);
        }
    }
    if summary.rows.iter().any(|row| row.curvature.is_some()) {
        header.push("curvature".into());
    }
    header
}

/// Whether students are trained on sets of several sizes.
fn sizes_differ(summary: &Summary) -> bool {
    let mut sizes = summary.rows.iter().filter_map(|row| row.images_per_class);
    sizes.next().is_some_and(|first| sizes.any(|size| size != first))
}

/// The figures of a row, under [`header`].
pub(super) fn cells(summary: &Summary, row: &Row) -> Vec<String> {
    let mut cells = vec![row.label(), row.network.clone()];
    if sizes_differ(summary) {
        cells.push(row.images_per_class.map_or_else(|| NONE.into(), |size| size.to_string()));
    }
    cells.push(row.clean.to_string());
    for robust in &row.robust {
        let told = |figure: &dyn Fn(&Robust) -> Spread| {
            robust.as_ref().map_or_else(|| NONE.into(), |robust| figure(robust).to_string())
        };
        if summary.each_attack {
            cells.extend((0..summary.attacks.len()).map(|attack| told(&|robust| robust.attacks[attack])));
        }
        cells.push(told(&|robust| robust.worst));
    }
    cells.extend(row.curvature.map(|Spread { mean, std }| match std {
        Some(std) => format!("{mean:.2} ± {std:.2}"),
        None => format!("{mean:.2}"),
    }));
    cells
}

fn seen(knowledge: Knowledge) -> &'static str {
    match knowledge {
        Knowledge::WhiteBox => "white-box",
        Knowledge::BlackBox => "black-box",
    }
}
