//! `guard-host plugin lock|search-path`.

use super::{Failure, Format, Session, print, print_json, written::Written};
use crate::{data, plan::Plan, plugin::Lock, run::write_text};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

/// What `plugin lock` takes.
#[derive(Debug, Args)]
pub(super) struct LockArguments {
    /// The recipe, a TOML file.
    recipe: PathBuf,
}

/// Writes the sums of the plugins that a recipe uses into a file beside it.
pub(super) fn lock(mut session: Session, arguments: &LockArguments) -> Result<(), Failure> {
    let path = &arguments.recipe;
    let loaded = Written::read(path)?.load(&[])?;
    let prepared = data::prepare(&loaded.recipe.data);
    // Planned as for a run, so that plugins are listed which only a method or a probe asks for.
    Plan::new(&loaded, &prepared, &session.requests, &mut session.plugins)?;
    let lock = Lock::of(&session.plugins.loaded());
    let file = Lock::beside(path);
    write_text(&file, &lock.text()?)?;
    match session.format {
        Format::Json => print_json(&json!({ "lock": file, "plugins": lock.plugins })),
        Format::Human => {
            let lines = lock
                .plugins
                .iter()
                .map(|plugin| format!("{} {} {}\n", plugin.blake3, plugin.id, plugin.version));
            print(&lines.collect::<String>())
        }
    }
}

/// Prints where plugins are looked for, in this order.
pub(super) fn search_path(session: &Session) -> Result<(), Failure> {
    let folders = session.plugins.locator().directories();
    match session.format {
        Format::Json => print_json(&json!(folders)),
        Format::Human => {
            print(&folders.iter().map(|folder| format!("{}\n", folder.display())).collect::<String>())
        }
    }
}
