//! Pairs of images, one with a rectangle of the other.

use super::{
    Region,
    mixup::{blend, partners},
    rows::whole,
};
use crate::{Error, Result};
use tch::Tensor;

/// Gives each image a rectangle of another one, at the same place in all images (Yun et al., arXiv 1905.04899).
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutMix {
    /// λ: the share of its area that each image keeps, in [0,1].
    pub share: f64,
    /// Whom each example is mixed with.
    pub order: Vec<i64>,
    /// What comes from the other image.
    pub region: Region,
}

impl CutMix {
    /// Numbers in a row.
    pub const DRAWS: usize = 2;

    /// A rectangle of 1 − `share` of the area of an image of size `image` (height, width) around any of its pixels; what
    /// reaches over the edge is lost, and λ becomes the share that is left. `share` is a number of the distribution
    /// Beta(α, α), `order` a random permutation.
    ///
    /// # Errors
    /// If `share` is not in [0,1] or the image is empty.
    pub fn draw(uniform: &[f64; Self::DRAWS], share: f64, order: Vec<i64>, image: [i64; 2]) -> Result<Self> {
        if image.iter().any(|&side| side < 1) {
            let [height, width] = image;
            return Err(Error::new(format!("an image of {height}×{width} pixels has no part to give away")));
        }
        let centre = [whole(uniform[0], 0, image[0] - 1), whole(uniform[1], 0, image[1] - 1)];
        let region = Self::region(share, centre, image)?;
        let lost = (region.height * region.width) as f64 / (image[0] * image[1]) as f64;
        Ok(Self { share: 1.0 - lost, order, region })
    }

    /// The rectangle around the pixel `centre` (row, column) that leaves `share` of the area, as far as it lies within.
    ///
    /// # Errors
    /// If `share` is not in [0,1].
    pub fn region(share: f64, centre: [i64; 2], image: [i64; 2]) -> Result<Region> {
        if !(0.0..=1.0).contains(&share) {
            return Err(Error::new(format!("the share that is kept must lie in [0,1], found `{share}`")));
        }
        // Twice half the side, rounded down: the published rectangles have even sides.
        let side = |length: i64| (length as f64 * (1.0 - share).sqrt()) as i64 / 2 * 2;
        Ok(Region::around(centre, image.map(side), image))
    }

    /// The images `[N,C,H,W]` after it.
    ///
    /// # Errors
    /// If the region reaches outside the images, or `order` does not name one of the examples for each of them.
    pub fn apply(&self, images: &Tensor) -> Result<Tensor> {
        self.region.check(images)?;
        let partners = partners(images, &self.order)?;
        let mixed = images.copy();
        let patch = self.region.view(images)?.f_index_select(0, &partners)?;
        self.region.view(&mixed)?.f_copy_(&patch)?;
        Ok(mixed)
    }

    /// Class probabilities `[N,K]` after it: λ·p + (1−λ)·p\[order\].
    ///
    /// # Errors
    /// If λ is not in [0,1], or `order` does not name one of the examples for each of them.
    pub fn mix_labels(&self, probabilities: &Tensor) -> Result<Tensor> {
        blend(probabilities, self.share, &self.order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn a_patch_comes_from_the_partner_and_the_rest_stays() {
        let images = Tensor::rand([3, 2, 6, 5], (Kind::Float, Device::Cpu));
        let cutmix = CutMix::draw(&[0.5, 0.99], 0.6, vec![1, 2, 0], [6, 5]).unwrap();
        let region = cutmix.region;
        assert_eq!(region, Region { top: 2, left: 3, height: 2, width: 2 });
        assert_eq!(cutmix.share, 1.0 - 4.0 / 30.0);
        let mixed = cutmix.apply(&images).unwrap();
        let partners = images.index_select(0, &Tensor::from_slice(&[1i64, 2, 0]));
        assert_eq!(region.view(&mixed).unwrap(), region.view(&partners).unwrap());
        let changed = mixed.ne_tensor(&images).sum(Kind::Int64).int64_value(&[]);
        assert_eq!(changed, 3 * 2 * region.height * region.width);
    }

    #[test]
    fn the_labels_share_is_that_of_the_pixels() {
        let zeros = Tensor::zeros([1, 1, 9, 7], (Kind::Double, Device::Cpu));
        for (share, uniform) in [(0.0, [0.5, 0.5]), (0.3, [0.0, 0.9]), (0.9, [0.4, 0.1]), (1.0, [0.2, 0.2])] {
            let images = Tensor::cat(&[&zeros, &zeros.ones_like()], 0);
            let cutmix = CutMix::draw(&uniform, share, vec![1, 0], [9, 7]).unwrap();
            let given = cutmix.apply(&images).unwrap().get(0).mean(Kind::Double).double_value(&[]);
            let labels = cutmix.mix_labels(&Tensor::eye(2, (Kind::Double, Device::Cpu))).unwrap();
            assert!((labels.double_value(&[0, 1]) - given).abs() < 1e-15);
        }
    }
}
