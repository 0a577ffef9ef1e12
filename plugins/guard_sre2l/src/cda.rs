//! CDA (Yin and Shen, "Dataset Distillation via Curriculum Data Synthesis in Large Data Era", TMLR 2024,
//! arXiv 2311.18838): the [recover step](crate::recover) with crops that keep all of an image at first and less and less
//! of it.

use crate::{Recover, RecoverOptions};
use guard_sdk::{
    Lab, Method, Needs, Objective, Result, Services, Step, Synthetic, Value, augment::CropSchedule,
};

/// Options of `cda`.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(default)]
#[schemars(extend("additionalProperties" = false))]
pub struct CdaOptions {
    /// Weights and augmentation. `smallest_crop` is where the curriculum ends.
    #[serde(flatten)]
    pub recover: RecoverOptions,
    /// How the smallest crop goes from 1 to `smallest_crop`.
    pub schedule: CropSchedule,
    /// The share of the iterations after which it is there; 0 leaves out the curriculum.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub milestone: f64,
}

impl Default for CdaOptions {
    fn default() -> Self {
        Self { recover: RecoverOptions::default(), schedule: CropSchedule::Cosine, milestone: 1.0 }
    }
}

/// SRe2L's loss on crops that get smaller from iteration to iteration.
pub struct Cda {
    recover: Recover,
    schedule: CropSchedule,
    milestone: f64,
}

impl Method for Cda {
    type Options = CdaOptions;
    const NAME: &'static str = "cda";

    fn new(options: CdaOptions, _: &Services) -> Result<Self> {
        let CdaOptions { recover, schedule, milestone } = options;
        Ok(Self { recover: Recover::new(recover), schedule, milestone })
    }
}

impl Objective for Cda {
    fn needs(&self) -> Needs {
        self.recover.needs()
    }

    fn value(&mut self, step: &Step, synthetic: &Synthetic, lab: &Lab) -> Result<Value> {
        let floor = self.recover.options.smallest_crop;
        let smallest = self.schedule.minimal_scale(step.iteration, step.iterations, self.milestone, floor);
        self.recover.value(step, synthetic, lab, smallest)
    }
}
