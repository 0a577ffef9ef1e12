//! The device that the host computes on, and how it computes there.
//!
//! The host is linked with libtorch's CPU part alone, so that it starts everywhere. [`open_cuda`] opens the CUDA part beside
//! it at run time; `driver.cpp` asks NVIDIA's driver first, so that what is missing is told in a line.

mod autocast;
mod cuda;
mod fetch;
mod graphs;

pub use autocast::Autocast;
pub use cuda::{libtorch, make_present, name, open_cuda, peak_memory};
pub use fetch::Fetch;
pub use graphs::{Graphed, load_graphs, records_graphs};

use guard_sdk::{Error, Result};
use std::ffi::{CStr, c_char};

unsafe extern "C" {
    fn guard_device_free(message: *mut c_char);
    fn guard_device_prepare_determinism();
    fn guard_device_set_arithmetic(tf32: bool, deterministic: bool) -> *mut c_char;
}

/// How libtorch computes, in the whole process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Arithmetic {
    /// Whether GPUs may round the factors of float32 products to TensorFloat32, 10 bits after the point instead of 23.
    pub tf32: bool,
    /// Whether equal inputs give equal bits. Operations that cannot promise it are then errors that name them; otherwise
    /// cuDNN tries its algorithms and takes the fastest.
    pub deterministic: bool,
}

impl Arithmetic {
    /// Tells libtorch's libraries that determinism will be asked for: to be called before [`open_cuda`].
    pub fn prepare_determinism() {
        // SAFETY: takes nothing; sets an environment variable, which no other thread uses so early.
        unsafe { guard_device_prepare_determinism() };
    }

    /// Makes libtorch compute so.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn set(self) -> Result<()> {
        // SAFETY: takes two flags.
        checked(unsafe { guard_device_set_arithmetic(self.tf32, self.deterministic) })
    }
}

/// What libtorch says of an operation that cannot promise equal bits, after its name.
const NOT_DETERMINISTIC: &str = " does not have a deterministic implementation";

/// The same error, in a line with advice that holds here, if it is that an operation cannot promise equal bits.
pub fn explained(error: Error) -> Error {
    let whole = std::iter::once(&error.message).chain(&error.causes);
    let Some(before) =
        whole.filter_map(|text| text.split_once(NOT_DETERMINISTIC)).map(|(before, _)| before).next()
    else {
        return error;
    };
    let message = format!("{before}{NOT_DETERMINISTIC}");
    let help = "run without `--deterministic`, or leave out what takes this operation";
    Error { message, help: Some(help.into()), ..error }
}

/// A text that C++ has allocated for us.
fn owned(text: *mut c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not null, so a NUL-terminated string that was allocated for us; it is freed once, here.
    unsafe {
        let owned = CStr::from_ptr(text).to_string_lossy().into_owned();
        guard_device_free(text);
        Some(owned)
    }
}

/// A message of C++ as an error.
fn checked(message: *mut c_char) -> Result<()> {
    match owned(message) {
        None => Ok(()),
        Some(text) => Err(Error::with_code("torch", text.lines().next().unwrap_or_default())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guard_sdk::{Device, Kind, Tensor};

    #[test]
    fn an_operation_that_cannot_be_deterministic_is_an_error_that_names_it() {
        let put = || {
            let mut tensor = Tensor::zeros([3], (Kind::Float, Device::Cpu));
            tensor.f_put_(&Tensor::from_slice(&[0i64]), &Tensor::from_slice(&[1.0f32]), false).map(drop)
        };
        put().unwrap();
        Arithmetic { tf32: false, deterministic: true }.set().unwrap();
        let refused = put();
        Arithmetic::default().set().unwrap();
        put().unwrap();
        let error = explained(Error::from(refused.unwrap_err()).context("plugin `x`"));
        assert!(error.message.contains("put_"), "{error}");
        assert!(error.message.ends_with("does not have a deterministic implementation"), "{error}");
        assert!(error.help.unwrap().contains("--deterministic"));
        let other = Error::new("something else");
        assert_eq!(explained(other.clone()).message, other.message);
    }
}
