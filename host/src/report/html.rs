//! `report.html`: the table with its flags, the curve, figures of other papers, the distilled images and the plugins on one
//! page that needs nothing from outside the run directory.

use super::{
    curve::curve,
    legacy::{CAVEATS, Legacy},
    summary::Summary,
    table::{caption, cells, header},
};
use crate::{
    data::Skipped,
    engine::{Flag, rounded},
    plan::Plan,
};
use std::fmt::Write;

const STYLE: &str = ":root{color-scheme:light dark}\
body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}\
.wide{overflow-x:auto}table{border-collapse:collapse;margin:1rem 0}\
th,td{padding:.3rem .7rem;border-bottom:1px solid #8886;text-align:left}\
.number,td:nth-child(2){white-space:nowrap}.number{text-align:right;font-variant-numeric:tabular-nums}svg{max-width:100%;height:auto}\
figure{display:inline-block;margin:0 1.5rem 1rem 0}img{max-width:min(26rem,100%);image-rendering:pixelated}\
code{font-size:.85em;overflow-wrap:anywhere}";

/// The page. `skipped` are the files of the data set that were left out; `sheets` the contact sheets: a variant's name and the
/// path from the run directory.
pub fn page(
    plan: &Plan,
    summary: &Summary,
    legacy: &Legacy,
    skipped: &[Skipped],
    sheets: &[(String, String)],
) -> String {
    let mut html = String::new();
    let name = escaped(&plan.name);
    let _ = write!(
        html,
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{name}</title><style>{STYLE}</style>\n\
         <h1>{name}</h1>\n<p>{}</p>\n<div class=\"wide\"><table><tr>",
        escaped(caption(summary).trim_end())
    );
    for (index, column) in header(summary).iter().enumerate() {
        let _ = write!(html, "<th{}>{}</th>", class(index), escaped(column));
    }
    html.push_str("</tr>\n");
    for row in &summary.rows {
        let cells = cells(row);
        html.push_str("<tr>");
        for (index, cell) in cells.iter().enumerate() {
            let _ = write!(html, "<td{}>{}</td>", class(index), escaped(cell));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</table></div>\n");
    let flags = summary.flags();
    if !flags.is_empty() {
        html.push_str("<h2>What makes these numbers doubtful</h2>\n<ul>\n");
        for (Flag { code, message }, who) in flags {
            let (message, who) = (escaped(message), escaped(&who));
            let _ = writeln!(html, "<li><strong>Flag</strong> <code>{code}</code> ({who}): {message}</li>");
        }
        html.push_str("</ul>\n");
    }
    if !summary.budgets.is_empty() && summary.rows.iter().all(|row| !row.baseline) {
        html.push_str(NO_BASELINE);
    }
    if let Some(curve) = curve(summary) {
        let _ = write!(html, "<h2>Accuracy against ε</h2>\n{curve}");
    }
    push_legacy(&mut html, legacy);
    if !skipped.is_empty() {
        html.push_str("<h2>Left out of the data</h2>\n<ul>\n");
        for Skipped { file, why } in skipped {
            let _ = writeln!(html, "<li><code>{}</code> {}</li>", escaped(file), escaped(why));
        }
        html.push_str("</ul>\n");
    }
    if !sheets.is_empty() {
        html.push_str("<h2>Distilled images</h2>\n");
    }
    for (variant, path) in sheets {
        let (variant, path) = (escaped(variant), escaped(path));
        let _ = writeln!(
            html,
            "<figure><img src=\"{path}\" alt=\"distilled images of {variant}\"><figcaption>{variant}, one row per class</figcaption></figure>"
        );
    }
    html.push_str("<h2>Plugins</h2>\n<ul>\n");
    for plugin in &plan.plugins {
        let _ = writeln!(
            html,
            "<li>{} {} <code>BLAKE3 {}</code></li>",
            escaped(&plugin.id),
            escaped(&plugin.version),
            plugin.blake3
        );
    }
    let _ = writeln!(
        html,
        "</ul>\n<p>Seed {}. Recipe, plan, environment and all numbers lie beside this page: recipe.toml, plan.json, environment.json, metrics.jsonl, results.json, legacy.json.</p>\n</html>",
        plan.seed
    );
    html
}

/// A robustness number means little by itself.
const NO_BASELINE: &str = "<p>No variant is a baseline (<code>baseline = true</code>): random real images of the same number, \
and adversarial training, both on the same network under the same attacks, show what these numbers are worth.</p>\n";

/// Figures of other papers, folded away.
fn push_legacy(html: &mut String, legacy: &Legacy) {
    if legacy.rows.is_empty() && legacy.rankings.is_empty() {
        return;
    }
    html.push_str(
        "<details><summary>Figures of other papers, for comparison with those papers only</summary>\n",
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
    html.push_str("</ul></details>\n");
}

fn class(column: usize) -> &'static str {
    if column < 2 { "" } else { " class=\"number\"" }
}

pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
