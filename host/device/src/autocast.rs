//! Mixed precision: products in bfloat16, sums that need it in float32.

use crate::checked;
use guard_sdk::{Device, Result};
use std::{ffi::c_char, marker::PhantomData};

unsafe extern "C" {
    fn guard_device_autocast(
        cuda: bool,
        enabled: bool,
        dtype: i8,
        before: *mut bool,
        dtype_before: *mut i8,
    ) -> *mut c_char;
}

/// `c10::ScalarType::BFloat16`.
const BFLOAT16: i8 = 15;

/// While it lives, this thread's operations on a device compute in bfloat16 where libtorch deems that safe (its autocast).
pub struct Autocast {
    cuda: bool,
    before: (bool, i8),
    /// The state is the thread's.
    _thread: PhantomData<*const ()>,
}

impl Autocast {
    /// Begins it on `device`.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn bfloat16(device: Device) -> Result<Self> {
        let (cuda, mut before) = (device.is_cuda(), (false, 0));
        // SAFETY: a valid dtype, and two locals to write to.
        checked(unsafe { guard_device_autocast(cuda, true, BFLOAT16, &mut before.0, &mut before.1) })?;
        Ok(Self { cuda, before, _thread: PhantomData })
    }
}

impl Drop for Autocast {
    fn drop(&mut self) {
        let (enabled, dtype) = self.before;
        let mut replaced = (false, 0);
        // SAFETY: what libtorch itself gave out, on the thread that it is the state of, and two locals to write to.
        let _ = checked(unsafe {
            guard_device_autocast(self.cuda, enabled, dtype, &mut replaced.0, &mut replaced.1)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Kind, Tensor};

    #[test]
    fn products_are_in_bfloat16_as_long_as_it_lives() {
        let factor = Tensor::rand([4, 4], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let product = || factor.matmul(&factor);
        assert_eq!(product().kind(), Kind::Float);
        {
            let _outer = Autocast::bfloat16(Device::Cpu).unwrap();
            {
                let _inner = Autocast::bfloat16(Device::Cpu).unwrap();
                assert_eq!(product().kind(), Kind::BFloat16);
            }
            assert_eq!(product().kind(), Kind::BFloat16);
            // What the weights were before is not kept for later products.
            let doubled = tch::no_grad(|| (&factor * 2.0).matmul(&factor)).to_kind(Kind::Float);
            let ratio = (doubled / product().to_kind(Kind::Float)).mean(Kind::Float).double_value(&[]);
            assert!((ratio - 2.0).abs() < 0.05, "{ratio}");
        }
        assert_eq!(product().kind(), Kind::Float);
        let gradient = factor.f_grad();
        assert!(gradient.is_ok());
    }
}
