//! stand-in
use super::source::*;
use guard_sdk::{Error, Result};
use std::path::Path;
/// Constants
#[derive(Debug, Clone, Copy)]
pub struct Constants {
    /// mean
    pub mean: &'static [f64],
    /// std
    pub std: &'static [f64],
}
/// Known
pub struct Known {
    /// n
    pub name: &'static str,
    /// c
    pub classes: Option<usize>,
    /// i
    pub image: Option<[i64; 3]>,
    /// k
    pub constants: Option<Constants>,
    /// d
    pub dc_constants: Option<Constants>,
    /// Whether images are files of any size.
    pub encoded: bool,
    /// Whether
    pub needs_root: bool,
}
static DIGITS: Known = Known {
    name: "digits",
    classes: Some(10),
    image: Some([1, 8, 8]),
    constants: Some(Constants { mean: &[0.305_386], std: &[0.375_507] }),
    dc_constants: None,
    encoded: false,
    needs_root: false,
};
/// known
pub fn known(name: &str) -> Result<&'static Known> {
    match name {
        "digits" => Ok(&DIGITS),
        _ => Err(Error::new(format!("there is no reader for data set `{name}`"))),
    }
}
/// read
pub fn read(_: &str, _: Option<&Path>, _: OnError, _: &Limits) -> Result<Source> {
    Err(Error::new("stand-in"))
}

/// i
pub const IMAGENET: Constants = Constants { mean: &[0.485, 0.456, 0.406], std: &[0.229, 0.224, 0.225] };
