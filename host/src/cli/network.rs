//! `guard-host network info`.

use super::{Format, complete, print, print_json};
use crate::{
    cli::Failure,
    network::{Architecture, Layer, NetworkSpec, Summary},
    recipe::{Document, Problems},
};
use clap::Args;
use clap_complete::ArgValueCompleter;
use comfy_table::{CellAlignment, Table, presets};
use guard_sdk::Error;
use indicatif::{HumanBytes, HumanCount};
use serde_json::{Value, json};
use std::fmt::Write;

/// What `network info` takes.
#[derive(Debug, Args)]
pub(super) struct InfoArguments {
    /// The architecture, as in a recipe's `[network]`.
    #[arg(value_name = "ARCH", add = ArgValueCompleter::new(complete::architectures))]
    architecture: String,
    /// How many classes it tells apart; those of the data that it was published for if left out.
    #[arg(long, value_name = "N")]
    classes: Option<i64>,
    /// Channels, height and width of the images, e.g. 3x32x32; those that it was published for if left out.
    #[arg(long, value_name = "CxHxW", value_parser = image)]
    input: Option<[i64; 3]>,
    /// Change an option of the architecture, e.g. `--set stem=cifar`. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
}

/// Tells an architecture's layers, their shapes, and what they cost.
pub(super) fn info(format: Format, arguments: &InfoArguments) -> Result<(), Failure> {
    let architecture = architecture(&arguments.architecture, &arguments.sets)?;
    let (input, classes) = architecture.published_for();
    let input = arguments.input.unwrap_or(input);
    let channels = input[0].clamp(0, i64::from(u16::MAX)) as usize;
    let spec = NetworkSpec {
        architecture,
        input,
        classes: arguments.classes.unwrap_or(classes),
        // Neither counts here.
        mean: vec![0.0; channels],
        std: vec![1.0; channels],
        whitening: None,
        precision: Default::default(),
    };
    let summary = Summary::of(&spec).map_err(Failure::Usage)?;
    match format {
        Format::Json => print_json(&json(&spec, &summary)),
        Format::Human => print(&text(&spec, &summary)),
    }
}

/// Reads the name and its options as a recipe's `[network]` is read.
fn architecture(name: &str, sets: &[String]) -> Result<Architecture, Failure> {
    let text = format!("architecture = {}", toml::Value::from(name));
    let mut document = Document::parse("the command line", &text).map_err(Failure::Recipe)?;
    let mut problems = Vec::new();
    for set in sets {
        if let Err(refused) = document.set(set) {
            problems.extend(refused.into_vec());
        }
    }
    let schema = schemars::schema_for!(Architecture).to_value();
    problems.extend(document.validate(&schema, ""));
    if !problems.is_empty() {
        return Err(Failure::Recipe(Problems::new(problems)));
    }
    let architecture = serde_json::from_value(document.value().clone());
    architecture.map_err(|error| Failure::Usage(Error::from(error)))
}

/// The network as a recipe would have it, with every option, and its layers.
fn json(spec: &NetworkSpec, summary: &Summary) -> Value {
    json!({
        "network": spec.architecture,
        "input": spec.input,
        "classes": spec.classes,
        "layers": summary.layers,
        "parameters": summary.parameters,
        "multiply_adds": summary.multiply_adds,
    })
}

fn text(spec: &NetworkSpec, summary: &Summary) -> String {
    let mut text = format!(
        "{} for {} classes of {} images\n",
        spec.architecture.name(),
        spec.classes,
        shape(&spec.input)
    );
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header([
        "layer",
        "operation",
        "output",
        "parameters",
        "multiply-adds",
    ]);
    for Layer { name, operation, output, parameters, multiply_adds } in &summary.layers {
        table.add_row([
            name.clone(),
            operation.clone(),
            shape(output),
            count(*parameters),
            count(*multiply_adds),
        ]);
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for line in table.to_string().lines() {
        let _ = writeln!(text, "{}", line.trim_end());
    }
    let bytes = HumanBytes(4 * summary.parameters.unsigned_abs());
    let _ = writeln!(text, "parameters:    {} ({bytes} in float32)", count(summary.parameters));
    let _ = writeln!(text, "multiply-adds: {} an image", count(summary.multiply_adds));
    text
}

fn count(number: i64) -> String {
    HumanCount(number.unsigned_abs()).to_string()
}

fn shape(sides: &[i64]) -> String {
    sides.iter().map(i64::to_string).collect::<Vec<_>>().join("x")
}

/// Reads `3x32x32`.
fn image(text: &str) -> Result<[i64; 3], String> {
    let sides: Option<Vec<i64>> = text.split('x').map(|side| side.parse().ok()).collect();
    let sides = sides.and_then(|sides| <[i64; 3]>::try_from(sides).ok());
    sides.ok_or_else(|| "write channels, height and width, e.g. 3x32x32".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: &str, sets: &[&str]) -> String {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        architecture(name, &sets).unwrap_err().render(false)
    }

    #[test]
    fn a_wrong_name_or_option_is_told_with_the_nearest_good_one() {
        let misspelt = refusal("resnet19", &[]);
        assert!(misspelt.contains("unknown value `resnet19` for `architecture`"), "{misspelt}");
        assert!(misspelt.contains("did you mean `resnet18`?"), "{misspelt}");
        let other_familys = refusal("resnet18", &["patch=4"]);
        assert!(other_familys.contains("unknown key `patch`"), "{other_familys}");
        assert!(other_familys.contains("choose `architecture`, `stem` or `width`"), "{other_familys}");
        assert!(refusal("vit_tiny", &["patch=0"]).contains("`patch` must be at least 1, found 0"));
        assert!(refusal("wrn-16-2", &["dropout=1"]).contains("`dropout` must be at most 0.99"));
    }

    #[test]
    fn images_are_read_as_three_numbers() {
        assert_eq!(image("3x32x40"), Ok([3, 32, 40]));
        for wrong in ["", "3", "32x32", "3x32x32x1", "3x32xa", "3*32*32", "x32x32"] {
            assert!(image(wrong).is_err(), "{wrong}");
        }
    }

    fn resnet18() -> (NetworkSpec, Summary) {
        let spec = NetworkSpec {
            architecture: architecture("resnet18", &["stem=cifar".into()]).unwrap(),
            input: [3, 32, 32],
            classes: 10,
            mean: vec![0.0; 3],
            std: vec![1.0; 3],
            whitening: None,
            precision: Default::default(),
        };
        let summary = Summary::of(&spec).unwrap();
        (spec, summary)
    }

    #[test]
    fn the_text_names_layers_shapes_and_sums() {
        let (spec, summary) = resnet18();
        let text = text(&spec, &summary);
        assert!(text.starts_with("resnet18 for 10 classes of 3x32x32 images\n"), "{text}");
        assert!(text.contains("| layer2.0.downsample.0 | conv 1x1, stride 2  | 128x16x16 |"), "{text}");
        assert!(text.contains("parameters:    11,173,962 (42.63 MiB in float32)\n"), "{text}");
        assert!(text.ends_with("multiply-adds: 555,422,720 an image\n"), "{text}");
    }

    #[test]
    fn json_has_the_resolved_network_and_its_layers() {
        let (spec, summary) = resnet18();
        let value = json(&spec, &summary);
        let network = json!({ "architecture": "resnet18", "stem": "cifar", "width": 64 });
        assert_eq!((&value["network"], &value["multiply_adds"]), (&network, &json!(555_422_720)));
        let stem = json!({ "name": "conv1", "operation": "conv 3x3", "output": [64, 32, 32],
            "parameters": 1728, "multiply_adds": 1_769_472 });
        assert_eq!(value["layers"][0], stem);
    }
}
