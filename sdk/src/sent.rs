//! Tensors on their way to the run's device.

use crate::{Result, abi::shim};
use tch::{Device, Tensor};

/// `tensor` on `device`; itself if it is there already. What goes to a GPU is copied from pinned memory while the GPU is at work: nobody
/// waits, as [`Tensor::to_device`] does until the GPU has done all that was asked of it before.
///
/// # Errors
/// If the device has no room, or libtorch fails.
pub fn sent(tensor: &Tensor, device: Device) -> Result<Tensor> {
    match (tensor.device(), device) {
        (Device::Cpu, Device::Cuda(index)) => shim::send(tensor, index),
        _ => Ok(tensor.f_to_device(device)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_that_is_there_already_is_not_copied() {
        let tensor = Tensor::from_slice(&[1.0, 2.0]);
        assert_eq!(sent(&tensor, Device::Cpu).unwrap().data_ptr(), tensor.data_ptr());
    }
}
