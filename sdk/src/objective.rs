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
//! | a set that is there already | `given_set` | not called | – |
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

/// How class probabilities are learned with the images, see [`Needs::learn_soft_labels`].
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct SoftLabelUpdates {
    /// Where they start.
    pub start: SoftLabelStart,
    /// The learning rate of gradient descent on them; 0 keeps what they start with. After each step every row is
    /// projected onto the probabilities.
    pub learning_rate: f64,
    /// Its momentum.
    pub momentum: f64,
}

/// Where learned class probabilities start.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum SoftLabelStart {
    /// 1 for the image's class.
    #[default]
    Hard,
    /// What the last snapshot of the first expert answers to the first images.
    Expert,
}

/// The value of a published table of (images per class, number) at `images_per_class`: its own where there is one, linear
/// in between and rounded, the nearest outside. 1 for an empty table.
pub fn interpolated(table: &[(u64, u64)], images_per_class: u64) -> u64 {
    let after = table.iter().position(|(at, _)| *at >= images_per_class);
    match after {
        Some(after) if after > 0 && table[after].0 > images_per_class => {
            let ((left, from), (right, to)) = (table[after - 1], table[after]);
            let share = (images_per_class - left) as f64 / (right - left) as f64;
            (from as f64 + share * (to as f64 - from as f64)).round() as u64
        }
        Some(after) => table[after].1,
        None => table.last().map_or(1, |(_, value)| *value),
    }
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
    /// Whether the recipe must name a set (`distill.start`) that students get as it is, all of it, with the labels and the
    /// learning rate that were learned with it. Nothing is optimised, and no image made.
    pub given_set: bool,
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
    /// How many steps of the images an iteration has, by images per class (see [`interpolated`]): DC takes several with
    /// each network. Empty for 1. [`Step::iteration`] counts the steps.
    pub steps_per_iteration: Vec<(u64, u64)>,
    /// How many epochs expert trajectories must have at least.
    pub expert_epochs: u64,
    /// The optimiser, unless the recipe says otherwise.
    pub updates: Updates,
    /// What else is learned.
    pub learnables: Vec<Learnable>,
    /// Whether class probabilities are learned with the images.
    pub learn_soft_labels: bool,
    /// How, if they are.
    pub soft_label_updates: SoftLabelUpdates,
}

impl Default for Needs {
    fn default() -> Self {
        Self {
            networks: Networks::Teacher,
            batch_norm: false,
            batch_norm_layers: Vec::new(),
            real_images: false,
            given_set: false,
            space: Space::Pixels,
            together: Together::All,
            classes_together: 0,
            start: Start::Noise,
            iterations: 1000,
            steps_per_iteration: Vec::new(),
            expert_epochs: 0,
            updates: Updates::Sgd { learning_rate: 0.1, momentum: 0.5, cosine: false },
            learnables: Vec::new(),
            learn_soft_labels: false,
            soft_label_updates: SoftLabelUpdates::default(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_published_numbers_the_table_is_linear() {
        let table = [(1, 1), (10, 50), (20, 25)];
        let at = [1, 2, 5, 10, 15, 20, 100].map(|images| interpolated(&table, images));
        assert_eq!(at, [1, 6, 23, 50, 38, 25, 25]);
        assert_eq!(interpolated(&table[1..], 3), 50);
        assert_eq!(interpolated(&[], 3), 1);
    }

    #[test]
    fn needs_of_an_older_plugin_have_the_defaults_of_newer_fields() {
        let needs: Needs = serde_json::from_str(r#"{ "networks": "fresh", "iterations": 7 }"#).unwrap();
        let expected = Needs { networks: Networks::Fresh, iterations: 7, ..Needs::default() };
        assert_eq!(needs, expected);
    }
}
