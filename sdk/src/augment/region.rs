//! A part of an image.

use crate::{Error, Result};
use tch::Tensor;

/// A rectangle of an image, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// First row.
    pub top: i64,
    /// First column.
    pub left: i64,
    /// Number of rows.
    pub height: i64,
    /// Number of columns.
    pub width: i64,
}

impl Region {
    /// All of an image of `size` (height, width).
    pub fn whole(size: [i64; 2]) -> Self {
        Self { top: 0, left: 0, height: size[0], width: size[1] }
    }

    /// The rectangle of `size` around the pixel `centre`, as far as it lies in an image of size `image`; rows first.
    pub(super) fn around(centre: [i64; 2], size: [i64; 2], image: [i64; 2]) -> Self {
        let side = |axis: usize, length: i64| {
            let start = centre[axis] - length / 2;
            (start.clamp(0, image[axis]), (start + length).clamp(0, image[axis]))
        };
        let ((top, bottom), (left, right)) = (side(0, size[0]), side(1, size[1]));
        Self { top, left, height: bottom - top, width: right - left }
    }

    /// Fails unless the region lies in images `[N,C,H,W]`.
    pub(super) fn check(&self, images: &Tensor) -> Result<()> {
        let (_, _, height, width) = images.size4()?;
        let fits = |start: i64, length: i64, side: i64| start >= 0 && length >= 0 && start <= side - length;
        if fits(self.top, self.height, height) && fits(self.left, self.width, width) {
            return Ok(());
        }
        let Self { top, left, height: rows, width: columns } = self;
        Err(Error::new(format!(
            "the region of {rows}×{columns} pixels at row {top}, column {left} is not within the image of {height}×{width}"
        )))
    }

    /// The part of `images` `[N,C,H,W]`: a view.
    pub(super) fn view(&self, images: &Tensor) -> Result<Tensor> {
        Ok(images.f_narrow(2, self.top, self.height)?.f_narrow(3, self.left, self.width)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn a_region_outside_the_image_is_refused() {
        let images = Tensor::zeros([1, 1, 4, 6], (Kind::Float, Device::Cpu));
        let region = |top, left, height, width| Region { top, left, height, width }.check(&images);
        assert!(region(0, 0, 4, 6).is_ok() && region(3, 5, 1, 1).is_ok() && region(4, 6, 0, 0).is_ok());
        for outside in [region(-1, 0, 2, 2), region(0, 5, 1, 2), region(3, 0, 2, 1), region(0, 0, -1, 1)] {
            assert!(outside.is_err());
        }
        let error = region(i64::MAX, 0, 2, 2).unwrap_err();
        assert!(error.message.starts_with("the region of 2×2 pixels at row "), "{error}");
    }
}
