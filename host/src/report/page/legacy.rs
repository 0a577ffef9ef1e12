//! Figures of other papers, folded away, with what is wrong with them.

use super::text::escaped;
use crate::{
    engine::rounded,
    report::legacy::{CAVEATS, Legacy},
};
use std::fmt::Write;

/// Nothing where there are none.
pub fn legacy_figures(legacy: &Legacy) -> String {
    let mut html = String::new();
    if legacy.rows.is_empty() && legacy.rankings.is_empty() {
        return html;
    }
    html.push_str(
        "<details class=\"legacy\"><summary>Figures of other papers, for comparison with those papers only</summary>\n",
    );
    let cell = |figure: Option<f64>, decimals: usize| {
        figure.map_or_else(|| "–".to_string(), |figure| format!("{figure:.decimals$}"))
    };
    if !legacy.rows.is_empty() {
        html.push_str("<div class=\"wide\"><table><tr><th>variant</th><th>network</th>");
        for column in ["ε", "rr", "ae", "crei", "relative_drop"] {
            let _ = write!(html, "<th class=\"number\">{column}</th>");
        }
        html.push_str("</tr>\n");
    }
    for row in &legacy.rows {
        let [rr, ae, crei, drop] = row.figures;
        let _ = write!(html, "<tr><td>{}</td><td>{}</td>", escaped(&row.variant), row.network);
        let figures = [cell(rr, 1), cell(ae, 1), cell(crei, 1), cell(drop, 3)];
        for figure in std::iter::once(rounded(row.budget.epsilon)).chain(figures) {
            let _ = write!(html, "<td class=\"number\">{figure}</td>");
        }
        html.push_str("</tr>\n");
    }
    if !legacy.rows.is_empty() {
        html.push_str("</table></div>\n");
    }
    for ranking in &legacy.rankings {
        let (lrs, ars) = (cell(ranking.label_robust, 3), cell(ranking.augmentation_robust, 3));
        let _ = writeln!(html, "<p>{}: lrs {lrs}, ars {ars}</p>", escaped(&ranking.variant));
    }
    html.push_str("<p>What is wrong with them:</p>\n<ul>\n");
    for (name, caveat) in CAVEATS {
        let _ = writeln!(html, "<li><code>{name}</code>: {}</li>", escaped(caveat));
    }
    html + "</ul></details>\n"
}
