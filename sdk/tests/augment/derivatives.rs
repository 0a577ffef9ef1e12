//! Gradients to the pixels against central differences in float64.

use crate::samples::{samples, tensor};
use guard_sdk::{
    Kind, Tensor,
    autograd::{Graph, grad, no_grad},
};

/// Small enough that no pixel crosses a kink of the colour transforms, large enough for nine digits.
const STEP: f64 = 1e-6;

#[test]
fn gradients_are_those_of_central_differences() {
    for (count, channels) in [(5, 3), (3, 1), (1, 3)] {
        for entries in [1, count as u64] {
            for sample in samples(entries, count, [9, 7]) {
                let images = tensor(1, &[count, channels, 9, 7]).set_requires_grad(true);
                let direction = tensor(2, &[count, channels, 9, 7]) * 2.0 - 1.0;
                let weights = tensor(3, &[count, channels, sample.size[0], sample.size[1]]) * 2.0 - 1.0;
                let value = |images: &Tensor| {
                    let after = (sample.apply)(images).expect("images that fit");
                    (after * &weights).sum(Kind::Double)
                };
                let gradient = grad(&value(&images), &[&images], Graph::Free).expect("a graph").remove(0);
                let found = (gradient * &direction).sum(Kind::Double).double_value(&[]);
                let moved = |step: f64| no_grad(|| value(&(&images + &direction * step)).double_value(&[]));
                let expected = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
                let off = (found - expected).abs();
                assert!(off < 1e-6 * (1.0 + expected.abs()), "{}: {found}, not {expected}", sample.name);
            }
        }
    }
}
