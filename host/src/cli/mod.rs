//! The command line: what was typed, and what comes of it. stdout is data, stderr is talk.

mod attack;
mod author;
mod check;
mod complete;
mod compute;
mod data;
mod distilled;
mod doctor;
mod evaluate;
mod experts;
mod failure;
mod lock;
mod man;
mod merge;
mod metrics;
mod network;
mod plugin;
mod profile;
mod recipe;
mod reference;
mod report;
mod run;
mod written;

pub use failure::Failure;

use profile::Profile;

use crate::{
    device::Place,
    plugin::{Locator, Plugins, TrustedKeys},
    run::Display,
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::ArgValueCompleter;
use guard_sdk::abi::{shield::shielded, shim::prepare_memory};
use std::{
    io::Write,
    path::{Path, PathBuf},
};

/// Adversarially robust dataset distillation from composable plugins.
///
/// `guard-host RECIPE` is short for `guard-host run RECIPE`; without a recipe the built-in one runs.
#[derive(Debug, Parser)]
#[command(name = "guard-host", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    requests: Requests,

    /// What to print on stdout; with `json`, progress on stderr is JSON, too, an object a line.
    #[arg(long, value_enum, default_value_t = Format::Human, global = true)]
    format: Format,

    /// Print what led to an error.
    #[arg(long, short, global = true)]
    verbose: bool,

    /// Compare what is lent to plugins by value after every call, to find one that writes where it must not. Slower.
    #[arg(long, global = true)]
    checked: bool,

    /// Write where the time goes: a trace of stages, steps, terms and plugin calls, for ui.perfetto.dev or chrome://tracing.
    #[arg(long, value_name = "FILE", global = true)]
    profile: Option<PathBuf>,

    #[command(flatten)]
    compute: compute::ComputeArguments,

    /// Load only plugins with a minisign signature (`FILE.minisig`) by one of the public keys in this file, one a line.
    #[arg(long, value_name = "FILE", env = "GUARD_TRUSTED_KEYS", global = true)]
    trusted_keys: Option<PathBuf>,

    #[command(flatten)]
    run: run::RunArguments,

    #[command(subcommand)]
    command: Option<Command>,
}

/// Plugins that are asked for; before the command, after it, or both.
#[derive(Debug, Args)]
struct Requests {
    /// Load a plugin: a name, looked up in GUARD_PLUGIN_PATH and beside the executable, or a path. May be repeated.
    #[arg(long = "plugin", value_name = "FILE", add = ArgValueCompleter::new(complete::plugins))]
    plugins: Vec<String>,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Human,
    /// For programs.
    Json,
}

impl Format {
    /// How progress is shown beside results of this form.
    fn display(self, quiet: bool) -> Display {
        match self {
            _ if quiet => Display::Quiet,
            Self::Human => Display::Automatic,
            Self::Json => Display::Json,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a recipe, or the built-in one; as `sweep`, over every value of `--over` or of the recipe's `[sweep]`.
    #[command(visible_alias = "sweep")]
    Run {
        #[command(flatten)]
        run: run::RunArguments,
        #[command(flatten)]
        requests: Requests,
    },
    /// Join the parts that `run --shard` has made, and go on with the students.
    Merge {
        #[command(flatten)]
        merge: merge::MergeArguments,
        #[command(flatten)]
        requests: Requests,
    },
    /// Measure clean and robust accuracy of any weights on any data set, without a recipe.
    Evaluate {
        #[command(flatten)]
        evaluate: evaluate::EvaluateArguments,
        #[command(flatten)]
        requests: Requests,
    },
    /// Attack any weights on any data set, without a recipe, and keep the adversarial images.
    Attack {
        #[command(flatten)]
        attack: attack::AttackArguments,
        #[command(flatten)]
        requests: Requests,
    },
    /// Tell what runs have found, side by side: as tables, LaTeX, CSV or a page.
    Report(report::ReportArguments),
    /// Look at data sets.
    #[command(subcommand)]
    Data(data::DataCommand),
    /// Look at plugins.
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Look at networks.
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Look at expert trajectories.
    #[command(subcommand)]
    Experts(experts::ExpertsCommand),
    /// Look at distilled sets, take those of others in, hand ours out.
    #[command(subcommand)]
    Distilled(distilled::DistilledCommand),
    /// Print a run's numbers as CSV: variant, stage, iteration, metric, value.
    Metrics(metrics::MetricsArguments),
    /// Look at recipes.
    Recipe {
        #[command(subcommand)]
        command: recipe::RecipeCommand,
        #[command(flatten)]
        requests: Requests,
    },
    /// Print a script that completes commands in a shell.
    Completions(complete::CompletionsArguments),
    /// Tell what this installation has, and what is wrong with it.
    Doctor(doctor::DoctorArguments),
    /// Print the manual, a page for the program and one for each command, as files for `man`.
    Man(man::ManArguments),
}

#[derive(Debug, Subcommand)]
enum PluginCommand {
    /// List the plugins in GUARD_PLUGIN_PATH and beside the executable, and those named with `--plugin`.
    List(Requests),
    /// Tell what a plugin offers, with the options of its methods.
    Info {
        /// A name or a path.
        #[arg(value_name = "PLUGIN", add = ArgValueCompleter::new(complete::plugins))]
        name: String,
    },
    /// Try a plugin with conformance tests, each in a process of its own; ends with 1 if one fails.
    Check(check::CheckArguments),
    /// Write a crate to start from: a working method of a kind, with tests.
    New(author::NewArguments),
    /// Put this host's SDK and libtorch into a plugin's crate again, after cloning it or with another host.
    Sdk(author::SdkArguments),
    /// Write the BLAKE3 sums of the plugins that a recipe uses beside it, for `run --locked`.
    Lock {
        #[command(flatten)]
        lock: lock::LockArguments,
        #[command(flatten)]
        requests: Requests,
    },
    /// Print a page on every method and option of some plugins.
    Reference(reference::ReferenceArguments),
    /// Print the folders in which plugins are looked for.
    SearchPath,
    /// What `check` starts.
    #[command(hide = true)]
    CheckChild(check::ChildArguments),
}

#[derive(Debug, Subcommand)]
enum NetworkCommand {
    /// Tell the layers of an architecture, their shapes, parameters and multiply-adds.
    Info(network::InfoArguments),
}

/// What every command has at hand.
struct Session {
    requests: Vec<String>,
    format: Format,
    plugins: Plugins,
    place: Place,
}

impl Command {
    /// Whether it is for this that a GPU would be used.
    fn computes(&self) -> bool {
        matches!(
            self,
            Self::Run { .. }
                | Self::Merge { .. }
                | Self::Evaluate { .. }
                | Self::Attack { .. }
                | Self::Doctor(_)
                | Self::Plugin(PluginCommand::CheckChild(_))
        )
    }
}

/// Parses the command line, runs the command, reports its failure. Returns the exit code.
pub fn main() -> u8 {
    complete::answer_shell();
    prepare_memory();
    let cli = Cli::parse();
    let verbose = cli.verbose;
    // A panic of the host is a failed run like any other, told in a line.
    let mut outcome = Err(Failure::usage("nothing was done"));
    let shield = shielded("guard-host", || {
        if let Err(failure) = cli.compute.check_libtorch() {
            outcome = Err(failure);
            return Ok(());
        }
        let profile = cli.profile.as_deref().map(Profile::start).transpose();
        // Its file is whole once it is dropped.
        outcome = profile.and_then(|_profile| dispatch(cli));
        Ok(())
    });
    match shield.map_err(Failure::Run).and(outcome).map_err(Failure::explained) {
        Ok(()) => 0,
        Err(failure) => {
            // Nobody reads a closed stderr.
            let _ = writeln!(std::io::stderr(), "{}", failure.render(verbose));
            failure.exit_code()
        }
    }
}

fn dispatch(cli: Cli) -> Result<(), Failure> {
    let mut plugins = Plugins::new(Locator::from_environment()).checked(cli.checked);
    if let Some(keys) = &cli.trusted_keys {
        plugins = plugins.signed(TrustedKeys::read(keys).map_err(Failure::Usage)?);
    }
    let computes = cli.command.as_ref().is_none_or(Command::computes);
    let place = if computes { cli.compute.open()? } else { Place::cpu() };
    let mut session = Session { requests: cli.requests.plugins, format: cli.format, plugins, place };
    if cli.command.is_some() && cli.run.was_given() {
        return Err(Failure::usage("a recipe and its options come after the command")
            .help("write `guard-host run RECIPE`, or leave the command out"));
    }
    match cli.command {
        None => run::run(session, &cli.run),
        Some(Command::Run { run, requests }) => {
            session.requests.extend(requests.plugins);
            run::run(session, &run)
        }
        Some(Command::Merge { merge, requests }) => {
            session.requests.extend(requests.plugins);
            merge::merge(session, &merge)
        }
        Some(Command::Evaluate { evaluate, requests }) => {
            session.requests.extend(requests.plugins);
            evaluate.run(session, None)
        }
        Some(Command::Report(arguments)) => report::report(&session, &arguments),
        Some(Command::Data(command)) => data::data(session.format, &command),
        Some(Command::Attack { attack, requests }) => {
            session.requests.extend(requests.plugins);
            attack::attack(session, &attack)
        }
        Some(Command::Plugin(PluginCommand::List(requests))) => {
            session.requests.extend(requests.plugins);
            plugin::list(session)
        }
        Some(Command::Plugin(PluginCommand::Info { name })) => plugin::info(session, &name),
        Some(Command::Plugin(PluginCommand::Check(arguments))) => {
            check::check(&session, &arguments, cli.compute.device)
        }
        Some(Command::Plugin(PluginCommand::New(arguments))) => author::new(&arguments),
        Some(Command::Plugin(PluginCommand::Sdk(arguments))) => author::sdk(&arguments),
        Some(Command::Plugin(PluginCommand::Lock { lock, requests })) => {
            session.requests.extend(requests.plugins);
            lock::lock(session, &lock)
        }
        Some(Command::Plugin(PluginCommand::Reference(arguments))) => {
            reference::plugins(&session, &arguments)
        }
        Some(Command::Plugin(PluginCommand::SearchPath)) => lock::search_path(&session),
        Some(Command::Plugin(PluginCommand::CheckChild(arguments))) => check::child(&session, &arguments),
        Some(Command::Network(NetworkCommand::Info(arguments))) => network::info(session.format, &arguments),
        Some(Command::Experts(command)) => experts::experts(session.format, &command),
        Some(Command::Distilled(command)) => distilled::distilled(session.format, &command),
        Some(Command::Metrics(arguments)) => metrics::metrics(session.format, &arguments),
        Some(Command::Recipe { command, requests }) => {
            session.requests.extend(requests.plugins);
            recipe::recipe(session, &command)
        }
        Some(Command::Completions(arguments)) => complete::completions(&arguments),
        Some(Command::Man(arguments)) => man::man(&arguments),
        Some(Command::Doctor(arguments)) => {
            session.requests.extend(arguments.requests.plugins.iter().cloned());
            doctor::doctor(&session, &arguments)
        }
    }
}

/// Prints data on stdout. A reader that has gone away is no failure.
fn print(text: &str) -> Result<(), Failure> {
    guard_front::print(text)
        .map_err(|error| Failure::from(guard_sdk::Error::new(format!("stdout cannot be written: {error}"))))
}

/// Prints JSON on stdout.
fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    print(&format!("{value:#}\n"))
}

/// The names of the commands, for a recipe that looks like one.
const COMMANDS: [&str; 16] = [
    "run",
    "sweep",
    "merge",
    "evaluate",
    "attack",
    "report",
    "data",
    "plugin",
    "network",
    "experts",
    "distilled",
    "metrics",
    "recipe",
    "completions",
    "man",
    "doctor",
];

/// A recipe that is not there: maybe a slip in a command's name.
fn missing_recipe(path: &Path, error: &std::io::Error) -> Failure {
    let failure = Failure::usage(format!("recipe `{}` cannot be read: {error}", path.display()));
    let typed = path.to_string_lossy();
    match COMMANDS.iter().find(|command| strsim::damerau_levenshtein(&typed, command) <= 2) {
        Some(command) => failure.help(format!("did you mean the command `{command}`?")),
        None => failure
            .help("give the path of a TOML file; `guard-host run` without one takes the built-in recipe"),
    }
}
