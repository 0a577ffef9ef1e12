//! Augmentation of training batches, each example with draws of its own.

use crate::{random::Streams, recipe::Augmentation};
use guard_sdk::{
    Kind, Result, Tensor,
    augment::{ColorJitter, Dsa, Flip, PaddedCrop, PaddedCropOptions, ResizedCrop, rows},
    services::Distribution,
};

/// `images` `[N,C,H,W]` after the augmentations, in order. An example's draws depend on `streams` and its id alone; which of
/// its changes DSA makes, on the batch's first id.
///
/// # Errors
/// If libtorch refuses.
pub fn augment(
    images: &Tensor,
    augmentations: &[Augmentation],
    streams: &Streams,
    ids: &[u64],
) -> Result<Tensor> {
    let (_, _, height, width) = images.size4()?;
    let size = [height, width];
    let mut images = images.shallow_clone();
    for augmentation in augmentations {
        images = match augmentation {
            Augmentation::Flip => flips(streams, ids)?.apply(&images)?,
            Augmentation::Crop(options) => crops(streams, ids, options)?.apply(&images)?,
            Augmentation::RandomResizedCrop(options) => {
                ResizedCrop::draw(&region_numbers(streams, ids)?, size, size, options).apply(&images)?
            }
            Augmentation::ColorJitter(options) => {
                ColorJitter::draw(&uniform(streams, "color-jitter", ids)?, options).apply(&images)?
            }
            Augmentation::Dsa(options) => {
                let [choice] = uniform::<1>(streams, "dsa.choice", &ids[..1.min(ids.len())])?.concat()[..]
                else {
                    return Ok(images);
                };
                Dsa::draw(choice, &uniform(streams, "dsa", ids)?, size, options).apply(&images)?
            }
        };
    }
    Ok(images)
}

/// Which images are mirrored.
pub(super) fn flips(streams: &Streams, ids: &[u64]) -> Result<Flip> {
    Ok(Flip::draw(&uniform(streams, "flip", ids)?, 0.5))
}

/// Where each padded image is cut.
pub(super) fn crops(streams: &Streams, ids: &[u64], options: &PaddedCropOptions) -> Result<PaddedCrop> {
    Ok(PaddedCrop::draw(&uniform(streams, "crop", ids)?, options))
}

/// The numbers that each image's part is drawn from, whatever its size.
pub(super) fn region_numbers(streams: &Streams, ids: &[u64]) -> Result<Vec<[f64; ResizedCrop::DRAWS]>> {
    uniform(streams, "random-resized-crop", ids)
}

/// `D` uniform numbers on [0,1) for each id.
fn uniform<const D: usize>(streams: &Streams, name: &str, ids: &[u64]) -> Result<Vec<[f64; D]>> {
    rows(&streams.named(name).rows(ids, &[D as i64], Distribution::Uniform, Kind::Double)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Augmentations;
    use guard_sdk::Device;

    #[test]
    fn an_example_is_augmented_alike_whoever_its_batch_mates_are() {
        let images = Tensor::rand([6, 3, 8, 8], (Kind::Float, Device::Cpu));
        for name in ["flip", "crop", "random-resized-crop", "dsa"] {
            let list: Augmentations = serde_json::from_value(serde_json::json!([name])).unwrap();
            let changed = (0..20).any(|seed| {
                let streams = Streams::new(seed);
                let all = augment(&images, &list, &streams, &[2, 1, 0, 3, 4, 5]).unwrap();
                let some = augment(&images.narrow(0, 0, 2), &list, &streams, &[2, 1]).unwrap();
                let off = (all.narrow(0, 0, 2) - some).abs().max().double_value(&[]);
                assert!(off < 1e-6, "{name}: {off}");
                all != images
            });
            assert!(changed, "{name}");
        }
    }

    #[test]
    fn half_of_the_images_are_mirrored() {
        let ids: Vec<u64> = (0..1000).collect();
        let mirrored = flips(&Streams::new(0), &ids).unwrap().flipped.into_iter().filter(|&flipped| flipped);
        assert!((400..600).contains(&mirrored.count()));
    }
}
