//! Numbers on their way from the device, so that a step need not wait for those of the one before.

use crate::checked;
use guard_sdk::Result;
use std::{ffi::c_char, ptr::NonNull};
use tch::Tensor;
use torch_sys::C_tensor;

/// As `libtorch.cpp` has it.
#[repr(C)]
struct GuardFetch {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn guard_device_fetch(
        scalars: *const *const C_tensor,
        count: usize,
        fetch: *mut *mut GuardFetch,
    ) -> *mut c_char;
    fn guard_device_fetch_waits(fetch: *const GuardFetch) -> bool;
    fn guard_device_fetched(fetch: *mut GuardFetch, values: *mut f64) -> *mut c_char;
    fn guard_device_fetch_free(fetch: *mut GuardFetch);
}

/// Scalars that were asked for.
pub struct Fetch {
    /// None if there are none.
    fetch: Option<NonNull<GuardFetch>>,
    count: usize,
}

impl Fetch {
    /// Asks for `scalars`, tensors of one element on any device.
    ///
    /// # Errors
    /// If one has another number of elements, or libtorch fails.
    pub fn begin(scalars: &[&Tensor]) -> Result<Self> {
        let count = scalars.len();
        if count == 0 {
            return Ok(Self { fetch: None, count });
        }
        let pointers: Vec<_> = scalars.iter().map(|scalar| scalar.as_ptr()).collect();
        let mut fetch = std::ptr::null_mut();
        // SAFETY: live tensors, as many as told, and a local to write to.
        checked(unsafe { guard_device_fetch(pointers.as_ptr(), count, &mut fetch) })?;
        Ok(Self { fetch: NonNull::new(fetch), count })
    }

    /// Whether they come from a device that may still be at work.
    pub fn waits(&self) -> bool {
        // SAFETY: made by `begin` and not yet freed.
        self.fetch.is_some_and(|fetch| unsafe { guard_device_fetch_waits(fetch.as_ptr()) })
    }

    /// The numbers, once they are there.
    ///
    /// # Errors
    /// If what computes them has failed.
    pub fn wait(self) -> Result<Vec<f64>> {
        let mut values = vec![0.0; self.count];
        if let Some(fetch) = self.fetch {
            // SAFETY: made by `begin` and not yet freed; room for as many numbers as were asked for.
            checked(unsafe { guard_device_fetched(fetch.as_ptr(), values.as_mut_ptr()) })?;
        }
        Ok(values)
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        if let Some(fetch) = self.fetch {
            // SAFETY: made by `begin` and freed once, here.
            unsafe { guard_device_fetch_free(fetch.as_ptr()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_dtype_and_shape_come_as_float64() {
        let (half, whole) = (Tensor::from_slice(&[0.5f32]), Tensor::from(3i64));
        let fetch = Fetch::begin(&[&half, &whole, &half.set_requires_grad(true)]).unwrap();
        assert!(!fetch.waits());
        assert_eq!(fetch.wait().unwrap(), [0.5, 3.0, 0.5]);
        assert!(Fetch::begin(&[]).unwrap().wait().unwrap().is_empty());
        assert!(Fetch::begin(&[&Tensor::from_slice(&[1.0, 2.0])]).is_err());
    }
}
