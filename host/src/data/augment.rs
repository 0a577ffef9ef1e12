//! Augmentation of training batches, each example with draws of its own.

use crate::{
    random::Streams,
    recipe::{Augmentation, PaddedCrop},
};
use guard_sdk::{Kind, Result, Tensor, augment::shift, services::Distribution};

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
            Augmentation::Flip => flip(&images, &mirrored(streams, ids)?),
            Augmentation::Crop(PaddedCrop { padding }) => {
                let padding = i64::from(*padding);
                crop(&images, padding, &shifts(streams, ids, padding)?)?
            }
            Augmentation::RandomResizedCrop(_) => return Err(guard_sdk::Error::unsupported("stand-in")),
        };
    }
    Ok(images)
}

/// `count` uniform numbers on [0,1) for each id, one after the other.
pub(super) fn uniform(streams: &Streams, name: &str, ids: &[u64], count: usize) -> Result<Vec<f64>> {
    let rows = streams.named(name).rows(ids, &[count as i64], Distribution::Uniform, Kind::Double)?;
    Ok(Vec::<f64>::try_from(rows.flatten(0, -1))?)
}

/// Whether each image is mirrored.
pub(super) fn mirrored(streams: &Streams, ids: &[u64]) -> Result<Vec<bool>> {
    Ok(uniform(streams, "flip", ids, 1)?.into_iter().map(|number| number < 0.5).collect())
}

/// By how many pixels, up to `padding`, the window lies below and to the right of each image.
pub(super) fn shifts(streams: &Streams, ids: &[u64], padding: i64) -> Result<Vec<(i64, i64)>> {
    let numbers = uniform(streams, "crop", ids, 2)?;
    Ok(numbers.chunks_exact(2).map(|pair| (shift(pair[0], padding), shift(pair[1], padding))).collect())
}

fn flip(images: &Tensor, mirrored: &[bool]) -> Tensor {
    let mask = Tensor::from_slice(mirrored).to_device(images.device()).reshape([-1, 1, 1, 1]);
    images.flip([3]).where_self(&mask, images)
}

fn crop(images: &Tensor, padding: i64, shifts: &[(i64, i64)]) -> Result<Tensor> {
    let (_, _, height, width) = images.size4()?;
    let padded = images.constant_pad_nd([padding; 4]);
    let windows: Vec<Tensor> = (0..)
        .zip(shifts)
        .map(|(index, (down, right))| {
            padded.get(index).narrow(1, padding + down, height).narrow(2, padding + right, width)
        })
        .collect();
    Ok(Tensor::f_stack(&windows, 0)?)
}
