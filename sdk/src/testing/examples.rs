//! A network and a batch for it.

use super::{SmallNetwork, number, uniform};
use crate::{Batch, Network, Result};
use tch::{Kind, Tensor};

/// A network and labelled images that it decides rightly, so that an attack has something to do.
#[derive(Debug)]
pub struct Examples {
    /// Its parameters require gradients after [`Examples::trainable`].
    pub model: SmallNetwork,
    /// `[N,C,H,W]`, pixels in [0,1].
    pub images: Tensor,
    /// int64 `[N]`, the classes that the network decides for.
    pub labels: Tensor,
    /// One per image; not in order, so that they cannot be mistaken for positions.
    pub ids: Vec<u64>,
}

impl Examples {
    /// `count` images of shape `input` `[C,H,W]`, all in `kind`, for a network whose parameters need no gradients.
    ///
    /// # Errors
    /// If libtorch refuses the shape.
    pub fn new(input: [i64; 3], kind: Kind, count: i64) -> Result<Self> {
        let model = SmallNetwork::new(input, kind, 11)?;
        let row = |row| uniform(number(("image", row)), &[1, input[0], input[1], input[2]]);
        // One by one: an image does not depend on how many there are.
        let rows = (0..count).map(row).collect::<Result<Vec<_>>>()?;
        let images = Tensor::f_cat(&rows, 0)?.f_to_kind(kind)?;
        let labels = Network::lend(&model).logits(&images)?.f_argmax(-1, false)?;
        Ok(Self { model, images, labels, ids: (0..count as u64).map(|row| 1000 - 7 * row).collect() })
    }

    /// The same with a network whose parameters require gradients, as in training.
    pub fn trainable(self) -> Self {
        Self { model: self.model.copy(true), ..self }
    }

    /// The images at `rows`, with the network.
    pub fn at(&self, rows: &[i64]) -> Self {
        let index = Tensor::from_slice(rows).to_device(self.images.device());
        Self {
            model: self.model.copy(self.model.parameters()[0].requires_grad()),
            images: self.images.index_select(0, &index),
            labels: self.labels.index_select(0, &index),
            ids: rows.iter().map(|&row| self.ids[row as usize]).collect(),
        }
    }

    /// The network.
    pub fn network(&self) -> Network<'_> {
        Network::lend(&self.model)
    }

    /// The images as a batch of pixels.
    pub fn batch(&self) -> Batch<'_> {
        Batch::pixels(&self.images, &self.labels, &self.ids)
    }
}
