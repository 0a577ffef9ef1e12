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

use std::{env, io::Write, process::ExitCode};

/// Does what the command line says: answers it here where that needs no libtorch, else has the host do so.
pub fn main() -> ExitCode {
    if let Some(text) = answer::answer() {
        // A reader that has gone away is no failure.
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
        return ExitCode::SUCCESS;
    }
    match load::host(libtorch::asked_for(env::args_os().skip(1)).as_deref()) {
        Ok(host) => ExitCode::from(host()),
        Err(refusal) => {
            // Nobody reads a closed stderr.
            let _ = writeln!(std::io::stderr(), "{}", refusal.told());
            ExitCode::from(2)
        }
    }
}
