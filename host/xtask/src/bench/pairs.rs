//! `cargo xtask bench`: our steps beside the peer's, alternately, each run a process of its own.
//!
//! A benchmark is a pair in `tests/benches`: a program of ours and a Python script with the same cases. Both take a case,
//! the folder of the data, the folder of the peers' scripts and a number of threads, and print one line of JSON: a rate and its unit, or the
//! milliseconds of a step (`ms`); the most memory the process held; and where there are such, the floor of the passes that
//! a step cannot do without (`floor_ms`), and how many images an attack left right (`correct`). What is reported is the
//! median of each side and the median of the ratios of neighbouring runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::setup;
use crate::workspace::Workspace;

/// The benchmarks and their cases.
const BENCHMARKS: [(&str, &[&str]); 3] = [
    ("data", &["cifar", "photos", "photos-in-memory"]),
    ("matching", &["dc", "dm", "mtt20", "tesla20"]),
    (
        "steps",
        &[
            "rn18_train",
            "rn18_cure_full",
            "rn18_cure_simple",
            "rn18_recover",
            "rn18_relabel",
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

/// What `bench` takes.
#[derive(Args)]
pub struct BenchArguments {
    /// The benchmark
    #[arg(value_parser = ["data", "matching", "steps"])]
    benchmark: String,
    /// One of its cases; all, if left out
    case: Option<String>,
    /// A Python with what the peer's script imports
    #[arg(long, value_name = "FILE", default_value = "python3")]
    python: PathBuf,
    /// The folder of the real image sets
    #[arg(long, value_name = "DIR", env = "GUARD_DATA_DIR", default_value = "../shared/data")]
    data: PathBuf,
    /// The folder of the peers' scripts
    #[arg(long, value_name = "DIR", default_value = "../shared/bench")]
    peers: PathBuf,
    /// Threads that each side computes with
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    threads: u32,
    /// How often each side runs
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

/// Runs a benchmark and prints a table, which `target/bench/NAME.md` has as well; `target/bench/NAME.json` has every run.
/// Both are written after each case. A case that fails does not keep the others from running.
pub fn bench(workspace: &Workspace, arguments: &BenchArguments) -> Result<()> {
    setup::setup(workspace, false)?;
    let BenchArguments { benchmark, case, python, data, peers, threads, runs } = arguments;
    let peers = workspace.root.join(peers);
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
    let folder = workspace.root.join("target/bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    let (mut table, mut results, mut failed) = (format!("{HEAD}\n"), Vec::new(), Vec::new());
    println!("{HEAD}");
    for case in cases {
        let mut pairs = Vec::new();
        let side = |program: &Path, script: Option<&Path>| {
            run(
                Command::new(program).args(script).arg(case).args([&data, &peers]).arg(threads.to_string()),
                case,
            )
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
        if let Ok(line) = line(case, &pairs) {
            println!("{line}");
            table += &format!("{line}\n");
        }
        let runs: Vec<Value> =
            pairs.into_iter().map(|(ours, peer)| json!({ "ours": ours, "peer": peer })).collect();
        results.push(json!({ "case": case, "runs": runs }));
        let json = format!("{:#}\n", Value::Array(results.clone()));
        for (extension, text) in [("json", &json), ("md", &table)] {
            let path = folder.join(format!("{benchmark}.{extension}"));
            fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
        }
    }
    if !failed.is_empty() {
        bail!("{} failed: see above", failed.join(", "));
    }
    Ok(())
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

/// With three digits at least.
fn figure_of(value: f64) -> String {
    let decimals = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else if value >= 1.0 {
        2
    } else {
        3
    };
    format!("{value:.decimals$}")
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

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), 3.0);
    }
}
