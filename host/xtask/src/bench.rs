//! `cargo xtask bench`: our steps beside the peer's, alternately, each run a process of its own.
//!
//! A benchmark is a pair in `tests/benches`: a program of ours and a Python script with the same cases. Both take a case
//! and the folder of the data, and print one line of JSON: a rate, its unit, and the most memory the process held. What
//! is reported is the median of the rates and the median of the ratios of neighbouring runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::setup;
use crate::workspace::Workspace;

/// The benchmarks and their cases.
const BENCHMARKS: [(&str, &[&str]); 2] =
    [("data", &["cifar", "photos", "photos-in-memory"]), ("matching", &["dc", "dm", "mtt20", "tesla20"])];

/// What `bench` takes.
#[derive(Args)]
pub struct BenchArguments {
    /// The benchmark
    #[arg(value_parser = ["data", "matching"])]
    benchmark: String,
    /// One of its cases; all, if left out
    case: Option<String>,
    /// A Python with what the peer's script imports
    #[arg(long, value_name = "FILE", default_value = "python3")]
    python: PathBuf,
    /// The folder of the real image sets
    #[arg(long, value_name = "DIR", env = "GUARD_DATA_DIR", default_value = "../shared/data")]
    data: PathBuf,
    /// How often each side runs
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

/// Runs a benchmark and prints a table; `target/bench/NAME.json` has every run.
pub fn bench(workspace: &Workspace, arguments: &BenchArguments) -> Result<()> {
    setup::setup(workspace, false)?;
    let BenchArguments { benchmark, case, python, data, runs } = arguments;
    let data = workspace.root.join(data);
    let data = data.canonicalize().with_context(|| format!("no image sets in `{}`", data.display()))?;
    let known = BENCHMARKS.iter().find(|(name, _)| name == benchmark).map_or(&[][..], |(_, cases)| cases);
    let cases: Vec<&str> = match case {
        Some(case) if !known.contains(&case.as_str()) => {
            bail!("benchmark `{benchmark}` has no case `{case}`; it has {}", known.join(", "))
        }
        Some(case) => vec![case],
        None => known.to_vec(),
    };
    let ours = built(workspace, benchmark)?;
    let script = workspace.root.join("tests/benches").join(format!("{benchmark}.py"));
    let mut results = Vec::new();
    println!(
        "| case | unit | ours | peer | ratio (lowest–highest) | peak MiB, ours / peer |\n|---|---|---|---|---|---|"
    );
    for case in cases {
        let mut pairs = Vec::new();
        for _ in 0..*runs {
            let ours = run(Command::new(&ours).arg(case).arg(&data), case)?;
            let peer = run(Command::new(python).arg(&script).arg(case).arg(&data), case)?;
            pairs.push((ours, peer));
        }
        println!("{}", line(case, &pairs)?);
        let runs: Vec<Value> =
            pairs.into_iter().map(|(ours, peer)| json!({ "ours": ours, "peer": peer })).collect();
        results.push(json!({ "case": case, "runs": runs }));
    }
    let path = workspace.root.join("target/bench").join(format!("{benchmark}.json"));
    fs::create_dir_all(path.parent().unwrap_or(&path))?;
    fs::write(&path, format!("{:#}\n", Value::Array(results)))
        .with_context(|| format!("cannot write `{}`", path.display()))
}

/// Builds our program of a benchmark and tells where it is.
fn built(workspace: &Workspace, benchmark: &str) -> Result<PathBuf> {
    let mut cargo = workspace.cargo()?;
    cargo.args(["build", "--release", "--package", "guard-tests", "--bench", benchmark]);
    let output = cargo.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("`cargo build` failed");
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let program = messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let ours = message["target"]["name"] == benchmark && message["target"]["kind"][0] == "bench";
        Some(PathBuf::from(message["executable"].as_str().filter(|_| ours)?))
    });
    program.context("`cargo build` made no program for the benchmark")
}

/// The JSON line that a side prints.
fn run(command: &mut Command, case: &str) -> Result<Value> {
    let program = Path::new(command.get_program()).display().to_string();
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{program}` for `{case}`"))?;
    if !output.status.success() {
        bail!("`{program}` failed on case `{case}`: see above");
    }
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("`{program}` did not print one line of JSON for case `{case}`"))
}

/// The table's line of one case.
fn line(case: &str, pairs: &[(Value, Value)]) -> Result<String> {
    let values = |pick: &dyn Fn(&(Value, Value)) -> Option<f64>| -> Result<Vec<f64>> {
        let mut values =
            pairs.iter().map(pick).collect::<Option<Vec<f64>>>().context("a figure is missing")?;
        values.sort_by(f64::total_cmp);
        Ok(values)
    };
    let ours = values(&|(ours, _)| ours["rate"].as_f64())?;
    let peer = values(&|(_, peer)| peer["rate"].as_f64())?;
    let ratios = values(&|(ours, peer)| Some(ours["rate"].as_f64()? / peer["rate"].as_f64()?))?;
    let memory = |side: usize| {
        values(&|pair| [&pair.0, &pair.1][side]["peak_mib"].as_f64()).map(|values| median(&values))
    };
    let unit = pairs[0].0["unit"].as_str().unwrap_or_default();
    Ok(format!(
        "| {case} | {unit} | {:.0} | {:.0} | {:.2} ({:.2}–{:.2}) | {:.0} / {:.0} |",
        median(&ours),
        median(&peer),
        median(&ratios),
        ratios[0],
        ratios[ratios.len() - 1],
        memory(0)?,
        memory(1)?,
    ))
}

/// The middle of sorted values.
fn median(sorted: &[f64]) -> f64 {
    (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_medians_and_the_ratios_of_neighbours() {
        let side = |rate: f64| json!({ "rate": rate, "unit": "images/s", "peak_mib": 100.0 });
        let pairs = [(side(10.0), side(5.0)), (side(30.0), side(10.0)), (side(20.0), side(20.0))];
        assert_eq!(line("x", &pairs).unwrap(), "| x | images/s | 20 | 10 | 2.00 (1.00–3.00) | 100 / 100 |");
        assert!(line("x", &[(json!({}), side(1.0))]).is_err());
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), 3.0);
    }
}
