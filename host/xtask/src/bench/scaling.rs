//! How our cost grows: three sizes of each case, no peer.

use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{BenchArguments, Kept, built, cases, figure_of, median, run};
use crate::workspace::Workspace;

/// A case, its program, the names of its runs up to the size, and the sizes.
const CASES: [(&str, &str, &str, [u32; 3]); 5] = [
    ("images_per_class", "scaling", "images-per-class-", [2, 4, 8]),
    ("iterations", "scaling", "iterations-", [100, 200, 400]),
    ("examples", "scaling", "examples-", [256, 512, 1024]),
    ("tesla_steps", "matching", "tesla", [10, 20, 40]),
    ("mtt_steps", "matching", "mtt", [5, 10, 20]),
];

const HEAD: &str = "\
| case | sizes | ms | ms of a unit | peak MiB |
|---|---|---|---|---|";

/// Runs the cases.
pub fn bench(workspace: &Workspace, arguments: &BenchArguments) -> Result<()> {
    let BenchArguments { benchmark, case, threads, runs, .. } = arguments;
    let chosen = cases(benchmark, case.as_deref(), &CASES.map(|(case, ..)| case))?;
    let programs = [("scaling", built(workspace, "scaling")?), ("matching", built(workspace, "matching")?)];
    let mut kept = Kept::new(workspace, benchmark, HEAD)?;
    for (case, program, name, sizes) in CASES.into_iter().filter(|(case, ..)| chosen.contains(case)) {
        let program = programs.iter().find(|(known, _)| *known == program).context("no such program")?;
        let mut measured = Vec::new();
        for size in sizes {
            let name = format!("{name}{size}");
            let mut command = Command::new(&program.1);
            command.arg(&name);
            if program.0 == "matching" {
                command.args(["-", "-"]);
            }
            command.arg(threads.to_string());
            let found = (0..*runs).map(|_| run(&mut command, &name)).collect::<Result<Vec<Value>>>()?;
            measured.push((size, found));
        }
        let line = line(case, &measured)?;
        kept.add(Some(line), json!({ "case": case, "runs": measured }))?;
    }
    Ok(())
}

/// The table's line of one case: medians of each size.
fn line(case: &str, measured: &[(u32, Vec<Value>)]) -> Result<String> {
    let medians = |key: &str| -> Result<Vec<f64>> {
        measured
            .iter()
            .map(|(_, runs)| {
                let mut values = runs
                    .iter()
                    .map(|run| run[key].as_f64())
                    .collect::<Option<Vec<f64>>>()
                    .filter(|values| !values.is_empty())
                    .with_context(|| format!("`{case}` lacks `{key}`"))?;
                values.sort_by(f64::total_cmp);
                Ok(median(&values))
            })
            .collect()
    };
    let (times, peaks) = (medians("ms")?, medians("peak_mib")?);
    let units = times.iter().zip(measured).map(|(time, (size, _))| time / f64::from(*size));
    let joined = |values: &mut dyn Iterator<Item = String>| values.collect::<Vec<_>>().join(", ");
    Ok(format!(
        "| {case} | {} | {} | {} | {} |",
        joined(&mut measured.iter().map(|(size, _)| size.to_string())),
        joined(&mut times.iter().copied().map(figure_of)),
        joined(&mut units.map(figure_of)),
        joined(&mut peaks.iter().map(|peak| format!("{peak:.0}"))),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_medians_of_each_size_and_what_a_unit_costs() {
        let run = |ms: f64| json!({ "ms": ms, "peak_mib": 10.4 });
        let measured = [(1, vec![run(5.0), run(7.0), run(6.0)]), (2, vec![run(13.0)]), (4, vec![run(300.0)])];
        assert_eq!(
            line("x", &measured).unwrap(),
            "| x | 1, 2, 4 | 6.00, 13.0, 300 | 6.00, 6.50, 75.0 | 10, 10, 10 |"
        );
        assert!(line("x", &[(1, Vec::new())]).is_err());
        assert!(line("x", &[(1, vec![json!({ "ms": 1.0 })])]).is_err());
    }
}
