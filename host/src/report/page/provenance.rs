//! Where a run's numbers come from: the command that repeats it, the recipe, versions, seeds and sums.

use super::text::escaped;
use crate::report::run::RunRecord;
use std::fmt::Write;

/// The last part of the page.
pub fn provenance(run: &RunRecord) -> String {
    let plan = &run.plan;
    let mut html = format!(
        "<h2>To repeat it</h2>\n<pre><code>{}</code></pre>\n\
         <p>Equal bits need equal plugins, threads and instructions: seed {}, {}, {}, guard-host {}, libtorch {}, {}{}.</p>\n\
         <h3>Plugins</h3>\n<ul>\n",
        escaped(&run.begun.typed.command()),
        plan.seed,
        match plan.threads {
            1 => "1 thread".to_string(),
            threads => format!("{threads} threads"),
        },
        escaped(&plan.cpu_capability),
        escaped(run.environment("guard_host")),
        escaped(run.environment("libtorch")),
        escaped(run.environment("system")),
        plan.gpu.as_ref().map(|gpu| format!(", {}", escaped(gpu))).unwrap_or_default(),
    );
    for plugin in &plan.plugins {
        let (id, version) = (escaped(&plugin.id), escaped(&plugin.version));
        let _ = writeln!(html, "<li>{id} {version} <code>BLAKE3 {}</code></li>", plugin.blake3);
    }
    let recipe = blake3::hash(run.begun.recipe.as_bytes()).to_hex();
    let _ = write!(
        html,
        "</ul>\n<details><summary>The recipe, <code>BLAKE3 {recipe}</code></summary><pre><code>{}</code></pre></details>\n\
         <p>Beside this page lie recipe.toml, plan.json, environment.json, metrics.jsonl, results.json, legacy.json, the networks in \
         checkpoints/, and in evaluations/ what became of every image.</p>\n",
        escaped(&run.begun.recipe)
    );
    html
}
