//! The table on stdout.

use super::summary::{Summary, flags};
use crate::engine::{Correct, Evaluation, accuracy};
use comfy_table::{CellAlignment, Table, presets};
use guard_sdk::{Budget, Norm};
use std::fmt::Write;

/// The figures as text: the threat model first, since no number means anything without it.
pub fn table(summary: &Summary) -> String {
    let mut text = caption(summary);
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(header(summary));
    for row in &summary.rows {
        let mut cells = vec![row.variant.clone(), row.network.clone(), row.clean.to_string()];
        cells.extend(row.robust.iter().map(ToString::to_string));
        table.add_row(cells);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for line in table.to_string().lines() {
        let _ = write!(text, "\n{}", line.trim_end());
    }
    for row in &summary.rows {
        for flag in &row.flags {
            let _ = write!(text, "\nflag: {}, {}: {flag}", row.variant, row.network);
        }
    }
    text + "\n"
}

/// One network's accuracy without attack, under each, and under the worst of them for each image, by ε.
pub fn evaluation_table(dataset: &str, images: usize, evaluations: &[Evaluation]) -> String {
    let budgets: Vec<Budget> = evaluations.iter().filter_map(|each| each.budget).collect();
    let mut text = format!("accuracy in % (and number right) on {images} test images of {dataset}");
    if let Some(first) = budgets.first() {
        let _ = write!(text, "; {} ball of radius ε in pixels [0,1], white-box", norm(first));
    }
    let cell = |correct: &[bool]| {
        let right = correct.iter().filter(|&&correct| correct).count();
        format!("{:.2} ({right})", 100.0 * accuracy(correct))
    };
    let mut table = Table::new();
    let mut header = vec!["attack".to_string()];
    header.extend(budgets.iter().map(|budget| format!("ε = {}", rounded(budget.epsilon))));
    if budgets.is_empty() {
        header.push("accuracy".into());
    }
    table.load_style(presets::ASCII_MARKDOWN).set_header(header);
    let mut row = |name: &str, figure: &dyn Fn(&Evaluation) -> Correct| {
        let cells = evaluations.iter().map(|each| cell(&figure(each)));
        table.add_row(std::iter::once(name.to_string()).chain(cells));
    };
    row("none (clean)", &|each| each.clean.clone());
    for (index, attack) in evaluations[0].attacks.iter().enumerate() {
        row(&attack.name, &|each| each.attacks[index].correct.clone());
    }
    if evaluations[0].attacks.len() > 1 {
        row("worst case", &Evaluation::worst_case);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    text.push('\n');
    for line in table.to_string().lines() {
        let _ = write!(text, "\n{}", line.trim_end());
    }
    for flag in flags(evaluations) {
        let _ = write!(text, "\nflag: {flag}");
    }
    text + "\n"
}

/// Data, threat model and attacks in a sentence.
pub(super) fn caption(summary: &Summary) -> String {
    let Summary { dataset, images, split, attacks, budgets, .. } = summary;
    let mut text = format!("accuracy in % on the {images} {split} images of {dataset}");
    if let Some(first) = budgets.first() {
        let attacks = if attacks.is_empty() { "no attack".to_string() } else { attacks.join(" and ") };
        let _ =
            write!(text, "; robust: {} ball of radius ε in pixels [0,1], white-box, {attacks}", norm(first));
        if attacks.contains(" and ") {
            text.push_str(", worst case per image");
        }
    }
    if summary.rows.iter().any(|row| row.clean.std.is_some()) {
        text.push_str("; ± standard deviation over students");
    }
    text.push('\n');
    text
}

pub(super) fn header(summary: &Summary) -> Vec<String> {
    let mut header = vec!["variant".to_string(), "network".into(), "clean".into()];
    header.extend(summary.budgets.iter().map(|budget| format!("ε = {}", rounded(budget.epsilon))));
    header
}

fn norm(budget: &Budget) -> &'static str {
    match budget.norm {
        Norm::Linf => "linf",
        Norm::L2 => "l2",
    }
}

/// Four decimals at most.
fn rounded(epsilon: f64) -> String {
    let text = format!("{epsilon:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}
