//! The front of guard-host: what works before libtorch is there. Plugins are found and told by their files, libtorch is
//! found, and the host, a library that is linked with it, is loaded and takes over.
//!
//! libtorch takes 0.3 s to load, and a machine may lack it: a list of plugins waits for neither.

mod answer;
mod file;
mod libtorch;
mod listing;
mod load;
mod locate;
mod refusal;

pub use answer::ASKED_BY_SHELL;
pub use file::{Inspection, inspect};
pub use libtorch::usable;
pub use listing::{Listing, entry};
pub use locate::{Locator, library_name};
pub use refusal::{Refusal, Result};

use std::{
    env,
    io::{self, ErrorKind, Write},
    process::ExitCode,
};

/// Does what the command line says: answers it here where that needs no libtorch, else has the host do so.
pub fn main() -> ExitCode {
    let (refusal, code) = match answer::answer() {
        Some(text) => match print(&text) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(error) => (Refusal::new("file", format!("stdout cannot be written: {error}")), 1),
        },
        None => match load::host(libtorch::asked_for(env::args_os().skip(1)).as_deref()) {
            Ok(host) => return ExitCode::from(host()),
            Err(refusal) => (refusal, 2),
        },
    };
    // Nobody reads a closed stderr.
    let _ = writeln!(io::stderr(), "{}", refusal.told());
    ExitCode::from(code)
}

/// Prints data on stdout. A reader that has gone away is no failure.
///
/// # Errors
/// If stdout cannot be written for another reason, e.g. a full disk.
pub fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}
