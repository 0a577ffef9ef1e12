//! Failures and their exit codes: 1 the run failed, 2 bad usage, recipe or plugin, 130 and 143 stopped by Ctrl-C and SIGTERM.

use crate::recipe::Problems;
use guard_sdk::Error;
use std::fmt::Write;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// Bad usage or a plugin that cannot be used.
    Usage(Error),
    /// What is wrong with a recipe.
    Recipe(Problems),
    /// The run failed.
    Run(Error),
    /// The user stopped the run.
    Stopped {
        /// Tells of the signal.
        exit_code: u8,
        /// The command that goes on.
        resume: String,
    },
}

impl Failure {
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::Usage(Error::new(message))
    }

    pub(super) fn help(self, help: impl Into<String>) -> Self {
        match self {
            Self::Usage(error) => Self::Usage(error.help(help)),
            Self::Run(error) => Self::Run(error.help(help)),
            other => other,
        }
    }

    /// The same in words that hold here, where libtorch has its own.
    pub(super) fn explained(self) -> Self {
        match self {
            Self::Run(error) => Self::Run(guard_device::explained(error)),
            other => other,
        }
    }

    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Run(_) => 1,
            Self::Usage(_) | Self::Recipe(_) => 2,
            Self::Stopped { exit_code, .. } => *exit_code,
        }
    }

    /// `error: ...` and `help: ...`; with `verbose` what led to it.
    pub(super) fn render(&self, verbose: bool) -> String {
        let error = match self {
            Self::Recipe(problems) => return problems.to_string(),
            Self::Stopped { resume, .. } => return format!("stopped; this goes on:\n  {resume}"),
            Self::Usage(error) | Self::Run(error) => error,
        };
        let mut text = format!("error: {}", error.message);
        for cause in &error.causes {
            // A layout comparison is hundreds of lines long.
            if verbose || cause.lines().count() == 1 {
                let _ = write!(text, "\n  because: {cause}");
            } else {
                text.push_str("\n  because: (long; shown with --verbose)");
            }
        }
        if let Some(help) = &error.help {
            let _ = write!(text, "\n  help: {help}");
        }
        text
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Run(error)
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::Recipe(problems)
    }
}
