//! `guard-host data info|check`.

use super::{Format, complete, print, print_json};
use crate::{
    cli::Failure,
    data::{
        Dataset, Split, View,
        check::{CheckReport, Problem, check},
        prepare,
        source::Limits,
    },
    recipe::{Data, Statistics},
    run::{sheet, write_png},
};
use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;
use comfy_table::{CellAlignment, Table, presets};
use guard_sdk::{Device, Error, Kind, Result, Tensor};
use serde_json::{Value, json};
use std::{fmt::Write, path::PathBuf};

/// How many images of a class the sheet shows, and of how many classes.
const SHEET: (usize, usize) = (10, 20);

#[derive(Debug, Subcommand)]
pub(super) enum DataCommand {
    /// Tell what a data set holds: images, shapes, classes, mean and standard deviation.
    Info {
        #[command(flatten)]
        set: SetArguments,
        /// Side of the images that come in any size.
        #[arg(long, value_name = "N")]
        image_size: Option<usize>,
        /// Write a picture with ten images of each class, of twenty classes at most.
        #[arg(long, value_name = "FILE")]
        sheet: Option<PathBuf>,
    },
    /// Look at every image of a data set and list what is wrong: unreadable, cut short, duplicate, in the wrong folder.
    Check(SetArguments),
}

/// Which data set.
#[derive(Debug, Args)]
pub(super) struct SetArguments {
    /// The data set, or its format, as in a recipe.
    #[arg(add = ArgValueCompleter::new(complete::datasets))]
    dataset: String,
    /// The folder, or the file, that holds it.
    #[arg(long, value_name = "PATH")]
    root: Option<PathBuf>,
}

pub(super) fn data(format: Format, command: &DataCommand) -> Result<(), Failure> {
    match command {
        DataCommand::Info { set, image_size, sheet } => {
            let request = Data {
                root: set.root.clone(),
                image_size: *image_size,
                statistics: Some(Statistics::Computed),
                ..Data::named(&set.dataset)
            };
            let data = prepare(&request).map_err(Failure::Usage)?.open()?;
            if let Some(path) = sheet {
                write_png(path, &contact_sheet(&data.train, data.info.classes.len())?)?;
            }
            match format {
                Format::Human => print(&text(&data)),
                Format::Json => print_json(&json(&data)),
            }
        }
        DataCommand::Check(set) => {
            let report =
                check(&set.dataset, set.root.as_deref(), &Limits::default()).map_err(Failure::Usage)?;
            match format {
                Format::Human => print(&findings(&report))?,
                Format::Json => print_json(&serde_json::to_value(&report).map_err(Error::from)?)?,
            }
            if report.problems.is_empty() {
                return Ok(());
            }
            Err(Failure::Run(Error::with_code(
                "data",
                format!("data set `{}` has {}", report.dataset, problems(report.problems.len())),
            )))
        }
    }
}

fn problems(count: usize) -> String {
    if count == 1 { "1 problem".into() } else { format!("{count} problems") }
}

/// The first images of each class, a row for each.
fn contact_sheet(split: &Split, classes: usize) -> Result<Tensor> {
    let (columns, rows) = SHEET;
    let mut all = Vec::new();
    for class in 0..classes.min(rows) {
        let positions: Vec<i64> = split.of_class(class as i64).into_iter().take(columns).collect();
        let images = split.batch(&positions, &View::plain())?.images;
        let bytes = (images * 255.0).round().to_kind(Kind::Uint8);
        let missing = (columns - positions.len()) as i64;
        let mut shape = bytes.size();
        shape[0] = missing;
        all.push(bytes);
        all.push(Tensor::full(shape, 128, (Kind::Uint8, Device::Cpu)));
    }
    sheet(&Tensor::f_cat(&all, 0)?, columns as i64)
}

fn json(data: &Dataset) -> Value {
    let Dataset { info, train, test, .. } = data;
    let split =
        |split: &Split| json!({ "images": split.len(), "per_class": split.class_counts(info.classes.len()) });
    json!({
        "dataset": info.name,
        "image": info.image,
        "classes": info.classes,
        "train": split(train),
        "test": split(test),
        "mean": info.mean,
        "std": info.std,
    })
}

fn text(data: &Dataset) -> String {
    let Dataset { info, train, test, .. } = data;
    let [channels, height, width] = info.image;
    let mut text = format!(
        "{}: {} training and {} test images of {channels}x{height}x{width}, {} classes\n",
        info.name,
        train.len(),
        test.len(),
        info.classes.len()
    );
    let numbers =
        |values: &[f64]| values.iter().map(|value| format!("{value:.5}")).collect::<Vec<_>>().join(", ");
    let _ = writeln!(text, "mean of the training images {}, std {}", numbers(&info.mean), numbers(&info.std));
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(["label", "class", "training", "test"]);
    let counts = [train, test].map(|split| split.class_counts(info.classes.len()));
    for (label, class) in info.classes.iter().enumerate() {
        let cells =
            [label.to_string(), class.clone(), counts[0][label].to_string(), counts[1][label].to_string()];
        table.add_row(cells);
    }
    for column in [0, 2, 3] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for line in table.to_string().lines() {
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn findings(report: &CheckReport) -> String {
    let mut text = String::new();
    for problem in &report.problems {
        let _ = writeln!(text, "{problem}");
    }
    let leaks =
        report.problems.iter().any(|problem| matches!(problem, Problem::Duplicate { leaks: true, .. }));
    let _ =
        writeln!(text, "{}: {} images, {}", report.dataset, report.images, problems(report.problems.len()));
    if leaks {
        text.push_str("some test images are training images as well: accuracy on them says nothing\n");
    }
    text
}
