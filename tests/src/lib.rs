//! What the tests share: plugin libraries, a small network with examples, a host to call plugins with, tiny data sets.
#![forbid(unsafe_code)]

mod bench;
mod counting;
pub mod data_files;
mod device;
mod fixtures;
mod libraries;
pub mod measure;
mod surrogate;

pub use bench::{Bench, Recording, Unprepared};
pub use counting::{Counting, Counts};
pub use device::device;
pub use fixtures::{Examples, bits, one_line, spec};
pub use libraries::{
    RawPlugins, altered, built_folder, c_plugin, library, loaded_library, opened, raw_plugins,
};
pub use surrogate::Other;
