//! Objectives: what makes synthetic data good.
//!
//! The host owns the synthetic set, its optimiser and its schedule; an objective says what it needs ([`Needs`]), maybe
//! what it starts with ([`Objective::initialise`]), turns the present images into a loss or into gradients
//! ([`Objective::value`]), and may act after each change ([`Objective::after_step`]). How the methods of the field use it:
//!
//! | method | needs | value | after_step |
//! |---|---|---|---|
//! | SRe2L | teacher with BatchNorm, normalised space, images from noise, one image of each class at a time | cross-entropy + r · distance of BatchNorm statistics on augmented images: a loss | – |
//! | CDA | the same | the same, the crop's smallest scale follows `step.iteration / step.iterations` | – |
//! | RDED | teacher, real images, 0 iterations | not called; `initialise` crops, scores and stitches | – |
//! | DC | fresh networks, real images, all classes together | for each class: real gradient of `lab.training_loss` (detached), synthetic one with graph, distance, `grad` to the images at once, so that memory holds one class: gradients | trains its network on the synthetic set, draws a new one after the outer loop |
//! | DSA | the same | DC with one augmentation, drawn from `step`, for both sides | as DC |
//! | DM | fresh networks, real images | class by class: distance of mean embeddings (`Pass::with_embedding`): gradients, or a loss | – |
//! | MTT | experts, learnable `learning-rate` | unrolls `network.with_parameters` from a snapshot; normalised distance to a later one: a loss | – |
//! | TESLA | the same | two passes over the unroll with detached parameters: gradients of images and learning rate, memory independent of the number of steps | – |
//!
//! Learnable soft labels (MTT, TESLA) are `learn_soft_labels`; a learning rate that must stay positive is a [`Learnable`]
//! with a `minimum`. A network that lives over several steps (DC) is kept in the method itself: `OwnedNetwork` is
//! `Send`; `save` and `load` carry its tensors.

use crate::{Lab, Method, Result, Space, Step};
use tch::Tensor;

/// Which networks the host prepares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Networks {
    /// None.
    None,
    /// One trained on real data.
    #[default]
    Teacher,
    /// Untrained ones on demand.
    Fresh,
    /// Recorded training trajectories.
    Experts,
}

/// Where the first images come from, unless the recipe says otherwise.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// Standard normal numbers in the objective's space.
    #[default]
    Noise,
    /// Real images of the class.
    Real,
}

/// Which images are optimised together: what one call of [`Objective::value`] sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Together {
    /// The whole set.
    #[default]
    All,
    /// One image of each class; the runs for the other images follow one after the other.
    OneImagePerClass,
}

/// Optimiser of the synthetic set, unless the recipe says otherwise. Learning rates fall to 0 along a half cosine if
/// `cosine`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Updates {
    /// Stochastic gradient descent.
    Sgd {
        /// The learning rate.
        learning_rate: f64,
        /// The momentum.
        momentum: f64,
        /// Whether the learning rate falls to 0.
        cosine: bool,
    },
    /// Adam.
    Adam {
        /// The learning rate.
        learning_rate: f64,
        /// β₁ and β₂.
        betas: [f64; 2],
        /// Whether the learning rate falls to 0.
        cosine: bool,
    },
}

/// A tensor besides the images that is learned, e.g. the students' learning rate.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Learnable {
    /// Its name.
    pub name: String,
    /// Its first value, a scalar.
    pub initial: f64,
    /// The learning rate of gradient descent on it.
    pub learning_rate: f64,
    /// Its momentum; MTT and TESLA use 0.5.
    #[serde(default)]
    pub momentum: f64,
    /// The value it is clamped to from below after each step.
    pub minimum: Option<f64>,
}

/// What the host must prepare for an objective.
///
/// It crosses the boundary as text: a field that an older plugin does not know has its default.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Needs {
    /// Which networks.
    pub networks: Networks,
    /// Whether the networks must have BatchNorm layers with running statistics.
    pub batch_norm: bool,
    /// Names of BatchNorm layers that the networks must have, e.g. because options name them.
    pub batch_norm_layers: Vec<String>,
    /// Whether real images are used.
    pub real_images: bool,
    /// The space in which images are optimised, and clamped to the valid pixel range after each step.
    pub space: Space,
    /// Which images are optimised together.
    pub together: Together,
    /// With [`Together::OneImagePerClass`], how many classes are optimised together at most; 0 for all.
    pub classes_together: u64,
    /// Where the first images come from.
    pub start: Start,
    /// How many iterations, unless the recipe says otherwise; 0 if nothing is optimised.
    pub iterations: u64,
    /// The optimiser, unless the recipe says otherwise.
    pub updates: Updates,
    /// What else is learned.
    pub learnables: Vec<Learnable>,
    /// Whether class probabilities are learned with the images.
    pub learn_soft_labels: bool,
}

impl Default for Needs {
    fn default() -> Self {
        Self {
            networks: Networks::Teacher,
            batch_norm: false,
            batch_norm_layers: Vec::new(),
            real_images: false,
            space: Space::Pixels,
            together: Together::All,
            classes_together: 0,
            start: Start::Noise,
            iterations: 1000,
            updates: Updates::Sgd { learning_rate: 0.1, momentum: 0.5, cosine: false },
            learnables: Vec::new(),
            learn_soft_labels: false,
        }
    }
}

/// The images that are optimised together, lent for a call.
pub struct Synthetic<'a> {
    /// `[N,C,H,W]` in `space`, a leaf that requires gradients.
    pub images: &'a Tensor,
    /// int64 `[N]`.
    pub labels: &'a Tensor,
    /// Class probabilities `[N,K]`, where they are learned.
    pub soft_labels: Option<&'a Tensor>,
    /// The learnables, in the order of [`Needs::learnables`].
    pub learnables: &'a [(&'a str, &'a Tensor)],
    /// One id per image, the same over the whole run.
    pub ids: &'a [u64],
    /// What the images' values mean.
    pub space: Space,
}

/// What [`Objective::value`] returns.
#[derive(Debug)]
pub enum Value {
    /// A scalar `[]` with graph to the images and learnables.
    Loss(Tensor),
    /// The loss's value, and its gradients: to the images first, then to the soft labels if they are learned, then to the
    /// learnables in order.
    Gradients {
        /// A scalar `[]`, for the log.
        loss: Tensor,
        /// Of the shapes of what is learned.
        gradients: Vec<Tensor>,
    },
}

/// The first images, made by the objective itself.
#[derive(Debug)]
pub struct Initial {
    /// `[N,C,H,W]` in the space of [`Needs`].
    pub images: Tensor,
    /// int64 `[N]`.
    pub labels: Tensor,
}

/// What makes synthetic data good. See the [module's table](self) for how the field's methods use it.
pub trait Objective: Method {
    /// What the host must prepare. Asked for once, before anything runs.
    fn needs(&self) -> Needs;

    /// The objective's own first images, or `None` for those that [`Needs::start`] or the recipe name.
    ///
    /// # Errors
    /// If they cannot be made.
    fn initialise(&mut self, step: &Step, lab: &Lab) -> Result<Option<Initial>> {
        let _ = (step, lab);
        Ok(None)
    }

    /// The loss of the present images, or its gradients.
    ///
    /// # Errors
    /// If it is not defined for the network or data at hand.
    fn value(&mut self, step: &Step, synthetic: &Synthetic, lab: &Lab) -> Result<Value>;

    /// Called after the images were changed by the optimiser.
    ///
    /// # Errors
    /// Those of what the method does here.
    fn after_step(&mut self, step: &Step, synthetic: &Synthetic, lab: &Lab) -> Result<()> {
        let _ = (step, synthetic, lab);
        Ok(())
    }
}
