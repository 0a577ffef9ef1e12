//! SRe2L (arXiv 2306.13092): the [recover step](crate::recover) with crops of any size throughout.

use crate::{Recover, RecoverOptions};
use guard_sdk::{Lab, Method, Needs, Objective, Result, Services, Step, Synthetic, Value};

/// Options of `sre2l`.
#[derive(Debug, Clone, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(default)]
#[schemars(extend("additionalProperties" = false))]
pub struct Sre2lOptions {
    /// Weights and augmentation.
    #[serde(flatten)]
    pub recover: RecoverOptions,
}

/// See [`Recover`].
pub struct Sre2l(Recover);

impl Method for Sre2l {
    type Options = Sre2lOptions;
    const NAME: &'static str = "sre2l";

    fn new(options: Sre2lOptions, _: &Services) -> Result<Self> {
        Ok(Self(Recover::new(options.recover)))
    }
}

impl Objective for Sre2l {
    fn needs(&self) -> Needs {
        self.0.needs()
    }

    fn value(&mut self, step: &Step, synthetic: &Synthetic, lab: &Lab) -> Result<Value> {
        self.0.value(step, synthetic, lab, self.0.options.smallest_crop)
    }
}
