//! `guard-host merge`.

use super::{
    Failure, Session,
    run::{CHECKPOINT_EVERY, RunArguments, Task, go, seconds},
    written::Written,
};
use crate::run::{Begun, Shard, Typed, Work};
use clap::Args;
use guard_sdk::{Error, Result};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// What `merge` takes.
#[derive(Debug, Args)]
pub(super) struct MergeArguments {
    /// The directories of the parts, all of them.
    #[arg(value_name = "RUN", required = true)]
    parts: Vec<PathBuf>,
    /// The run directory; `runs/NAME` if left out. It must be empty.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Take what the run in this directory has finished as well. May be repeated.
    #[arg(long, value_name = "DIR")]
    reuse: Vec<PathBuf>,
    /// How often a stage that is running leaves a checkpoint; 0 for after every step.
    #[arg(long, value_name = "SECONDS", default_value = CHECKPOINT_EVERY, value_parser = seconds)]
    checkpoint_every: Duration,
    /// Show no progress.
    #[arg(long, short)]
    quiet: bool,
}

/// Joins the parts of a run, and goes on with its students.
pub(super) fn merge(session: Session, arguments: &MergeArguments) -> Result<(), Failure> {
    let first = parts(&arguments.parts).map_err(Failure::Usage)?;
    let recipe = Written::of_run(&first);
    let typed = Typed { work: Work::Joined(arguments.parts.len() as u64), ..first.typed };
    let reuse = [arguments.parts.clone(), arguments.reuse.clone()].concat();
    let run =
        RunArguments::of_others(reuse, arguments.out.clone(), arguments.checkpoint_every, arguments.quiet);
    go(session, Task { typed, recipe, begun: None }, &run)
}

/// What the first of the parts says, once they are seen to make a whole.
fn parts(paths: &[PathBuf]) -> Result<Begun> {
    let mut found: Vec<(&Path, Shard, Begun)> = Vec::new();
    for path in paths {
        let begun = Begun::read(path)?;
        let Work::Part(shard) = begun.typed.work else {
            let message = format!("`{}` is no part of a run", path.display());
            return Err(Error::new(message).help("give the directories of runs with `--shard I/N`"));
        };
        if let Some((first, other, before)) = found.first() {
            let changes = before.differs_from(&begun);
            if other.count != shard.count || !changes.is_empty() {
                let what = format!(
                    "`{}` is part {other}, `{}` part {shard} of something else",
                    first.display(),
                    path.display()
                );
                return Err(changes.into_iter().fold(Error::new(what), Error::cause));
            }
        }
        if let Some((other, ..)) = found.iter().find(|(_, other, _)| *other == shard) {
            let message = format!("`{}` and `{}` are both part {shard}", other.display(), path.display());
            return Err(Error::new(message).help("give each part once"));
        }
        let plan = begun.plan(path)?;
        let done = plan.variants.iter().filter(|variant| variant.distillation.is_some()).all(|variant| {
            let [tensors, record] =
                shard.files().map(|file| path.join(plan.folder(&variant.name)).join(file));
            tensors.is_file() && record.is_file()
        });
        if !done {
            let message = format!("part {shard} in `{}` is not finished", path.display());
            return Err(Error::new(message).help(format!("`guard-host --resume {}` goes on", path.display())));
        }
        found.push((path, shard, begun));
    }
    let count = found[0].1.count;
    let missing: Vec<String> = (0..count)
        .map(|index| Shard { index, count })
        .filter(|shard| found.iter().all(|(_, other, _)| other != shard))
        .map(|shard| shard.to_string())
        .collect();
    match missing.is_empty() {
        true => Ok(found.swap_remove(0).2),
        false => Err(Error::new(format!("part {} is missing", missing.join(" and ")))
            .help("make it with `run --shard`, and give its directory, too")),
    }
}
