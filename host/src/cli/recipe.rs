//! `guard-host recipe check|show|diff|schema`.

use super::{Failure, Format, Session, print, print_json, run::checked, written::Written};
use crate::{
    data,
    plan::{Complete, Plan, complete},
    plugin::Plugins,
    recipe::{self, Difference, Loaded, Location, Problem, Problems, differences},
    run::Begun,
};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[derive(Debug, Subcommand)]
pub(super) enum RecipeCommand {
    /// Find everything that is wrong with recipes, and run nothing.
    Check(CheckArguments),
    /// Print a recipe with all its defaults, and where each value comes from.
    Show(ShowArguments),
    /// Tell what two recipes, or the recipes of two runs, do otherwise.
    Diff(DiffArguments),
    /// Print the JSON Schema of recipes, for editors.
    Schema,
}

#[derive(Debug, Args)]
pub(super) struct CheckArguments {
    /// TOML files.
    #[arg(value_name = "RECIPE", required = true)]
    recipes: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct ShowArguments {
    /// A TOML file, or the directory of a run.
    #[arg(value_name = "RECIPE")]
    recipe: PathBuf,
    /// Change a value of the recipe, e.g. `--set training.epochs=5`. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct DiffArguments {
    /// A TOML file, or the directory of a run.
    before: PathBuf,
    /// Another.
    after: PathBuf,
}

pub(super) fn recipe(session: Session, command: &RecipeCommand) -> Result<(), Failure> {
    match command {
        RecipeCommand::Check(arguments) => check(&session, arguments),
        RecipeCommand::Show(arguments) => show(session, arguments),
        RecipeCommand::Diff(arguments) => diff(session, arguments),
        RecipeCommand::Schema => print_json(&recipe::schema()),
    }
}

/// All recipes are looked at, whatever is wrong with the first.
fn check(session: &Session, arguments: &CheckArguments) -> Result<(), Failure> {
    let (mut good, mut bad, mut all) = (String::new(), Vec::new(), Vec::new());
    for path in &arguments.recipes {
        let file = path.display().to_string();
        let problems = match plan_of(session, path) {
            Ok(plan) => {
                let plugins: Vec<&str> = plan.plugins.iter().map(|plugin| plugin.id.as_str()).collect();
                let count = match plan.variants.len() {
                    1 => "1 variant".to_string(),
                    count => format!("{count} variants"),
                };
                good += &format!("{file}: good: {count}, {}\n", plugins.join(", "));
                all.push(json!({ "file": file, "good": true, "problems": [] }));
                continue;
            }
            Err(Failure::Recipe(problems)) => problems.into_vec(),
            Err(other) => vec![Problem::new(other.render(false).trim_start_matches("error: "))],
        };
        let told: Vec<Value> = problems.iter().map(problem_json).collect();
        all.push(json!({ "file": file, "good": false, "problems": told }));
        bad.extend(problems);
    }
    match session.format {
        Format::Json => print_json(&all.into())?,
        Format::Human => print(&good)?,
    }
    if bad.is_empty() { Ok(()) } else { Err(Problems::new(bad).into()) }
}

fn plan_of(session: &Session, path: &Path) -> Result<Plan, Failure> {
    let mut session = Session {
        requests: session.requests.clone(),
        format: session.format,
        // What one recipe loads, the next may have forgotten to name.
        plugins: session.plugins.afresh(),
    };
    let loaded = checked(&Written::read(path)?, &[], &mut session)?;
    let prepared = data::prepare(&loaded.recipe.data);
    Ok(Plan::new(&loaded, &prepared, &session.requests, &mut session.plugins)?)
}

fn problem_json(problem: &Problem) -> Value {
    let place = problem.location.as_ref();
    json!({
        "message": problem.message,
        "at": place.map(Location::name),
        "line": place.and_then(Location::line),
        "column": place.and_then(Location::column),
        "help": problem.help,
    })
}

/// The recipe of a file or a run.
fn read(path: &Path, sets: &[String]) -> Result<(Written, Vec<String>, Vec<String>), Failure> {
    if !path.is_dir() {
        return Ok((Written::read(path)?, sets.to_vec(), Vec::new()));
    }
    let begun = Begun::read(path).map_err(Failure::Usage)?;
    let sets = [&begun.typed.sets, sets].concat();
    Ok((Written::of_run(&begun), sets, begun.typed.plugins))
}

fn completed(session: &mut Session, path: &Path, sets: &[String]) -> Result<Vec<Complete>, Failure> {
    let (written, sets, requests) = read(path, sets)?;
    let loaded = checked(&written, &sets, session)?;
    named(&loaded, &requests, &mut session.plugins)?;
    Ok(complete(&loaded, &mut session.plugins)?)
}

/// Loads the plugins that a recipe names.
fn named(loaded: &Loaded, requests: &[String], plugins: &mut Plugins) -> Result<(), Failure> {
    for name in requests.iter().chain(&loaded.recipe.plugins) {
        plugins.load(name).map_err(Failure::Usage)?;
    }
    Ok(())
}

fn show(mut session: Session, arguments: &ShowArguments) -> Result<(), Failure> {
    let requests = std::mem::take(&mut session.requests);
    for request in &requests {
        session.plugins.load(request).map_err(Failure::Usage)?;
    }
    let variants = completed(&mut session, &arguments.recipe, &arguments.sets)?;
    if session.format == Format::Json {
        let all = variants.iter().map(|variant| json!({ "variant": variant.name, "recipe": variant.recipe }));
        return print_json(&all.collect());
    }
    let mut text = String::new();
    for variant in &variants {
        if variants.len() > 1 {
            text += &format!("# variant `{}`\n\n", variant.name);
        }
        text += &variant.text()?;
        text += "\n";
    }
    print(&text)
}

fn diff(mut session: Session, arguments: &DiffArguments) -> Result<(), Failure> {
    let before = completed(&mut session, &arguments.before, &[])?;
    let after = completed(&mut session, &arguments.after, &[])?;
    let mut lines = Vec::new();
    let alone = before.len() == 1 && after.len() == 1;
    for old in &before {
        match after.iter().find(|new| alone || new.name == old.name) {
            Some(new) => lines.extend(
                differences(&old.recipe, &new.recipe)
                    .into_iter()
                    .map(|each| (old.name.clone(), Some((each, old, new)))),
            ),
            None => lines.push((format!("{} → nothing", old.name), None)),
        }
    }
    let added = after.iter().filter(|new| !alone && before.iter().all(|old| old.name != new.name));
    lines.extend(added.map(|new| (format!("nothing → {}", new.name), None)));
    if session.format == Format::Json {
        let json =
            |(variant, difference): &(String, Option<(Difference, &Complete, &Complete)>)| match difference {
                None => json!({ "variant": variant }),
                Some((each, old, new)) => json!({
                    "variant": variant, "key": each.place(), "before": each.before, "after": each.after,
                    "before_from": old.comes_from(&each.pointer), "after_from": new.comes_from(&each.pointer),
                }),
            };
        return print_json(&lines.iter().map(json).collect());
    }
    let line = |(variant, difference): &(String, Option<(Difference, &Complete, &Complete)>)| match difference
    {
        None => format!("variant: {variant}\n"),
        Some((each, old, new)) => {
            let of = if alone { String::new() } else { format!("{variant}: ") };
            let (from, to) = (old.comes_from(&each.pointer), new.comes_from(&each.pointer));
            format!("{of}{}: {}  ({from}; {to})\n", each.place(), each.change())
        }
    };
    print(&lines.iter().map(line).collect::<String>())
}
