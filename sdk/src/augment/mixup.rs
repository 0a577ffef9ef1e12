//! Pairs of images, blended.

use crate::{Error, Result, sent};
use tch::Tensor;

/// λ·x + (1−λ)·x\[order\], the same λ for the whole batch (Zhang et al., arXiv 1710.09412).
///
/// λ is a number of the distribution Beta(α, α), `order` a random permutation.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mixup {
    /// λ: the share that each example keeps, in [0,1].
    pub share: f64,
    /// Whom each example is mixed with.
    pub order: Vec<i64>,
}

impl Mixup {
    /// The images `[N,C,H,W]` after it.
    ///
    /// # Errors
    /// If λ is not in [0,1], or `order` does not name one of the examples for each of them.
    pub fn apply(&self, images: &Tensor) -> Result<Tensor> {
        blend(images, self.share, &self.order)
    }

    /// Class probabilities `[N,K]` after it.
    ///
    /// # Errors
    /// As [`Mixup::apply`].
    pub fn mix_labels(&self, probabilities: &Tensor) -> Result<Tensor> {
        blend(probabilities, self.share, &self.order)
    }
}

/// share · values + (1 − share) · values\[order\].
pub(super) fn blend(values: &Tensor, share: f64, order: &[i64]) -> Result<Tensor> {
    if !(0.0..=1.0).contains(&share) {
        return Err(Error::new(format!("the share of a mixed example must lie in [0,1], found `{share}`")));
    }
    let partners = partners(values, order)?;
    if share == 1.0 {
        return Ok(values.shallow_clone());
    }
    Ok(values.f_index_select(0, &partners)?.f_lerp(values, share)?)
}

/// `order` as an index into the first axis of `values`.
pub(super) fn partners(values: &Tensor, order: &[i64]) -> Result<Tensor> {
    let count = values.size().first().copied().unwrap_or_default();
    if order.len() as i64 != count {
        return Err(Error::new(format!(
            "an order of {} examples cannot mix a batch of {count}",
            order.len()
        )));
    }
    if let Some(stranger) = order.iter().find(|partner| !(0..count).contains(partner)) {
        return Err(Error::new(format!("a batch of {count} has no example `{stranger}` to mix with")));
    }
    sent(&Tensor::f_from_slice(order)?, values.device())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn images_and_labels_are_mixed_alike() {
        let mixup = Mixup { share: 0.3, order: vec![2, 0, 1] };
        let labels = Tensor::eye(3, (Kind::Double, Device::Cpu));
        let mixed = mixup.mix_labels(&labels).unwrap();
        let expected = Tensor::from_slice(&[0.3, 0.0, 0.7, 0.7, 0.3, 0.0, 0.0, 0.7, 0.3]).reshape([3, 3]);
        assert!((&mixed - expected).abs().max().double_value(&[]) < 1e-15);
        let images = labels.reshape([3, 3, 1, 1]);
        assert_eq!(mixup.apply(&images).unwrap(), mixed.reshape([3, 3, 1, 1]));
    }

    #[test]
    fn who_keeps_everything_is_not_changed() {
        let images = Tensor::from_slice(&[f64::INFINITY, 1.0]).reshape([2, 1, 1, 1]);
        assert_eq!(Mixup { share: 1.0, order: vec![1, 0] }.apply(&images).unwrap(), images);
    }

    #[test]
    fn a_wrong_share_or_order_is_refused() {
        let images = Tensor::zeros([2, 1, 1, 1], (Kind::Float, Device::Cpu));
        let refused = |share, order: &[i64]| {
            Mixup { share, order: order.to_vec() }.apply(&images).expect_err("not usable").message
        };
        assert_eq!(refused(1.5, &[1, 0]), "the share of a mixed example must lie in [0,1], found `1.5`");
        assert!(refused(f64::NAN, &[1, 0]).contains("NaN"));
        assert_eq!(refused(0.5, &[0]), "an order of 1 examples cannot mix a batch of 2");
        assert_eq!(refused(0.5, &[0, 2]), "a batch of 2 has no example `2` to mix with");
    }
}
