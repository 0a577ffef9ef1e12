//! The point at which curvature is measured: a step of length h along the input gradient, or its sign.

use guard_sdk::{
    Tensor,
    batch::{norm_each, per_image},
};

/// The direction of the step.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// The gradient itself (GUARD).
    #[default]
    Gradient,
    /// The gradient's sign (CURE).
    Sign,
}

/// z = h · d / ‖d‖₂ per example, `[N,C,H,W]`, with d the gradient or its sign; 0 where the gradient is 0.
pub fn step(gradient: &Tensor, radius: f64, direction: Direction) -> Tensor {
    let direction = match direction {
        Direction::Gradient => gradient.shallow_clone(),
        Direction::Sign => gradient.sign(),
    };
    // First scaled to a largest element of 1: in float32 the square of 1e-25 is 0, but its direction is not.
    let largest = direction.abs().flatten(1, -1).amax([-1].as_slice(), false);
    let scaled = &direction / per_image(&largest.where_self(&largest.gt(0.0), &largest.ones_like()));
    let norm = norm_each(&scaled);
    scaled * per_image(&(radius / norm.where_self(&norm.gt(0.0), &norm.ones_like())))
}

/// The released scripts' step, for gradients of the batch-mean loss: 1e-7 is added to every element and to the norm, so
/// that ‖z‖ exceeds h where the gradient vanishes.
pub fn step_as_released(gradient: &Tensor, radius: f64) -> Tensor {
    const EPSILON: f64 = 1e-7;
    (gradient + EPSILON) * radius / per_image(&(norm_each(gradient) + EPSILON))
}

#[cfg(test)]
mod tests {
    use super::*;
    use guard_sdk::{Device, Kind};

    #[test]
    fn the_step_has_length_h_for_any_gradient_but_zero() {
        let direction = Tensor::randn([4, 3, 5, 5], (Kind::Float, Device::Cpu));
        for direction_kind in [Direction::Gradient, Direction::Sign] {
            for scale in [1.0, 1e-6, 1e-20, 1e-30, 1e20] {
                let lengths = norm_each(&step(&(&direction * scale), 3.0, direction_kind));
                let off = (lengths - 3.0).abs().max().double_value(&[]);
                assert!(off < 1e-5, "gradients of size {scale}: off by {off}");
            }
        }
    }

    #[test]
    fn a_zero_gradient_gives_a_zero_step() {
        let zero = Tensor::zeros([2, 1, 3, 3], (Kind::Float, Device::Cpu));
        assert_eq!(step(&zero, 3.0, Direction::Gradient), zero);
        assert_eq!(step(&zero, 3.0, Direction::Sign), zero);
    }

    #[test]
    fn the_released_step_overshoots_where_the_gradient_vanishes() {
        let tiny = Tensor::full([1, 3, 224, 224], 1e-5 / 388.0, (Kind::Double, Device::Cpu));
        let length = norm_each(&step_as_released(&tiny, 3.0)).double_value(&[0]);
        assert!(length > 4.0 * 3.0, "{length}");
    }
}
