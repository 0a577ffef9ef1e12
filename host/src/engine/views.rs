//! What networks see of the synthetic images: the order, augmentation and mixing of every batch of every epoch.
//!
//! All of it derives from one stream and the student's settings. So the teacher can label beforehand what students will
//! see later: both take the same stream, and see the same views to the last bit.

use crate::{data::augment, random::Streams, recipe::Student};
use guard_sdk::{
    Kind, Result, Tensor,
    augment::{CutMix, Mixup, rows},
    sent,
    services::Distribution,
};

/// The views of `images` under the augmentation of `student`.
pub struct Views<'a> {
    /// `[N,C,H,W]`, pixels in [0,1].
    pub images: &'a Tensor,
    /// Batch size, augmentation, Mixup and CutMix.
    pub student: &'a Student,
    /// Order, augmentation and mixing.
    pub streams: Streams,
}

/// One batch as a network sees it.
pub struct BatchView {
    /// int64 `[n]`: which images it is of, before mixing.
    pub positions: Tensor,
    /// `[n,C,H,W]`, pixels in [0,1].
    pub images: Tensor,
    /// How the images were mixed.
    pub mix: Mix,
}

impl Views<'_> {
    /// Number of images, N.
    fn count(&self) -> usize {
        self.images.size()[0] as usize
    }

    /// Batches in an epoch.
    pub fn per_epoch(&self) -> u64 {
        self.count().div_ceil(self.student.batch_size) as u64
    }

    /// The positions of each batch of an epoch.
    pub fn order(&self, epoch: u64) -> Vec<Vec<i64>> {
        let order = self.streams.named("order").numbered(epoch).permutation(self.count());
        order.chunks(self.student.batch_size).map(<[i64]>::to_vec).collect()
    }

    /// The images at `positions` in one iteration of an epoch.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn batch(&self, epoch: u64, iteration: u64, positions: &[i64]) -> Result<BatchView> {
        let ids: Vec<u64> = positions.iter().map(|&position| position as u64).collect();
        let positions = sent(&Tensor::from_slice(positions), self.images.device())?;
        let images = self.images.f_index_select(0, &positions)?;
        let streams = self.streams.named("augment").numbered(epoch);
        let images = augment(&images, &self.student.augment, &streams, &ids)?;
        let (_, _, height, width) = images.size4()?;
        let mix = Mix::draw(self.student, [height, width], ids.len(), &self.streams.numbered(iteration))?;
        Ok(BatchView { positions, images: mix.images(&images)?, mix })
    }
}

/// What mixes the images of one batch, and their labels.
pub enum Mix {
    /// Nothing.
    None,
    /// Each with the same share of another.
    Mixup(Mixup),
    /// Each with a rectangle of another.
    CutMix(CutMix),
}

impl Mix {
    /// One share for the batch; with both kinds asked for, each batch takes one or the other.
    fn draw(student: &Student, size: [i64; 2], count: usize, streams: &Streams) -> Result<Self> {
        let (mixup, cutmix) = (student.mixup > 0.0, student.cutmix > 0.0);
        let coin = || {
            let draw = streams.named("mix.choice").rows(&[0], &[1], Distribution::Uniform, Kind::Double)?;
            Ok::<_, guard_sdk::Error>(draw.double_value(&[0, 0]) < 0.5)
        };
        let order = |name: &str| streams.named(name).permutation(count);
        if mixup && (!cutmix || coin()?) {
            let share = streams.named("mixup").beta(student.mixup)?;
            return Ok(Self::Mixup(Mixup { share, order: order("mixup.order") }));
        }
        if cutmix {
            let share = streams.named("cutmix").beta(student.cutmix)?;
            let numbers =
                streams.named("cutmix.region").rows(&[0], &[2], Distribution::Uniform, Kind::Double)?;
            let [centre] = rows::<{ CutMix::DRAWS }>(&numbers)?[..] else { return Ok(Self::None) };
            return Ok(Self::CutMix(CutMix::draw(&centre, share, order("cutmix.order"), size)?));
        }
        Ok(Self::None)
    }

    fn images(&self, images: &Tensor) -> Result<Tensor> {
        match self {
            Self::None => Ok(images.shallow_clone()),
            Self::Mixup(mix) => mix.apply(images),
            Self::CutMix(mix) => mix.apply(images),
        }
    }

    /// Class probabilities `[N,K]` mixed as the images were.
    ///
    /// # Errors
    /// If they are those of another batch.
    pub fn labels(&self, probabilities: &Tensor) -> Result<Tensor> {
        match self {
            Self::None => Ok(probabilities.shallow_clone()),
            Self::Mixup(mix) => mix.mix_labels(probabilities),
            Self::CutMix(mix) => mix.mix_labels(probabilities),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_and_labels_are_mixed_in_the_same_share() {
        let images = Tensor::from_slice(&[1.0f64, 0.0]).reshape([2, 1, 1, 1]).expand([2, 1, 4, 4], false);
        let labels = Tensor::from_slice(&[1.0f64, 0.0, 0.0, 1.0]).reshape([2, 2]);
        let mixed = |mixup: f64, cutmix: f64, seed: u64| {
            let student = Student { mixup, cutmix, ..Student::default() };
            let mix = Mix::draw(&student, [4, 4], 2, &Streams::new(seed)).unwrap();
            let (images, labels) = (mix.images(&images).unwrap(), mix.labels(&labels).unwrap());
            let shares = images.mean_dim([1, 2, 3].as_slice(), false, Kind::Double);
            assert!((shares - labels.select(1, 0)).abs().max().double_value(&[]) < 1e-12);
            (images.max() - images.min()).double_value(&[]) == 1.0
        };
        // CutMix leaves pixels as they are, Mixup leaves none.
        let with_both: Vec<bool> = (0..40).map(|seed| mixed(1.0, 1.0, seed)).collect();
        assert!(with_both.contains(&true) && with_both.contains(&false));
        for seed in 0..10 {
            mixed(0.8, 0.0, seed);
            mixed(0.0, 1.0, seed);
            mixed(0.0, 0.0, seed);
        }
    }
}
