//! A convolution, and BatchNorm in eval mode folded into it.

use super::{
    forward::EPSILON,
    operation::{BatchNorm, Convolution},
};
use guard_sdk::{Device, Kind, Result, Tensor};

impl Convolution {
    /// `[N,C,H,W]` to `[N,O,H',W']`, with another weight and bias perhaps than those of its positions.
    pub(super) fn apply(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let Self { stride, padding, groups, .. } = *self;
        if groups == 1 && x.device() == Device::Cpu && matches!(x.kind(), Kind::Float | Kind::Double) {
            return guard_kernels::convolution(x, weight, bias, stride, padding);
        }
        self.of_libtorch(x, weight, bias)
    }

    /// The same by libtorch's own operation, which knows mixed precision.
    pub(super) fn of_libtorch(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let Self { stride, padding, groups, .. } = *self;
        Ok(x.f_conv2d(weight, bias, [stride; 2], [padding; 2], [1, 1], groups)?)
    }

    /// The weight and bias that give at once what this convolution and then `norm` in eval mode give. They carry the graph of
    /// all four parameters.
    pub(super) fn folded(
        &self,
        norm: &BatchNorm,
        parameters: &[Tensor],
        buffers: &[Tensor],
    ) -> Result<(Tensor, Tensor)> {
        let bias = self.bias.map(|bias| &parameters[bias]);
        fold(&parameters[self.weight], bias, norm.tensors(parameters, buffers))
    }
}

impl BatchNorm {
    /// γ, β, running mean and running variance.
    pub(super) fn tensors<'a>(&self, parameters: &'a [Tensor], buffers: &'a [Tensor]) -> [&'a Tensor; 4] {
        let Self { weight, mean, .. } = *self;
        [&parameters[weight], &parameters[weight + 1], &buffers[mean], &buffers[mean + 1]]
    }
}

/// w·s and b·s + (β − mean·s) from w, b and `[γ, β, mean, variance]`: see [`affine`].
pub(super) fn fold(weight: &Tensor, bias: Option<&Tensor>, norm: [&Tensor; 4]) -> Result<(Tensor, Tensor)> {
    let (scale, shift) = affine(norm)?;
    let bias = match bias {
        Some(bias) => bias.f_mul(&scale)?.f_add(&shift)?,
        None => shift,
    };
    Ok((weight.f_mul(&scale.f_reshape([-1, 1, 1, 1])?)?, bias))
}

/// BatchNorm in eval mode as x ↦ s·x + t: s = γ/√(variance + ε) and t = β − mean·s, each `[C]`, from
/// `[γ, β, mean, variance]`; computed in float64 and rounded once.
pub(super) fn affine(norm: [&Tensor; 4]) -> Result<(Tensor, Tensor)> {
    let kind = norm[0].kind();
    let [gamma, beta, mean, variance] = norm.map(|tensor| tensor.to_kind(Kind::Double));
    let scale = gamma.f_mul(&(&variance + EPSILON).f_rsqrt()?)?;
    let shift = beta.f_sub(&mean.f_mul(&scale)?)?;
    Ok((scale.to_kind(kind), shift.to_kind(kind)))
}
