//! The run directory: what a run leaves behind, never half-written.

mod atomic;

pub use atomic::{write_atomically, write_text};
