//! Penalties on derivatives to the image: GUARD's regularizers (Xue et al., "Towards Adversarially Robust Dataset Distillation by Curvature Regularization",
//! AAAI-25, arXiv 2403.10045), after CURE (Moosavi-Dezfooli et al., CVPR 2019, arXiv 1811.09716), and
//! others to compare with.
#![forbid(unsafe_code)]

mod curvature;
mod gradient_norm;
mod jacobian;
mod local_linearity;
pub mod perturbation;

pub use curvature::{Compat, Curvature, CurvatureOptions, Form};
pub use gradient_norm::{GradientNorm, GradientNormOptions};
pub use jacobian::{Jacobian, JacobianOptions};
pub use local_linearity::{LocalLinearity, LocalLinearityOptions};

guard_sdk::plugin! {
    id: "guard.curv",
    regularizers: [Curvature, GradientNorm, Jacobian, LocalLinearity],
}
