//! `guard-host experts info`.

use super::{Failure, Format, print, print_json};
use crate::engine::experts::ExpertFolder;
use clap::{Args, Subcommand};
use comfy_table::{CellAlignment, Table, presets};
use guard_sdk::Error;
use indicatif::HumanBytes;
use serde_json::json;
use std::{fmt::Write, path::PathBuf};

#[derive(Debug, Subcommand)]
pub(super) enum ExpertsCommand {
    /// Tell what trajectories a folder holds: network, number, snapshots, accuracy after each epoch, size.
    Info(InfoArguments),
}

/// What `experts info` takes.
#[derive(Debug, Args)]
pub(super) struct InfoArguments {
    /// The folder that holds `experts.json`.
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

/// Tells what a folder of expert trajectories holds.
pub(super) fn experts(format: Format, command: &ExpertsCommand) -> Result<(), Failure> {
    let ExpertsCommand::Info(InfoArguments { folder }) = command;
    let experts = ExpertFolder::open(folder).map_err(Failure::Usage)?;
    let accuracies = (0..experts.count()).map(|expert| experts.accuracies(expert));
    let found = Found {
        accuracies: accuracies.collect::<Result<_, Error>>().map_err(Failure::Run)?,
        bytes: experts.bytes().map_err(Failure::Run)?,
        experts,
    };
    match format {
        Format::Json => print_json(&found.json()),
        Format::Human => print(&found.text()),
    }
}

struct Found {
    experts: ExpertFolder,
    /// Of each expert's snapshots, on held-out images.
    accuracies: Vec<Vec<f64>>,
    bytes: u64,
}

impl Found {
    fn json(&self) -> serde_json::Value {
        let manifest = self.experts.manifest();
        json!({
            "dataset": manifest.dataset,
            "images": manifest.images,
            "network": manifest.network,
            "training": manifest.training,
            "experts": self.accuracies.len(),
            "snapshots": self.experts.snapshots(),
            "accuracies": self.accuracies,
            "bytes": self.bytes,
        })
    }

    fn text(&self) -> String {
        let manifest = self.experts.manifest();
        let (count, epochs) = (self.accuracies.len(), manifest.training.epochs);
        let network = serde_json::to_value(&manifest.network.architecture).unwrap_or_default();
        let regularizers: Vec<&str> =
            manifest.training.regularizers.iter().map(|each| each.method.as_str()).collect();
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{count} experts of {epochs} epochs on {} images of {}",
            manifest.images, manifest.dataset
        );
        let _ = writeln!(text, "network: {network}");
        let with = if regularizers.is_empty() { "none".to_string() } else { regularizers.join(", ") };
        let _ = writeln!(text, "regularizers: {with}");
        let _ = writeln!(text, "size: {}", HumanBytes(self.bytes));
        if count > 0 {
            let mut table = Table::new();
            table.load_style(presets::ASCII_MARKDOWN);
            table.set_header(["epoch", "held-out accuracy in %, mean", "least", "greatest"]);
            for snapshot in 0..self.experts.snapshots() as usize {
                let all: Vec<f64> = self.accuracies.iter().map(|each| 100.0 * each[snapshot]).collect();
                let mean = all.iter().sum::<f64>() / all.len() as f64;
                let (least, greatest) = all
                    .iter()
                    .fold((f64::MAX, f64::MIN), |(low, high), &each| (low.min(each), high.max(each)));
                let figures = [mean, least, greatest].map(|figure| format!("{figure:.1}"));
                table.add_row([vec![snapshot.to_string()], figures.to_vec()].concat());
            }
            for column in table.column_iter_mut() {
                column.set_cell_alignment(CellAlignment::Right);
            }
            let _ = writeln!(text, "\n{table}");
        }
        text
    }
}
