//! `guard-host metrics`: a run's numbers as a table, a row for each, for spreadsheets and data frames.

use super::{Failure, Format, print, print_json};
use crate::{
    report::csv_table,
    run::{Line, read_metrics, write_text},
};
use clap::Args;
use guard_sdk::Result;
use serde_json::{Value, json};
use std::path::PathBuf;

/// What `metrics` takes.
#[derive(Debug, Args)]
pub(super) struct MetricsArguments {
    /// The folder of a run, which may be at work.
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Write there instead of to stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Prints what is in `metrics.jsonl` as CSV, or as a JSON list.
pub(super) fn metrics(format: Format, arguments: &MetricsArguments) -> Result<(), Failure> {
    let lines = read_metrics(&arguments.run).map_err(|error| match error.code.as_str() {
        "no-run" => Failure::Usage(error),
        _ => Failure::Run(error),
    })?;
    let text = match format {
        Format::Human => csv(&lines)?,
        Format::Json if arguments.out.is_none() => return print_json(&json(&lines)),
        Format::Json => format!("{:#}\n", json(&lines)),
    };
    match &arguments.out {
        Some(path) => Ok(write_text(path, &text)?),
        None => print(&text),
    }
}

/// A row for each number, `NaN` where it was not finite.
fn csv(lines: &[Line]) -> Result<String> {
    let rows = lines.iter().flat_map(|Line { variant, stage, iteration, metrics }| {
        metrics.iter().map(move |(metric, value)| {
            let value = if value.is_null() { "NaN".into() } else { value.to_string() };
            [variant.clone(), stage.clone(), iteration.to_string(), metric.clone(), value]
        })
    });
    csv_table(["variant", "stage", "iteration", "metric", "value"], rows)
}

fn json(lines: &[Line]) -> Value {
    let row = |Line { variant, stage, iteration, metrics }: &Line| -> Vec<Value> {
        let cells = metrics.iter().map(|(metric, value)| {
            json!({ "variant": variant, "stage": stage, "iteration": iteration, "metric": metric, "value": value })
        });
        cells.collect()
    };
    lines.iter().flat_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_comma_is_quoted_and_a_number_that_is_none_is_nan() {
        let metrics = json!({ "loss/a": 0.1, "loss/b": null }).as_object().unwrap().clone();
        let line = Line { variant: "one, two".into(), stage: "train".into(), iteration: 10, metrics };
        let expected = "variant,stage,iteration,metric,value\n\
            \"one, two\",train,10,loss/a,0.1\n\
            \"one, two\",train,10,loss/b,NaN\n";
        assert_eq!(csv(&[line]).unwrap(), expected);
    }
}
