//! What images go through before they are evaluated.

use super::resized_crop::resized;
use crate::{Error, Result};
use tch::Tensor;

/// `images` `[N,C,H,W]` with the shorter side of `side` pixels (bilinear, antialiased) and the same aspect ratio, the
/// longer side rounded down, as torchvision's `Resize`.
///
/// # Errors
/// If `side` is not positive or the images are empty.
pub fn resize_shorter_side(images: &Tensor, side: i64) -> Result<Tensor> {
    let (_, _, height, width) = images.size4()?;
    if side < 1 || height < 1 || width < 1 {
        return Err(Error::new(format!(
            "images of {height}×{width} pixels cannot have a shorter side of {side}"
        )));
    }
    let size = match height < width {
        true => [side, side * width / height],
        false => [side * height / width, side],
    };
    resized(images, size)
}

/// The middle of `images` `[N,C,H,W]` in the given `size` (height, width), as torchvision's `CenterCrop`: smaller images
/// get a border of zeros.
///
/// # Errors
/// If a side is negative.
pub fn center_crop(images: &Tensor, size: [i64; 2]) -> Result<Tensor> {
    let (_, _, height, width) = images.size4()?;
    let [above, below] = border(height, size[0]);
    let [left, right] = border(width, size[1]);
    // A negative border is a crop.
    Ok(images.f_constant_pad_nd([left, right, above, below])?)
}

/// Pixels that `from` pixels gain at their two ends to become `to`.
fn border(from: i64, to: i64) -> [i64; 2] {
    let first =
        if to > from { (to - from) / 2 } else { -((from - to) as f64 / 2.0).round_ties_even() as i64 };
    [first, to - from - first]
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn the_longer_side_follows_the_shorter_one() {
        let size = |height, width| {
            let images = Tensor::rand([1, 1, height, width], (Kind::Float, Device::Cpu));
            resize_shorter_side(&images, 8).unwrap().size()
        };
        assert_eq!(size(16, 31), [1, 1, 8, 15]);
        assert_eq!(size(31, 16), [1, 1, 15, 8]);
        assert_eq!(size(8, 8), [1, 1, 8, 8]);
        assert_eq!(size(4, 5), [1, 1, 8, 10]);
        let images = Tensor::zeros([1, 1, 4, 4], (Kind::Float, Device::Cpu));
        assert!(resize_shorter_side(&images, 0).is_err());
    }

    #[test]
    fn the_middle_is_kept_and_small_images_get_a_border() {
        let images = Tensor::arange(30, (Kind::Float, Device::Cpu)).reshape([1, 1, 5, 6]);
        assert_eq!(center_crop(&images, [3, 2]).unwrap(), images.narrow(2, 1, 3).narrow(3, 2, 2));
        assert_eq!(center_crop(&images, [7, 7]).unwrap(), images.constant_pad_nd([0, 1, 1, 1]));
        assert_eq!(center_crop(&images, [5, 6]).unwrap(), images);
        assert!(center_crop(&images, [-1, 2]).is_err());
    }
}
