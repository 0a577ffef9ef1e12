//! What xtask says: news, errors, and advice on a line of its own.

use std::fmt;
use std::io::{self, Write};

/// An error that comes with advice.
#[derive(Debug)]
struct Advised {
    message: String,
    help: String,
}

impl fmt::Display for Advised {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Advised {}

/// An error with a `help:` line that tells what to do about it.
pub fn advise(message: impl Into<String>, help: impl Into<String>) -> anyhow::Error {
    let (message, help) = (message.into(), help.into());
    Advised { message, help }.into()
}

/// The advice somewhere in `error`, if any.
fn help(error: &anyhow::Error) -> Option<&str> {
    error.chain().find_map(|cause| cause.downcast_ref::<Advised>()).map(|advised| advised.help.as_str())
}

/// Prints an error, and the advice that comes with it, to stderr.
pub fn report(error: &anyhow::Error) {
    print("error", &format!("{error:#}"));
    if let Some(help) = help(error) {
        print("help", help);
    }
}

/// Tells on stderr what is going on.
pub fn say(message: impl AsRef<str>) {
    print("xtask", message.as_ref());
}

/// Writes a line to stderr; a closed stderr is no reason to stop.
fn print(label: &str, message: &str) {
    let _ = writeln!(io::stderr(), "{label}: {message}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn advice_is_found_below_added_context_and_kept_out_of_the_message() {
        let error = Err::<(), _>(advise("no compiler", "install one")).context("cannot build").unwrap_err();
        assert_eq!(format!("{error:#}"), "cannot build: no compiler");
        assert_eq!(help(&error), Some("install one"));
    }
}
