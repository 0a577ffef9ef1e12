//! Stretched and turned images: sampled bilinearly on a grid, zeros beyond the edge.
//!
//! libtorch has first derivatives of this to the pixels and no second ones.

use super::rows::check_entries;
use crate::{Result, sent};
use tch::Tensor;

/// Stretches images around their centre.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// Horizontal and vertical share of the image that fills the frame: below 1 it is enlarged, above 1 it shrinks.
    pub factors: Vec<[f64; 2]>,
    /// Whether the frame's corners are the centres of its outermost pixels, and not their outer corners.
    pub align_corners: bool,
}

impl Scale {
    /// Numbers in a row.
    pub const DRAWS: usize = 2;

    /// Factors between 1/`ratio` and `ratio`, uniformly.
    pub fn draw(uniform: &[[f64; Self::DRAWS]], ratio: f64, align_corners: bool) -> Self {
        let factor = |number: f64| number * (ratio - 1.0 / ratio) + 1.0 / ratio;
        Self { factors: uniform.iter().map(|row| row.map(factor)).collect(), align_corners }
    }

    /// The images `[N,C,H,W]` after it.
    ///
    /// # Errors
    /// If the parameters are those of another number of examples.
    pub fn apply(&self, images: &Tensor) -> Result<Tensor> {
        check_entries("scale", self.factors.len(), images)?;
        let matrices = self.factors.iter().map(|&[x, y]| [x, 0.0, 0.0, 0.0, y, 0.0]);
        sampled(images, &matrices.collect::<Vec<_>>(), self.align_corners)
    }
}

/// Turns images around their centre.
///
/// Angles are those of a square frame: as in DSA's code, an image that is not square is sheared a little.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// Degrees, counter-clockwise.
    pub degrees: Vec<f64>,
    /// Whether the frame's corners are the centres of its outermost pixels, and not their outer corners.
    pub align_corners: bool,
}

impl Rotate {
    /// Numbers in a row.
    pub const DRAWS: usize = 1;

    /// Up to `largest` degrees in either direction, uniformly.
    pub fn draw(uniform: &[[f64; Self::DRAWS]], largest: f64, align_corners: bool) -> Self {
        Self {
            degrees: uniform.iter().map(|&[number]| (number - 0.5) * 2.0 * largest).collect(),
            align_corners,
        }
    }

    /// The images `[N,C,H,W]` after it.
    ///
    /// # Errors
    /// If the parameters are those of another number of examples.
    pub fn apply(&self, images: &Tensor) -> Result<Tensor> {
        check_entries("rotate", self.degrees.len(), images)?;
        let matrix = |degrees: &f64| {
            let (sine, cosine) = degrees.to_radians().sin_cos();
            [cosine, -sine, 0.0, sine, cosine, 0.0]
        };
        sampled(images, &self.degrees.iter().map(matrix).collect::<Vec<_>>(), self.align_corners)
    }
}

/// The images seen through 2×3 matrices that map a place of the result, in [-1,1]², to one of the image.
fn sampled(images: &Tensor, matrices: &[[f64; 6]], align_corners: bool) -> Result<Tensor> {
    const BILINEAR: i64 = 0;
    const ZEROS: i64 = 0;
    let (count, channels, height, width) = images.size4()?;
    let entries = matrices.len() as i64;
    let matrices = Tensor::f_from_slice(matrices.as_flattened())?.f_reshape([entries, 2, 3])?;
    let matrices = sent(&matrices.f_to_kind(images.kind())?, images.device())?;
    let grid = Tensor::f_affine_grid_generator(&matrices, [entries, channels, height, width], align_corners)?;
    let grid = grid.f_expand([count, height, width, 2], false)?;
    Ok(images.f_grid_sampler(&grid, BILINEAR, ZEROS, align_corners)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    fn off(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    #[test]
    fn a_quarter_turn_goes_counter_clockwise() {
        let image = Tensor::rand([1, 2, 5, 5], (Kind::Double, Device::Cpu));
        for align_corners in [false, true] {
            let turned = Rotate { degrees: vec![90.0], align_corners }.apply(&image).unwrap();
            assert!(off(&turned, &image.rot90(1, [2, 3])) < 1e-12);
        }
    }

    #[test]
    fn factors_below_one_enlarge() {
        let image = Tensor::zeros([1, 1, 9, 9], (Kind::Double, Device::Cpu));
        let _ = image.narrow(2, 3, 3).narrow(3, 3, 3).fill_(1.0);
        let lit = |factor| {
            let scale = Scale { factors: vec![[factor, 1.0]], align_corners: false };
            scale.apply(&image).unwrap().sum(Kind::Double).double_value(&[])
        };
        assert!(lit(0.5) > 1.5 * lit(1.0) && lit(2.0) < 0.7 * lit(1.0));
        assert!((lit(1.0) - 9.0).abs() < 1e-12);
    }
}
