//! What benchmarks measure with.

use crate::device::device;
use guard_sdk::Device;
use std::time::Instant;

/// The time when everything that was asked of the device is done.
pub fn now() -> Instant {
    if let Device::Cuda(index) = device() {
        tch::Cuda::synchronize(index as i64);
    }
    Instant::now()
}

/// The most memory that this process ever held, in MiB: the GPU's, if it computes there.
pub fn peak_mib() -> Option<f64> {
    if let Device::Cuda(index) = device() {
        return Some(guard_device::peak_memory(index).ok()? as f64 / f64::from(1 << 20));
    }
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? / 1024.0)
}
