//! Labelled examples, and the space their values live in.

use crate::{Error, Result};
use tch::{Kind, Reduction, Tensor};

/// What the numbers of an image mean.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Space {
    /// Intensities in [0,1], as outside the network.
    Pixels,
    /// Behind the network's normalisation: `(pixels - mean) / std` per channel.
    #[default]
    Normalised,
}

/// Labelled examples lent for a call.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// `[N,C,H,W]`, float32 or float64, in `space`.
    pub images: &'a Tensor,
    /// Class indices, int64 `[N]`.
    pub labels: &'a Tensor,
    /// Class probabilities `[N,K]`, where the examples have soft labels; they then take the place of `labels`.
    pub soft_labels: Option<&'a Tensor>,
    /// One id per example, the same over the whole run, whatever the order and size of batches.
    pub ids: &'a [u64],
    /// What the images' values mean.
    pub space: Space,
}

impl<'a> Batch<'a> {
    /// Examples with hard labels and pixels in [0,1].
    pub fn pixels(images: &'a Tensor, labels: &'a Tensor, ids: &'a [u64]) -> Self {
        Self { images, labels, soft_labels: None, ids, space: Space::Pixels }
    }

    /// The same labels and ids on other images.
    pub fn with_images(self, images: &'a Tensor, space: Space) -> Self {
        Self { images, space, ..self }
    }

    /// Number of examples, N.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// True if there are no examples.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Cross-entropy of each example, `[N]`, between its label (soft where there is one) and `logits` `[N,K]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn cross_entropy_each(&self, logits: &Tensor) -> Result<Tensor> {
        match self.soft_labels {
            Some(soft) => {
                Ok(-(soft * logits.f_log_softmax(-1, None)?).f_sum_dim_intlist(-1, false, None::<Kind>)?)
            }
            None => {
                Ok(logits.f_cross_entropy_loss(self.labels, None::<Tensor>, Reduction::None, -100, 0.0)?)
            }
        }
    }

    /// An error unless N is the same everywhere and the images have four dimensions.
    pub(crate) fn check(&self) -> Result<()> {
        let (images, labels) = (self.images.size(), self.labels.size());
        if images.len() != 4
            || labels.len() != 1
            || images[0] != labels[0]
            || labels[0] as usize != self.ids.len()
        {
            return Err(Error::new(format!(
                "a batch needs images [N,C,H,W], labels [N] and N ids; found images {images:?}, labels {labels:?}, {} ids",
                self.ids.len()
            )));
        }
        Ok(())
    }
}

/// The sum over all but the first dimension, `[N]`.
pub fn sum_each(tensor: &Tensor) -> Tensor {
    tensor.flatten(1, -1).sum_dim_intlist(-1, false, None::<Kind>)
}

/// The l2 norm of each example, `[N]`; its gradient at 0 is 0.
pub fn norm_each(tensor: &Tensor) -> Tensor {
    tensor.flatten(1, -1).norm_scalaropt_dim(2.0, -1, false)
}

/// `[N]` as `[N,1,1,1]`, to multiply images with.
pub fn per_image(values: &Tensor) -> Tensor {
    values.reshape([-1, 1, 1, 1])
}
