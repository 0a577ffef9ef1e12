//! `guard-host distilled info|import|export`.

use super::{Format, complete, print, print_json};
use crate::{
    cli::Failure,
    exchange::{Exported, Import, Request, SoftLabels, Space, export, import},
    recipe::Statistics,
    run::{Distilled, Origin, write_distilled},
};
use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;
use guard_sdk::{Device, Error, Kind, Result};
use serde::{Deserialize, de::value::StrDeserializer};
use serde_json::{Value, json};
use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

#[derive(Debug, Subcommand)]
pub(super) enum DistilledCommand {
    /// Tell what a distilled set holds and where it comes from.
    Info {
        /// The folder `distilled` of a run, or one that `import` made.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Make a distilled set of this host from one that others released.
    Import(ImportArguments),
    /// Write a distilled set as one file for other tools: Parquet for Hugging Face's `datasets`, NumPy's or PyTorch's arrays.
    Export {
        /// The folder of the set.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// The file; `.parquet`, `.npz` or `.pt` tells the format.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

/// What `distilled import` takes.
#[derive(Debug, Args)]
pub(super) struct ImportArguments {
    /// The set: a `.pt` of DC, DSA or DM; MTT's `images_best.pt`, beside which `labels_best.pt` lies, or the folder of both; an
    /// `.npz` or `.safetensors` with `images` and `labels`; SRe2L's folder of `newXXX`; a folder for each class.
    source: PathBuf,
    /// The data set that was distilled.
    #[arg(long, value_name = "NAME", add = ArgValueCompleter::new(complete::datasets))]
    dataset: String,
    /// The folder, or the file, that holds the data set. It tells the names of the classes; whitening needs it.
    #[arg(long, value_name = "PATH")]
    root: Option<PathBuf>,
    /// What the values of the images are, where the file does not tell.
    #[arg(long, value_enum)]
    space: Option<Space>,
    /// Which constants the images are normalised with, where the file does not tell: `own`, `dc`, `imagenet` or `computed`.
    #[arg(long, value_name = "WHICH", value_parser = statistics, conflicts_with = "mean")]
    statistics: Option<Statistics>,
    /// The mean that the images are normalised with, per channel over pixels in [0,1].
    #[arg(long, value_name = "M,M,M", value_delimiter = ',', requires = "std")]
    mean: Vec<f64>,
    /// The standard deviation, likewise.
    #[arg(long, value_name = "S,S,S", value_delimiter = ',', requires = "mean")]
    std: Vec<f64>,
    /// What is added to the eigenvalues in whitening.
    #[arg(long, value_name = "E", default_value_t = 0.1)]
    zca_epsilon: f64,
    /// The number of classes, where the data set does not tell it.
    #[arg(long, value_name = "N")]
    classes: Option<usize>,
    /// What the numbers for each class are, where labels are such.
    #[arg(long, value_enum)]
    soft_labels: Option<SoftLabels>,
    /// The learning rate that was learned with the images, where no file tells it.
    #[arg(long, value_name = "RATE")]
    learning_rate: Option<f64>,
    /// The folder of the set, a new or empty one.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// As in a recipe.
fn statistics(written: &str) -> Result<Statistics, String> {
    let read = Statistics::deserialize(StrDeserializer::<serde::de::value::Error>::new(written));
    read.map_err(|error| error.to_string())
}

pub(super) fn distilled(format: Format, command: &DistilledCommand) -> Result<(), Failure> {
    match command {
        DistilledCommand::Info { folder } => {
            let set = Distilled::read(folder, Device::Cpu).map_err(Failure::Usage)?;
            tell(format, &set)
        }
        DistilledCommand::Import(arguments) => import_set(format, arguments),
        DistilledCommand::Export { folder, out } => {
            let Exported { images, lost } =
                export(folder, out).map_err(|error| match error.code.as_str() {
                    "no-set" | "format" => Failure::Usage(error),
                    _ => Failure::Run(error),
                })?;
            lost.iter().for_each(|lost| eprintln!("warning: {lost}"));
            match format {
                Format::Human => print(&format!("{images} images in `{}`\n", out.display())),
                Format::Json => print_json(&json!({ "path": out, "images": images, "lost": lost })),
            }
        }
    }
}

/// A share of values outside of the range of pixels that is more than learning makes of them.
const DOUBTFUL: f64 = 0.25;

fn import_set(format: Format, arguments: &ImportArguments) -> Result<(), Failure> {
    free(&arguments.out)?;
    let some = |values: &[f64]| (!values.is_empty()).then(|| values.to_vec());
    let request = Request {
        source: arguments.source.clone(),
        dataset: arguments.dataset.clone(),
        root: arguments.root.clone(),
        space: arguments.space,
        statistics: arguments.statistics,
        mean: some(&arguments.mean),
        std: some(&arguments.std),
        zca_epsilon: arguments.zca_epsilon,
        classes: arguments.classes,
        soft_labels: arguments.soft_labels,
        learning_rate: arguments.learning_rate,
    };
    let Import { images, labels, soft_labels, manifest, range: [least, greatest], outside } =
        import(&request).map_err(Failure::Usage)?;
    write_distilled(&arguments.out, (&images, &labels), (soft_labels.as_ref(), None), &manifest)?;
    if outside > 0 {
        let share = outside as f64 / images.numel() as f64;
        eprintln!(
            "{outside} of {} values ({:.2} %) lie outside of [0,1], from {least:.3} to {greatest:.3}; they are kept in \
             `distilled.safetensors` and cut off in pictures",
            images.numel(),
            100.0 * share
        );
        if share > DOUBTFUL {
            eprintln!(
                "warning: so many are seldom learned: is it the right `--space`, and are these the right constants?"
            );
        }
    }
    tell(format, &Distilled::read(&arguments.out, Device::Cpu)?)
}

/// An error unless the folder is empty or not there.
fn free(folder: &Path) -> Result<(), Failure> {
    let occupied = folder.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    match occupied || folder.is_file() {
        true => Err(Failure::usage(format!("`{}` is not empty", folder.display()))
            .help("choose another folder with `--out`")),
        false => Ok(()),
    }
}

fn tell(format: Format, set: &Distilled) -> Result<(), Failure> {
    match format {
        Format::Human => print(&text(set)?),
        Format::Json => print_json(&json_of(set)?),
    }
}

/// The least and the greatest value.
fn range(set: &Distilled) -> Result<[f64; 2]> {
    Ok([set.images.f_min()?.f_double_value(&[])?, set.images.f_max()?.f_double_value(&[])?])
}

/// The manifest, and what the tensors tell.
fn json_of(set: &Distilled) -> Result<Value> {
    let mut value = serde_json::to_value(&set.manifest).map_err(Error::from)?;
    value["images"] = json!(set.images.size()[0]);
    value["per_class"] = json!(set.counts()?);
    value["range"] = json!(range(set)?);
    Ok(value)
}

fn text(set: &Distilled) -> Result<String> {
    let manifest = &set.manifest;
    let [channels, height, width] = manifest.image;
    let ([least, greatest], counts) = (range(set)?, set.counts()?);
    let mut text = format!(
        "{} images of {channels}x{height}x{width}, of {} classes of {}\n",
        set.images.size()[0],
        counts.len(),
        manifest.dataset
    );
    let per_class = match (counts.iter().min(), counts.iter().max()) {
        (Some(least), Some(most)) if least == most => least.to_string(),
        (Some(least), Some(most)) => format!("{least} to {most}"),
        _ => "none".into(),
    };
    let _ = writeln!(text, "of each class: {per_class}");
    let _ = writeln!(text, "values:        {}, from {least:.4} to {greatest:.4}", manifest.space);
    let numbers = |values: &[f64]| values.iter().map(f64::to_string).collect::<Vec<_>>().join(", ");
    let normalised = match manifest.mean.is_empty() {
        true => "nobody tells by what".to_string(),
        false => format!("by mean {} and std {}", numbers(&manifest.mean), numbers(&manifest.std)),
    };
    let whitened = if manifest.whitening.is_some() { ", then whitened" } else { "" };
    let _ = writeln!(text, "normalised:    in its networks {normalised}{whitened}");
    let _ = writeln!(text, "labels:        {}", manifest.labels);
    for (name, value) in &manifest.learned {
        let _ = writeln!(text, "learned:       {name} {value}");
    }
    let from = match &manifest.origin {
        Origin::Run { objective, seed, .. } => format!("made by `{objective}`, seed {seed}"),
        Origin::Import { imported } => {
            format!("imported from `{}` ({}, {} there)", imported.source, imported.form, imported.space)
        }
    };
    let _ = writeln!(text, "origin:        {from}");
    let outside = set.images.lt(0.0).f_logical_or(&set.images.gt(1.0))?.sum(Kind::Int64).f_int64_value(&[])?;
    if outside > 0 {
        let _ = writeln!(text, "outside [0,1]: {outside} of {} values", set.images.numel());
    }
    Ok(text)
}
