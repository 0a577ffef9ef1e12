//! Gradient descent on the synthetic images, from one snapshot of an expert towards a later one.
//!
//! | paper | here |
//! |---|---|
//! | θ*_t, θ*_{t+M} | `start`, `target` |
//! | θ̂_{t+n} | the parameters after n steps |
//! | α | `learning_rate` |
//! | A | `augment` |

use crate::options::{LEARNING_RATE, Minibatches, TrajectoryOptions};
use guard_sdk::{
    Error, Kind, Lab, OwnedNetwork, Pass, Result, Step, Synthetic, Tensor,
    augment::{Dsa, each_uniform, shared_uniform},
};

/// The way from one snapshot to another.
pub struct Unroll<'a> {
    options: &'a TrajectoryOptions,
    step: &'a Step<'a>,
    network: OwnedNetwork,
    /// Parameters at the start, without gradients.
    pub start: Vec<Tensor>,
    /// Parameters that the steps should reach.
    pub target: Vec<Tensor>,
    /// ‖start − target‖², a scalar.
    pub distance: Tensor,
}

impl<'a> Unroll<'a> {
    /// Draws an expert and where on its trajectory to start.
    ///
    /// # Errors
    /// If there is no expert, or the trajectories are too short.
    pub fn draw(options: &'a TrajectoryOptions, step: &'a Step, lab: &Lab) -> Result<Self> {
        let experts = lab.experts()?;
        let (last, epochs) = (options.last_epoch(), experts.snapshots.saturating_sub(1));
        if experts.trajectories == 0 || last > epochs {
            let (count, message) = (experts.trajectories, "the experts do not reach far enough");
            return Err(Error::new(format!("{message}: {count} of {epochs} epochs, needed are {last}"))
                .help("raise `experts.epochs`, or lower `max_start_epoch` or `expert_epochs`"));
        }
        let draws = shared_uniform::<2>(&step.services, "expert", 0)?;
        let below = |draw: f64, count: u64| ((draw * count as f64) as u64).min(count - 1);
        let trajectory = below(draws[0], experts.trajectories);
        let epoch = below(draws[1], options.max_start_epoch);
        let network = lab.expert(trajectory, epoch)?;
        let parameters = |network: &OwnedNetwork| -> Result<Vec<Tensor>> {
            let tensors = network.lend().tensors()?;
            Ok(tensors.parameters.into_iter().map(|(_, tensor)| tensor.detach()).collect())
        };
        let start = parameters(&network)?;
        let target = parameters(&lab.expert(trajectory, epoch + options.expert_epochs)?)?;
        let distance = squared_distance(&start, &target)?;
        if distance.f_double_value(&[])? <= 0.0 {
            return Err(Error::new(format!(
                "expert {trajectory} did not move from epoch {epoch} to {}",
                epoch + options.expert_epochs
            )));
        }
        Ok(Self { options, step, network, start, target, distance })
    }

    /// How many steps there are.
    pub fn steps(&self) -> u64 {
        self.options.synthetic_steps
    }

    /// The mean cross-entropy of step `index`'s minibatch at `parameters`, a scalar with graph to the images, the soft labels
    /// and `parameters`. The same `index` draws the same minibatch and augmentation.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn cross_entropy(&self, synthetic: &Synthetic, index: u64, parameters: &[Tensor]) -> Result<Tensor> {
        self.step.services.check_cancelled()?;
        let chosen = synthetic.at(&self.minibatch(synthetic.ids, index)?)?;
        let (_, _, height, width) = chosen.images.size4()?;
        let (services, size) = (&self.step.services, [height, width]);
        let augment = Dsa::each(services, "dsa", index, &chosen.ids, size, &self.options.augment)?;
        let images = augment.apply(&chosen.images)?;
        let batch = chosen.batch().with_images(&images, chosen.space);
        let network = self.network.lend().with_parameters(&parameters.iter().collect::<Vec<_>>())?;
        // As students are trained.
        let logits = network.lend().pass(&images, Pass::new(batch.space).train())?.logits;
        Ok(batch.cross_entropy_each(&logits)?.f_mean(None::<Kind>)?)
    }

    /// Positions of the images of step `index`.
    fn minibatch(&self, ids: &[u64], index: u64) -> Result<Vec<i64>> {
        let count = ids.len();
        let size = self.options.batch_size.unwrap_or(count).min(count);
        let mut order: Vec<i64> = (0..count as i64).collect();
        if size == count {
            return Ok(order);
        }
        let in_a_pass = match self.options.minibatches {
            Minibatches::InTurn => count.div_ceil(size) as u64,
            Minibatches::Independent => 1,
        };
        let (pass, place) = (index / in_a_pass, (index % in_a_pass) as usize);
        let keys = each_uniform::<1>(&self.step.services, "order", pass, ids)?;
        order.sort_by(|&one, &other| keys[one as usize][0].total_cmp(&keys[other as usize][0]));
        Ok(order.into_iter().skip(place * size).take(size).collect())
    }
}

/// α, with graph to the learnable.
///
/// # Errors
/// If the host has no such learnable.
pub fn learning_rate(synthetic: &Synthetic) -> Result<Tensor> {
    let found = synthetic.learnables.iter().find(|(name, _)| *name == LEARNING_RATE);
    let (_, value) = found.ok_or_else(|| Error::new(format!("there is no learnable `{LEARNING_RATE}`")))?;
    Ok(value.shallow_clone())
}

/// `parameters` − α · `gradients`.
///
/// # Errors
/// If shapes differ.
pub fn descended(parameters: &[Tensor], gradients: &[Tensor], rate: &Tensor) -> Result<Vec<Tensor>> {
    let pairs = parameters.iter().zip(gradients);
    pairs.map(|(parameter, gradient)| Ok(parameter.f_sub(&gradient.f_mul(rate)?)?)).collect()
}

/// The same values as leaves that require gradients.
pub fn leaves(tensors: &[Tensor]) -> Vec<Tensor> {
    tensors.iter().map(|tensor| tensor.detach().set_requires_grad(true)).collect()
}

/// Σ ‖one − other‖² over lists of tensors, a scalar.
///
/// # Errors
/// If shapes differ.
pub fn squared_distance(one: &[Tensor], other: &[Tensor]) -> Result<Tensor> {
    let difference = |(one, other): (&Tensor, &Tensor)| one.f_sub(other);
    let differences: Vec<Tensor> = one.iter().zip(other).map(difference).collect::<Result<_, _>>()?;
    inner_product(&differences, &differences)
}

/// Σ ⟨one, other⟩ over lists of tensors, a scalar.
///
/// # Errors
/// If shapes differ.
pub fn inner_product(one: &[Tensor], other: &[Tensor]) -> Result<Tensor> {
    let product = |(one, other): (&Tensor, &Tensor)| one.f_mul(other)?.f_sum(None::<Kind>);
    let products: Vec<Tensor> = one.iter().zip(other).map(product).collect::<Result<_, _>>()?;
    Ok(Tensor::f_stack(&products, 0)?.f_sum(None::<Kind>)?)
}
