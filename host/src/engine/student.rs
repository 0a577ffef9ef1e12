//! A network on synthetic images, and the labels it learns from.

use super::{
    optimizer::OptimizerState,
    train::{Trained, descend, seed_dropout, undone_on_failure},
    training_loss::finite,
};
use crate::{
    data::augment, network::Model, plugin::Context, random::Streams, recipe::Student, run::Observer,
};
use guard_sdk::{
    Kind, Result, Space, Tensor,
    augment::{CutMix, Mixup, rows},
    services::Distribution,
};

/// What a student learns from.
pub enum LabelSource<'a> {
    /// The images' classes.
    Hard,
    /// Class probabilities `[N,K]` that the objective learned with the images.
    Learned(&'a Tensor),
    /// The teacher's logits of the images as they are, `[N,K]`.
    Soft {
        /// `[N,K]`.
        logits: &'a Tensor,
        /// T of the softmax on both sides.
        temperature: f64,
    },
    /// The teacher's logits of each batch as the student sees it.
    Online {
        /// The teacher.
        teacher: &'a Model,
        /// T of the softmax on both sides.
        temperature: f64,
    },
}

/// What training a student takes besides the network.
pub struct StudentTrainer<'a> {
    /// `[N,C,H,W]`, pixels in [0,1].
    pub images: &'a Tensor,
    /// int64 `[N]`.
    pub labels: &'a Tensor,
    /// Number of classes, K.
    pub classes: i64,
    /// What it learns from.
    pub source: LabelSource<'a>,
    /// Epochs, batch size, optimiser, schedule, augmentation, Mixup.
    pub student: &'a Student,
    /// Order, augmentation and Mixup.
    pub streams: Streams,
    /// Watches.
    pub observer: &'a dyn Observer,
}

impl StudentTrainer<'_> {
    /// Trains `model`. A failure leaves it as it was before the failing step.
    pub fn run(&self, model: Model, context: &Context) -> Trained {
        let mut optimizer = OptimizerState::new(&self.student.optimizer);
        let count = self.labels.size()[0] as usize;
        let per_epoch = count.div_ceil(self.student.batch_size) as u64;
        let iterations = per_epoch * self.student.epochs as u64;
        for epoch in 0..self.student.epochs as u64 {
            let order = self.streams.named("order").numbered(epoch).permutation(count);
            for (index, positions) in order.chunks(self.student.batch_size).enumerate() {
                let iteration = epoch * per_epoch + index as u64;
                self.observer.iteration(iteration, iterations);
                let context = context.at(iteration, iterations);
                let step = || self.step(&model, &mut optimizer, positions, epoch, &context);
                if let Err(failure) = undone_on_failure(&model, step) {
                    return Trained { model, failure: Some(failure) };
                }
            }
        }
        Trained { model, failure: None }
    }

    fn step(
        &self,
        model: &Model,
        optimizer: &mut OptimizerState,
        positions: &[i64],
        epoch: u64,
        context: &Context,
    ) -> Result<()> {
        seed_dropout(&self.streams, context);
        let loss = self.loss(model, positions, &self.streams.numbered(context.iteration), epoch)?;
        finite("loss/student", None, context, &loss)?;
        context.recorder.metric("loss/student", &loss);
        let rate = self.student.schedule.rate(context.iteration, context.iterations);
        descend(model, "loss/student", &loss, optimizer, rate, context)
    }

    fn loss(&self, model: &Model, positions: &[i64], streams: &Streams, epoch: u64) -> Result<Tensor> {
        let ids: Vec<u64> = positions.iter().map(|&position| position as u64).collect();
        let positions = Tensor::from_slice(positions).to_device(self.images.device());
        let images = self.images.index_select(0, &positions);
        let images =
            augment(&images, &self.student.augment, &self.streams.named("augment").numbered(epoch), &ids)?;
        let (_, _, height, width) = images.size4()?;
        let mix = Mix::draw(self.student, [height, width], ids.len(), streams)?;
        let images = mix.images(&images)?;
        let logits = model.train_logits(&images, Space::Pixels)?;
        match &self.source {
            LabelSource::Hard => {
                let one_hot =
                    self.labels.index_select(0, &positions).one_hot(self.classes).to_kind(logits.kind());
                Ok(cross_entropy(&logits, &mix.labels(&one_hot)?))
            }
            LabelSource::Learned(probabilities) => {
                let target = probabilities.index_select(0, &positions);
                Ok(cross_entropy(&logits, &mix.labels(&target)?))
            }
            LabelSource::Soft { logits: teacher, temperature } => {
                let target = (teacher.index_select(0, &positions) / *temperature).softmax(-1, None::<Kind>);
                Ok(divergence(&logits, &mix.labels(&target)?, *temperature))
            }
            LabelSource::Online { teacher, temperature } => {
                let target = (teacher.eval_logits(&images)? / *temperature).softmax(-1, None::<Kind>);
                Ok(divergence(&logits, &target, *temperature))
            }
        }
    }
}

/// What mixes the images of one batch, and their labels.
enum Mix {
    None,
    Mixup(Mixup),
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

    /// Class probabilities `[N,K]`.
    fn labels(&self, probabilities: &Tensor) -> Result<Tensor> {
        match self {
            Self::None => Ok(probabilities.shallow_clone()),
            Self::Mixup(mix) => mix.mix_labels(probabilities),
            Self::CutMix(mix) => mix.mix_labels(probabilities),
        }
    }
}

/// Mean cross-entropy to class probabilities.
fn cross_entropy(logits: &Tensor, target: &Tensor) -> Tensor {
    -(target * logits.log_softmax(-1, None::<Kind>))
        .sum_dim_intlist(-1, false, None::<Kind>)
        .mean(None::<Kind>)
}

/// Mean KL(target ‖ softmax(logits / T)), without the factor T² as in SRe2L.
fn divergence(logits: &Tensor, target: &Tensor, temperature: f64) -> Tensor {
    let student = (logits / temperature).log_softmax(-1, None::<Kind>);
    let entropy = target.xlogy(target).sum_dim_intlist(-1, false, None::<Kind>).mean(None::<Kind>);
    entropy - (target * student).sum_dim_intlist(-1, false, None::<Kind>).mean(None::<Kind>)
}

#[cfg(test)]
mod tests {
    use super::*;
    use guard_sdk::Device;

    #[test]
    fn the_divergence_is_torchs_and_zero_for_equal_logits() {
        let (student, teacher) = (
            Tensor::randn([4, 5], (Kind::Double, Device::Cpu)),
            Tensor::randn([4, 5], (Kind::Double, Device::Cpu)),
        );
        let target = (&teacher / 3.0).softmax(-1, None::<Kind>);
        let expected =
            (&student / 3.0).log_softmax(-1, None::<Kind>).kl_div(&target, tch::Reduction::Sum, false) / 4.0;
        let off = (divergence(&student, &target, 3.0) - expected).abs().double_value(&[]);
        assert!(off < 1e-14, "{off}");
        assert!(divergence(&teacher, &target, 3.0).abs().double_value(&[]) < 1e-14);
    }

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
