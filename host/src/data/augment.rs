//! Augmentation of training batches, each example with draws of its own.

use crate::{random::Streams, recipe::Augmentation};
use guard_sdk::{Kind, Result, Tensor, services::Distribution};

/// Pixels of zero padding around an image before it is cropped.
const PADDING: i64 = 4;

/// `images` `[N,C,H,W]` after the augmentations, in order. An example's draws depend on `streams` and its id alone.
///
/// # Errors
/// If libtorch refuses.
pub fn augment(
    images: &Tensor,
    augmentations: &[Augmentation],
    streams: &Streams,
    ids: &[u64],
) -> Result<Tensor> {
    let mut images = images.shallow_clone();
    for augmentation in augmentations {
        images = match augmentation {
            Augmentation::Flip => flip(&images, &streams.named("flip"), ids)?,
            Augmentation::Crop => crop(&images, &streams.named("crop"), ids)?,
        };
    }
    Ok(images)
}

/// Mirrors half of the images left to right.
fn flip(images: &Tensor, streams: &Streams, ids: &[u64]) -> Result<Tensor> {
    let draws = streams.rows(ids, &[1, 1, 1], Distribution::Uniform, Kind::Float)?.to_device(images.device());
    Ok(images.flip([3]).where_self(&draws.lt(0.5), images))
}

/// A window of the original size from the image with a border of 4 zeros.
fn crop(images: &Tensor, streams: &Streams, ids: &[u64]) -> Result<Tensor> {
    let (count, channels, height, width) = images.size4()?;
    let padded = images.constant_pad_nd([PADDING; 4]);
    let draws = streams.rows(ids, &[2], Distribution::Uniform, Kind::Double)?.to_device(images.device());
    let corners = (draws * (2 * PADDING + 1) as f64).to_kind(Kind::Int64);
    let positions = |axis: i64, length: i64| {
        Tensor::arange(length, (Kind::Int64, images.device())).unsqueeze(0) + corners.narrow(1, axis, 1)
    };
    let rows = positions(0, height)
        .reshape([count, 1, height, 1])
        .expand([-1, channels, -1, width + 2 * PADDING], false);
    let columns = positions(1, width).reshape([count, 1, 1, width]).expand([-1, channels, height, -1], false);
    Ok(padded.gather(2, &rows, false).gather(3, &columns, false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use guard_sdk::Device;

    #[test]
    fn an_example_is_augmented_alike_whoever_its_batch_mates_are() {
        let images = Tensor::rand([6, 3, 8, 8], (Kind::Float, Device::Cpu));
        let both = [Augmentation::Flip, Augmentation::Crop];
        let all = augment(&images, &both, &Streams::new(0), &[0, 1, 2, 3, 4, 5]).unwrap();
        let some = augment(&images.narrow(0, 2, 2), &both, &Streams::new(0), &[2, 3]).unwrap();
        assert_eq!(all.narrow(0, 2, 2), some);
        assert_ne!(all, images);
    }

    #[test]
    fn a_crop_is_a_window_of_the_padded_image() {
        let image = Tensor::arange(16, (Kind::Float, Device::Cpu)).reshape([1, 1, 4, 4]) + 1.0;
        let padded = image.constant_pad_nd([4; 4]);
        for id in 0..20 {
            let cropped = crop(&image, &Streams::new(0), &[id]).unwrap();
            let found = (0..9).flat_map(|y| (0..9).map(move |x| (y, x)));
            assert!(found.into_iter().any(|(y, x)| padded.narrow(2, y, 4).narrow(3, x, 4) == cropped));
        }
    }

    #[test]
    fn half_of_the_images_are_flipped() {
        let images =
            Tensor::arange(2, (Kind::Float, Device::Cpu)).reshape([1, 1, 1, 2]).repeat([1000, 1, 1, 1]);
        let ids: Vec<u64> = (0..1000).collect();
        let flipped = flip(&images, &Streams::new(0), &ids)
            .unwrap()
            .narrow(3, 0, 1)
            .sum(Kind::Double)
            .double_value(&[]);
        assert!((400.0..600.0).contains(&flipped), "{flipped}");
    }
}
