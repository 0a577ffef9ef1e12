//! A random real subset: the baseline that every distilled set of the same size is held against.

use guard_sdk::{
    Error, Initial, Lab, Method, Needs, Objective, Result, Services, Space, Step, Synthetic, Tensor, Value,
    objective::Networks,
};

/// Options of `random`: none.
#[derive(Debug, Clone, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RandomOptions {}

/// Real training images of each class, drawn by the run's seed and left as they are.
pub struct Random;

impl Method for Random {
    type Options = RandomOptions;
    const NAME: &'static str = "random";

    fn new(_: RandomOptions, _: &Services) -> Result<Self> {
        Ok(Self)
    }
}

impl Objective for Random {
    fn needs(&self) -> Needs {
        Needs {
            networks: Networks::None,
            real_images: true,
            space: Space::Pixels,
            iterations: 0,
            ..Needs::default()
        }
    }

    fn initialise(&mut self, step: &Step, lab: &Lab) -> Result<Option<Initial>> {
        let info = lab.info();
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        for class in 0..info.classes {
            step.services.check_cancelled()?;
            let (wanted, there) = (info.images_per_class as u64, info.real_images[class as usize]);
            if there < wanted {
                return Err(Error::new(format!(
                    "class {class} has {there} training images, fewer than the {wanted} images per class"
                )));
            }
            let real = lab.real(Some(class), wanted, 0)?;
            images.push(real.images);
            labels.push(real.labels);
        }
        Ok(Some(Initial { images: Tensor::f_cat(&images, 0)?, labels: Tensor::f_cat(&labels, 0)? }))
    }

    fn value(&mut self, _: &Step, _: &Synthetic, _: &Lab) -> Result<Value> {
        Err(Error::unsupported("there is nothing to optimise in real images"))
    }
}
