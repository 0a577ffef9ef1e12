//! DM: synthetic images whose mean embedding, in untrained networks, is that of real images.
//!
//! | paper | here |
//! |---|---|
//! | ψ_ϑ, its output | a fresh network, `Pass::with_embedding` |
//! | A(·, ω) | `augment` |
//!
//! No network is trained and nothing is differentiated twice. At 100 images per class and more the paper's learning rate is 10
//! in place of 1: say so in `[distill.optimizer]`.

use crate::{learner::augmented_pixels, statistics::freeze};
use guard_sdk::{
    ByClass, Error, Kind, Lab, Method, Needs, Network, Objective, Pass, Result, Services, Space, Step,
    Synthetic, Tensor, Value,
    augment::{Dsa, DsaOptions},
    autograd::{Graph, grad, no_grad},
    objective::{Networks, Start, Together, Updates},
};

/// Options of `dm`, with the published values.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DmOptions {
    /// Real images of each class in a step.
    #[schemars(range(min = 1))]
    pub real_images: u64,
    /// Real images of each class that BatchNorm's statistics are taken of; 0 leaves the statistics of a fresh network.
    pub batch_norm_images: u64,
    /// The augmentation that real and synthetic images share.
    pub augment: DsaOptions,
}

impl Default for DmOptions {
    fn default() -> Self {
        Self { real_images: 256, batch_norm_images: 16, augment: DsaOptions::default() }
    }
}

/// Σ_c ‖mean ψ(A(T_c)) − mean ψ(A(S_c))‖².
pub struct Dm {
    options: DmOptions,
    classes: ByClass,
}

impl Method for Dm {
    type Options = DmOptions;
    const NAME: &'static str = "dm";

    fn new(options: DmOptions, _: &Services) -> Result<Self> {
        Ok(Self { options, classes: ByClass::default() })
    }
}

impl Objective for Dm {
    fn needs(&self) -> Needs {
        Needs {
            networks: Networks::Fresh,
            real_images: true,
            space: Space::Normalised,
            together: Together::All,
            start: Start::Real,
            iterations: 20_000,
            updates: Updates::Sgd { learning_rate: 1.0, momentum: 0.5, cosine: false },
            ..Needs::default()
        }
    }

    /// Passes per class: 1 forward of real images, 1 forward and input backward of synthetic ones. Class by class, so that
    /// memory holds the graph of one.
    fn value(&mut self, step: &Step, synthetic: &Synthetic, lab: &Lab) -> Result<Value> {
        let owned = lab.fresh_network(step.iteration)?;
        freeze(&owned.lend(), lab, self.options.batch_norm_images, step.iteration)?;
        // Gradients of the images are all that is wanted.
        let tensors = owned.lend().tensors()?;
        let frozen: Vec<Tensor> = tensors.parameters.iter().map(|(_, tensor)| tensor.detach()).collect();
        let owned = owned.lend().with_parameters(&frozen.iter().collect::<Vec<_>>())?;
        let network = owned.lend();
        let (_, _, height, width) = synthetic.images.size4()?;

        let mut loss = Tensor::zeros([0i64; 0], (synthetic.images.kind(), synthetic.images.device()));
        let mut gradient = synthetic.images.detach().f_zeros_like()?;
        for (&class, positions) in self.classes.of(synthetic)? {
            step.services.check_cancelled()?;
            let augment =
                Dsa::siamese(&step.services, "dsa", class as u64, [height, width], &self.options.augment)?;
            let real = lab.real(Some(class), self.options.real_images, step.iteration)?;
            let target = no_grad(|| {
                let pixels = augmented_pixels(&network, &real.images, &augment)?;
                mean_embedding(&network, &pixels, Space::Pixels)
            })?;
            let images = augment.apply(&synthetic.at(positions)?.images)?;
            let distance = (mean_embedding(&network, &images, synthetic.space)? - target)
                .square()
                .f_sum(None::<Kind>)?;
            gradient = gradient.f_add(&grad(&distance, &[synthetic.images], Graph::Free)?[0])?;
            loss = loss.f_add(&distance.detach())?;
        }
        Ok(Value::Gradients { loss, gradients: vec![gradient] })
    }
}

/// `[E]`.
fn mean_embedding(network: &Network, images: &Tensor, space: Space) -> Result<Tensor> {
    let embedding = network.pass(images, Pass::new(space).with_embedding())?.embedding;
    let embedding = embedding.ok_or_else(|| Error::unsupported("the network has no embedding"))?;
    Ok(embedding.f_mean_dim([0].as_slice(), false, None::<Kind>)?)
}
