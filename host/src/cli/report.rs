//! `guard-host report`.

use super::{Failure, Format, Session, print};
use crate::{
    report::{RunRecord, compare, comparison_page, csv, latex, markdown, page, summary_json},
    run::{Event, write_text},
};
use clap::{Args, ValueEnum, builder::PossibleValue};
use serde_json::Value;
use std::path::PathBuf;

/// What `report` takes.
#[derive(Debug, Args)]
pub(super) struct ReportArguments {
    /// Run directories; runs that are not finished are told as far as they are.
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// What to make of them; `--format json` stands for JSON.
    #[arg(long = "as", value_enum, default_value_t = Form::Markdown, value_name = "FORM")]
    form: Form,
    /// A column for each attack, beside the worst case.
    #[arg(long)]
    attacks: bool,
    /// Write it into this file instead of stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy)]
enum Form {
    Markdown,
    Latex,
    Csv,
    Html,
}

impl ValueEnum for Form {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Markdown, Self::Latex, Self::Csv, Self::Html]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::Markdown => PossibleValue::new("markdown").alias("table").help("tables for people"),
            Self::Latex => PossibleValue::new("latex").help("tables with the rules of booktabs"),
            Self::Csv => PossibleValue::new("csv").help("every figure on a line, as fractions"),
            Self::Html => {
                PossibleValue::new("html").help("one page: everything about a run, or several side by side")
            }
        })
    }
}

/// Tells what runs have found, side by side.
pub(super) fn report(session: &Session, arguments: &ReportArguments) -> Result<(), Failure> {
    let runs = arguments.runs.iter().map(|run| RunRecord::read(run));
    let runs = runs.collect::<Result<Vec<_>, _>>().map_err(Failure::Usage)?;
    let mut groups = compare(&runs);
    groups.iter_mut().for_each(|group| group.each_attack = arguments.attacks);
    for told in runs.iter().filter_map(RunRecord::unfinished) {
        session.format.display(false).say(&Event::of_run("warning", &told));
    }
    let text = match (arguments.form, runs.as_slice()) {
        _ if session.format == Format::Json => {
            let all: Value = groups.iter().map(summary_json).collect();
            format!("{all:#}\n")
        }
        (Form::Markdown, _) => markdown(&groups),
        (Form::Latex, _) => latex(&groups),
        (Form::Csv, _) => csv(&groups)?,
        (Form::Html, [run]) => page(run)?,
        (Form::Html, _) => comparison_page("Runs side by side", &groups, &runs),
    };
    match &arguments.out {
        Some(file) => Ok(write_text(file, &text)?),
        None => print(&text),
    }
}
