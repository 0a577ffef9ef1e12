//! Windows of the image with a border.

use super::{
    rows::{check_entries, whole},
    select::select,
};
use crate::{Error, Result};
use tch::Tensor;

/// What lies around an image.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Border {
    /// Zeros.
    #[default]
    Zero,
    /// The image mirrored at its outermost pixels, which are not repeated.
    Reflect,
}

/// Options of a random crop with padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PaddedCropOptions {
    /// Width of the border, in pixels.
    #[schemars(range(min = 0))]
    pub padding: i64,
    /// What the border shows.
    pub border: Border,
}

impl Default for PaddedCropOptions {
    fn default() -> Self {
        Self { padding: 4, border: Border::Zero }
    }
}

/// A window of the image's own size, moved over the image and its border.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaddedCrop {
    /// The window's first row and column; those of the image are 0.
    pub corners: Vec<[i64; 2]>,
    /// What the border shows.
    pub border: Border,
}

impl PaddedCrop {
    /// Numbers in a row.
    pub const DRAWS: usize = 2;

    /// All places of the window are equally likely.
    pub fn draw(uniform: &[[f64; Self::DRAWS]], options: &PaddedCropOptions) -> Self {
        let PaddedCropOptions { padding, border } = *options;
        let corner = |row: &[f64; 2]| row.map(|number| whole(number, -padding, padding));
        Self { corners: uniform.iter().map(corner).collect(), border }
    }

    /// The images `[N,C,H,W]` after it.
    ///
    /// # Errors
    /// If the parameters are those of another number of examples, or a reflection is asked for further from the image
    /// than the image is large.
    pub fn apply(&self, images: &Tensor) -> Result<Tensor> {
        check_entries("padded crop", self.corners.len(), images)?;
        let (_, _, height, width) = images.size4()?;
        match self.border {
            Border::Zero => {
                // One pixel of zeros on each side stands for all that lie further out.
                let padded = images.f_constant_pad_nd([1; 4])?;
                let place = |i: i64, length: i64| Ok(i.clamp(-1, length) + 1);
                select(&padded, &self.positions(0, height, place)?, &self.positions(1, width, place)?)
            }
            Border::Reflect => {
                select(images, &self.positions(0, height, reflect)?, &self.positions(1, width, reflect)?)
            }
        }
    }

    /// For each entry the source of the window's pixels along an axis of `length` pixels.
    fn positions(
        &self,
        axis: usize,
        length: i64,
        place: impl Fn(i64, i64) -> Result<i64>,
    ) -> Result<Vec<Vec<i64>>> {
        let window =
            |corner: &[i64; 2]| (0..length).map(|i| place(i.saturating_add(corner[axis]), length)).collect();
        self.corners.iter().map(window).collect()
    }
}

/// The pixel of `0..length` that is seen at `i`.
fn reflect(i: i64, length: i64) -> Result<i64> {
    let seen = if i < 0 { i.saturating_neg() } else { i.min(2 * (length - 1) - i) };
    if (0..length).contains(&seen) {
        return Ok(seen);
    }
    Err(Error::new(format!("an image of {length} pixels has no reflection at pixel {i}"))
        .help("let `padding` be smaller than the image, or let the border be zero"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    fn image() -> Tensor {
        Tensor::arange(12, (Kind::Float, Device::Cpu)).reshape([1, 1, 3, 4]) + 1.0
    }

    #[test]
    fn a_crop_is_a_window_of_the_padded_image() {
        let padded = image().constant_pad_nd([2; 4]);
        for top in -2..=2 {
            for left in -2..=2 {
                let crop = PaddedCrop { corners: vec![[top, left]], border: Border::Zero };
                let window = padded.narrow(2, top + 2, 3).narrow(3, left + 2, 4);
                assert_eq!(crop.apply(&image()).unwrap(), window);
            }
        }
    }

    #[test]
    fn far_from_the_image_everything_is_zero() {
        for far in [-100, 100, i64::MIN, i64::MAX] {
            let crop = PaddedCrop { corners: vec![[far, 0]], border: Border::Zero };
            assert_eq!(crop.apply(&image()).unwrap(), image().zeros_like());
        }
    }

    #[test]
    fn a_reflection_shows_what_lies_behind_the_border_and_no_further() {
        let padded = image().reflection_pad2d([2; 4]);
        for (top, left) in [(-2, 2), (1, -1), (2, 0), (0, -2)] {
            let crop = PaddedCrop { corners: vec![[top, left]], border: Border::Reflect };
            let window = padded.narrow(2, top + 2, 3).narrow(3, left + 2, 4);
            assert_eq!(crop.apply(&image()).unwrap(), window);
        }
        for top in [-3, 3, i64::MIN, i64::MAX] {
            let crop = PaddedCrop { corners: vec![[top, 0]], border: Border::Reflect };
            assert!(crop.apply(&image()).unwrap_err().message.contains("has no reflection at pixel"));
        }
    }
}
