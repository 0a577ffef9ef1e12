//! Images mirrored left to right.

use super::rows::check_entries;
use crate::{Result, sent};
use tch::Tensor;

/// Mirrors images left to right.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flip {
    /// Whether to mirror.
    pub flipped: Vec<bool>,
}

impl Flip {
    /// Numbers in a row.
    pub const DRAWS: usize = 1;

    /// Mirrors with `probability`.
    pub fn draw(uniform: &[[f64; Self::DRAWS]], probability: f64) -> Self {
        Self { flipped: uniform.iter().map(|&[number]| number < probability).collect() }
    }

    /// The images `[N,C,H,W]` after it.
    ///
    /// # Errors
    /// If the parameters are those of another number of examples.
    pub fn apply(&self, images: &Tensor) -> Result<Tensor> {
        check_entries("flip", self.flipped.len(), images)?;
        if self.flipped.iter().all(|&flipped| !flipped) {
            return Ok(images.shallow_clone());
        }
        if self.flipped.iter().all(|&flipped| flipped) {
            return Ok(images.f_flip([3])?);
        }
        // Only half of the images need to be mirrored, on average: cheaper than to choose among two whole batches.
        let positions: Vec<i64> =
            (0..).zip(&self.flipped).filter(|(_, flipped)| **flipped).map(|(i, _)| i).collect();
        let positions = sent(&Tensor::f_from_slice(&positions)?, images.device())?;
        let mirrored = images.f_index_select(0, &positions)?.f_flip([3])?;
        Ok(images.f_index_copy(0, &positions, &mirrored)?)
    }
}
