//! Decoupled distillation: SRe2L (Yin et al., "Squeeze, Recover and Relabel", NeurIPS 2023, arXiv 2306.13092) and what
//! grew out of it. `cda` optimises under a curriculum of crops; `rded` stitches crops of real images, and `random` takes real
//! images as they are, `given` a set that is there already: these three optimise nothing. The rest are penalties on images.
#![forbid(unsafe_code)]

mod batch_norm;
mod cda;
mod given;
mod l2;
mod random;
mod rded;
mod recover;
mod sre2l;
mod total_variation;

pub use batch_norm::{BatchNorm, BatchNormOptions, LayerWeights};
pub use cda::{Cda, CdaOptions};
pub use given::{Given, GivenOptions};
pub use l2::{L2, L2Options};
pub use random::{Random, RandomOptions};
pub use rded::{Rded, RdedOptions};
pub use recover::{Augment, Recover, RecoverOptions};
pub use sre2l::{Sre2l, Sre2lOptions};
pub use total_variation::{Compat, TotalVariation, TotalVariationOptions, Variation};

guard_sdk::plugin! {
    id: "guard.sre2l",
    objectives: [Sre2l, Cda, Rded, Random, Given],
    regularizers: [BatchNorm, TotalVariation, L2],
}
