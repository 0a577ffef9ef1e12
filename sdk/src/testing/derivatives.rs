//! Derivatives against finite differences.

use super::{normal, number};
use crate::{
    Error, Result,
    autograd::{Graph, grad_if_used},
};
use tch::{Kind, Tensor};

/// Directions in which a derivative is tried.
const DIRECTIONS: u64 = 3;
/// The step of the differences, in units of the inputs. Four values, so that the error is of the fourth order.
const STEP: f64 = 1e-4;
/// The largest error that counts as none.
const TOLERANCE: f64 = 1e-5;

/// The largest relative error of the gradient of `value` (a scalar of leaves of the shapes of `at`) against finite
/// differences along random directions. Everything in float64: differences in float32 say nothing.
///
/// # Errors
/// Those of `value`; or if it returns no scalar, or one without graph.
pub fn gradient_error(mut value: impl FnMut(&[Tensor]) -> Result<Tensor>, at: &[Tensor]) -> Result<f64> {
    if let Some(other) = at.iter().map(Tensor::kind).find(|kind| *kind != Kind::Double) {
        return Err(Error::new(format!("finite differences need float64, found {other:?}")));
    }
    let leaves = leaves(at);
    let output = value(&leaves)?;
    let gradients = grad_if_used(&output, &leaves.iter().collect::<Vec<_>>(), Graph::Free)?;
    let mut worst = 0.0f64;
    for direction in 0..DIRECTIONS {
        let along = directions(at, direction)?;
        let mut moved = |steps: f64| -> Result<f64> {
            let moved: Vec<Tensor> =
                at.iter().zip(&along).map(|(at, along)| at.detach() + along * (steps * STEP)).collect();
            Ok(value(&self::leaves(&moved))?.f_double_value(&[])?)
        };
        let (near, far) = (moved(1.0)? - moved(-1.0)?, moved(2.0)? - moved(-2.0)?);
        let difference = (8.0 * near - far) / (12.0 * STEP);
        let mut derivative = 0.0;
        for (gradient, along) in gradients.iter().zip(&along) {
            if let Some(gradient) = gradient {
                derivative += (gradient * along).f_sum(Kind::Double)?.f_double_value(&[])?;
            }
        }
        // Rounding of the values themselves bounds what a difference can tell.
        let size = derivative.abs().max(difference.abs()).max(1e-6 * output.f_double_value(&[])?.abs());
        let error = if size > 0.0 { (derivative - difference).abs() / size } else { 0.0 };
        worst = if error.is_nan() { f64::INFINITY } else { worst.max(error) };
    }
    Ok(worst)
}

/// As [`gradient_error`], of the derivative of `value` along a random direction: its second derivatives. `None` if the
/// gradient has no graph of its own.
///
/// # Errors
/// Those of `value`.
pub fn second_derivative_error(
    mut value: impl FnMut(&[Tensor]) -> Result<Tensor>,
    at: &[Tensor],
) -> Result<Option<f64>> {
    let along = directions(at, DIRECTIONS)?;
    let mut derivative = |leaves: &[Tensor]| -> Result<Tensor> {
        let output = value(leaves)?;
        let gradients = grad_if_used(&output, &leaves.iter().collect::<Vec<_>>(), Graph::Create)?;
        let mut total = output.zeros_like();
        for (gradient, along) in gradients.iter().zip(&along) {
            if let Some(gradient) = gradient {
                total += (gradient * along).f_sum(None::<Kind>)?;
            }
        }
        Ok(total)
    };
    match derivative(&leaves(at))?.requires_grad() {
        true => gradient_error(derivative, at).map(Some),
        false => Ok(None),
    }
}

/// Panics unless the gradient of `value` agrees with finite differences; see [`gradient_error`].
///
/// # Panics
/// See above.
#[track_caller]
pub fn assert_gradient(value: impl FnMut(&[Tensor]) -> Result<Tensor>, at: &[Tensor]) {
    match gradient_error(value, at) {
        Ok(error) => assert!(error <= TOLERANCE, "the gradient is off by {error:.1e}, relatively"),
        Err(error) => panic!("{error}"),
    }
}

/// Panics unless the gradient of `value` can be differentiated and its gradient agrees with finite differences.
///
/// # Panics
/// See above.
#[track_caller]
pub fn assert_second_derivatives(value: impl FnMut(&[Tensor]) -> Result<Tensor>, at: &[Tensor]) {
    match second_derivative_error(value, at) {
        Ok(Some(error)) => {
            assert!(error <= TOLERANCE, "second derivatives are off by {error:.1e}, relatively")
        }
        Ok(None) => panic!("the gradient has no graph"),
        Err(error) => panic!("{error}"),
    }
}

fn leaves(tensors: &[Tensor]) -> Vec<Tensor> {
    tensors.iter().map(|tensor| tensor.detach().copy().set_requires_grad(true)).collect()
}

/// One direction for all of `at`.
fn directions(at: &[Tensor], which: u64) -> Result<Vec<Tensor>> {
    (0u64..).zip(at).map(|(index, at)| normal(number((which, index)), &at.size())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> Vec<Tensor> {
        vec![Tensor::from_slice(&[0.5, -1.0, 2.0])]
    }

    #[test]
    fn a_right_gradient_passes_and_a_stopped_one_does_not() {
        assert_gradient(|x| Ok(x[0].sin().sum(Kind::Double)), &at());
        let stopped = |x: &[Tensor]| Ok((x[0].sin() * x[0].detach()).sum(Kind::Double));
        assert!(gradient_error(stopped, &at()).unwrap() > 0.01);
    }

    #[test]
    fn second_derivatives_are_those_of_the_gradient() {
        assert_second_derivatives(|x| Ok(x[0].sin().sum(Kind::Double)), &at());
        let linear = |x: &[Tensor]| Ok(x[0].sum(Kind::Double));
        assert!(second_derivative_error(linear, &at()).unwrap().is_none());
    }

    #[test]
    fn float32_is_refused() {
        let at = [Tensor::from_slice(&[1.0f32])];
        let error = gradient_error(|x| Ok(x[0].sum(Kind::Float)), &at).unwrap_err();
        assert_eq!(error.message, "finite differences need float64, found Float");
    }
}
