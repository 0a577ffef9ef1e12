//! `report.html`: everything about one run on one page that needs nothing from outside.
//!
//! | file | part |
//! |---|---|
//! | `curve` | accuracy against ε |
//! | `losses`, `chart` | what was measured on the way |
//! | `matrix` | confusions and soft labels, class by class |
//! | `pictures` | distilled images, images under attack |
//! | `legacy` | figures of other papers |
//! | `provenance` | where the numbers come from, and how to get them again |
//! | `text` | text and tables as HTML |

mod chart;
mod curve;
mod legacy;
mod losses;
mod matrix;
mod pictures;
mod provenance;
mod text;

pub(super) use text::{escaped, table};

use self::{
    curve::curve,
    legacy::legacy_figures,
    losses::losses,
    matrix::{confusion, matrix},
    pictures::{attacked, distilled},
    provenance::provenance,
};
use super::{
    run::RunRecord,
    summary::Summary,
    table::{caption, cells, header},
};
use crate::{
    data::Skipped,
    engine::{EVALUATIONS, Evaluation, Examples, Flag, NetworkResults, rounded},
    run::Distilled,
};
use guard_sdk::{Device, Kind, Result, Tensor};
use std::fmt::Write;

const STYLE: &str = ":root{color-scheme:light dark}\
body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}\
.wide{overflow-x:auto}table{border-collapse:collapse;margin:1rem 0}\
th,td{padding:.3rem .7rem;border-bottom:1px solid #8886;text-align:left}\
.number,td:nth-child(2){white-space:nowrap}.number{text-align:right;font-variant-numeric:tabular-nums}svg{max-width:100%;height:auto}\
figure{display:inline-block;vertical-align:top;margin:0 1.5rem 1rem 0;max-width:100%}img{image-rendering:pixelated}\
figcaption{max-width:46rem}.map{width:22rem;max-width:100%}.charts{display:flex;flex-wrap:wrap;gap:.5rem 1rem}\
.strips{margin:0}.strips th,.strips td{border:0;padding:.1rem .5rem .1rem 0;font-weight:normal;white-space:nowrap}.strip,.sheet{display:block;max-width:none}\
.strip{height:2.6rem}summary{cursor:pointer}pre{overflow-x:auto;font-size:.85em}\
code{font-size:.85em;overflow-wrap:anywhere}";

/// A page with a title, from the top of its body to the end.
pub(super) fn document(title: &str, body: &str) -> String {
    let title = escaped(title);
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style>\n\
         <h1>{title}</h1>\n{body}</html>\n"
    )
}

/// The page of one run.
///
/// # Errors
/// If one of the run's files cannot be read.
pub fn page(run: &RunRecord) -> Result<String> {
    let summary = run.summary();
    let mut html = run.unfinished().map_or(String::new(), |told| format!("<p>{}</p>\n", escaped(&told)));
    html.push_str(&figures(&summary));
    if !summary.budgets.is_empty() && summary.rows.iter().all(|row| !row.baseline) {
        html.push_str(NO_BASELINE);
    }
    html.push_str(&legacy_figures(&run.legacy()));
    html.push_str(&left_out(&run.results.skipped));
    html.push_str(&sets(run)?);
    html.push_str(&networks(run)?);
    let variants: Vec<&str> = run.plan.variants.iter().map(|variant| variant.name.as_str()).collect();
    html.push_str(&losses(&run.measurements, &variants));
    html.push_str(&provenance(run));
    Ok(document(&run.plan.name, &html))
}

/// The table with what makes it doubtful, and its curve.
pub(super) fn figures(summary: &Summary) -> String {
    let mut html = format!("<p>{}</p>\n", escaped(caption(summary).trim_end()));
    html.push_str(&table(&header(summary), summary.rows.iter().map(|row| cells(summary, row))));
    let flags = summary.flags();
    if !flags.is_empty() {
        html.push_str("<h2>What makes these numbers doubtful</h2>\n<ul>\n");
        for (Flag { code, message }, who) in flags {
            let (message, who) = (escaped(message), escaped(&who));
            let _ = writeln!(html, "<li><strong>Flag</strong> <code>{code}</code> ({who}): {message}</li>");
        }
        html.push_str("</ul>\n");
    }
    if let Some(curve) = curve(summary) {
        let _ = write!(html, "<h2>Accuracy against ε</h2>\n{curve}");
    }
    html
}

/// A robustness number means little by itself.
const NO_BASELINE: &str = "<p>No variant is a baseline (<code>baseline = true</code>): random real images of the same number, \
and adversarial training, both on the same network under the same attacks, show what these numbers are worth.</p>\n";

fn left_out(skipped: &[Skipped]) -> String {
    if skipped.is_empty() {
        return String::new();
    }
    let mut html = "<h2>Left out of the data</h2>\n<ul>\n".to_string();
    for Skipped { file, why } in skipped {
        let _ = writeln!(html, "<li><code>{}</code> {}</li>", escaped(file), escaped(why));
    }
    html + "</ul>\n"
}

/// The distilled images and what their soft labels say, of each variant that has them.
fn sets(run: &RunRecord) -> Result<String> {
    let classes = &run.plan.data.classes;
    let mut html = String::new();
    for ((name, folder), variant) in run.folders().zip(&run.plan.variants) {
        let Some(set) = Distilled::read_if_any(&folder.join("distilled"), Device::Cpu)? else { continue };
        let labels = Vec::<i64>::try_from(&set.labels)?;
        html.push_str(&distilled(name, classes, &set.images, &labels)?);
        let temperature = variant.recipe.relabel.temperature;
        let said = set.soft_labels.map(|labels| labels.to_kind(Kind::Float));
        let said =
            said.or_else(|| set.teacher_logits.map(|logits| (logits / temperature).softmax(-1, Kind::Float)));
        if let Some(said) = said {
            let title = format!("{name}: soft labels of the images of each class, mean");
            html.push_str(&matrix(&title, classes, &means(&said, &labels, classes.len())?)?);
        }
    }
    Ok(if html.is_empty() { html } else { format!("<h2>Distilled images</h2>\n{html}") })
}

/// The mean row of each class.
fn means(rows: &Tensor, labels: &[i64], classes: usize) -> Result<Vec<Vec<f64>>> {
    let mean = |class: usize| {
        let own: Vec<i64> =
            (0..).zip(labels).filter(|(_, label)| **label == class as i64).map(|(place, _)| place).collect();
        if own.is_empty() {
            return Ok(vec![0.0; classes]);
        }
        let own = rows.f_index_select(0, &Tensor::f_from_slice(&own)?)?;
        Ok(Vec::<f64>::try_from(own.mean_dim(0i64, false, Kind::Double))?)
    };
    (0..classes).map(mean).collect()
}

/// What each network takes the images for, without and with attack, and some of them to look at.
fn networks(run: &RunRecord) -> Result<String> {
    let mut html = String::new();
    for ((_, folder), variant) in run.folders().zip(&run.results.variants) {
        for NetworkResults { name, file, evaluations } in variant.networks() {
            let title = escaped(&format!("{}, {name}", variant.name));
            let open = if html.is_empty() { " open" } else { "" };
            let _ = writeln!(html, "<details{open}><summary>{title}</summary>");
            html.push_str(&confusions(&run.plan.data.classes, &evaluations)?);
            // Of several students the first.
            if let Some((examples, picture)) = Examples::read(&folder.join(EVALUATIONS), &file)? {
                html.push_str(&attacked(&run.plan.data.classes, &examples, &picture)?);
            }
            html.push_str("</details>\n");
        }
    }
    Ok(if html.is_empty() { html } else { format!("<h2>What the networks take images for</h2>\n{html}") })
}

fn confusions(classes: &[String], evaluations: &[&Evaluation]) -> Result<String> {
    let clean = evaluations.iter().map(|each| (&each.labels[..], each.predicted.clone()));
    let mut html = matrix(
        "without attack: true class by row, predicted by column",
        classes,
        &confusion(classes.len(), clean),
    )?;
    let budgets = evaluations.first().map_or(&[][..], |each| &each.threats).iter().enumerate();
    if let Some((place, threat)) =
        budgets.max_by(|one, other| one.1.budget.epsilon.total_cmp(&other.1.budget.epsilon))
    {
        let worst =
            evaluations.iter().map(|each| (&each.labels[..], each.worst_predicted(&each.threats[place])));
        let title = format!("under the attacks at ε = {}", rounded(threat.budget.epsilon));
        html.push_str(&matrix(&title, classes, &confusion(classes.len(), worst))?);
    }
    Ok(html)
}
