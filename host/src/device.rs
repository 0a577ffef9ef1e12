//! Where a run computes: `--device`, and what becomes of it on this machine.

use guard_device::{Arithmetic, make_present, open_cuda};
use guard_sdk::{Device, Error, Result};
use std::{fmt, str::FromStr};

/// The device that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceRequest {
    /// The first GPU, where there is one that libtorch can use, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU, by its number.
    Cuda(usize),
}

impl FromStr for DeviceRequest {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        let number =
            |written: &str| written.parse().map_err(|_| format!("`{written}` is no number of a GPU"));
        match written.split_once(':') {
            None if written == "auto" => Ok(Self::Auto),
            None if written == "cpu" => Ok(Self::Cpu),
            None if written == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", index)) => Ok(Self::Cuda(number(index)?)),
            _ => Err("it is `auto`, `cpu`, `cuda` or `cuda:1`, with the number of a GPU".into()),
        }
    }
}

impl fmt::Display for DeviceRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Auto => formatter.write_str("auto"),
            Self::Cpu => formatter.write_str("cpu"),
            Self::Cuda(index) => write!(formatter, "cuda:{index}"),
        }
    }
}

/// The device that a process computes on.
#[derive(Debug, Clone)]
pub struct Place {
    /// For tensors.
    pub device: Device,
    /// `cpu`, or a GPU's name.
    pub name: String,
    /// Why it is the CPU, where a GPU would have been taken.
    pub fallback: Option<Error>,
    /// Whether operations that cannot promise equal bits are errors.
    pub deterministic: bool,
}

impl Place {
    /// The CPU.
    pub fn cpu() -> Self {
        Self { device: Device::Cpu, name: "cpu".into(), fallback: None, deterministic: false }
    }

    /// Opens what `request` asks for. To be called before any other call of libtorch: see [`open_cuda`].
    ///
    /// # Errors
    /// Code `no-cuda` if a GPU is asked for and cannot be had, with what is missing.
    pub fn open(request: DeviceRequest, deterministic: bool) -> Result<Self> {
        if deterministic {
            Arithmetic::prepare_determinism();
        }
        let place = match (request, (request != DeviceRequest::Cpu).then(open_cuda)) {
            (_, None) => Self::cpu(),
            (DeviceRequest::Auto, Some(Err(missing))) => Self { fallback: Some(missing), ..Self::cpu() },
            (_, Some(Err(missing))) => return Err(missing),
            (DeviceRequest::Cuda(index), Some(Ok(count))) if index >= count => {
                let message = format!("there is no GPU {index}: libtorch finds {count}");
                return Err(Error::with_code("no-cuda", message).help("the first is `cuda:0`"));
            }
            (DeviceRequest::Cuda(index), Some(Ok(_))) => Self::gpu(index),
            (_, Some(Ok(_))) => Self::gpu(0),
        };
        Arithmetic { tf32: false, deterministic }.set()?;
        if let Device::Cuda(index) = place.device {
            make_present(index)?;
        }
        Ok(Self { deterministic, ..place })
    }

    fn gpu(index: usize) -> Self {
        let name = guard_device::name(index).unwrap_or_else(|| "an unnamed GPU".into());
        Self { device: Device::Cuda(index), name, ..Self::cpu() }
    }

    /// What it is, in a line.
    pub fn told(&self) -> String {
        match (&self.device, &self.fallback) {
            (Device::Cuda(index), _) => format!("on GPU {index}, {}", self.name),
            (_, Some(missing)) => format!("on the CPU: {}", missing.message),
            _ => "on the CPU".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_written_as_they_are_read() {
        for written in ["auto", "cpu", "cuda:0", "cuda:3"] {
            assert_eq!(written.parse::<DeviceRequest>().unwrap().to_string(), written);
        }
        assert_eq!("cuda".parse(), Ok(DeviceRequest::Cuda(0)));
        for wrong in ["gpu", "cuda:", "cuda:-1", "cpu:0", "CUDA", ""] {
            assert!(wrong.parse::<DeviceRequest>().is_err(), "{wrong}");
        }
    }
}
