//! Distribution matching (Zhao and Bilen, WACV 2023, arXiv 2110.04181), without augmentation. Put yours in its place.
//!
//! | paper | here |
//! |---|---|
//! | ψ_ϑ | the embedding of a network that was never trained |
//! | T_c, S_c | real and synthetic images of class c |
//!
//! ```text
//! L = Σ_c ‖mean ψ_ϑ(T_c) − mean ψ_ϑ(S_c)‖²
//! ```

use guard_sdk::{
    ByClass, Error, Kind, Lab, Method, Needs, Network, Objective, Pass, Result, Services, Space, Step,
    Synthetic, Tensor, Value,
    autograd::no_grad,
    objective::{Networks, Start, Updates},
};

/// Options of `method-name`.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MethodNameOptions {
    /// Real images of each class in a step.
    #[schemars(range(min = 1))]
    pub real_images: u64,
}

impl Default for MethodNameOptions {
    fn default() -> Self {
        Self { real_images: 64 }
    }
}

/// Σ_c ‖mean ψ(T_c) − mean ψ(S_c)‖².
pub struct MethodName {
    options: MethodNameOptions,
    classes: ByClass,
}

impl Method for MethodName {
    type Options = MethodNameOptions;
    const NAME: &'static str = "method-name";

    fn new(options: MethodNameOptions, _: &Services) -> Result<Self> {
        Ok(Self { options, classes: ByClass::default() })
    }
}

impl Objective for MethodName {
    fn needs(&self) -> Needs {
        Needs {
            networks: Networks::Fresh,
            real_images: true,
            space: Space::Normalised,
            start: Start::Real,
            iterations: 1000,
            updates: Updates::Sgd { learning_rate: 1.0, momentum: 0.5, cosine: false },
            ..Needs::default()
        }
    }

    /// Passes per class: 1 forward of real images, 1 of synthetic ones; the host adds 1 input backward.
    fn value(&mut self, step: &Step, synthetic: &Synthetic, lab: &Lab) -> Result<Value> {
        let network = lab.fresh_network(step.iteration)?;
        let mut distances = Vec::new();
        for (&class, positions) in self.classes.of(synthetic)? {
            step.services.check_cancelled()?;
            let real = lab.real(Some(class), self.options.real_images, step.iteration)?;
            let target = no_grad(|| mean_embedding(&network.lend(), &real.images, Space::Pixels))?;
            let images = synthetic.at(positions)?.images;
            let present = mean_embedding(&network.lend(), &images, synthetic.space)?;
            distances.push((present - target).square().sum(None::<Kind>));
        }
        Ok(Value::Loss(distances.into_iter().sum()))
    }
}

/// `[E]`.
fn mean_embedding(network: &Network, images: &Tensor, space: Space) -> Result<Tensor> {
    let embedding = network.pass(images, Pass::new(space).with_embedding())?.embedding;
    let embedding = embedding.ok_or_else(|| Error::unsupported("the network has no embedding"))?;
    Ok(embedding.f_mean_dim([0].as_slice(), false, None::<Kind>)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use guard_sdk::testing::{FakeHost, SmallLab, SyntheticSet, assert_gradient};
    use serde_json::json;

    #[test]
    fn the_gradient_to_the_images_is_that_of_the_value() {
        let host = FakeHost::new(1);
        let mut method: MethodName = host.make(json!({ "real_images": 4 })).unwrap();
        let needs = method.needs();
        let lab = SmallLab::new([3, 8, 8], Kind::Double, &needs);
        let set = SyntheticSet::new(&lab, &needs, None).unwrap();
        assert_gradient(
            |learned| {
                let set = set.at(learned);
                let value =
                    set.lend(|synthetic| method.value(&host.step(), synthetic, &Lab::lend(&lab)))?;
                match value {
                    Value::Loss(loss) => Ok(loss),
                    Value::Gradients { .. } => Err(Error::new("this objective returns its loss")),
                }
            },
            &set.learned(),
        );
    }
}
