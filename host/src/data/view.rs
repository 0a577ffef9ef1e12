//! How images are looked at: as they are, or augmented.

use super::{
    augment,
    cut::Cut,
    store::{RandomCrop, Row, Store},
};
use crate::{
    random::Streams,
    recipe::{Augmentation, Augmentations, PaddedCrop, ResizedCrop},
};
use guard_sdk::{Result, augment::Crop};

/// Augmentations, in order, and where their random numbers come from. An example's depend on its id alone.
#[derive(Clone)]
pub struct View {
    /// The augmentations.
    pub augment: Augmentations,
    /// Their random numbers.
    pub streams: Streams,
}

impl View {
    /// The images as they are.
    pub fn plain() -> Self {
        Self { augment: Augmentations::default(), streams: Streams::new(0) }
    }

    /// What can be done while images are copied from the store, and the augmentations that are left to do.
    pub(super) fn rows(
        &self,
        store: &Store,
        indices: &[usize],
        ids: &[u64],
    ) -> Result<(Vec<Row>, &[Augmentation])> {
        let mut rows: Vec<Row> =
            indices.iter().map(|&index| Row { index, crop: None, cut: Cut::default() }).collect();
        let mut left = &self.augment[..];
        if let [Augmentation::RandomResizedCrop(ResizedCrop { scale }), rest @ ..] = left
            && store.has_pictures()
        {
            let numbers = augment::uniform(&self.streams, "random-resized-crop", ids, Crop::DRAWS)?;
            for (row, uniform) in rows.iter_mut().zip(numbers.chunks_exact(Crop::DRAWS)) {
                row.crop = Some(RandomCrop { uniform: uniform.to_vec(), scale: (scale[0], scale[1]) });
            }
            left = rest;
        }
        if let [Augmentation::Crop(PaddedCrop { padding }), rest @ ..] = left {
            for (row, (down, right)) in
                rows.iter_mut().zip(augment::shifts(&self.streams, ids, i64::from(*padding))?)
            {
                row.cut.shift = (down as isize, right as isize);
            }
            left = rest;
        }
        if let [Augmentation::Flip, rest @ ..] = left {
            for (row, flip) in rows.iter_mut().zip(augment::mirrored(&self.streams, ids)?) {
                row.cut.flip = flip;
            }
            left = rest;
        }
        Ok((rows, left))
    }
}
