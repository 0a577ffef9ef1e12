//! `guard-host evaluate`: clean and robust accuracy of any weights, without a recipe.

use super::{Format, Session, complete, print, print_json};
use crate::{
    cli::Failure,
    data,
    engine::{EvalOnly, Evaluator, Keep, Surrogates, arrays},
    network::{Model, Replayed},
    plan::Plan,
    plugin::Context,
    random::Streams,
    recipe,
    report::{evaluation_json, evaluation_table, legacy_of_network},
    run::{Event, Journal, write_atomically},
};
use clap::Args;
use clap_complete::ArgValueCompleter;
use guard_sdk::Tensor;
use serde_json::Value;
use std::path::PathBuf;
use toml::{Table, Value as Toml};

/// What `evaluate` takes: the keys of a recipe that it needs.
#[derive(Debug, Args)]
pub(super) struct EvaluateArguments {
    /// The weights: a safetensors file, or PyTorch's `.pth` or `.pt`.
    #[arg(long, value_name = "FILE")]
    network: PathBuf,
    /// The network's architecture; what else belongs to it goes through `--set network.KEY=VALUE`.
    #[arg(long, value_name = "NAME", add = ArgValueCompleter::new(complete::architectures))]
    architecture: String,
    /// The data set, or its format.
    #[arg(long, value_name = "NAME", add = ArgValueCompleter::new(complete::datasets))]
    dataset: String,
    /// The folder, or the file, that holds the data set.
    #[arg(long, value_name = "PATH")]
    root: Option<PathBuf>,
    /// The mean that the network's images are normalised with, per channel over pixels in [0,1].
    #[arg(long, value_name = "M,M,M", value_delimiter = ',', requires = "std")]
    mean: Vec<f64>,
    /// The standard deviation, likewise.
    #[arg(long, value_name = "S,S,S", value_delimiter = ',', requires = "mean")]
    std: Vec<f64>,
    /// An attack, by name. May be repeated; its options go through `--set evaluate.attacks.0.options.KEY=VALUE`.
    #[arg(long = "attack", value_name = "NAME", requires = "epsilons", add = ArgValueCompleter::new(complete::attacks))]
    pub(super) attacks: Vec<String>,
    /// The norm that bounds the attacks.
    #[arg(long, value_name = "NORM", default_value = "linf")]
    norm: String,
    /// The radius of the attacks in pixels, such as 8/255 or 0.03. May be repeated; `curve` stands for ½, 1, 2, 4, 8 and 16
    /// levels of 255.
    #[arg(long = "epsilon", value_name = "RADIUS", id = "epsilons")]
    epsilons: Vec<String>,
    /// Another network that attacks may use, and its weights, such as `--surrogate other=other.pth` for `transfer` with
    /// `network = "other"`. May be repeated; what else belongs to it goes through `--set evaluate.networks.NAME.KEY=VALUE`.
    #[arg(long = "surrogate", value_name = "NAME=FILE", value_parser = named_file)]
    surrogates: Vec<(String, String)>,
    /// Look at so many of the test images, of every class in proportion.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Write there, as safetensors, whether each image was right without attack and under each, and how far it was moved.
    #[arg(long, value_name = "FILE")]
    arrays: Option<PathBuf>,
    /// Images in a step; no result depends on it.
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Every random draw derives from this number.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Change any key of the recipe that these options stand for, e.g. `--set data.image_size=64`. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Show no progress.
    #[arg(long, short)]
    quiet: bool,
}

/// `NAME=FILE`.
fn named_file(written: &str) -> Result<(String, String), String> {
    match written.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => Ok((name.into(), file.into())),
        _ => Err("a name and a file are needed, such as `other=weights/other.safetensors`".into()),
    }
}

impl EvaluateArguments {
    /// The recipe that the options stand for.
    fn recipe(&self) -> String {
        let text = |text: &str| Toml::String(text.to_string());
        let number = |number: usize| Toml::Integer(i64::try_from(number).unwrap_or(i64::MAX));
        let numbers = |numbers: &[f64]| Toml::Array(numbers.iter().copied().map(Toml::Float).collect());
        let mut data = Table::from_iter([("dataset".to_string(), text(&self.dataset))]);
        let mut say =
            |key: &str, value: Option<Toml>| data.extend(value.map(|value| (key.to_string(), value)));
        say("root", self.root.as_ref().map(|root| text(&root.to_string_lossy())));
        say("mean", (!self.mean.is_empty()).then(|| numbers(&self.mean)));
        say("std", (!self.std.is_empty()).then(|| numbers(&self.std)));
        say("test_images", self.limit.map(number));
        let mut evaluate = Table::new();
        evaluate.extend(self.batch_size.map(|size| ("batch_size".to_string(), number(size))));
        if !self.epsilons.is_empty() {
            let radius = |written: &String| written.parse().map_or_else(|_| text(written), Toml::Float);
            let epsilons = match self.epsilons.as_slice() {
                [one] => radius(one),
                several => Toml::Array(several.iter().map(radius).collect()),
            };
            let threat = Table::from_iter([("norm".into(), text(&self.norm)), ("epsilon".into(), epsilons)]);
            evaluate.insert("threat".into(), Toml::Table(threat));
        }
        let attack = |name: &String| Toml::Table(Table::from_iter([("use".into(), text(name))]));
        evaluate.insert("attacks".into(), Toml::Array(self.attacks.iter().map(attack).collect()));
        let weights = |(name, file): &(String, String)| {
            (name.clone(), Toml::Table(Table::from_iter([("weights".into(), text(file))])))
        };
        evaluate.insert("networks".into(), Toml::Table(self.surrogates.iter().map(weights).collect()));
        let network = Table::from_iter([("architecture".to_string(), text(&self.architecture))]);
        Table::from_iter([
            ("seed".to_string(), Toml::Integer(i64::try_from(self.seed).unwrap_or(i64::MAX))),
            ("data".into(), Toml::Table(data)),
            ("network".into(), Toml::Table(network)),
            ("evaluate".into(), Toml::Table(evaluate)),
        ])
        .to_string()
    }

    /// Measures and prints; `keep` takes the adversarial images.
    pub(super) fn run(&self, mut session: Session, keep: Option<&dyn Keep>) -> Result<(), Failure> {
        let loaded = recipe::load("the command line", &self.recipe(), &self.sets)?;
        let prepared = data::prepare(&loaded.recipe.data);
        let mut plan = Plan::new(&loaded, &prepared, &session.requests, &mut session.plugins)?;
        let data = prepared?.open()?;
        plan.complete(&data).map_err(Failure::Run)?;
        let variant = &plan.variants[0];
        let device = session.place.device;
        let model = Model::load(&variant.network, &self.network, device).map_err(Failure::Usage)?;

        let display = session.format.display(self.quiet);
        display.say(&Event::of_run("device", &session.place.told()));
        let journal = Journal::without_file(display);
        let log = journal.stage(&self.architecture, "evaluate");
        let streams = Streams::new(plan.seed).named("evaluate");
        let networks = Surrogates::load(&variant.surrogates, device).map_err(Failure::Usage)?;
        let context = Context {
            stage: "evaluate",
            iteration: 0,
            iterations: 0,
            random: &streams,
            recorder: &log,
            plugins: &session.plugins,
            networks: &networks,
            device,
        };
        let evaluate = &variant.recipe.evaluate;
        let evaluator = Evaluator {
            network: EvalOnly::new(Replayed::new(model.for_inference()?)),
            called: None,
            split: &data.test,
            batch_size: evaluate.batch_size,
            probe_images: evaluate.probe_images,
            curvature_images: evaluate.curvature_images,
            observer: &log,
            keep,
        };
        let evaluation = evaluator.run(&evaluate.attacks, &variant.budgets, &context);
        let evaluation = evaluation.map_err(|error| match error.code.as_str() {
            "unknown-network" => Failure::Usage(error),
            _ => Failure::Run(error),
        })?;
        log.finish("done")?;
        if let Some(path) = &self.arrays {
            write_atomically(path, |aside| Ok(Tensor::write_safetensors(&arrays(&evaluation), aside)?))?;
        }
        let (dataset, images) = (&data.info.name, data.test.len());
        match session.format {
            Format::Human => print(&evaluation_table(dataset, images, &evaluation)),
            Format::Json => {
                let mut results = evaluation_json(dataset, images, &evaluation);
                for (result, threat) in results.iter_mut().zip(&evaluation.threats) {
                    result["legacy"] = legacy_of_network(&evaluation, threat);
                }
                // One threat, one object; of several, a list.
                print_json(&if results.len() == 1 { results.remove(0) } else { Value::Array(results) })
            }
        }
    }
}
