//! Parts of what was lent: the synthetic images of one class, or of a minibatch.

use crate::{Batch, Result, Space, Synthetic};
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
        let rows = Tensor::f_from_slice(positions)?.f_to_device(self.images.device())?;
        let select = |tensor: &Tensor| tensor.f_index_select(0, &rows);
        Ok(Selection {
            images: select(self.images)?,
            labels: select(self.labels)?,
            soft_labels: self.soft_labels.map(select).transpose()?,
            ids: positions.iter().map(|&position| self.ids[position as usize]).collect(),
            space: self.space,
        })
    }

    /// The classes that have images, in order.
    ///
    /// # Errors
    /// If the labels cannot be read.
    pub fn classes(&self) -> Result<Vec<i64>> {
        let mut classes = Vec::<i64>::try_from(self.labels)?;
        classes.sort_unstable();
        classes.dedup();
        Ok(classes)
    }

    /// The images of one class.
    ///
    /// # Errors
    /// If the labels cannot be read.
    pub fn of_class(&self, class: i64) -> Result<Selection> {
        let labels = Vec::<i64>::try_from(self.labels)?;
        let positions: Vec<i64> =
            (0..).zip(&labels).filter(|(_, label)| **label == class).map(|(position, _)| position).collect();
        self.at(&positions)
    }
}
