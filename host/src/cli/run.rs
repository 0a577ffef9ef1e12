//! `guard-host run`.

use super::{Format, Session, missing_recipe, print, print_json};
use crate::{
    cli::Failure,
    data::{self, Prepared},
    engine::{ImageCounts, Pipeline, estimate},
    plan::{Plan, check_methods},
    plugin::Lock,
    random::Streams,
    recipe::{self, EvaluationSplit, Loaded, Problems},
    report::{json, legacy, page, summary, table},
    run::{Begun, CANCELLED, Display, Interruption, Journal, RunDirectory, Stages, Typed, write_text},
};
use clap::Args;
use guard_sdk::{Device, Error};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

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
    /// Load the plugins that `plugin lock` wrote down beside the recipe, and no others.
    #[arg(long)]
    locked: bool,
    /// Print the resolved plan and stop.
    #[arg(long)]
    dry_run: bool,
    /// The run directory; `runs/NAME` if left out. It must be empty.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with the run in this directory: its recipe, its changes and its variants, unless others are given. What it
    /// has finished is not run again.
    #[arg(long, value_name = "DIR", conflicts_with = "out")]
    resume: Option<PathBuf>,
    /// Take what the run in this directory has finished, where it is the same: e.g. its networks, to attack them otherwise. May
    /// be repeated.
    #[arg(long, value_name = "DIR")]
    reuse: Vec<PathBuf>,
    /// Resume though something is no longer as it was; what that touches is run again.
    #[arg(long, requires = "resume")]
    force: bool,
    /// How often a stage that is running leaves a checkpoint; 0 for after every step.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    checkpoint_every: Duration,
    /// Show no progress.
    #[arg(long, short)]
    quiet: bool,
}

fn seconds(written: &str) -> Result<Duration, String> {
    let seconds = written.parse().map_err(|error| format!("{error}"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

impl RunArguments {
    /// Whether anything was typed.
    pub(super) fn was_given(&self) -> bool {
        self.recipe.is_some()
            || !(self.sets.is_empty() && self.variants.is_empty())
            || self.dry_run
            || self.locked
            || self.out.is_some()
            || self.resume.is_some()
            || !self.reuse.is_empty()
            || self.quiet
    }
}

/// A run to be done: what it is, and where, if it was begun before.
struct Task {
    typed: Typed,
    recipe: String,
    begun: Option<(RunDirectory, Begun)>,
}

impl Task {
    /// What the command line says; what it leaves out is as it was when the run was begun that is to be resumed.
    fn new(session: &Session, arguments: &RunArguments) -> Result<Self, Failure> {
        let begun = arguments.resume.as_deref().map(RunDirectory::resume).transpose().map_err(refused)?;
        let earlier = begun.as_ref().map(|(_, begun)| begun);
        let (name, recipe) = match (&arguments.recipe, earlier) {
            (Some(path), _) => (
                path.display().to_string(),
                fs::read_to_string(path).map_err(|error| missing_recipe(path, &error))?,
            ),
            (None, Some(begun)) => (begun.typed.recipe.clone(), begun.recipe.clone()),
            (None, None) => (BUILT_IN.0.to_string(), BUILT_IN.1.to_string()),
        };
        let mut typed = earlier.map(|begun| begun.typed.clone()).unwrap_or_default();
        typed.recipe = name;
        typed.sets.extend(arguments.sets.iter().cloned());
        typed.plugins.extend(session.requests.iter().cloned());
        if !arguments.variants.is_empty() {
            typed.variants.clone_from(&arguments.variants);
        }
        Ok(Self { typed, recipe, begun })
    }

    /// The folder: a new one, or that of the run as it was begun.
    fn directory(self, plan: &Plan, arguments: &RunArguments) -> Result<RunDirectory, Failure> {
        let directory = match self.begun {
            None => RunDirectory::create(&PathBuf::from("runs"), &plan.name, arguments.out.as_deref())
                .map_err(refused)?,
            Some((directory, begun)) => {
                let changes = begun.changes(plan)?;
                if !(changes.is_empty() || arguments.force) {
                    let message = "the run would not go on as it was begun";
                    let error = changes.into_iter().fold(Error::new(message), Error::cause);
                    return Err(Failure::Usage(
                        error.help("`--force` goes on all the same, and runs again what that touches"),
                    ));
                }
                directory
            }
        };
        directory.begin(&self.recipe, &self.typed, plan)?;
        Ok(directory)
    }
}

/// What is the matter with a run directory is a matter of usage, unless the file system is to blame.
fn refused(error: Error) -> Failure {
    match error.code.as_str() {
        "occupied" | "no-run" | "in-use" => Failure::Usage(error),
        _ => Failure::Run(error),
    }
}

pub(super) fn run(mut session: Session, arguments: &RunArguments) -> Result<(), Failure> {
    if arguments.locked {
        let recipe = arguments.recipe.as_deref().ok_or_else(|| {
            Failure::usage("`--locked` needs a recipe").help("the lock file lies beside the recipe's")
        })?;
        let lock = Lock::read(&Lock::beside(recipe)).map_err(Failure::Usage)?;
        session.plugins = session.plugins.locked(lock);
    }
    let task = Task::new(&session, arguments)?;
    session.requests.clone_from(&task.typed.plugins);
    let (name, text, sets) = (&task.typed.recipe, &task.recipe, &task.typed.sets);
    let mut loaded = recipe::load(name, text, sets).map_err(|problems| {
        let documents = recipe::documents(name, text, sets);
        let more = check_methods(&documents, &session.requests, &mut session.plugins);
        Problems::new(problems.into_vec().into_iter().chain(more).collect())
    })?;
    choose(&mut loaded, &task.typed.variants)?;
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
    if loaded.recipe.evaluate.split == EvaluationSplit::Validation {
        data = data.with_validation(&Streams::new(plan.seed));
    }
    plan.complete(&data).map_err(Failure::Run)?;
    let others = Stages::of_others(&arguments.reuse).map_err(refused)?;
    let recipe_blake3 = blake3::hash(text.as_bytes()).to_hex().to_string();
    let directory = task.directory(&plan, arguments)?;
    if !arguments.quiet {
        tell_estimate(&plan, &session, Some([data.train.len(), data.test.len()]));
    }
    let display = if arguments.quiet { Display::Quiet } else { Display::Automatic };
    let interruption = Interruption::of_signals()?;
    let journal = Journal::open(directory.path(), display)?.stopped_by(interruption.clone());
    let stages = Stages::open(directory.path(), others, arguments.checkpoint_every)?;
    let pipeline = Pipeline {
        plan: &plan,
        plugins: &session.plugins,
        data: &data,
        directory: &directory,
        journal: &journal,
        stages: &stages,
        recipe_blake3,
        device,
    };
    let goes_on = || resume_command(directory.path(), arguments);
    // A full disk loses nothing but what was being written.
    let failed = |error: Error| match &error {
        Error { code, help: None, .. } if code == "file" => {
            Failure::Run(error.help(format!("once that is put right, this goes on: {}", goes_on())))
        }
        _ => Failure::Run(error),
    };
    let results = pipeline.run().map_err(|error| match interruption.exit_code() {
        Some(exit_code) if error.code == CANCELLED => Failure::Stopped { exit_code, resume: goes_on() },
        _ => failed(error),
    })?;
    let (figures, others, results) = (summary(&results), legacy(&plan, &results), json(&results));
    directory.write_json("results.json", &results).map_err(failed)?;
    directory.write_json("legacy.json", &others.json()).map_err(failed)?;
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
    write_text(&directory.path().join("report.html"), &page).map_err(failed)?;
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

/// What to type to go on with a run that was stopped, as a shell reads it.
fn resume_command(run: &Path, arguments: &RunArguments) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "guard-host".into());
    let reuse = arguments.reuse.iter().flat_map(|run| ["--reuse".into(), run.display().to_string()]);
    let words = [program, "--resume".into(), run.display().to_string()].into_iter().chain(reuse);
    // Only a NUL cannot be quoted, which no argument holds.
    let quoted = |word: String| shlex::try_quote(&word).map(|quoted| quoted.into_owned()).unwrap_or(word);
    words.map(quoted).collect::<Vec<_>>().join(" ")
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
