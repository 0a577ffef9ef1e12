//! Ctrl-C and SIGTERM. Once: the run stops where it can go on from. Twice: it ends at once.

use guard_sdk::{Error, Result};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

/// The code of errors that say no more than that the run was asked to stop.
pub const CANCELLED: &str = "cancelled";

/// Whether the user asked the run to stop. Clones look at the same signals; without signals the answer is no.
#[derive(Clone, Default)]
pub struct Interruption(Arc<AtomicUsize>);

impl Interruption {
    /// Watches for signals from now on. The second one ends the process.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn of_signals() -> Result<Self> {
        let (asked, interruption) = (Arc::new(AtomicBool::new(false)), Self::default());
        for signal in [SIGINT, SIGTERM] {
            // They act in this order, so that the first signal does not find what it sets itself.
            let watch = flag::register_conditional_shutdown(signal, exit_code(signal), asked.clone())
                .and_then(|_| flag::register(signal, asked.clone()))
                .and_then(|_| flag::register_usize(signal, interruption.0.clone(), signal as usize));
            watch.map_err(|error| Error::new(format!("signals cannot be watched for: {error}")))?;
        }
        Ok(interruption)
    }

    /// The exit code that tells of the signal, if there was one: 130 after Ctrl-C, 143 after SIGTERM.
    pub fn exit_code(&self) -> Option<u8> {
        match self.0.load(Ordering::SeqCst) {
            0 => None,
            signal => u8::try_from(exit_code(signal as i32)).ok(),
        }
    }

    /// Goes on, unless the user asked the run to stop.
    ///
    /// # Errors
    /// Code [`CANCELLED`] if so.
    pub fn check(&self) -> Result<()> {
        match self.exit_code() {
            None => Ok(()),
            Some(_) => Err(Error::with_code(CANCELLED, "the run was asked to stop")),
        }
    }
}

/// As shells tell it.
fn exit_code(signal: i32) -> i32 {
    128 + signal
}
