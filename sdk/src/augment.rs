//! Differentiable augmentations of whole batches. Parameters are drawn apart from their use, so that they can be recorded
//! and replayed, or shared between two batches.

use crate::{
    Error, Kind, Result, Services,
    services::{Distribution, Draw},
};
use tch::Tensor;

/// The part of an image that a random-resized-crop keeps, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crop {
    /// First row.
    pub top: i64,
    /// First column.
    pub left: i64,
    /// Number of rows.
    pub height: i64,
    /// Number of columns.
    pub width: i64,
}

/// How the smallest crop shrinks over the run (CDA, arXiv 2311.18838): from 1 to `floor` over the first `milestone`
/// share of the iterations.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum CropSchedule {
    /// Along a half cosine.
    #[default]
    Cosine,
    /// Along a line.
    Linear,
    /// At once, at the milestone.
    Step,
}

impl CropSchedule {
    /// The smallest share of the image's area that a crop may keep, at `iteration` of `iterations`.
    pub fn minimal_scale(self, iteration: u64, iterations: u64, milestone: f64, floor: f64) -> f64 {
        let end = milestone * iterations as f64;
        if iteration as f64 >= end {
            return floor;
        }
        let progress = iteration as f64 / end;
        match self {
            CropSchedule::Step => 1.0,
            CropSchedule::Linear => 1.0 - (1.0 - floor) * progress,
            CropSchedule::Cosine => {
                floor + (1.0 - floor) * ((std::f64::consts::PI * progress).cos() + 1.0) / 2.0
            }
        }
    }
}

/// Uniform numbers on [0,1) that belong to the step as a whole and not to one of its examples.
///
/// # Errors
/// Those of [`Services::random`].
pub fn shared_uniform(services: &Services, stream: &str, draw: u64, count: usize) -> Result<Vec<f64>> {
    let numbers = services.random(&Draw {
        stream,
        draw,
        ids: &[0],
        shape: &[count as i64],
        distribution: Distribution::Uniform,
        kind: Kind::Double,
    })?;
    Vec::<f64>::try_from(numbers.reshape([-1]).to_device(tch::Device::Cpu)).map_err(Error::from)
}

impl Crop {
    /// Numbers that [`Crop::draw`] takes.
    pub const DRAWS: usize = 2 * Self::ATTEMPTS + 2;
    const ATTEMPTS: usize = 10;

    /// torchvision's random-resized-crop: an area of `scale` (smallest, largest share) with an aspect ratio between 3/4
    /// and 4/3, the first of ten attempts that fits, else the whole image. `uniform` holds [`Crop::DRAWS`] numbers.
    pub fn draw(uniform: &[f64], height: i64, width: i64, scale: (f64, f64)) -> Self {
        let area = (height * width) as f64;
        let (lowest, highest) = ((3.0f64 / 4.0).ln(), (4.0f64 / 3.0).ln());
        for attempt in uniform[2..].chunks_exact(2) {
            let target = area * (scale.0 + (scale.1 - scale.0) * attempt[0]);
            let ratio = (lowest + (highest - lowest) * attempt[1]).exp();
            let (w, h) = ((target * ratio).sqrt().round() as i64, (target / ratio).sqrt().round() as i64);
            if (1..=width).contains(&w) && (1..=height).contains(&h) {
                let place = |share: f64, room: i64| ((share * (room + 1) as f64) as i64).min(room);
                return Self {
                    top: place(uniform[0], height - h),
                    left: place(uniform[1], width - w),
                    height: h,
                    width: w,
                };
            }
        }
        Self { top: 0, left: 0, height, width }
    }

    /// The kept part of `images` `[N,C,H,W]`, resized to H×W (bilinear, antialiased).
    ///
    /// # Errors
    /// If it reaches outside the images.
    pub fn apply(&self, images: &Tensor) -> Result<Tensor> {
        let (_, _, height, width) = images.size4()?;
        let part = images.f_narrow(2, self.top, self.height)?.f_narrow(3, self.left, self.width)?;
        if (self.height, self.width) == (height, width) {
            return Ok(part);
        }
        Ok(part.f_internal_upsample_bilinear2d_aa([height, width], false, None, None)?)
    }
}

/// Mirrors `images` `[N,C,H,W]` left to right.
pub fn flip(images: &Tensor) -> Tensor {
    images.flip([3])
}

/// Shifts `images` `[N,C,H,W]` down and right by whole pixels; what leaves on one side enters on the other.
pub fn roll(images: &Tensor, down: i64, right: i64) -> Tensor {
    images.roll([down, right], [2, 3])
}

/// A whole number in `-largest..=largest` from a uniform one on [0,1).
pub fn shift(uniform: f64, largest: i64) -> i64 {
    ((uniform * (2 * largest + 1) as f64) as i64 - largest).min(largest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::{Graph, grad};
    use tch::Device;

    fn numbers(seed: u64) -> Vec<f64> {
        (0..Crop::DRAWS as u64)
            .map(|i| ((seed * 31 + i * 17 + 7) * 2654435761 % 1000) as f64 / 1000.0)
            .collect()
    }

    #[test]
    fn crops_stay_inside_the_image_and_keep_the_share_they_were_asked_for() {
        for seed in 0..200 {
            let crop = Crop::draw(&numbers(seed), 32, 24, (0.2, 0.5));
            assert!(
                crop.top >= 0
                    && crop.top + crop.height <= 32
                    && crop.left >= 0
                    && crop.left + crop.width <= 24
            );
            let share = (crop.height * crop.width) as f64 / (32.0 * 24.0);
            assert!((0.15..=0.56).contains(&share), "{share}");
        }
    }

    #[test]
    fn a_whole_crop_changes_nothing_and_a_constant_image_stays_constant() {
        let images = Tensor::rand([2, 3, 8, 8], (Kind::Double, Device::Cpu));
        let whole = Crop { top: 0, left: 0, height: 8, width: 8 };
        assert_eq!(whole.apply(&images).unwrap(), images);
        let part = Crop { top: 1, left: 2, height: 4, width: 5 };
        let flat = part.apply(&Tensor::full([1, 1, 8, 8], 0.25, (Kind::Double, Device::Cpu))).unwrap();
        assert!((flat - 0.25).abs().max().double_value(&[]) < 1e-15);
    }

    #[test]
    fn a_crops_gradient_reaches_only_the_pixels_it_kept() {
        let images = Tensor::rand([1, 1, 8, 8], (Kind::Double, Device::Cpu)).set_requires_grad(true);
        let crop = Crop { top: 2, left: 3, height: 4, width: 4 };
        let loss = crop.apply(&images).unwrap().sum(Kind::Double);
        let gradient = grad(&loss, &[&images], Graph::Free).unwrap().remove(0);
        let inside = gradient.narrow(2, 2, 4).narrow(3, 3, 4).sum(Kind::Double).double_value(&[]);
        assert!((inside - gradient.sum(Kind::Double).double_value(&[])).abs() < 1e-12);
        assert!(
            (inside - 64.0).abs() < 1e-9,
            "a resize to 8x8 spreads 64 output pixels over the part: {inside}"
        );
    }

    #[test]
    fn shifts_cover_both_signs_evenly() {
        let shifts: Vec<_> = (0..9000).map(|i| shift(f64::from(i) / 9000.0, 4)).collect();
        for value in -4..=4 {
            assert_eq!(shifts.iter().filter(|&&s| s == value).count(), 1000);
        }
        assert_eq!(shift(0.999_999_999_999_999_9, 4), 4);
    }
}
