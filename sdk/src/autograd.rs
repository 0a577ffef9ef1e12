//! Differentiation that cannot crash the process.
//!
//! tch's `run_backward` on a root without a graph is a segmentation fault; [`grad`] reports it as an error, leaves no
//! `.grad` behind on anybody's tensors, and computes only what leads to `inputs`, so that an input gradient costs no
//! weight gradients.

use crate::{Error, Result, abi::shim};
use tch::Tensor;

/// What becomes of the graph after its gradients were taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Graph {
    /// Freed: the last use.
    Free,
    /// Kept for another backward pass.
    Keep,
    /// Kept, and the gradients get a graph of their own, for second derivatives.
    Create,
}

/// Gradients of the scalar `output` to each of `inputs`, of the inputs' shapes and dtypes.
///
/// # Errors
/// If `output` is not a scalar or has no graph, or does not depend on one of the inputs.
pub fn grad(output: &Tensor, inputs: &[&Tensor], graph: Graph) -> Result<Vec<Tensor>> {
    shim::grad(&[output], inputs, None, graph, false)?
        .into_iter()
        .map(|gradient| gradient.ok_or_else(|| Error::with_code("torch", "a gradient is undefined")))
        .collect()
}

/// As [`grad`], with `None` for an input that `output` does not depend on.
///
/// # Errors
/// If `output` is not a scalar or has no graph.
pub fn grad_if_used(output: &Tensor, inputs: &[&Tensor], graph: Graph) -> Result<Vec<Option<Tensor>>> {
    shim::grad(&[output], inputs, None, graph, true)
}

/// Vector-Jacobian products: gradients of `Σ outputs · weights` to each of `inputs`; weights have the outputs' shapes.
///
/// # Errors
/// If shapes differ, there is no graph, or an input is not used.
pub fn vector_jacobian(
    outputs: &[&Tensor],
    weights: &[&Tensor],
    inputs: &[&Tensor],
    graph: Graph,
) -> Result<Vec<Tensor>> {
    if outputs.len() != weights.len() {
        return Err(Error::new(format!("{} outputs but {} weights", outputs.len(), weights.len())));
    }
    shim::grad(outputs, inputs, Some(weights), graph, false)?
        .into_iter()
        .map(|gradient| gradient.ok_or_else(|| Error::with_code("torch", "a gradient is undefined")))
        .collect()
}

/// Runs `body` without recording a graph. Unlike tch's, the mode is put back when `body` panics.
pub fn no_grad<T>(body: impl FnOnce() -> T) -> T {
    let _guard = tch::no_grad_guard();
    body()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    fn leaf(values: &[f64]) -> Tensor {
        Tensor::from_slice(values).set_requires_grad(true)
    }

    #[test]
    fn a_root_without_graph_is_an_error_and_not_a_crash() {
        let constant = Tensor::from(1.0);
        let x = leaf(&[1.0]);
        let error = grad(&constant, &[&x], Graph::Free).unwrap_err();
        assert!(error.message.contains("does not require grad"), "{error}");
    }

    #[test]
    fn an_undefined_tensor_is_an_error_and_not_a_crash() {
        assert!(grad(&Tensor::new(), &[&leaf(&[1.0])], Graph::Free).is_err());
        assert!(grad(&leaf(&[1.0]).sum(Kind::Double), &[&Tensor::new()], Graph::Free).is_err());
    }

    #[test]
    fn an_output_that_is_not_a_scalar_is_an_error() {
        let x = leaf(&[1.0, 2.0]);
        assert!(grad(&(&x * 2.0), &[&x], Graph::Free).unwrap_err().message.contains("scalar"));
    }

    #[test]
    fn an_unused_input_is_an_error_unless_it_is_allowed() {
        let (x, y) = (leaf(&[3.0]), leaf(&[1.0]));
        let output = x.square().sum(Kind::Double);
        assert!(grad(&output, &[&x, &y], Graph::Keep).is_err());
        let gradients = grad_if_used(&output, &[&x, &y], Graph::Free).unwrap();
        assert_eq!(gradients[0].as_ref().unwrap().double_value(&[0]), 6.0);
        assert!(gradients[1].is_none());
    }

    #[test]
    fn second_derivatives_of_a_cube_are_six_x() {
        let x = leaf(&[2.0]);
        let first = grad(&x.pow_tensor_scalar(3).sum(Kind::Double), &[&x], Graph::Create).unwrap();
        let second = grad(&first[0].sum(Kind::Double), &[&x], Graph::Free).unwrap();
        assert_eq!(second[0].double_value(&[0]), 12.0);
    }

    #[test]
    fn no_gradient_is_left_behind() {
        let x = leaf(&[2.0]);
        grad(&x.square().sum(Kind::Double), &[&x], Graph::Free).unwrap();
        assert!(!x.grad().defined());
    }

    #[test]
    fn vector_jacobian_weighs_each_output() {
        let x = leaf(&[1.0, 2.0]);
        let weights = Tensor::from_slice(&[10.0, 100.0]);
        let product = vector_jacobian(&[&x.square()], &[&weights], &[&x], Graph::Free).unwrap();
        assert_eq!(Vec::<f64>::try_from(&product[0]).unwrap(), [20.0, 400.0]);
    }

    #[test]
    fn grad_mode_returns_after_a_panic() {
        let before = tch::Tensor::zeros([1], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let outcome = std::panic::catch_unwind(|| no_grad(|| panic!("on purpose")));
        assert!(outcome.is_err());
        assert!((&before * 2.0).requires_grad());
    }
}
