//! Images moved round.

use super::{
    rows::{check_entries, whole},
    select::select,
};
use crate::Result;
use tch::Tensor;

/// Moves images by whole pixels; what leaves on one side enters on the other.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roll {
    /// Pixels down and pixels to the right.
    pub shifts: Vec<[i64; 2]>,
}

impl Roll {
    /// Numbers in a row.
    pub const DRAWS: usize = 2;

    /// Up to `largest` pixels in either direction.
    pub fn draw(uniform: &[[f64; Self::DRAWS]], largest: i64) -> Self {
        Self {
            shifts: uniform.iter().map(|row| row.map(|number| whole(number, -largest, largest))).collect(),
        }
    }

    /// The images `[N,C,H,W]` after it.
    ///
    /// # Errors
    /// If the parameters are those of another number of examples.
    pub fn apply(&self, images: &Tensor) -> Result<Tensor> {
        check_entries("roll", self.shifts.len(), images)?;
        if let [shift] = self.shifts[..] {
            return Ok(images.f_roll(shift, [2, 3])?);
        }
        let (_, _, height, width) = images.size4()?;
        let positions = |axis: usize, length: i64| -> Vec<Vec<i64>> {
            let round = |shift: &[i64; 2]| {
                (0..length).map(|i| (i - shift[axis] % length).rem_euclid(length)).collect()
            };
            self.shifts.iter().map(round).collect()
        };
        select(images, &positions(0, height), &positions(1, width))
    }
}
