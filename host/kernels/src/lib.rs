//! Layers that libtorch computes slowly on CPUs, in C++: `pooling.cpp`, `convolution.cpp`, `statistics.cpp`.
//!
//! Each function gives what the operations of libtorch that it names give, but for rounding, and can be differentiated any
//! number of times.

use guard_sdk::{Error, Kind, Result, Tensor};
use std::{
    ffi::{CStr, c_char},
    ptr,
};
use torch_sys::C_tensor;

unsafe extern "C" {
    fn guard_kernels_free(message: *mut c_char);
    fn guard_kernels_average_pool(input: *const C_tensor, output: *mut *mut C_tensor) -> *mut c_char;
    fn guard_kernels_norm_relu_pool(
        input: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        epsilon: f64,
        output: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn guard_kernels_convolution(
        input: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        stride: i64,
        padding: i64,
        output: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn guard_kernels_batch_statistics(
        input: *const C_tensor,
        mean: *mut *mut C_tensor,
        variance: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn guard_kernels_parallel() -> bool;
    fn guard_kernels_sgd(
        tensor: *mut C_tensor,
        momentum: *mut C_tensor,
        gradient: *const C_tensor,
        learning_rate: f64,
        decay: f64,
        weight_decay: f64,
        nesterov: bool,
    ) -> *mut c_char;
}

/// Whether the kernels run on libtorch's threads, if it has several: not where they were compiled without OpenMP (see
/// `build.rs`).
pub fn parallel() -> bool {
    // SAFETY: takes nothing and cannot fail.
    unsafe { guard_kernels_parallel() }
}

/// Whether [`norm_relu_pool`] takes these activations: `[N,C,H,W]` on the CPU, float32 or float64. Others than those that
/// are [`is_channels_last`] are copied.
pub fn serve(x: &Tensor) -> bool {
    x.device() == tch::Device::Cpu && matches!(x.kind(), Kind::Float | Kind::Double) && x.dim() == 4
}

/// Whether `[N,C,H,W]` is stored channels last, as [`average_pool`] needs it.
pub fn is_channels_last(x: &Tensor) -> bool {
    x.dim() == 4 && x.permute([0, 2, 3, 1]).is_contiguous()
}

/// Averages over windows of 2×2, `[N,C,H,W]` to `[N,C,⌊H/2⌋,⌊W/2⌋]`: `avg_pool2d`.
///
/// # Errors
/// If [`serve`] or [`is_channels_last`] does not hold, or libtorch fails.
pub fn average_pool(x: &Tensor) -> Result<Tensor> {
    check(x.defined() && serve(x) && is_channels_last(x), "stored channels last")?;
    // SAFETY: a live, defined tensor of the layout that the kernel expects; `output` is written on success only.
    made(|output| unsafe { guard_kernels_average_pool(x.as_ptr(), output) })
}

/// Instance norm with `weight` and `bias` `[C]`, then max(0, ·), then averages over windows of 2×2: `group_norm` with C
/// groups, `relu`, `avg_pool2d`.
///
/// # Errors
/// If [`serve`] does not hold, weight and bias do not fit, or libtorch fails.
pub fn norm_relu_pool(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor> {
    check(x.defined() && serve(x), "in any order")?;
    for (name, tensor) in [("weight", weight), ("bias", bias)] {
        if tensor.size() != [x.size()[1]] || tensor.kind() != x.kind() || !tensor.is_contiguous() {
            let (size, kind, like) = (tensor.size(), tensor.kind(), x.size()[1]);
            return Err(Error::new(format!(
                "{name} must be {:?} [{like}], found {kind:?} {size:?}",
                x.kind()
            )));
        }
    }
    // SAFETY: live, defined tensors of the layouts that the kernel expects; `output` is written on success only.
    made(|output| unsafe {
        guard_kernels_norm_relu_pool(x.as_ptr(), weight.as_ptr(), bias.as_ptr(), epsilon, output)
    })
}

/// `conv2d` of `[N,C,H,W]` on the CPU in any layout, without groups or dilation; weight `[O,C,k,k]`, bias `[O]`.
///
/// # Errors
/// If libtorch fails, which it does where shapes or dtypes do not fit.
pub fn convolution(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: i64,
    padding: i64,
) -> Result<Tensor> {
    for tensor in [x, weight].into_iter().chain(bias) {
        if !tensor.defined() {
            return Err(Error::new("a convolution takes tensors that are defined"));
        }
    }
    let bias = bias.map_or(ptr::null(), Tensor::as_ptr);
    // SAFETY: live, defined tensors, the bias perhaps null; the kernel checks what they hold, and `output` is written on
    // success only.
    made(|output| unsafe {
        guard_kernels_convolution(x.as_ptr(), weight.as_ptr(), bias, stride, padding, output)
    })
}

/// Mean and biased variance, each `[C]`, over batch and positions of `[N,C,H,W]` in any layout: `var_mean`.
///
/// # Errors
/// If `x` has not four dimensions, or libtorch fails.
pub fn batch_statistics(x: &Tensor) -> Result<(Tensor, Tensor)> {
    if !x.defined() || x.dim() != 4 {
        return Err(Error::new("statistics per channel are those of [N,C,H,W]"));
    }
    let (mut mean, mut variance) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: a live, defined tensor; both outputs are written on success only.
    checked(unsafe { guard_kernels_batch_statistics(x.as_ptr(), &mut mean, &mut variance) })?;
    // SAFETY: without a message the kernel made both with `new at::Tensor` for us to own.
    Ok(unsafe { (Tensor::from_ptr(mean), Tensor::from_ptr(variance)) })
}

/// What a step of SGD takes besides tensors.
#[derive(Debug, Clone, Copy)]
pub struct SgdStep {
    /// The learning rate.
    pub learning_rate: f64,
    /// μ, what is kept of the momentum.
    pub momentum: f64,
    /// λ of the l2 penalty.
    pub weight_decay: f64,
    /// Step along μ·m + g instead of m.
    pub nesterov: bool,
}

/// One step of PyTorch's SGD in place, in a single pass over memory: g ← g + λ·x, m ← μ·m + g, x ← x − rate · m.
///
/// # Errors
/// If shapes, dtypes or devices differ, or `momentum` is not stored as `tensor` is.
pub fn sgd(tensor: &mut Tensor, momentum: &mut Tensor, gradient: &Tensor, step: SgdStep) -> Result<()> {
    if tensor.size() != gradient.size() || tensor.size() != momentum.size() {
        let (tensor, momentum, gradient) = (tensor.size(), momentum.size(), gradient.size());
        return Err(Error::new(format!(
            "a tensor {tensor:?} has a gradient {gradient:?} and a momentum {momentum:?}"
        )));
    }
    let SgdStep { learning_rate, momentum: decay, weight_decay, nesterov } = step;
    // SAFETY: live tensors, defined because they have equal sizes of which one was compared; libtorch checks dtypes and
    // devices, and the kernel that all are stored alike.
    checked(unsafe {
        guard_kernels_sgd(
            tensor.as_mut_ptr(),
            momentum.as_mut_ptr(),
            gradient.as_ptr(),
            learning_rate,
            decay,
            weight_decay,
            nesterov,
        )
    })
}

fn check(served: bool, stored: &str) -> Result<()> {
    match served {
        true => Ok(()),
        false => {
            Err(Error::new(format!("the kernel takes float32 or float64 [N,C,H,W] on the CPU, {stored}")))
        }
    }
}

/// The tensor that a kernel makes, or its message as an error.
fn made(call: impl FnOnce(*mut *mut C_tensor) -> *mut c_char) -> Result<Tensor> {
    let mut output = ptr::null_mut();
    checked(call(&mut output))?;
    // SAFETY: without a message the kernel made the tensor with `new at::Tensor` for us to own.
    Ok(unsafe { Tensor::from_ptr(output) })
}

/// A kernel's message as an error.
fn checked(message: *mut c_char) -> Result<()> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: a non-null message is a NUL-terminated string that the kernel allocated for us; it is freed once, here.
    let text = unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        guard_kernels_free(message);
        text
    };
    Err(Error::with_code("torch", text.lines().next().unwrap_or_default()))
}

#[cfg(test)]
mod tests;
