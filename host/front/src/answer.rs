//! The commands that are answered from files alone. What is written in another way, or goes wrong, is left to the host,
//! which knows every option and tells what is wrong.

use crate::{Listing, Locator, inspect};
use clap::{Args, Parser, Subcommand, ValueEnum, error::ErrorKind};
use std::env;

/// The variable by which a shell asks the host for completions.
pub const ASKED_BY_SHELL: &str = "GUARD_HOST_COMPLETE";

/// The variables that change what an answer is.
const LEFT_TO_THE_HOST: [&str; 2] = [ASKED_BY_SHELL, "GUARD_TRUSTED_KEYS"];

#[derive(Debug, Parser)]
#[command(name = "guard-host", version, disable_help_flag = true, disable_help_subcommand = true)]
struct Asked {
    #[command(flatten)]
    requests: Requests,
    #[arg(long, value_enum, default_value_t = Format::Human, global = true)]
    format: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Requests {
    #[arg(long = "plugin")]
    plugins: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Human,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(subcommand, disable_help_flag = true)]
    Plugin(Plugin),
}

#[derive(Debug, Subcommand)]
enum Plugin {
    #[command(disable_help_flag = true)]
    List(Requests),
}

/// What is printed, if it is known here.
pub(crate) fn answer() -> Option<String> {
    if LEFT_TO_THE_HOST.iter().any(|name| env::var_os(name).is_some()) {
        return None;
    }
    let Asked { requests, format, command: Command::Plugin(Plugin::List(more)) } = match Asked::try_parse() {
        Ok(asked) => asked,
        Err(version) if version.kind() == ErrorKind::DisplayVersion => return Some(version.to_string()),
        Err(_) => return None,
    };
    let locator = Locator::from_environment();
    let mut listing = Listing::default();
    for request in requests.plugins.iter().chain(&more.plugins) {
        let path = locator.find(request).ok()?;
        listing.add(&path, inspect(&path).ok()?);
    }
    listing.add_installed(&locator);
    Some(match format {
        Format::Json => format!("{:#}\n", listing.json()),
        Format::Human => {
            listing.tell_if_empty(&locator);
            listing.text()
        }
    })
}
