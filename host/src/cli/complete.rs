//! What shells complete: commands, and the names of plugins, methods, architectures and data sets that there are here.
//!
//! The script that `completions` prints has the program itself asked, so that what was installed since is known.

use super::{Cli, Failure, print};
use crate::{
    data::DATASETS,
    network::Architecture,
    plugin::{Locator, inspect, plain_name},
};
use clap::{Args, CommandFactory};
use clap_complete::{
    CompleteEnv, CompletionCandidate, PathCompleter, Shell, engine::ValueCompleter, env::Shells,
};
use guard_front::ASKED_BY_SHELL;
use guard_sdk::manifest::Kind;
use std::ffi::OsStr;

/// What `completions` takes.
#[derive(Debug, Args)]
pub(super) struct CompletionsArguments {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints a completion script.
pub(super) fn completions(arguments: &CompletionsArguments) -> Result<(), Failure> {
    let shells = Shells::builtins();
    let shell = shells.completer(&arguments.shell.to_string());
    let shell = shell.ok_or_else(|| Failure::usage("there is no script for this shell"))?;
    let (mut script, program) = (Vec::new(), "guard-host");
    shell
        .write_registration(ASKED_BY_SHELL, "guard_host", program, program, &mut script)
        .map_err(|error| Failure::usage(error.to_string()))?;
    print(&String::from_utf8_lossy(&script))
}

/// Answers a shell that asks, and ends; nothing if none does.
pub(super) fn answer_shell() {
    CompleteEnv::with_factory(Cli::command).var(ASKED_BY_SHELL).complete();
}

/// Names that begin as what was typed.
fn beginning(typed: &OsStr, names: impl IntoIterator<Item = String>) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let fitting = names.into_iter().filter(|name| name.starts_with(&*typed));
    fitting.map(CompletionCandidate::new).collect()
}

/// Plugins by name, and files.
pub(super) fn plugins(typed: &OsStr) -> Vec<CompletionCandidate> {
    let libraries = Locator::from_environment().libraries();
    let names = libraries.iter().filter(|path| inspect(path).is_ok()).map(|path| plain_name(path));
    let mut found = beginning(typed, names);
    found.extend(PathCompleter::file().complete(typed));
    found
}

/// The attacks of the plugins that there are.
pub(super) fn attacks(typed: &OsStr) -> Vec<CompletionCandidate> {
    let manifests = Locator::from_environment().libraries();
    let manifests = manifests.iter().filter_map(|path| Some(inspect(path).ok()?.manifest));
    let methods = manifests.flat_map(|manifest| manifest.methods);
    let mut names: Vec<String> =
        methods.filter(|method| method.kind == Kind::Attack).map(|method| method.name).collect();
    names.sort_unstable();
    names.dedup();
    beginning(typed, names)
}

/// Architectures.
pub(super) fn architectures(typed: &OsStr) -> Vec<CompletionCandidate> {
    beginning(typed, Architecture::names())
}

/// Data sets and formats.
pub(super) fn datasets(typed: &OsStr) -> Vec<CompletionCandidate> {
    beginning(typed, DATASETS.iter().map(|known| known.name.to_string()))
}
