//! stand-in
use super::source::{EncodedImages, Limits};
/// u
pub fn unreadable(_: &dyn EncodedImages, _: &Limits) -> Vec<(usize, String)> {
    Vec::new()
}
