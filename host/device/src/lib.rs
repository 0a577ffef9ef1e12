//! The device that the host computes on, and how it computes there.
//!
//! The host is linked with libtorch's CPU part alone, so that it starts everywhere. [`open_cuda`] opens the CUDA part beside
//! it at run time; `driver.cpp` asks NVIDIA's driver first, so that what is missing is told in a line. With `host/kernels`,
//! the only unsafe code of the host's side.

mod autocast;
mod cuda;
mod fetch;
mod graphs;

pub use autocast::Autocast;
pub use cuda::{libtorch, name, open_cuda, peak_memory};
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
