//! `guard-host plugin check`.

use super::{Failure, Format, Session, complete, print, print_json};
use crate::{
    check::{self, Report, Settings, TestResult, Verdict},
    device::DeviceRequest,
};
use clap::Args;
use clap_complete::ArgValueCompleter;
use guard_sdk::{Error, testing::compute_on};
use serde_json::json;
use std::{fmt::Write, path::PathBuf, time::Duration};

/// What `plugin check` takes.
#[derive(Debug, Args)]
pub(super) struct CheckArguments {
    /// A name or a path.
    #[arg(value_name = "PLUGIN", add = ArgValueCompleter::new(complete::plugins))]
    name: String,

    /// The longest that a test may take, in seconds.
    #[arg(long, value_name = "S", default_value_t = 60.0)]
    time_limit: f64,

    /// The seed of random numbers and made-up options.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// What the child of a check takes.
#[derive(Debug, Args)]
pub(super) struct ChildArguments {
    file: PathBuf,
    about: String,
    first: usize,
    seed: u64,
}

/// Checks a plugin; fails if a test does.
pub(super) fn check(
    session: &Session,
    arguments: &CheckArguments,
    device: DeviceRequest,
) -> Result<(), Failure> {
    let time_limit = Duration::try_from_secs_f64(arguments.time_limit)
        .ok()
        .filter(|limit| !limit.is_zero())
        .ok_or_else(|| Failure::usage("`--time-limit` is a number of seconds above 0"))?;
    let file = session.plugins.find_file(&arguments.name).map_err(Failure::Usage)?;
    session.plugins.admit(&file).map_err(Failure::Usage)?;
    // A GPU is tried when it is asked for, not because it is there.
    let device = if device == DeviceRequest::Auto { DeviceRequest::Cpu } else { device };
    let settings = Settings { file, seed: arguments.seed, time_limit, device };
    let report = match session.format {
        Format::Json => {
            let report = check::check(&settings, |_| {})?;
            let value = json!({
                "path": report.path,
                "seed": report.seed,
                "passed": report.failed() == 0,
                "tests": report.tests,
            });
            print_json(&value)?;
            report
        }
        Format::Human => for_people(&settings)?,
    };
    match (report.failed(), report.tests.len()) {
        (0, _) => Ok(()),
        (failed, all) => Err(Failure::Run(Error::new(format!("{failed} of {all} tests failed")))),
    }
}

/// Prints each result as it comes.
fn for_people(settings: &Settings) -> Result<Report, Failure> {
    print(&format!("{}, seed {}\n", settings.file.display(), settings.seed))?;
    let mut about = String::new();
    let mut closed = Ok(());
    let report = check::check(settings, |result| {
        let mut text = String::new();
        if about != result.subject {
            about.clone_from(&result.subject);
            let _ = writeln!(text, "\n{}", about.replace('/', " "));
        }
        text.push_str(&line(result));
        if closed.is_ok() {
            closed = print(&text);
        }
    })?;
    closed?;
    let skipped = report.tests.iter().filter(|test| matches!(test.verdict, Verdict::Skipped(_))).count();
    let passed = report.tests.len() - skipped - report.failed();
    print(&format!("\n{passed} passed, {skipped} skipped, {} failed\n", report.failed()))?;
    Ok(report)
}

fn line(TestResult { name, about, verdict, .. }: &TestResult) -> String {
    match verdict {
        Verdict::Passed => format!("  ok    {name:<21} {about}\n"),
        Verdict::Skipped(why) => format!("  skip  {name:<21} {why}\n"),
        Verdict::Failed(why) => format!("  FAIL  {name:<21} {about}\n        {why}\n"),
    }
}

/// Runs in the child process of a check.
pub(super) fn child(session: &Session, arguments: &ChildArguments) -> Result<(), Failure> {
    let ChildArguments { file, about, first, seed } = arguments;
    compute_on(session.place.device);
    Ok(check::run_child(file, about, *first, *seed)?)
}
