//! How far the gradients of two losses are apart (DC, section 3.3, and the forms that its code offers).

use guard_sdk::{Kind, Result, Tensor};

/// What keeps the division finite where a gradient vanishes.
const EPSILON: f64 = 1e-6;

/// The distance of two gradients.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Σ over weights and their output rows of 1 − cosine; biases and affine parameters do not count.
    #[default]
    LayerWise,
    /// The squared distance of all parameters' gradients.
    SquaredError,
    /// 1 − cosine of all parameters' gradients as one vector.
    Cosine,
}

impl Metric {
    /// Whether a parameter's gradient counts.
    pub fn counts(self, parameter: &Tensor) -> bool {
        self != Self::LayerWise || parameter.dim() > 1
    }

    /// The distances of `synthetic` (with graph) and `real`, each a scalar: one per parameter, or one for all.
    ///
    /// # Errors
    /// If shapes differ.
    pub fn distances(self, synthetic: &[Tensor], real: &[Tensor]) -> Result<Vec<Tensor>> {
        let flat = |gradients: &[Tensor]| {
            let flat: Vec<_> =
                gradients.iter().map(|each| each.f_reshape([1, -1])).collect::<Result<_, _>>()?;
            Tensor::f_cat(&flat, 1)
        };
        match self {
            Self::LayerWise => synthetic.iter().zip(real).map(|(one, other)| rows(one, other)).collect(),
            Self::SquaredError => {
                let difference = flat(synthetic)?.f_sub(&flat(real)?)?;
                Ok(vec![difference.square().f_sum(None::<Kind>)?])
            }
            Self::Cosine => Ok(vec![rows(&flat(synthetic)?, &flat(real)?)?]),
        }
    }
}

/// Σ_r 1 − ⟨a_r, b_r⟩ / (‖a_r‖ ‖b_r‖ + ε) over the rows of `[O, ...]`.
fn rows(one: &Tensor, other: &Tensor) -> Result<Tensor> {
    let (one, other) = (one.f_flatten(1, -1)?, other.f_flatten(1, -1)?);
    let product = one.f_mul(&other)?.f_sum_dim_intlist(-1, false, None::<Kind>)?;
    let norm = |rows: &Tensor| rows.f_norm_scalaropt_dim(2.0, -1, false);
    let lengths = norm(&one)?.f_mul(&norm(&other)?)?.f_add_scalar(EPSILON)?;
    let cosines = product.f_div(&lengths)?;
    Ok(cosines.f_neg()?.f_add_scalar(1.0)?.f_sum(None::<Kind>)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(metric: Metric, one: &Tensor, other: &Tensor) -> f64 {
        metric.distances(&[one.shallow_clone()], &[other.shallow_clone()]).unwrap()[0].double_value(&[])
    }

    #[test]
    fn rows_count_by_direction_and_not_by_length() {
        let one = Tensor::from_slice(&[1.0f64, 0.0, 0.0, 2.0]).reshape([2, 2]);
        let other = Tensor::from_slice(&[3.0f64, 0.0, 5.0, 0.0]).reshape([2, 2]);
        assert!((total(Metric::LayerWise, &one, &other) - 1.0).abs() < 1e-6);
        assert!((total(Metric::LayerWise, &one, &(&one * -7.0)) - 4.0).abs() < 1e-6);
        assert_eq!(total(Metric::SquaredError, &one, &other), 33.0);
        assert!((total(Metric::Cosine, &one, &other) - (1.0 - 3.0 / (5f64 * 34.0).sqrt())).abs() < 1e-6);
    }

    #[test]
    fn a_vanishing_gradient_has_distance_one_per_row_and_no_nan() {
        let (none, some) = (Tensor::zeros([3, 4], (Kind::Double, guard_sdk::Device::Cpu)), Tensor::from(1.0));
        let none = none.set_requires_grad(true);
        let distance = Metric::LayerWise.distances(&[&none * 1.0], &[some.expand([3, 4], false)]).unwrap();
        assert_eq!(distance[0].double_value(&[]), 3.0);
        let gradient =
            guard_sdk::autograd::grad(&distance[0], &[&none], guard_sdk::autograd::Graph::Free).unwrap();
        assert_eq!(gradient[0].isfinite().all().int64_value(&[]), 1);
    }

    #[test]
    fn biases_count_only_where_all_parameters_do() {
        let bias = Tensor::from_slice(&[1.0f64]);
        assert!(!Metric::LayerWise.counts(&bias));
        assert!(Metric::SquaredError.counts(&bias) && Metric::Cosine.counts(&bias));
    }
}
