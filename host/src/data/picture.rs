//! Decoded pictures of any size, brought to the side that networks see: 8-bit bilinear with antialias, as Pillow resizes.

use super::decode::Picture;
use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer, images::Image, images::ImageRef,
};
use guard_sdk::{Error, Result, augment::Region};
use std::{borrow::Cow, cell::RefCell};

thread_local! {
    /// Keeps its buffers from picture to picture.
    static RESIZER: RefCell<Resizer> = RefCell::new(Resizer::new());
}

impl Picture {
    /// The middle of the picture whose shorter side was resized to `shorter`: torchvision's `Resize(shorter)` and
    /// `CenterCrop(side)`; a picture that is narrower is padded with 0. Bytes `[3,side,side]`.
    ///
    /// # Errors
    /// If the resizer refuses.
    pub(super) fn centre(&self, shorter: usize, side: usize) -> Result<Vec<u8>> {
        let short = self.width.min(self.height).max(1);
        let length = |side: usize| if side == short { shorter } else { (shorter * side / short).max(1) };
        let resized = self.resized(length(self.width), length(self.height))?;
        let offset = |length: usize| ((length as f64 - side as f64) / 2.0).round_ties_even() as isize;
        Ok(resized.planes((offset(resized.height), offset(resized.width)), side))
    }

    /// The part of the picture that `crop` keeps, resized to `[3,side,side]`: torchvision's `RandomResizedCrop`.
    ///
    /// # Errors
    /// If the resizer refuses.
    pub(super) fn cropped(&self, crop: &Region, side: usize) -> Result<Vec<u8>> {
        let (top, left, height, width) =
            (crop.top as usize, crop.left as usize, crop.height as usize, crop.width as usize);
        let mut rgb = Vec::with_capacity(3 * width * height);
        for row in top..top + height {
            let start = 3 * (row * self.width + left);
            rgb.extend_from_slice(&self.rgb[start..start + 3 * width]);
        }
        let part = Picture { width, height, rgb };
        Ok(part.resized(side, side)?.planes((0, 0), side))
    }

    fn resized(&self, width: usize, height: usize) -> Result<Cow<'_, Picture>> {
        if (width, height) == (self.width, self.height) {
            return Ok(Cow::Borrowed(self));
        }
        let failed = |why: &dyn std::fmt::Display| {
            Error::new(format!(
                "a picture of {}x{} pixels cannot be resized to {width}x{height}: {why}",
                self.width, self.height
            ))
        };
        let from = ImageRef::new(self.width as u32, self.height as u32, &self.rgb, PixelType::U8x3)
            .map_err(|error| failed(&error))?;
        let mut to = Image::new(width as u32, height as u32, PixelType::U8x3);
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
        RESIZER
            .with_borrow_mut(|resizer| resizer.resize(&from, &mut to, &options))
            .map_err(|error| failed(&error))?;
        Ok(Cow::Owned(Picture { width, height, rgb: to.into_vec() }))
    }

    /// The window of `side` by `side` pixels at an offset (down, right), colour by colour; 0 where it reaches outside.
    pub(super) fn planes(&self, (down, right): (isize, isize), side: usize) -> Vec<u8> {
        let mut planes = vec![0; 3 * side * side];
        let (red, rest) = planes.split_at_mut(side * side);
        let (green, blue) = rest.split_at_mut(side * side);
        for row in 0..side {
            let Some(from) = row.checked_add_signed(down).filter(|&from| from < self.height) else {
                continue;
            };
            let line = &self.rgb[3 * from * self.width..3 * (from + 1) * self.width];
            let first = right.min(0).unsigned_abs().min(side);
            let start = right.max(0).unsigned_abs().min(self.width);
            let count = (side - first).min(self.width - start);
            let to = row * side + first;
            let pixels = line[3 * start..3 * (start + count)].chunks_exact(3);
            let planes =
                red[to..to + count].iter_mut().zip(&mut green[to..to + count]).zip(&mut blue[to..to + count]);
            for (((red, green), blue), pixel) in planes.zip(pixels) {
                (*red, *green, *blue) = (pixel[0], pixel[1], pixel[2]);
            }
        }
        planes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 13×9 pixels of hard contrast; the expected values are Pillow 11's through torchvision 0.26.
    fn picture() -> Picture {
        let (width, height) = (13, 9);
        let rgb = (0..width * height * 3).map(|i| ((i * 37 + i * i * 3 + 11) % 256) as u8).collect();
        Picture { width, height, rgb }
    }

    fn levels_apart(found: &[u8], expected: &[u8]) -> u8 {
        assert_eq!(found.len(), expected.len());
        found.iter().zip(expected).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
    }

    #[test]
    fn the_middle_is_pillows_to_a_level() {
        let expected = [
            149, 131, 117, 124, 181, 183, 157, 137, 150, 124, 128, 116, 112, 168, 143, 77, 103, 131, 172,
            159, 110, 143, 156, 96, 144, 146, 106, 156, 139, 136, 94, 95, 135, 72, 50, 148, 124, 106, 114,
            84, 91, 104, 66, 41, 114, 178, 153, 101, 110, 128, 105, 181, 126, 118, 123, 149, 164, 114, 161,
            138, 84, 169, 166, 169, 165, 60, 138, 130, 130, 132, 155, 154, 134, 168, 143,
        ];
        assert!(levels_apart(&picture().centre(6, 5).unwrap(), &expected) <= 1);
    }

    #[test]
    fn resized_crops_are_pillows_to_a_level() {
        let smaller = [
            159, 173, 120, 123, 123, 109, 136, 167, 76, 109, 150, 182, 102, 149, 138, 141, 107, 94, 117, 34,
            155, 119, 111, 110, 83, 94, 43, 78, 165, 137, 82, 76, 143, 158, 153, 188, 83, 170, 161, 181, 49,
            138, 123, 145, 151, 156, 137, 162,
        ];
        let larger = [
            201, 169, 104, 71, 177, 175, 169, 166, 115, 124, 142, 150, 35, 34, 31, 29, 237, 209, 153, 125,
            200, 202, 205, 206, 121, 134, 161, 174, 27, 30, 36, 39, 23, 64, 145, 185, 132, 122, 103, 93, 133,
            111, 66, 44, 25, 33, 48, 55,
        ];
        let crop = |top, left, height, width| Region { top, left, height, width };
        assert!(levels_apart(&picture().cropped(&crop(2, 3, 5, 8), 4).unwrap(), &smaller) <= 1);
        assert!(levels_apart(&picture().cropped(&crop(1, 1, 3, 2), 4).unwrap(), &larger) <= 1);
    }

    #[test]
    fn a_narrow_picture_is_padded_with_black() {
        let narrow = Picture { width: 2, height: 4, rgb: vec![200; 24] };
        let planes = narrow.centre(2, 4).unwrap();
        for row in planes.chunks_exact(4) {
            assert_eq!(row, [0, 200, 200, 0]);
        }
    }
}
