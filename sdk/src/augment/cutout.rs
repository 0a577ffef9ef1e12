//! Rectangles of zeros.

use super::{
    Region,
    rows::{check_entries, whole},
};
use crate::{Result, sent};
use tch::{Kind, Tensor};

/// Makes a rectangle of the image zero.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cutout {
    /// What becomes zero.
    pub regions: Vec<Region>,
}

impl Cutout {
    /// Numbers in a row.
    pub const DRAWS: usize = 2;

    /// A rectangle whose sides are `ratio` of those of the image (height, width), around any of its pixels; what reaches
    /// over the edge is lost.
    pub fn draw(uniform: &[[f64; Self::DRAWS]], image: [i64; 2], ratio: f64) -> Self {
        let size = image.map(|side| (side as f64 * ratio + 0.5) as i64);
        // A rectangle of even length has its centre between two pixels, hence one more place.
        let centre = |number: f64, axis: usize| whole(number, 0, image[axis] - size[axis] % 2);
        let around = |row: &[f64; 2]| Region::around([centre(row[0], 0), centre(row[1], 1)], size, image);
        Self { regions: uniform.iter().map(around).collect() }
    }

    /// The images `[N,C,H,W]` after it.
    ///
    /// # Errors
    /// If the parameters are those of another number of examples, or a region reaches outside the images.
    pub fn apply(&self, images: &Tensor) -> Result<Tensor> {
        check_entries("cutout", self.regions.len(), images)?;
        self.regions.iter().try_for_each(|region| region.check(images))?;
        let (_, _, height, width) = images.size4()?;
        let rows = self.within(|region| (region.top, region.height), height, images)?;
        let columns = self.within(|region| (region.left, region.width), width, images)?;
        let inside = rows.f_unsqueeze(-1)?.f_logical_and(&columns.f_unsqueeze(-2)?)?;
        Ok(images.f_masked_fill(&inside, 0.0)?)
    }

    /// Which of `length` pixels along an axis lie in each region's span (start, length): bool `[entries,1,length]`.
    fn within(&self, span: fn(&Region) -> (i64, i64), length: i64, images: &Tensor) -> Result<Tensor> {
        let bound = |value: &dyn Fn((i64, i64)) -> i64| -> Result<Tensor> {
            let values: Vec<i64> = self.regions.iter().map(|region| value(span(region))).collect();
            Ok(sent(&Tensor::f_from_slice(&values)?, images.device())?.f_reshape([-1, 1, 1])?)
        };
        let (first, end) = (bound(&|(start, _)| start)?, bound(&|(start, length)| start + length)?);
        let pixels = Tensor::f_arange(length, (Kind::Int64, images.device()))?;
        Ok(pixels.f_ge_tensor(&first)?.f_logical_and(&pixels.f_lt_tensor(&end)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn half_of_each_side_is_cut_around_any_pixel() {
        let draw = |row, image| {
            let Region { top, left, height, width } = Cutout::draw(&[row], image, 0.5).regions[0];
            [top, left, height, width]
        };
        assert_eq!(draw([0.5, 0.5], [32, 32]), [8, 8, 16, 16]);
        assert_eq!(draw([0.0, 0.9999], [32, 32]), [0, 24, 8, 8]);
        // Five of nine columns, around the columns 0 to 8 and no other.
        assert_eq!(draw([0.0, 0.0], [4, 9])[3], 3);
        assert_eq!(draw([0.0, 0.9999], [4, 9]), [0, 6, 1, 3]);
        assert_eq!(Cutout::draw(&[[0.3, 0.3]], [32, 32], 0.0).regions[0].height, 0);
    }

    #[test]
    fn what_is_cut_is_zero_and_the_rest_is_as_it_was() {
        let images = Tensor::rand([2, 3, 5, 4], (Kind::Float, Device::Cpu)) + 1.0;
        let regions = vec![
            Region { top: 1, left: 0, height: 2, width: 3 },
            Region { top: 5, left: 0, height: 0, width: 4 },
        ];
        let cut = Cutout { regions }.apply(&images).unwrap();
        assert_eq!(cut.get(1), images.get(1));
        assert_eq!(cut.eq(0.0).sum(Kind::Int64).int64_value(&[]), 3 * 2 * 3);
        assert_eq!(cut.get(0).narrow(1, 1, 2).narrow(2, 0, 3).abs().max().double_value(&[]), 0.0);
    }
}
