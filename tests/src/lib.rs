//! What the tests share: plugin libraries, a small network with examples, and a host to call plugins with.
#![forbid(unsafe_code)]

mod bench;
mod fixtures;
mod libraries;

pub use bench::{Bench, Recording, Unprepared};
pub use fixtures::{Examples, bits, one_line, spec};
pub use libraries::{RawPlugins, altered, built_folder, library, loaded_library, raw_plugins};
