//! stand-in
use super::source::Limits;
use guard_sdk::{Error, Result};
/// A decoded image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// w
    pub width: usize,
    /// h
    pub height: usize,
    /// RGB, row by row
    pub rgb: Vec<u8>,
}
/// d
pub fn decode(_: &[u8], name: &str, _: &Limits) -> Result<Picture> {
    Err(Error::new(name))
}
/// d
pub fn dimensions(_: &[u8], name: &str, _: &Limits) -> Result<(usize, usize)> {
    Err(Error::new(name))
}
