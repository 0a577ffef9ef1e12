//! `guard-host run`.

use super::{Format, Session, print, print_json, written::Written};
use crate::{
    cli::Failure,
    data::{self, Prepared},
    engine::{Estimate, ImageCounts, Pipeline, estimate, together},
    plan::{Plan, check_methods, complete},
    plugin::Lock,
    random::Streams,
    recipe::{EvaluationSplit, Loaded, Problems},
    report::{RESULTS, RunRecord, json, legacy, page, summary, table},
    run::{
        Begun, CANCELLED, Event, Interruption, Journal, RunDirectory, Shard, Stages, Typed, Work, shell,
        write_text,
    },
};
use clap::{Args, ValueEnum};
use guard_sdk::Error;
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// In seconds.
pub(super) const CHECKPOINT_EVERY: &str = "60";

/// What `run` takes.
#[derive(Debug, Default, Args)]
pub(super) struct RunArguments {
    /// The recipe, a TOML file; the built-in one if left out.
    recipe: Option<PathBuf>,
    /// Change a value of the recipe, e.g. `--set training.epochs=5`. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Run every value of a list as a variant, e.g. `--over distill.images_per_class=[1,10]`; several of these make a grid.
    #[arg(long = "over", value_name = "KEY=[VALUE,...]")]
    overs: Vec<String>,
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
    /// Stop after this stage, e.g. to share its networks through `--reuse`.
    #[arg(long, value_enum, value_name = "STAGE", conflicts_with_all = ["shard", "resume"])]
    until: Option<Until>,
    /// Make only this part of the synthetic images, e.g. `2/4`, to be joined by `merge`; `slurm` for the part of an array job.
    #[arg(long, value_name = "I/N", conflicts_with = "resume")]
    shard: Option<Shard>,
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
    #[arg(long, value_name = "SECONDS", default_value = CHECKPOINT_EVERY, value_parser = seconds)]
    checkpoint_every: Duration,
    /// Show no progress.
    #[arg(long, short)]
    quiet: bool,
}

/// Where a run may stop.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Until {
    /// After the networks trained on real data.
    Train,
}

pub(super) fn seconds(written: &str) -> Result<Duration, String> {
    let seconds = written.parse().map_err(|error| format!("{error}"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

impl RunArguments {
    /// Those of a run that takes what others have finished.
    pub(super) fn of_others(
        reuse: Vec<PathBuf>,
        out: Option<PathBuf>,
        checkpoint_every: Duration,
        quiet: bool,
    ) -> Self {
        Self { out, reuse, checkpoint_every, quiet, ..Self::default() }
    }

    /// Whether anything was typed.
    pub(super) fn was_given(&self) -> bool {
        self.recipe.is_some()
            || !(self.sets.is_empty() && self.overs.is_empty() && self.variants.is_empty())
            || self.dry_run
            || self.locked
            || self.out.is_some()
            || self.until.is_some()
            || self.shard.is_some()
            || self.resume.is_some()
            || !self.reuse.is_empty()
            || self.quiet
    }
}

/// A run to be done: what it is, and where, if it was begun before.
pub(super) struct Task {
    pub typed: Typed,
    pub recipe: Written,
    pub begun: Option<(RunDirectory, Begun)>,
}

impl Task {
    /// What the command line says; what it leaves out is as it was when the run was begun that is to be resumed.
    fn new(session: &Session, arguments: &RunArguments) -> Result<Self, Failure> {
        let begun = arguments.resume.as_deref().map(RunDirectory::resume).transpose().map_err(refused)?;
        let earlier = begun.as_ref().map(|(_, begun)| begun);
        let recipe = match (&arguments.recipe, earlier) {
            (Some(path), _) => Written::read(path)?,
            (None, Some(begun)) => Written::of_run(begun),
            (None, None) => Written::built_in(),
        };
        let mut typed = earlier.map(|begun| begun.typed.clone()).unwrap_or_default();
        (typed.recipe, typed.built_in) = (recipe.name.clone(), recipe.built_in);
        typed.sets.extend(arguments.sets.iter().cloned());
        typed.sets.extend(arguments.overs.iter().map(|over| format!("sweep.{over}")));
        typed.plugins.extend(session.requests.iter().cloned());
        if !arguments.variants.is_empty() {
            typed.variants.clone_from(&arguments.variants);
        }
        match (arguments.until, arguments.shard) {
            (Some(Until::Train), _) => typed.work = Work::Teachers,
            (_, Some(shard)) => typed.work = Work::Part(shard),
            _ => {}
        }
        Ok(Self { typed, recipe, begun })
    }

    /// The folder: a new one, or that of the run as it was begun.
    fn directory(mut self, plan: &Plan, arguments: &RunArguments) -> Result<RunDirectory, Failure> {
        let directory = match self.begun {
            None => {
                let name = match self.typed.work {
                    Work::Part(Shard { index, count }) => format!("{}-{}-of-{count}", plan.name, index + 1),
                    _ => plan.name.clone(),
                };
                RunDirectory::create(&PathBuf::from("runs"), &name, arguments.out.as_deref())
                    .map_err(refused)?
            }
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
        self.typed.bases = self.recipe.bases();
        directory.begin(&self.recipe.text, &self.typed, plan)?;
        Ok(directory)
    }
}

/// What is the matter with a run directory is a matter of usage, unless the file system is to blame.
fn refused(error: Error) -> Failure {
    match error.code.as_str() {
        "occupied" | "no-run" | "in-use" | "no-part" => Failure::Usage(error),
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
    go(session, task, arguments)
}

pub(super) fn go(mut session: Session, task: Task, arguments: &RunArguments) -> Result<(), Failure> {
    session.requests.clone_from(&task.typed.plugins);
    let sets = &task.typed.sets;
    let mut loaded = checked(&task.recipe, sets, &mut session)?;
    choose(&mut loaded, &task.typed.variants)?;
    let prepared = data::prepare(&loaded.recipe.data);
    let plan = Plan::new(&loaded, &prepared, &session.requests, &mut session.plugins)?;
    let mut plan = plan.computed_at(&session.place);
    can_be_divided(&plan, task.typed.work)?;
    if arguments.dry_run {
        let images = prepared.as_ref().ok().and_then(Prepared::image_counts);
        if !arguments.quiet {
            tell_estimate(&plan, &session, images);
        }
        return dry_run(&mut session, &loaded, &plan, images);
    }
    let device = session.place.device;
    let mut data = prepared?.open()?;
    if loaded.recipe.evaluate.split == EvaluationSplit::Validation {
        data = data.with_validation(&Streams::new(plan.seed));
    }
    plan.complete(&data).map_err(Failure::Run)?;
    let others = Stages::of_others(&arguments.reuse).map_err(refused)?;
    let recipe_blake3 = blake3::hash(task.recipe.text.as_bytes()).to_hex().to_string();
    let work = task.typed.work;
    let directory = task.directory(&plan, arguments)?;
    if !arguments.quiet {
        tell_estimate(&plan, &session, Some([data.train.len(), data.test.len()]));
    }
    let display = session.format.display(arguments.quiet);
    display.say(&Event::of_run("device", &session.place.told()));
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
        work,
        recipe_blake3,
        device,
    };
    let goes_on = || resume_command(directory.path(), arguments);
    // A full disk loses nothing but what was being written.
    let failed = |error: Error| match &error {
        Error { code, help: None, .. } if code == "file" => {
            Failure::Run(error.help(format!("once that is put right, this goes on: {}", goes_on())))
        }
        _ => refused(error),
    };
    let results = pipeline.run().map_err(|error| match interruption.exit_code() {
        Some(exit_code) if error.code == CANCELLED => Failure::Stopped { exit_code, resume: goes_on() },
        _ => failed(error),
    })?;
    if matches!(work, Work::Teachers | Work::Part(_)) {
        display.say(&Event::of_run("done", &format!("done in `{}`", directory.path().display())));
        return Ok(());
    }
    let (figures, others, results) = (summary(&results), legacy(&plan, &results), json(&results));
    directory.write_json(RESULTS, &results).map_err(failed)?;
    directory.write_json("legacy.json", &others.json()).map_err(failed)?;
    let page = RunRecord::read(directory.path()).and_then(|run| page(&run)).map_err(failed)?;
    write_text(&directory.path().join("report.html"), &page).map_err(failed)?;
    if !data.skipped.is_empty() {
        let count = data.skipped.len();
        let text = format!("{count} images were left out because they cannot be used: see `results.json`");
        display.say(&Event::of_run("warning", &text));
    }
    display.say(&Event::of_run("done", &format!("results in `{}`", directory.path().display())));
    match session.format {
        Format::Human => print(&table(&figures)),
        Format::Json => print_json(&results),
    }
}

/// Refuses parts of what must be made together.
fn can_be_divided(plan: &Plan, work: Work) -> Result<(), Failure> {
    let Work::Part(Shard { count, .. }) = work else { return Ok(()) };
    for variant in &plan.variants {
        let (Some(found), Some(distill)) = (&variant.distillation, &variant.recipe.distill) else { continue };
        let groups = together(&found.needs, plan.data.classes.len() as u64, distill.images_per_class as u64);
        let objective = &distill.objective;
        let (message, help) = match groups.len() {
            _ if found.iterations == 0 => (
                format!(
                    "objective `{objective}` takes its images and optimises nothing, so there are no parts"
                ),
                "run it whole".to_string(),
            ),
            1 => (
                format!(
                    "the images of objective `{objective}` are all optimised together, so there are no parts"
                ),
                "run it whole; `--until train` and `--reuse` share its teacher".to_string(),
            ),
            groups if (groups as u64) < count => (
                format!("there are {groups} groups of images, fewer than {count} parts"),
                format!("divide it into {groups} parts at most"),
            ),
            _ => continue,
        };
        let error = Error::new(format!("variant `{}`: {message}", variant.name));
        return Err(Failure::Usage(error.help(help)));
    }
    Ok(())
}

/// The recipe; if it is refused, with what plugins have to say of it as well.
pub(super) fn checked(recipe: &Written, sets: &[String], session: &mut Session) -> Result<Loaded, Problems> {
    recipe.load(sets).map_err(|problems| {
        let documents = recipe.documents(sets);
        let more = check_methods(&documents, &session.requests, &mut session.plugins);
        Problems::new(problems.into_vec().into_iter().chain(more).collect())
    })
}

/// What to type to go on with a run that was stopped, as a shell reads it.
fn resume_command(run: &Path, arguments: &RunArguments) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "guard-host".into());
    let reuse = arguments.reuse.iter().flat_map(|run| ["--reuse".into(), run.display().to_string()]);
    shell([program, "--resume".into(), run.display().to_string()].into_iter().chain(reuse))
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
    let display = session.format.display(false);
    match estimate(plan, &session.plugins, images) {
        Ok(estimates) => {
            for (variant, estimate) in plan.variants.iter().zip(&estimates) {
                let text = estimate.describe();
                display.say(&Event { variant: Some(&variant.name), ..Event::of_run("estimate", &text) });
            }
        }
        Err(error) => {
            let text = format!("no estimate of time, memory and disk: {error}");
            display.say(&Event::of_run("warning", &text));
        }
    }
}

fn dry_run(session: &mut Session, loaded: &Loaded, plan: &Plan, images: ImageCounts) -> Result<(), Failure> {
    let variants = complete(loaded, &mut session.plugins)?;
    if session.format == Format::Json {
        let mut value = serde_json::to_value(plan).map_err(Error::from)?;
        value["origins"] = variants.iter().map(|variant| Value::Object(variant.origins())).collect();
        // As without JSON: a run that cannot be estimated is no error.
        let estimates = estimate(plan, &session.plugins, images).unwrap_or_default();
        value["estimates"] = estimates.iter().map(Estimate::json).collect();
        return print_json(&value);
    }
    print(&plan.text(&variants)?)
}
