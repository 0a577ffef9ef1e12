//! `cargo xtask bench`: what our steps cost, beside the peer's (`pairs`) and as they grow (`scaling`).
//!
//! A benchmark is a program in `tests/benches`, each run a process of its own, that prints one line of JSON.

mod pairs;
mod scaling;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::build;
use crate::setup;
use crate::workspace::Workspace;

/// What `bench` takes.
#[derive(Args)]
pub struct BenchArguments {
    /// The benchmark
    #[arg(value_parser = ["data", "matching", "scaling", "start", "steps"])]
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
    match arguments.benchmark.as_str() {
        "scaling" => scaling::bench(workspace, arguments),
        _ => pairs::bench(workspace, arguments),
    }
}

/// The table and the runs of a benchmark, kept as they come.
struct Kept {
    folder: PathBuf,
    benchmark: String,
    table: String,
    results: Vec<Value>,
}

impl Kept {
    fn new(workspace: &Workspace, benchmark: &str, head: &str) -> Result<Self> {
        let folder = workspace.root.join("target/bench");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
        println!("{head}");
        let table = format!("{head}\n");
        Ok(Self { folder, benchmark: benchmark.into(), table, results: Vec::new() })
    }

    fn add(&mut self, line: Option<String>, result: Value) -> Result<()> {
        if let Some(line) = line {
            println!("{line}");
            self.table += &format!("{line}\n");
        }
        self.results.push(result);
        let json = format!("{:#}\n", Value::Array(self.results.clone()));
        for (extension, text) in [("json", &json), ("md", &self.table)] {
            let path = self.folder.join(format!("{}.{extension}", self.benchmark));
            fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
        }
        Ok(())
    }
}

/// The cases of `known` that were asked for.
fn cases(benchmark: &str, case: Option<&str>, known: &[&'static str]) -> Result<Vec<&'static str>> {
    match case {
        None => Ok(known.to_vec()),
        Some(case) => match known.iter().find(|name| **name == case) {
            Some(name) => Ok(vec![name]),
            None => bail!("benchmark `{benchmark}` has no case `{case}`; it has {}", known.join(", ")),
        },
    }
}

/// Builds our program of a benchmark and tells where it is.
fn built(workspace: &Workspace, benchmark: &str) -> Result<PathBuf> {
    build::executable(workspace, &["--package", "guard-tests", "--bench", benchmark], benchmark)
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
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), 3.0);
    }

    #[test]
    fn an_unknown_case_is_told_with_those_there_are() {
        let error = cases("steps", Some("c"), &["a", "b"]).unwrap_err().to_string();
        assert_eq!(error, "benchmark `steps` has no case `c`; it has a, b");
        assert_eq!(cases("steps", Some("b"), &["a", "b"]).unwrap(), ["b"]);
    }
}
