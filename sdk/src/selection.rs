//! Parts of what was lent: the synthetic images of one class, or of a minibatch.

use crate::{Batch, Result, Space, Synthetic, sent};
use std::collections::BTreeMap;
use tch::Tensor;

/// Some of the synthetic images, with graph to all of them.
#[derive(Debug)]
pub struct Selection {
    /// `[N,C,H,W]` in `space`.
    pub images: Tensor,
    /// int64 `[N]`.
    pub labels: Tensor,
    /// Class probabilities `[N,K]`, where they are learned.
    pub soft_labels: Option<Tensor>,
    /// Their ids.
    pub ids: Vec<u64>,
    /// What the images' values mean.
    pub space: Space,
}

impl Selection {
    /// As a batch.
    pub fn batch(&self) -> Batch<'_> {
        Batch {
            images: &self.images,
            labels: &self.labels,
            soft_labels: self.soft_labels.as_ref(),
            ids: &self.ids,
            space: self.space,
        }
    }
}

impl Synthetic<'_> {
    /// The images at `positions`, in their order.
    ///
    /// # Errors
    /// If there is no such position.
    pub fn at(&self, positions: &[i64]) -> Result<Selection> {
        let rows = sent(&Tensor::f_from_slice(positions)?, self.images.device())?;
        let select = |tensor: &Tensor| tensor.f_index_select(0, &rows);
        Ok(Selection {
            images: select(self.images)?,
            labels: select(self.labels)?,
            soft_labels: self.soft_labels.map(select).transpose()?,
            ids: positions.iter().map(|&position| self.ids[position as usize]).collect(),
            space: self.space,
        })
    }
}

/// Where the images of each class lie. Labels belong to ids for the whole run and are read once for each group
/// of images: a GPU is waited for in its first step alone.
#[derive(Debug, Default)]
pub struct ByClass {
    ids: Vec<u64>,
    positions: BTreeMap<i64, Vec<i64>>,
}

impl ByClass {
    /// The classes that have images, in order, with the positions of these images for [`Synthetic::at`].
    ///
    /// # Errors
    /// If the labels cannot be read.
    pub fn of(&mut self, synthetic: &Synthetic) -> Result<&BTreeMap<i64, Vec<i64>>> {
        if self.ids != synthetic.ids {
            self.positions.clear();
            for (position, class) in (0..).zip(Vec::<i64>::try_from(synthetic.labels)?) {
                self.positions.entry(class).or_default().push(position);
            }
            self.ids = synthetic.ids.to_vec();
        }
        Ok(&self.positions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_come_in_order_with_their_images_and_anew_for_other_images() {
        let images = Tensor::zeros([3, 1, 2, 2], (tch::Kind::Float, tch::Device::Cpu));
        let lent =
            |labels: &[i64], ids: &'static [u64], expected: &[(i64, &[i64])], classes: &mut ByClass| {
                let labels = Tensor::from_slice(labels);
                let synthetic = Synthetic {
                    images: &images,
                    labels: &labels,
                    soft_labels: None,
                    learnables: &[],
                    ids,
                    space: Space::Pixels,
                };
                let found: Vec<_> = classes.of(&synthetic).unwrap().iter().collect();
                let found: Vec<_> = found.into_iter().map(|(class, places)| (*class, &places[..])).collect();
                assert_eq!(found, expected);
            };
        let mut classes = ByClass::default();
        lent(&[4, 1, 4], &[0, 1, 2], &[(1, &[1]), (4, &[0, 2])], &mut classes);
        lent(&[4, 4, 4], &[0, 1, 3], &[(4, &[0, 1, 2])], &mut classes);
    }
}
