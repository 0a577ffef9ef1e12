//! Where tests and benchmarks compute.

use guard_device::load_graphs;
use guard_host::device::{DeviceRequest, Place};
use guard_sdk::Device;
use std::{env, sync::OnceLock};

/// What `GUARD_DEVICE` says, as `--device` takes it; the CPU if it is not set. `GUARD_GRAPHS` is the library of `--graphs`. To be
/// called before any other call of libtorch.
///
/// # Panics
/// If there is no such device here.
pub fn device() -> Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    *DEVICE.get_or_init(|| {
        let wanted = env::var("GUARD_DEVICE").unwrap_or_else(|_| DeviceRequest::Cpu.to_string());
        let request = wanted.parse().unwrap_or_else(|error| panic!("GUARD_DEVICE: {error}"));
        let place = Place::open(request, false).unwrap_or_else(|error| panic!("{error}"));
        if let Some(library) = env::var_os("GUARD_GRAPHS") {
            load_graphs(library.as_ref()).unwrap_or_else(|error| panic!("{error}"));
        }
        place.device
    })
}
