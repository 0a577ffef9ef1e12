//! What numbers a network's passes compute with.

use guard_device::Autocast;
use guard_sdk::{Kind, Result, Tensor};
use serde::{Deserialize, Serialize};

/// The numbers that networks compute with. Evaluations are in float32 whatever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// float32.
    #[default]
    Fp32,
    /// float32, but GPUs round the factors of products to TensorFloat32: 10 bits after the point instead of 23.
    Tf32,
    /// Products in bfloat16, 7 bits after the point; weights, their gradients and what needs it in float32.
    Bf16,
}

impl Precision {
    /// Whether it is the one that needs no word.
    pub fn is_full(&self) -> bool {
        *self == Self::Fp32
    }

    /// The guard of a pass whose images are `images`, if it is one of mixed precision: float32 networks alone are.
    pub(super) fn of_pass(self, images: &Tensor) -> Result<Option<Autocast>> {
        let mixed = self == Self::Bf16 && images.kind() == Kind::Float;
        mixed.then(|| Autocast::bfloat16(images.device())).transpose()
    }
}
