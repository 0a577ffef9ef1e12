//! DC and DSA: synthetic images whose gradients at a network point where those of real images do.
//!
//! | paper | here |
//! |---|---|
//! | S, T | synthetic, real images |
//! | D(·, ·) | [`Metric`] |
//! | ς^T, ς^S | `outer`, `inner` of [`Loops`] |
//! | A(·, ω) of DSA | `augment` |
//!
//! ```text
//! for each network θ₀:  for t = 0 .. outer:
//!     for each class c:  ∇S += ∂/∂S D(∇θ CE(A(S_c); θ_t), ∇θ L(A(T_c); θ_t))       value
//!     S ← S − η ∇S                                                                the host
//!     θ_{t+1} ← gradient descent of CE(A(S)) for `inner` epochs                    after_step
//! ```
//!
//! L is the recipe's training loss with its regularizers. The gradient to the images is taken class by class, so that memory
//! holds the graph of one class.

use crate::{
    distance::Metric,
    learner::{self, Learner, Lesson},
    loops::{Loops, OUTER},
    statistics::freeze,
};
use guard_sdk::{
    Batch, ByClass, Kind, Lab, Method, Needs, Objective, Result, Services, Space, State, Step, Synthetic,
    Tensor, Value,
    augment::{self, DsaOptions},
    autograd::{Graph, grad},
    objective::{Networks, Start, Together, Updates},
};

/// Options of `dc` and `dsa`, with the published values.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MatchingOptions {
    /// How far gradients are apart.
    pub metric: Metric,
    /// Real images of each class in a step.
    #[schemars(range(min = 1))]
    pub real_images: u64,
    /// Steps of the images with each network; unless said, the published number for so many images per class.
    #[schemars(range(min = 1))]
    pub outer_loops: Option<u64>,
    /// Epochs that the network learns from the images after each step; unless said, the published number.
    #[schemars(range(min = 0))]
    pub inner_epochs: Option<u64>,
    /// The network's learning rate on the images.
    #[schemars(range(min = 0.0))]
    pub network_learning_rate: f64,
    /// Images in a step of the network.
    #[schemars(range(min = 1))]
    pub network_batch_size: usize,
    /// Real images of each class that BatchNorm's statistics are taken of; 0 leaves the statistics of a fresh network.
    pub batch_norm_images: u64,
    /// The augmentation that real and synthetic images share; unless said, none for `dc` and the published one for `dsa`.
    pub augment: Option<DsaOptions>,
}

impl Default for MatchingOptions {
    fn default() -> Self {
        Self {
            metric: Metric::LayerWise,
            real_images: 256,
            outer_loops: None,
            inner_epochs: None,
            network_learning_rate: 0.01,
            network_batch_size: 256,
            batch_norm_images: 16,
            augment: None,
        }
    }
}

/// What DC and DSA share.
struct Matching {
    options: MatchingOptions,
    start: Start,
    classes: ByClass,
    learner: Option<Learner>,
    /// A state that was loaded, until the lab is there to make the network.
    saved: Option<State>,
}

impl Matching {
    fn new(options: MatchingOptions, start: Start) -> Self {
        Self { options, start, classes: ByClass::default(), learner: None, saved: None }
    }

    fn needs(&self) -> Needs {
        let steps = self.options.outer_loops.map_or(OUTER.to_vec(), |outer| vec![(1, outer)]);
        Needs {
            networks: Networks::Fresh,
            real_images: true,
            space: Space::Normalised,
            together: Together::All,
            start: self.start,
            iterations: 1000,
            steps_per_iteration: steps,
            updates: Updates::Sgd { learning_rate: 0.1, momentum: 0.5, cosine: false },
            ..Needs::default()
        }
    }

    fn loops(&self, lab: &Lab) -> Loops {
        let MatchingOptions { outer_loops, inner_epochs, .. } = self.options;
        Loops::of(lab.info().images_per_class as u64, outer_loops, inner_epochs)
    }

    /// The network of this step: the one kept, the one saved, or the next one.
    fn learner(&mut self, step: &Step, lab: &Lab, number: u64) -> Result<&Learner> {
        if self.learner.as_ref().is_none_or(|learner| learner.number != number) {
            let saved = match self.saved.take() {
                Some(state) => (learner::number(&state)? == number).then_some(state),
                None => None,
            };
            self.learner = Some(match saved {
                Some(state) => Learner::restore(lab, &state)?,
                None => Learner::fresh(lab, number)?,
            });
        }
        let learner = self.learner.as_ref().ok_or_else(|| guard_sdk::Error::new("there is no network"))?;
        freeze(&learner.network(), lab, self.options.batch_norm_images, step.iteration)?;
        Ok(learner)
    }

    /// Passes per class: 1 forward and backward of real images, 1 forward, backward and double backward of synthetic ones.
    fn value(&mut self, step: &Step, synthetic: &Synthetic, lab: &Lab) -> Result<Value> {
        let loops = self.loops(lab);
        let options = self.options.clone();
        if step.iteration == 0 {
            loops.tell(step, lab, options.outer_loops.is_some() && options.inner_epochs.is_some());
        }
        let classes = self.classes.of(synthetic)?.clone();
        let learner = self.learner(step, lab, step.iteration / loops.outer)?;
        let network = learner.network();
        let tensors = network.tensors()?;
        let matched: Vec<&Tensor> = tensors
            .parameters
            .iter()
            .map(|(_, tensor)| tensor)
            .filter(|tensor| options.metric.counts(tensor))
            .collect();
        let (_, _, height, width) = synthetic.images.size4()?;

        let mut gradient = synthetic.images.detach().f_zeros_like()?;
        let mut totals: Vec<Tensor> = Vec::new();
        for (class, positions) in classes {
            step.services.check_cancelled()?;
            let augment = options.augment.as_ref().map(|options| {
                augment::Dsa::siamese(&step.services, "dsa", class as u64, [height, width], options)
            });
            let augment = augment.transpose()?;

            let mut real = lab.real(Some(class), options.real_images, step.iteration)?;
            if let Some(augment) = &augment {
                real.images = learner::augmented_pixels(&network, &real.images, augment)?;
            }
            let target = grad(&lab.training_loss(&network, &real.batch())?, &matched, Graph::Free)?;

            let chosen = synthetic.at(&positions)?;
            let images = match &augment {
                Some(augment) => augment.apply(&chosen.images)?,
                None => chosen.images.shallow_clone(),
            };
            let batch = Batch { images: &images, ..chosen.batch() };
            let losses = batch.cross_entropy_each(&network.logits_in(batch.space, batch.images)?)?;
            let present = grad(&losses.f_mean(None::<Kind>)?, &matched, Graph::Create)?;

            let distances = options.metric.distances(&present, &target)?;
            let distance = sum(&distances)?;
            gradient = gradient.f_add(&grad(&distance, &[synthetic.images], Graph::Free)?[0])?;
            totals = match totals.is_empty() {
                true => distances.iter().map(Tensor::detach).collect(),
                false => totals.iter().zip(&distances).map(|(total, each)| total + each.detach()).collect(),
            };
        }
        if options.metric == Metric::LayerWise {
            let names = tensors.parameters.iter().filter(|(_, tensor)| options.metric.counts(tensor));
            for ((name, _), total) in names.zip(&totals) {
                step.services.metric(&format!("distance/{name}"), total)?;
            }
        }
        Ok(Value::Gradients { loss: sum(&totals)?, gradients: vec![gradient] })
    }

    fn after_step(&mut self, step: &Step, synthetic: &Synthetic, lab: &Lab) -> Result<()> {
        let loops = self.loops(lab);
        if step.iteration % loops.outer == loops.outer - 1 {
            self.learner = None;
            return Ok(());
        }
        let Some(learner) = &self.learner else { return Ok(()) };
        let MatchingOptions { network_learning_rate, network_batch_size, augment, .. } = &self.options;
        let lesson = Lesson {
            epochs: loops.inner,
            batch_size: *network_batch_size,
            learning_rate: *network_learning_rate,
            augment: augment.as_ref(),
        };
        learner.learn(step, synthetic, &lesson)
    }

    fn save(&self) -> Result<State> {
        match (&self.learner, &self.saved) {
            (Some(learner), _) => learner.save(),
            // It was loaded, and no step has come since: a run may be cut here, too.
            (None, Some(State { version, json, tensors })) => Ok(State {
                version: *version,
                json: json.clone(),
                tensors: tensors
                    .iter()
                    .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
                    .collect(),
            }),
            (None, None) => Ok(State::default()),
        }
    }

    fn load(&mut self, state: State) -> Result<()> {
        self.learner = None;
        self.saved = None;
        if !state.is_empty() {
            learner::number(&state)?;
            self.saved = Some(state);
        }
        Ok(())
    }
}

/// The sum of scalars.
fn sum(scalars: &[Tensor]) -> Result<Tensor> {
    Ok(Tensor::f_stack(scalars, 0)?.f_sum(None::<Kind>)?)
}

/// An objective that is [`Matching`] with its own defaults.
macro_rules! matching {
    ($(#[$doc:meta])* $name:ident, $text:literal, $start:expr, $augment:expr) => {
        $(#[$doc])*
        pub struct $name(Matching);

        impl Method for $name {
            type Options = MatchingOptions;
            const NAME: &'static str = $text;

            fn new(options: MatchingOptions, _: &Services) -> Result<Self> {
                let augment: Option<DsaOptions> = options.augment.clone().or($augment);
                Ok(Self(Matching::new(MatchingOptions { augment, ..options }, $start)))
            }

            fn save(&self) -> Result<State> {
                self.0.save()
            }

            fn load(&mut self, state: State) -> Result<()> {
                self.0.load(state)
            }
        }

        impl Objective for $name {
            fn needs(&self) -> Needs {
                self.0.needs()
            }

            fn value(&mut self, step: &Step, synthetic: &Synthetic, lab: &Lab) -> Result<Value> {
                self.0.value(step, synthetic, lab)
            }

            fn after_step(&mut self, step: &Step, synthetic: &Synthetic, lab: &Lab) -> Result<()> {
                self.0.after_step(step, synthetic, lab)
            }
        }
    };
}

matching! {
    /// Σ_c D(∇θ L(T_c), ∇θ CE(S_c)).
    Dc, "dc", Start::Noise, None
}

matching! {
    /// Σ_c D(∇θ L(A(T_c)), ∇θ CE(A(S_c))), A drawn anew for each class and step.
    Dsa, "dsa", Start::Real, Some(DsaOptions::default())
}
