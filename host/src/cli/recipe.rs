//! `guard-host recipe check|show|diff|schema`.

use super::{Failure, Format, Session, print, print_json, run::checked, written::Written};
use crate::{
    data,
    plan::{Complete, Plan, complete},
    recipe::{self, Difference, Location, Problem, Problems, differences},
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
            Err(Failure::Usage(error) | Failure::Run(error)) => {
                vec![Problem { help: error.help, ..Problem::new(error.message) }]
            }
            Err(other) => vec![Problem::new(other.render(false))],
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
        place: session.place.clone(),
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
    for name in session.requests.iter().chain(&requests).chain(&loaded.recipe.plugins) {
        session.plugins.load(name).map_err(Failure::Usage)?;
    }
    Ok(complete(&loaded, &mut session.plugins)?)
}

fn show(mut session: Session, arguments: &ShowArguments) -> Result<(), Failure> {
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

/// What two recipes do otherwise: a key of two variants, or a variant that only one of them has.
enum Otherwise<'a> {
    Key(Difference, &'a Complete, &'a Complete),
    Only(&'static str, &'a Complete),
}

fn diff(mut session: Session, arguments: &DiffArguments) -> Result<(), Failure> {
    let before = completed(&mut session, &arguments.before, &[])?;
    let after = completed(&mut session, &arguments.after, &[])?;
    let named = |variants: &'_ [Complete], name: &str| variants.iter().any(|each| each.name == name);
    let strangers = !before.iter().any(|old| named(&after, &old.name));
    let (mut pairs, mut found): (Vec<(&Complete, &Complete)>, _) = (Vec::new(), Vec::new());
    match (before.as_slice(), after.as_slice()) {
        // Variants that are called otherwise are held against the only one, or in their order.
        ([old], several) if strangers => pairs.extend(several.iter().map(|new| (old, new))),
        (several, [new]) if strangers => pairs.extend(several.iter().map(|old| (old, new))),
        (olds, news) if strangers && olds.len() == news.len() => pairs.extend(olds.iter().zip(news)),
        (olds, news) => {
            for old in olds {
                pairs.extend(news.iter().find(|new| new.name == old.name).map(|new| (old, new)));
            }
            let of_one =
                olds.iter().filter(|old| !named(news, &old.name)).map(|old| Otherwise::Only("before", old));
            let of_other =
                news.iter().filter(|new| !named(olds, &new.name)).map(|new| Otherwise::Only("after", new));
            found.extend(of_one.chain(of_other));
        }
    }
    for (old, new) in pairs {
        let of_keys = differences(&old.recipe, &new.recipe).into_iter();
        found.extend(of_keys.map(|each| Otherwise::Key(each, old, new)));
    }
    if session.format == Format::Json {
        let json = |otherwise: &Otherwise| match otherwise {
            Otherwise::Only(side, variant) => json!({ "variant": variant.name, "only": side }),
            Otherwise::Key(each, old, new) => json!({
                "variant": new.name, "key": each.place(), "before": each.before, "after": each.after,
                "before_from": old.comes_from(&each.pointer), "after_from": new.comes_from(&each.pointer),
            }),
        };
        return print_json(&found.iter().map(json).collect());
    }
    let one = before.len() == 1 && after.len() == 1;
    let line = |otherwise: &Otherwise| match otherwise {
        Otherwise::Only(side, variant) => format!("only {side}: variant `{}`\n", variant.name),
        Otherwise::Key(each, old, new) => {
            let of = if one { String::new() } else { format!("{}: ", new.name) };
            let (from, to) = (old.comes_from(&each.pointer), new.comes_from(&each.pointer));
            format!("{of}{}: {}  ({from}; {to})\n", each.place(), each.change())
        }
    };
    if found.is_empty() {
        eprintln!("no difference");
    }
    print(&found.iter().map(line).collect::<String>())
}
