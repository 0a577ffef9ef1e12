//! `guard-host run`.

use super::{Format, Session, missing_recipe, print, print_json};
use crate::{
    cli::Failure,
    data::{self, Prepared},
    engine::{ImageCounts, Pipeline, estimate},
    plan::{Plan, check_methods},
    random::Streams,
    recipe::{self, EvaluationSplit, Loaded, Problems},
    report::{arrays, json, legacy, page, summary, table},
    run::{Display, Journal, RunDirectory, write_atomically, write_text},
};
use clap::Args;
use guard_sdk::{Device, Error, Tensor};
use std::{fs, path::PathBuf};

/// The recipe that runs when none is named.
const BUILT_IN: (&str, &str) = ("digits.toml", include_str!("../../../configs/digits.toml"));

/// What `run` takes.
#[derive(Debug, Args)]
pub(super) struct RunArguments {
    /// The recipe, a TOML file; the built-in one if left out.
    recipe: Option<PathBuf>,
    /// Change a value of the recipe, e.g. `--set training.epochs=5`. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Run only this variant of the recipe. May be repeated.
    #[arg(long = "variant", value_name = "NAME")]
    variants: Vec<String>,
    /// Print the resolved plan and stop.
    #[arg(long)]
    dry_run: bool,
    /// The run directory; `runs/NAME` if left out. It must be empty.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Show no progress.
    #[arg(long, short)]
    quiet: bool,
}

impl RunArguments {
    /// Whether anything was typed.
    pub(super) fn was_given(&self) -> bool {
        self.recipe.is_some()
            || !(self.sets.is_empty() && self.variants.is_empty())
            || self.dry_run
            || self.out.is_some()
            || self.quiet
    }
}

pub(super) fn run(mut session: Session, arguments: &RunArguments) -> Result<(), Failure> {
    let (name, text) = match &arguments.recipe {
        Some(path) => (
            path.display().to_string(),
            fs::read_to_string(path).map_err(|error| missing_recipe(path, &error))?,
        ),
        None => (BUILT_IN.0.to_string(), BUILT_IN.1.to_string()),
    };
    let mut loaded = recipe::load(&name, &text, &arguments.sets).map_err(|problems| {
        let documents = recipe::documents(&name, &text, &arguments.sets);
        let more = check_methods(&documents, &session.requests, &mut session.plugins);
        Problems::new(problems.into_vec().into_iter().chain(more).collect())
    })?;
    choose(&mut loaded, &arguments.variants)?;
    let prepared = data::prepare(&loaded.recipe.data);
    let mut plan = Plan::new(&loaded, &prepared, &session.requests, &mut session.plugins)?;
    if arguments.dry_run {
        if !arguments.quiet {
            tell_estimate(&plan, &session, prepared.as_ref().ok().and_then(Prepared::image_counts));
        }
        return dry_run(&session, &plan);
    }
    let device = Device::Cpu;
    let mut data = prepared?.open()?;
    plan.complete(&data);
    if loaded.recipe.evaluate.split == EvaluationSplit::Validation {
        data = data.with_validation(&Streams::new(plan.seed));
    }
    let directory = RunDirectory::create(&PathBuf::from("runs"), &plan.name, arguments.out.as_deref())
        .map_err(
            |error| if error.code == "occupied" { Failure::Usage(error) } else { Failure::Run(error) },
        )?;
    let text = with_choices(&text, arguments);
    directory.begin(&text, &plan)?;
    if !arguments.quiet {
        tell_estimate(&plan, &session, Some([data.train.len(), data.test.len()]));
    }
    let display = if arguments.quiet { Display::Quiet } else { Display::Automatic };
    let journal = Journal::create(directory.path(), display)?;
    let pipeline = Pipeline {
        plan: &plan,
        plugins: &session.plugins,
        data: &data,
        directory: &directory,
        journal: &journal,
        recipe_blake3: blake3::hash(text.as_bytes()).to_hex().to_string(),
        device,
    };
    let results = pipeline.run()?;
    for variant in &results.variants {
        let folder = directory.variant(&plan, &variant.name).join("evaluations");
        let students = variant.students.iter().map(|student| (student.file_name(), &student.evaluation));
        let teacher = variant.teacher.iter().map(|teacher| ("teacher".to_string(), teacher));
        for (network, evaluation) in teacher.chain(students) {
            write_atomically(&folder.join(format!("{network}.safetensors")), |aside| {
                Ok(Tensor::write_safetensors(&arrays(evaluation), aside)?)
            })?;
        }
    }
    let (figures, others, results) = (summary(&results), legacy(&plan, &results), json(&results));
    directory.write_json("results.json", &results)?;
    directory.write_json("legacy.json", &others.json())?;
    let sheets: Vec<(String, String)> = plan
        .variants
        .iter()
        .filter(|variant| variant.distillation.is_some())
        .map(|variant| {
            let folder = directory.variant(&plan, &variant.name).join("distilled/contact-sheet.png");
            let relative = folder.strip_prefix(directory.path()).unwrap_or(&folder);
            (variant.name.clone(), relative.display().to_string())
        })
        .collect();
    let page = page(&plan, &figures, &others, &data.skipped, &sheets);
    write_text(&directory.path().join("report.html"), &page)?;
    if display == Display::Automatic {
        if !data.skipped.is_empty() {
            eprintln!(
                "{} images were left out because they cannot be used: see `results.json`",
                data.skipped.len()
            );
        }
        eprintln!("results in `{}`", directory.path().display());
    }
    match session.format {
        Format::Human => print(&table(&figures)),
        Format::Json => print_json(&results),
    }
}

/// Leaves the variants that were asked for, in the recipe's order; all if none were.
fn choose(recipe: &mut Loaded, names: &[String]) -> Result<(), Failure> {
    let known: Vec<String> = recipe.variants.iter().map(|variant| format!("`{}`", variant.name)).collect();
    if let Some(unknown) = names.iter().find(|name| recipe.variants.iter().all(|each| each.name != **name)) {
        let error = Error::new(format!("the recipe has no variant `{unknown}`"));
        return Err(Failure::Usage(error.help(format!("it has {}", known.join(", ")))));
    }
    recipe.variants.retain(|variant| names.is_empty() || names.contains(&variant.name));
    Ok(())
}

/// The recipe as given, with what was chosen and changed on the command line as comments.
fn with_choices(text: &str, arguments: &RunArguments) -> String {
    let sets = arguments.sets.iter().map(|set| format!("# --set {set}\n"));
    let variants = arguments.variants.iter().map(|name| format!("# --variant {name}\n"));
    sets.chain(variants).collect::<String>() + text
}

/// What each variant will take, on stderr. A run that cannot be estimated is run all the same.
fn tell_estimate(plan: &Plan, session: &Session, images: ImageCounts) {
    match estimate(plan, &session.plugins, images) {
        Ok(estimates) => {
            for (variant, estimate) in plan.variants.iter().zip(&estimates) {
                eprintln!("{}: {}", variant.name, estimate.describe());
            }
        }
        Err(error) => eprintln!("no estimate of time, memory and disk: {error}"),
    }
}

fn dry_run(session: &Session, plan: &Plan) -> Result<(), Failure> {
    if session.format == Format::Json {
        return print_json(&serde_json::to_value(plan).map_err(Error::from)?);
    }
    let text =
        toml::to_string(plan).map_err(|error| Error::new(format!("the plan cannot be printed: {error}")))?;
    print(&text)
}
