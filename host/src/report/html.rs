//! `report.html`: the table, the distilled images and the plugins on one page that needs nothing from outside the run
//! directory.

use super::{
    summary::Summary,
    table::{caption, header},
};
use crate::{data::Skipped, plan::Plan};
use std::fmt::Write;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}\
table{border-collapse:collapse;margin:1rem 0}th,td{padding:.3rem .9rem;border-bottom:1px solid #ccc;text-align:left}\
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums}figure{display:inline-block;margin:0 1.5rem 1rem 0}\
img{max-width:26rem;image-rendering:pixelated}code{font-size:.85em;word-break:break-all}";

/// The page. `skipped` are the files of the data set that were left out; `sheets` the contact sheets: a variant's name and the
/// path from the run directory.
pub fn page(plan: &Plan, summary: &Summary, skipped: &[Skipped], sheets: &[(String, String)]) -> String {
    let mut html = String::new();
    let name = escaped(&plan.name);
    let _ = write!(
        html,
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{name}</title><style>{STYLE}</style>\n<h1>{name}</h1>\n<p>{}</p>\n<table><tr>",
        escaped(caption(summary).trim_end())
    );
    for (index, column) in header(summary).iter().enumerate() {
        let _ = write!(html, "<th{}>{}</th>", class(index), escaped(column));
    }
    html.push_str("</tr>\n");
    for row in &summary.rows {
        let mut cells = vec![row.variant.clone(), row.network.clone(), row.clean.to_string()];
        cells.extend(row.robust.iter().map(ToString::to_string));
        html.push_str("<tr>");
        for (index, cell) in cells.iter().enumerate() {
            let _ = write!(html, "<td{}>{}</td>", class(index), escaped(cell));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</table>\n");
    for row in &summary.rows {
        for flag in &row.flags {
            let _ = writeln!(
                html,
                "<p><strong>Flag</strong> ({}, {}): {}</p>",
                escaped(&row.variant),
                row.network,
                escaped(flag)
            );
        }
    }
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
        "</ul>\n<p>Seed {}. Recipe, plan, environment and all numbers lie beside this page: recipe.toml, plan.json, environment.json, metrics.jsonl, results.json.</p>\n</html>",
        plan.seed
    );
    html
}

fn class(column: usize) -> &'static str {
    if column < 2 { "" } else { " class=\"number\"" }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
