//! ZCA whitening: a linear map after the normalisation, after which no two of the training images' values are correlated.
//!
//! With x the normalised images as rows, m their mean, Σ their covariance and Σ = V diag(λ) Vᵀ
//!
//! ```text
//! z = (x − m) W,   W = V diag(1/√(λ + ε)) Vᵀ
//! ```
//!
//! as in MTT (Cazenavette et al., CVPR 2022), which takes kornia's with ε = 0.1. It is part of the network, which still sees
//! pixels: attacks and pictures know nothing of it.

use crate::data::Split;
use guard_sdk::{Device, Error, Kind, Result, Tensor, network::channel_values};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How many values an image may have: the matrix has as many rows, and its eigenvectors take the cube of it.
pub const MOST_VALUES: i64 = 3 * 64 * 64;

/// Images at a time.
const BATCH: usize = 256;

/// The names of its tensors in a network's file: m `[D]` and W `[D,D]`, D being channels × height × width.
pub const WHITENING_TENSORS: [&str; 2] = ["zca.mean", "zca.matrix"];

/// ZCA whitening, fitted or to be fitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Whitening {
    /// ε; unknown of a network that was read from a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<f64>,
    /// What was fitted to the training images; nothing in a plan that was made without them.
    #[serde(skip)]
    pub fitted: Option<Arc<Fitted>>,
}

/// What was fitted, row by row, float32.
#[derive(Debug, PartialEq)]
pub struct Fitted {
    /// m `[D]`.
    mean: Vec<f32>,
    /// W `[D,D]`, which is symmetric.
    matrix: Vec<f32>,
}

impl Whitening {
    /// To be fitted.
    pub fn with_epsilon(epsilon: f64) -> Self {
        Self { epsilon: Some(epsilon), fitted: None }
    }

    /// The same, fitted to all images of a split, which the network normalises by `mean` and `std`.
    ///
    /// # Errors
    /// If an image cannot be read, or images have more than [`MOST_VALUES`] values.
    pub fn fit(&self, split: &Split, mean: &[f64], std: &[f64]) -> Result<Self> {
        let values = Self::values_of(split.shape())?;
        let double = (Kind::Double, Device::Cpu);
        let (mut sum, mut products) = (Tensor::zeros([values], double), Tensor::zeros([values; 2], double));
        for batch in split.in_order(BATCH) {
            let images = batch?.images.to_kind(Kind::Double);
            let images = (&images - channel_values(mean, &images)) / channel_values(std, &images);
            let rows = images.f_flatten(1, -1)?;
            sum += rows.f_sum_dim_intlist(0, false, Kind::Double)?;
            let _ = products.f_addmm_(&rows.tr(), &rows)?;
        }
        let count = split.len() as f64;
        let mean = sum / count;
        let covariance = (products - mean.f_outer(&mean)? * count) / (count - 1.0).max(1.0);
        let (eigenvalues, eigenvectors) = Tensor::f_linalg_eigh(&covariance, "L")?;
        let epsilon = self.epsilon.ok_or_else(|| Error::new("whitening has no `epsilon`"))?;
        // Rounding may leave a value below 0 where the images do not vary.
        let scale = (eigenvalues.clamp_min(0.0) + epsilon).rsqrt();
        let matrix = (&eigenvectors * scale).f_matmul(&eigenvectors.tr())?;
        Self::of_tensors(self.epsilon, &mean, &matrix)
    }

    /// How many values an image has.
    ///
    /// # Errors
    /// If they are more than can be whitened.
    pub fn values_of(image: [i64; 3]) -> Result<i64> {
        let values = image.iter().product();
        if values <= MOST_VALUES {
            return Ok(values);
        }
        let [channels, height, width] = image;
        Err(Error::unsupported(format!(
            "images of {channels}x{height}x{width} have {values} values, and at most {MOST_VALUES} can be whitened"
        ))
        .help("leave `data.zca` out, or lower `data.image_size`"))
    }

    /// From m `[D]` and W `[D,D]`.
    ///
    /// # Errors
    /// If they have other shapes.
    pub fn of_tensors(epsilon: Option<f64>, mean: &Tensor, matrix: &Tensor) -> Result<Self> {
        let (values, [name_of_mean, name_of_matrix]) = (mean.numel() as i64, WHITENING_TENSORS);
        if mean.size() != [values] || matrix.size() != [values; 2] {
            return Err(Error::new(format!(
                "`{name_of_mean}` {:?} and `{name_of_matrix}` {:?} must be [D] and [D,D]",
                mean.size(),
                matrix.size()
            )));
        }
        let numbers = |tensor: &Tensor| -> Result<Vec<f32>> {
            Ok(Vec::try_from(tensor.to_device(Device::Cpu).to_kind(Kind::Float).f_flatten(0, -1)?)?)
        };
        let fitted = Fitted { mean: numbers(mean)?, matrix: numbers(matrix)? };
        Ok(Self { epsilon, fitted: Some(Arc::new(fitted)) })
    }

    /// The map itself, of the dtype and on the device of `like`.
    ///
    /// # Errors
    /// If it was not fitted, or to images that are not of this shape.
    pub fn map(&self, image: [i64; 3], like: &Tensor) -> Result<WhiteningMap> {
        let values: i64 = image.iter().product();
        let fitted = self.fitted.as_ref().ok_or_else(|| Error::new("whitening was not fitted to images"))?;
        if fitted.mean.len() as i64 != values {
            let [channels, height, width] = image;
            return Err(Error::new(format!(
                "the network whitens images of {} values, not of {channels}x{height}x{width}",
                fitted.mean.len()
            )));
        }
        let tensor = |numbers: &[f32]| -> Result<Tensor> {
            Ok(Tensor::f_from_slice(numbers)?.to_kind(like.kind()).to_device(like.device()))
        };
        Ok(WhiteningMap {
            mean: tensor(&fitted.mean)?,
            matrix: tensor(&fitted.matrix)?.f_reshape([values; 2])?,
        })
    }
}

/// Whitening as tensors.
#[derive(Debug)]
pub struct WhiteningMap {
    mean: Tensor,
    matrix: Tensor,
}

impl WhiteningMap {
    /// z of normalised images `[N,C,H,W]`, in the same shape; with graph.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn apply(&self, normalised: &Tensor) -> Result<Tensor> {
        let rows = normalised.f_flatten(1, -1)?.f_sub(&self.mean)?;
        Ok(rows.f_matmul(&self.matrix)?.f_reshape(normalised.size())?)
    }

    /// The tensors under the names that they have in files.
    pub fn named(&self) -> [(String, Tensor); 2] {
        let [mean, matrix] = WHITENING_TENSORS.map(str::to_string);
        [(mean, self.mean.shallow_clone()), (matrix, self.matrix.shallow_clone())]
    }

    /// The same tensors.
    pub fn share(&self) -> Self {
        Self { mean: self.mean.shallow_clone(), matrix: self.matrix.shallow_clone() }
    }

    /// The same numbers in another dtype.
    pub fn to_kind(&self, kind: Kind) -> Self {
        Self { mean: self.mean.to_kind(kind), matrix: self.matrix.to_kind(kind) }
    }

    /// The way back.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn inverse(&self) -> Result<Inverse> {
        let inverse = Tensor::f_linalg_inv(&self.matrix.to_kind(Kind::Double))?;
        Ok(Inverse { forth: self.share(), matrix: inverse.to_kind(self.matrix.kind()) })
    }
}

/// Whitening with its way back, so that images can be learned in whitened space.
pub struct Inverse {
    forth: WhiteningMap,
    /// W⁻¹.
    matrix: Tensor,
}

impl Inverse {
    /// z of normalised images.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn whiten(&self, normalised: &Tensor) -> Result<Tensor> {
        self.forth.apply(normalised)
    }

    /// Normalised images of z.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn unwhiten(&self, whitened: &Tensor) -> Result<Tensor> {
        let rows = whitened.f_flatten(1, -1)?.f_matmul(&self.matrix)?.f_add(&self.forth.mean)?;
        Ok(rows.f_reshape(whitened.size())?)
    }

    /// The gradient to z, of that to the normalised images: W⁻¹ is symmetric.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn gradient(&self, gradient: &Tensor) -> Result<Tensor> {
        Ok(gradient.f_flatten(1, -1)?.f_matmul(&self.matrix)?.f_reshape(gradient.size())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Streams;

    const EPSILON: f64 = 0.1;

    /// 200 images of 12 values, of which neighbours are alike.
    fn images() -> Tensor {
        let noise = Streams::new(0).uniform("images", &[200, 3, 2, 3], Kind::Float).unwrap();
        (&noise.slice(3, 0, 2, 1) + &noise.slice(3, 1, 3, 1)) * 0.5
    }

    fn fitted(images: &Tensor) -> Whitening {
        let split = Split::in_memory(images, vec![0; 200]).unwrap();
        Whitening::with_epsilon(EPSILON).fit(&split, &[0.5; 3], &[0.25; 3]).unwrap()
    }

    fn covariance(rows: &Tensor) -> Tensor {
        let centred = rows - rows.mean_dim(0, true, Kind::Double);
        centred.tr().matmul(&centred) / (rows.size()[0] - 1) as f64
    }

    /// W (Σ + ε) W = 1, which with W's symmetry determines it.
    #[test]
    fn the_matrix_is_the_inverse_root_of_the_covariance_and_epsilon() {
        let images = images();
        let normalised = (images.to_kind(Kind::Double) - 0.5) / 0.25;
        let map = fitted(&images).map([3, 2, 2], &normalised).unwrap();
        let rows = normalised.flatten(1, -1);
        let identity = Tensor::eye(12, (Kind::Double, Device::Cpu));
        let sigma = covariance(&rows) + &identity * EPSILON;
        let product = map.matrix.matmul(&sigma).matmul(&map.matrix);
        assert!((product - &identity).abs().max().double_value(&[]) < 1e-6);
        assert!((&map.matrix - map.matrix.tr()).abs().max().double_value(&[]) < 1e-7);
        let whitened = map.apply(&normalised).unwrap();
        assert_eq!(whitened.size(), [200, 3, 2, 2]);
        assert!(
            whitened.flatten(1, -1).mean_dim(0, false, Kind::Double).abs().max().double_value(&[]) < 1e-6
        );
        // Neighbours were correlated, and are so no more than ε leaves them.
        let most =
            |covariance: Tensor| (&covariance - covariance.diag(0).diag(0)).abs().max().double_value(&[]);
        let left = covariance(&whitened.flatten(1, -1));
        assert!(most(left) < 0.3 * most(covariance(&rows)));
    }

    #[test]
    fn there_is_a_way_back() {
        let images = images();
        let normalised = (images.to_kind(Kind::Double) - 0.5) / 0.25;
        let inverse = fitted(&images).map([3, 2, 2], &normalised).unwrap().inverse().unwrap();
        let back = inverse.unwhiten(&inverse.whiten(&normalised).unwrap()).unwrap();
        assert!((back - &normalised).abs().max().double_value(&[]) < 1e-10);
        // The gradient of ⟨unwhiten(z), c⟩ to z.
        let (z, c) = (normalised.zeros_like().set_requires_grad(true), &normalised);
        let product = (inverse.unwhiten(&z).unwrap() * c).sum(Kind::Double);
        let expected = guard_sdk::autograd::grad(&product, &[&z], guard_sdk::autograd::Graph::Free).unwrap();
        assert!((inverse.gradient(c).unwrap() - &expected[0]).abs().max().double_value(&[]) < 1e-12);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let like = Tensor::zeros([1], (Kind::Float, Device::Cpu));
        let error = Whitening::with_epsilon(EPSILON).map([3, 2, 2], &like).unwrap_err();
        assert!(error.message.contains("was not fitted"), "{error}");
        let error = fitted(&images()).map([3, 4, 4], &like).unwrap_err();
        assert!(error.message.contains("images of 12 values, not of 3x4x4"), "{error}");
        let error = Whitening::values_of([3, 224, 224]).unwrap_err();
        assert!(error.message.contains("have 150528 values, and at most 12288"), "{error}");
        let error = Whitening::of_tensors(None, &like, &like).unwrap_err();
        assert!(error.message.contains("must be [D] and [D,D]"), "{error}");
    }
}
