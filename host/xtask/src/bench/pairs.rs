//! Our steps beside the peer's, alternately.
//!
//! A benchmark is a pair in `tests/benches`: a program of ours and a Python script with the same cases. Both take a case,
//! the folder of the data, the folder of the peers' scripts and a number of threads, and print one line of JSON: a rate and its unit, or the
//! milliseconds of a step (`ms`); the most memory the process held; and where there are such, the floor of the passes that
//! a step cannot do without (`floor_ms`), and how many images an attack left right (`correct`). What is reported is the
//! median of each side and the median of the ratios of neighbouring runs.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{BenchArguments, Kept, built, cases, figure_of, median, run};
use crate::build;
use crate::workspace::Workspace;

/// The benchmarks and their cases.
const BENCHMARKS: [(&str, &[&str]); 4] = [
    ("data", &["cifar", "photos", "photos-in-memory"]),
    ("matching", &["dc", "dm", "mtt20", "tesla20"]),
    ("start", &["plugin-list", "first-step"]),
    (
        "steps",
        &[
            "rn18_train",
            "rn18_cure_full",
            "rn18_cure_squared",
            "rn18_cure_simple",
            "rn18_pgd10_train",
            "rn18_recover",
            "rn18_relabel",
            "cn3_square",
            "rn20_square",
            "cn3_pgd100",
            "rn20_pgd100",
            "cn3_autoattack",
            "rn20_autoattack",
        ],
    ),
];

/// The table's head.
const HEAD: &str = "\
| case | unit | ours | peer | ratio (lowest–highest) | our floor | still right, ours / peer | peak MiB, ours / peer |
|---|---|---|---|---|---|---|---|";

/// Runs the pairs of a benchmark.
pub fn bench(workspace: &Workspace, arguments: &BenchArguments) -> Result<()> {
    let BenchArguments { benchmark, case, python, data, peers, threads, runs } = arguments;
    let peers = workspace.root.join(peers);
    let data = workspace.root.join(data);
    let data = data.canonicalize().with_context(|| format!("no image sets in `{}`", data.display()))?;
    let known = BENCHMARKS.iter().find(|(name, _)| name == benchmark).map_or(&[][..], |(_, cases)| cases);
    let cases = cases(benchmark, case.as_deref(), known)?;
    let ours = built(workspace, benchmark)?;
    // What starts processes starts those that users start.
    let host = if benchmark == "start" { Some(build::build(workspace)?.host) } else { None };
    let script = workspace.root.join("tests/benches").join(format!("{benchmark}.py"));
    let mut kept = Kept::new(workspace, benchmark, HEAD)?;
    let mut failed = Vec::new();
    for case in cases {
        let mut pairs = Vec::new();
        let side = |program: &Path, script: Option<&Path>| {
            let mut command = Command::new(program);
            command.args(script).arg(case).args([&data, &peers]).arg(threads.to_string());
            if let Some(host) = &host {
                command.env("GUARD_HOST", host);
            }
            run(&mut command, case)
        };
        for _ in 0..*runs {
            match (side(&ours, None), side(python, Some(&script))) {
                (Ok(ours), Ok(peer)) => pairs.push((ours, peer)),
                (Err(error), _) | (_, Err(error)) => {
                    eprintln!("{error:#}");
                    failed.push(case);
                    break;
                }
            }
        }
        let line = line(case, &pairs).ok();
        let runs: Vec<Value> =
            pairs.into_iter().map(|(ours, peer)| json!({ "ours": ours, "peer": peer })).collect();
        kept.add(line, json!({ "case": case, "runs": runs }))?;
    }
    if !failed.is_empty() {
        bail!("{} failed: see above", failed.join(", "));
    }
    Ok(())
}

/// The table's line of one case.
fn line(case: &str, pairs: &[(Value, Value)]) -> Result<String> {
    let sorted = |pick: &dyn Fn(&(Value, Value)) -> Option<f64>| -> Result<Vec<f64>> {
        let mut values =
            pairs.iter().map(pick).collect::<Option<Vec<f64>>>().context("a figure is missing")?;
        values.sort_by(f64::total_cmp);
        if values.is_empty() {
            bail!("nothing was measured");
        }
        Ok(values)
    };
    let (figure, unit) = match pairs.first().and_then(|(ours, _)| ours["unit"].as_str()) {
        Some(unit) => ("rate", unit),
        None => ("ms", "ms"),
    };
    let speed = |side: &Value| {
        side["rate"].as_f64().or_else(|| side["ms"].as_f64().map(|milliseconds| 1.0 / milliseconds))
    };
    let ours = sorted(&|(ours, _)| ours[figure].as_f64())?;
    let peer = sorted(&|(_, peer)| peer[figure].as_f64())?;
    let ratios = sorted(&|(ours, peer)| Some(speed(ours)? / speed(peer)?))?;
    let ours_peak = sorted(&|(ours, _)| ours["peak_mib"].as_f64())?;
    let peer_peak = sorted(&|(_, peer)| peer["peak_mib"].as_f64())?;
    // The least disturbed measurement of the passes.
    let floor = sorted(&|(ours, _)| ours["floor_ms"].as_f64())
        .map_or("–".into(), |floor| format!("{:.0}", floor[0]));
    let right = |(ours, peer): &(Value, Value)| Some((ours["correct"].as_i64()?, peer["correct"].as_i64()?));
    let right = pairs.first().and_then(right).map_or("–".into(), |(ours, peer)| format!("{ours} / {peer}"));
    Ok(format!(
        "| {case} | {unit} | {} | {} | {:.2} ({:.2}–{:.2}) | {floor} | {right} | {:.0} / {:.0} |",
        figure_of(median(&ours)),
        figure_of(median(&peer)),
        median(&ratios),
        ratios[0],
        ratios[ratios.len() - 1],
        median(&ours_peak),
        median(&peer_peak),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_medians_and_the_ratios_of_neighbours() {
        let side = |rate: f64| json!({ "rate": rate, "unit": "images/s", "peak_mib": 100.0 });
        let pairs = [(side(10.0), side(5.0)), (side(30.0), side(10.0)), (side(20.0), side(20.0))];
        assert_eq!(
            line("x", &pairs).unwrap(),
            "| x | images/s | 20.0 | 10.0 | 2.00 (1.00–3.00) | – | – | 100 / 100 |"
        );
        assert!(line("x", &[(json!({}), side(1.0))]).is_err());
        assert!(line("x", &[]).is_err());
    }

    #[test]
    fn fewer_milliseconds_are_a_higher_ratio() {
        let ours = json!({ "ms": 50.0, "peak_mib": 10.0, "floor_ms": 40.0, "correct": 7 });
        let peer = json!({ "ms": 100.0, "peak_mib": 20.0, "correct": 8 });
        let expected = "| x | ms | 50.0 | 100 | 2.00 (2.00–2.00) | 40 | 7 / 8 | 10 / 20 |";
        assert_eq!(line("x", &[(ours, peer)]).unwrap(), expected);
    }
}
