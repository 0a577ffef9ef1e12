//! Python's pickles as data: what a file says, with calls described and never made.
//!
//! A pickle is a program that may call any Python function. Here a call is a [`Value`] like any other: it names the
//! function and holds the arguments, and whoever reads it decides what it means.

mod machine;
mod value;
mod write;

pub(super) use machine::unpickle;
pub(super) use value::Pickle;
pub use value::{Call, Value};
pub(super) use write::state_dict;
