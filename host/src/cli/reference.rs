//! `guard-host plugin reference`.

use super::{Failure, Session, complete, print};
use crate::author::reference;
use clap::Args;
use clap_complete::ArgValueCompleter;
use guard_sdk::Error;
use std::{fs, path::PathBuf};

/// What `plugin reference` takes.
#[derive(Debug, Args)]
pub(super) struct ReferenceArguments {
    /// Names or paths of plugins.
    #[arg(value_name = "PLUGIN", required = true, add = ArgValueCompleter::new(complete::plugins))]
    plugins: Vec<String>,

    /// Print nothing, and fail unless this file holds the page.
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
}

/// Prints a page on every method and option of some plugins, or holds a file against it.
pub(super) fn plugins(session: &Session, arguments: &ReferenceArguments) -> Result<(), Failure> {
    let loaded = arguments.plugins.iter().map(|name| session.plugins.load(name));
    let loaded = loaded.collect::<Result<Vec<_>, _>>().map_err(Failure::Usage)?;
    let command = format!("guard-host plugin reference {}", arguments.plugins.join(" "));
    let page = reference(&loaded, &command)?;
    let Some(file) = &arguments.check else { return print(&page) };
    let found = fs::read_to_string(file)
        .map_err(|error| Failure::usage(format!("`{}` cannot be read: {error}", file.display())))?;
    match found == page {
        true => Ok(()),
        false => Err(Failure::Run(
            Error::new(format!("`{}` is stale", file.display())).help(format!("write it anew: `{command}`")),
        )),
    }
}
