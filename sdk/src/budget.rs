//! The threat model's ball, and the way back into it.

use crate::batch::{norm_each, per_image};
use tch::Tensor;

/// How a perturbation is measured, per example.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Norm {
    /// The largest change of any pixel.
    Linf,
    /// The Euclidean length of the change over all pixels.
    L2,
}

impl Norm {
    /// `linf` or `l2`, as recipes write it.
    pub fn name(self) -> &'static str {
        match self {
            Norm::Linf => "linf",
            Norm::L2 => "l2",
        }
    }

    /// The direction of steepest ascent for each gradient, `[N,C,H,W]`, of size 1 in this norm; 0 where the gradient is 0.
    pub fn steepest(self, gradient: &Tensor) -> Tensor {
        match self {
            Norm::Linf => gradient.sign(),
            Norm::L2 => {
                let norm = norm_each(gradient);
                gradient / per_image(&norm.where_self(&norm.gt(0.0), &norm.ones_like()))
            }
        }
    }
}

/// How far an attack may go: a norm and ε in pixel units (pixels in [0,1]).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// The norm.
    pub norm: Norm,
    /// ε, in pixel units.
    pub epsilon: f64,
}

impl Budget {
    /// The nearest images to `candidates` that are within ε of `clean` and, after that, within [0,1]; both `[N,C,H,W]`.
    pub fn project(&self, candidates: &Tensor, clean: &Tensor) -> Tensor {
        (clean + self.project_perturbation(&(candidates - clean))).clamp(0.0, 1.0)
    }

    /// The nearest perturbations of norm at most ε, `[N,C,H,W]`.
    pub fn project_perturbation(&self, perturbation: &Tensor) -> Tensor {
        match self.norm {
            Norm::Linf => perturbation.clamp(-self.epsilon, self.epsilon),
            Norm::L2 => {
                let factor = (norm_each(perturbation).reciprocal() * self.epsilon).clamp_max(1.0);
                perturbation * per_image(&factor)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn projection_stays_in_the_ball_and_in_the_pixel_range() {
        tch::manual_seed(1);
        let clean = Tensor::rand([5, 3, 4, 4], (Kind::Float, Device::Cpu));
        let far = &clean + Tensor::randn([5, 3, 4, 4], (Kind::Float, Device::Cpu)) * 3.0;
        for (norm, epsilon) in [(Norm::Linf, 1.0 / 255.0), (Norm::L2, 0.7)] {
            let near = Budget { norm, epsilon }.project(&far, &clean);
            let delta = (near.to_kind(Kind::Double) - clean.to_kind(Kind::Double)).flatten(1, -1);
            let size = match norm {
                Norm::Linf => delta.abs().max().double_value(&[]) - f64::powi(2.0, -23),
                Norm::L2 => delta.norm_scalaropt_dim(2.0, -1, false).max().double_value(&[]) / (1.0 + 1e-5),
            };
            assert!(size <= epsilon, "{norm:?}: {size} > {epsilon}");
            assert!(near.min().double_value(&[]) >= 0.0 && near.max().double_value(&[]) <= 1.0);
        }
    }

    #[test]
    fn what_is_inside_the_l2_ball_stays_and_zero_stays_zero() {
        let budget = Budget { norm: Norm::L2, epsilon: 1.0 };
        let small = Tensor::from_slice(&[0.3f64, 0.0, 0.0, 0.0]).reshape([2, 1, 1, 2]);
        assert_eq!(budget.project_perturbation(&small), small);
    }
}
