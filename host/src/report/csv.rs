//! Tables as CSV.

use super::summary::{Row, Spread, Summary};
use guard_sdk::{Budget, Error, Result};

/// A table with its header, quoted where it must be.
///
/// # Errors
/// If it cannot be made.
pub fn csv_table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> Result<String> {
    let refused = |error: &dyn std::fmt::Display| Error::new(format!("the CSV cannot be made: {error}"));
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record(header).map_err(|error| refused(&error))?;
    for row in rows {
        table.write_record(row).map_err(|error| refused(&error))?;
    }
    let bytes = table.into_inner().map_err(|error| refused(&error))?;
    String::from_utf8(bytes).map_err(|error| refused(&error))
}

const COLUMNS: [&str; 14] = [
    "dataset",
    "split",
    "images",
    "variant",
    "baseline",
    "images_per_class",
    "network",
    "norm",
    "epsilon",
    "attack",
    "options",
    "mean",
    "std",
    "flags",
];

/// Every figure on a line of its own, as fractions: the clean accuracy, the worst case within each budget, and each attack.
///
/// # Errors
/// If it cannot be made.
pub fn csv(groups: &[Summary]) -> Result<String> {
    let rows = groups.iter().flat_map(|group| group.rows.iter().flat_map(move |row| lines(group, row)));
    csv_table(COLUMNS, rows)
}

/// The lines of a network.
fn lines(group: &Summary, row: &Row) -> Vec<[String; 14]> {
    let or_empty = |value: Option<String>| value.unwrap_or_default();
    let line = |budget: Option<&Budget>, attack: &str, options: &str, figure: &Spread| {
        [
            group.dataset.clone(),
            group.split.to_string(),
            group.images.to_string(),
            row.variant.clone(),
            row.baseline.to_string(),
            or_empty(row.images_per_class.map(|size| size.to_string())),
            row.network.clone(),
            or_empty(budget.map(|budget| budget.norm.name().to_string())),
            or_empty(budget.map(|budget| budget.epsilon.to_string())),
            attack.to_string(),
            options.to_string(),
            figure.mean.to_string(),
            or_empty(figure.std.map(|std| std.to_string())),
            // They are about robust figures.
            or_empty(budget.map(|_| row.codes().join(" "))),
        ]
    };
    let mut lines = vec![line(None, "none", "", &row.clean)];
    lines.extend(row.curvature.as_ref().map(|curvature| line(None, "none: curvature", "", curvature)));
    for (budget, robust) in group.budgets.iter().zip(&row.robust) {
        let Some(robust) = robust else { continue };
        lines.push(line(Some(budget), "worst case", "", &robust.worst));
        for (place, (attack, figure)) in group.attacks.iter().zip(&robust.attacks).enumerate() {
            let options = group.options.get(place).map_or("", String::as_str);
            lines.push(line(Some(budget), attack, options, figure));
        }
    }
    lines
}
