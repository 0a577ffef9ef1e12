//! One split: which images of the store belong to it, and their labels.

use super::{augment::augment, loader::Batches, store::Store, subset::stratified, view::View};
use crate::random::Streams;
use guard_sdk::{Device, Error, Result, Tensor, sent};
use std::sync::Arc;

/// Images with labels. Clones share the images.
#[derive(Clone)]
pub struct Split {
    store: Arc<Store>,
    /// Each example's place in the store.
    indices: Arc<Vec<usize>>,
    labels: Arc<Vec<i64>>,
}

/// A batch on the CPU.
pub struct Loaded {
    /// float32 `[N,C,H,W]`, pixels in [0,1].
    pub images: Tensor,
    /// int64 `[N]`.
    pub labels: Tensor,
    /// The examples' positions in the split.
    pub ids: Vec<u64>,
}

impl Loaded {
    /// The same on a device. Nothing waits for a GPU: what it gets is copied from pinned memory while it is at work.
    ///
    /// # Errors
    /// If the device has no room.
    pub fn to_device(self, device: Device) -> Result<Self> {
        let (images, labels) = (sent(&self.images, device)?, sent(&self.labels, device)?);
        Ok(Self { images, labels, ids: self.ids })
    }
}

impl Split {
    /// All images of a store; `labels` has one for each.
    pub(super) fn new(store: Store, labels: Vec<i64>) -> Self {
        Self {
            store: Arc::new(store),
            indices: Arc::new((0..labels.len()).collect()),
            labels: Arc::new(labels),
        }
    }

    /// Images in memory: float32 `[N,C,H,W]`, pixels in [0,1], and one label for each.
    ///
    /// # Errors
    /// If the images have another shape or dtype.
    pub fn in_memory(images: &Tensor, labels: Vec<i64>) -> Result<Self> {
        let (count, channels, height, width) = images.size4()?;
        if count as usize != labels.len() {
            return Err(Error::new(format!("{count} images have {} labels", labels.len())));
        }
        let values = Vec::<f32>::try_from(images.f_flatten(0, -1)?)?;
        let shape = [channels, height, width].map(|side| side as usize);
        Ok(Self::new(Store::Floats { values, shape }, labels))
    }

    /// The examples at `positions`, in their order.
    pub fn part(&self, positions: &[i64]) -> Self {
        let indices = positions.iter().map(|&position| self.indices[position as usize]).collect();
        let labels = positions.iter().map(|&position| self.labels[position as usize]).collect();
        Self { store: self.store.clone(), indices: Arc::new(indices), labels: Arc::new(labels) }
    }

    /// What is left without a share of the images, of every class in proportion, and that share; `streams` choose it.
    pub fn without(&self, share: f64, streams: &Streams) -> (Self, Self) {
        let classes = self.labels.iter().max().map_or(0, |last| *last as usize + 1);
        let count = (self.len() as f64 * share).round() as usize;
        let left_out = stratified(&self.labels, classes, count, streams);
        let rest: Vec<i64> =
            (0..self.len() as i64).filter(|position| left_out.binary_search(position).is_err()).collect();
        (self.part(&rest), self.part(&left_out))
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Channels, height and width.
    pub fn shape(&self) -> [i64; 3] {
        self.store.shape().map(|side| side as i64)
    }

    /// The classes, in order of position.
    pub fn labels(&self) -> &[i64] {
        &self.labels
    }

    /// The examples at `positions`.
    ///
    /// # Errors
    /// If there is no such position, or a file cannot be read; it is named.
    pub fn batch(&self, positions: &[i64], view: &View) -> Result<Loaded> {
        if let Some(outside) = positions.iter().find(|&&position| !(0..self.len() as i64).contains(&position))
        {
            return Err(Error::new(format!("there are {} images, none at position {outside}", self.len())));
        }
        let ids: Vec<u64> = positions.iter().map(|&position| position as u64).collect();
        let indices: Vec<usize> = positions.iter().map(|&position| self.indices[position as usize]).collect();
        let labels: Vec<i64> = positions.iter().map(|&position| self.labels[position as usize]).collect();
        let (rows, left) = view.rows(&self.store, &indices, &ids)?;
        let images = augment(&self.store.images(&rows)?, left, &view.streams, &ids)?;
        Ok(Loaded { images, labels: Tensor::f_from_slice(&labels)?, ids })
    }

    /// The examples at each of the lists of positions, one batch after the other, prepared ahead on another thread.
    pub fn batches(&self, lists: Vec<Vec<i64>>, view: View) -> Batches {
        Batches::start(self.clone(), lists, view)
    }

    /// All examples in order, as they are, in batches of `size`.
    pub fn in_order(&self, size: usize) -> Batches {
        let positions: Vec<i64> = (0..self.len() as i64).collect();
        self.batches(positions.chunks(size.max(1)).map(<[i64]>::to_vec).collect(), View::plain())
    }

    /// Positions of the images of one class.
    pub fn of_class(&self, class: i64) -> Vec<i64> {
        (0..)
            .zip(self.labels.iter())
            .filter(|(_, label)| **label == class)
            .map(|(position, _)| position)
            .collect()
    }

    /// Number of images of each class.
    pub fn class_counts(&self, classes: usize) -> Vec<u64> {
        let mut counts = vec![0; classes];
        self.labels.iter().for_each(|&label| counts[label as usize] += 1);
        counts
    }

    /// Whether no other split and no loader holds the images.
    #[cfg(test)]
    pub(super) fn is_shared_by_none(&self) -> bool {
        Arc::strong_count(&self.store) == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{Augmentation, Augmentations};
    use guard_sdk::{Kind, augment::PaddedCropOptions};

    fn bytes(count: usize) -> (Split, Tensor) {
        let values: Vec<u8> = (0..count * 3 * 6 * 5).map(|i| (i * 7 + i / 11) as u8).collect();
        let images =
            Tensor::from_slice(&values).reshape([count as i64, 3, 6, 5]).to_kind(Kind::Float) / 255.0;
        let labels = (0..count as i64).map(|i| i % 3).collect();
        (Split::new(Store::Bytes { values, shape: [3, 6, 5], brightest: 255 }, labels), images)
    }

    #[test]
    fn bytes_become_pixels_and_parts_keep_their_examples() {
        let (split, images) = bytes(9);
        let part = split.part(&[8, 2, 5]);
        let batch = part.batch(&[2, 0], &View::plain()).unwrap();
        assert_eq!(batch.images, images.index_select(0, &Tensor::from_slice(&[5i64, 8])));
        assert_eq!(Vec::<i64>::try_from(batch.labels).unwrap(), [2, 2]);
        assert_eq!((part.of_class(2), split.class_counts(3)), (vec![0, 1, 2], vec![3, 3, 3]));
    }

    #[test]
    fn what_is_cut_while_copying_is_what_tensors_would_give() {
        let (split, images) = bytes(16);
        let (crop, flip) =
            (Augmentation::Crop(PaddedCropOptions { padding: 2, ..Default::default() }), Augmentation::Flip);
        let ids: Vec<u64> = (0..16).collect();
        let positions: Vec<i64> = (0..16).collect();
        for list in
            [vec![crop.clone(), flip.clone()], vec![flip.clone(), crop.clone()], vec![crop], vec![flip]]
        {
            let view = View { augment: Augmentations(list), streams: Streams::new(3) };
            let found = split.batch(&positions, &view).unwrap().images;
            assert_eq!(found, augment(&images, &view.augment, &view.streams, &ids).unwrap());
            assert_ne!(found, images);
            // Alike, whoever the batch mates are.
            assert_eq!(split.batch(&[7, 3], &view).unwrap().images.get(1), found.get(3));
        }
    }

    #[test]
    fn images_of_one_size_can_be_brought_to_another() {
        let values = vec![200u8; 2 * 16];
        let store = Store::Bytes { values, shape: [1, 4, 4], brightest: 255 }.resized([1, 6, 6]).unwrap();
        let large = Split::new(store, vec![0, 1]).batch(&[1], &View::plain()).unwrap().images;
        assert_eq!(large, Tensor::full([1, 1, 6, 6], 200.0, (Kind::Float, Device::Cpu)) / 255.0);
    }
}
