//! Layers of ConvNets that libtorch computes slowly on CPUs, in C++ (`kernels.cpp`). The only unsafe code of the host's
//! side; the host itself forbids it.
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
    fn guard_kernels_pool(input: *const C_tensor, output: *mut *mut C_tensor) -> *mut c_char;
    fn guard_kernels_norm_relu_pool(
        input: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        epsilon: f64,
        output: *mut *mut C_tensor,
    ) -> *mut c_char;
}

/// Whether the kernels take these activations: `[N,C,H,W]` on the CPU, float32 or float64, stored in that order.
pub fn serve(x: &Tensor) -> bool {
    x.device() == tch::Device::Cpu
        && matches!(x.kind(), Kind::Float | Kind::Double)
        && x.dim() == 4
        && x.is_contiguous()
}

/// Averages over windows of 2×2, `[N,C,H,W]` to `[N,C,⌊H/2⌋,⌊W/2⌋]`: `avg_pool2d`.
///
/// # Errors
/// If [`serve`] does not hold, or libtorch fails.
pub fn average_pool(x: &Tensor) -> Result<Tensor> {
    check_served(x)?;
    // SAFETY: a live, defined tensor of the layout that the kernel expects; `output` is written on success only.
    made(|output| unsafe { guard_kernels_pool(x.as_ptr(), output) })
}

/// Instance norm with `weight` and `bias` `[C]`, then max(0, ·), then averages over windows of 2×2: `group_norm` with C
/// groups, `relu`, `avg_pool2d`.
///
/// # Errors
/// If [`serve`] does not hold, weight and bias do not fit, or libtorch fails.
pub fn norm_relu_pool(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor> {
    check_served(x)?;
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

fn check_served(x: &Tensor) -> Result<()> {
    if x.defined() && serve(x) {
        return Ok(());
    }
    Err(Error::new("the kernels take float32 or float64 [N,C,H,W] on the CPU, stored in that order"))
}

/// The tensor that a kernel makes, or its message as an error.
fn made(call: impl FnOnce(*mut *mut C_tensor) -> *mut c_char) -> Result<Tensor> {
    let mut output = ptr::null_mut();
    let message = call(&mut output);
    if !message.is_null() {
        // SAFETY: a non-null message is a NUL-terminated string that the kernel allocated for us; it is freed once, here.
        let text = unsafe {
            let text = CStr::from_ptr(message).to_string_lossy().into_owned();
            guard_kernels_free(message);
            text
        };
        return Err(Error::with_code("torch", text.lines().next().unwrap_or_default()));
    }
    // SAFETY: without a message the kernel made the tensor with `new at::Tensor` for us to own.
    Ok(unsafe { Tensor::from_ptr(output) })
}

#[cfg(test)]
mod tests;
