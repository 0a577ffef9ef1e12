//! How images are looked at: as they are, or augmented.

use super::{
    augment,
    cut::Cut,
    store::{RandomCrop, Row, Store},
};
use crate::{
    random::Streams,
    recipe::{Augmentation, Augmentations},
};
use guard_sdk::{Result, augment::Border};

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
        if let [Augmentation::RandomResizedCrop(options), rest @ ..] = left
            && store.has_pictures()
        {
            for (row, uniform) in rows.iter_mut().zip(augment::region_numbers(&self.streams, ids)?) {
                row.crop = Some(RandomCrop { uniform, options: *options });
            }
            left = rest;
        }
        if let [Augmentation::Crop(options), rest @ ..] = left
            && options.border == Border::Zero
        {
            let crops = augment::crops(&self.streams, ids, options)?;
            for (row, corner) in rows.iter_mut().zip(crops.corners) {
                row.cut.shift = corner.map(|along| along as isize);
            }
            left = rest;
        }
        if let [Augmentation::Flip, rest @ ..] = left {
            for (row, flipped) in rows.iter_mut().zip(augment::flips(&self.streams, ids)?.flipped) {
                row.cut.flip = flipped;
            }
            left = rest;
        }
        Ok((rows, left))
    }
}
