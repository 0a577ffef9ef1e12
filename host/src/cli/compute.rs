//! Which device and which libtorch compute: `--device`, `--libtorch`, `--deterministic`.

use super::Failure;
use crate::{
    device::{DeviceRequest, Place},
    plugin::{Locator, refused},
};
use clap::Args;
use guard_device::load_graphs;
use guard_sdk::Error;
use std::path::PathBuf;

/// What is said of the device.
#[derive(Debug, Args)]
pub(super) struct ComputeArguments {
    /// Where to compute: `auto` for the first GPU if there is one that can be used, else the CPU; `cpu`; `cuda`, or `cuda:1`
    /// for another GPU.
    #[arg(long, value_name = "DEVICE", default_value_t = DeviceRequest::Auto, global = true)]
    pub(super) device: DeviceRequest,

    /// Fail at an operation that cannot promise equal bits, and name it, instead of taking the fastest. CPUs always promise
    /// them.
    #[arg(long, global = true)]
    deterministic: bool,

    /// On a GPU, replay the passes of attacked networks from CUDA graphs. Takes the library of `cargo xtask graphs`.
    #[arg(long, global = true)]
    graphs: bool,

    /// Use the libtorch in this folder, e.g. `site-packages/torch` of a Python installation.
    #[arg(long, value_name = "DIR", global = true)]
    libtorch: Option<PathBuf>,
}

impl ComputeArguments {
    /// Opens the device, and what records graphs on it.
    pub(super) fn open(&self) -> Result<Place, Failure> {
        let place = Place::open(self.device, self.deterministic).map_err(Failure::Usage)?;
        if self.graphs && place.device.is_cuda() {
            graphs_library().and_then(|library| load_graphs(&library)).map_err(Failure::Usage)?;
        }
        Ok(place)
    }

    /// An error unless the libtorch of `--libtorch` is the one that was loaded before this.
    pub(super) fn check_libtorch(&self) -> Result<(), Failure> {
        let Some(folder) = &self.libtorch else { return Ok(()) };
        let libraries = guard_front::usable(folder).map_err(refused).map_err(Failure::Usage)?;
        match guard_device::libtorch().and_then(|file| file.parent()?.canonicalize().ok()) {
            Some(running) if running != libraries => Err(Failure::usage(format!(
                "the loader takes the libtorch in `{}`, not that in `{}`",
                running.display(),
                folder.display()
            ))),
            _ => Ok(()),
        }
    }
}

/// The library that records graphs, which lies where plugins do.
fn graphs_library() -> Result<PathBuf, Error> {
    const NAME: &str = "libguard_graphs.so";
    let locator = Locator::from_environment();
    let found = locator.directories().iter().map(|folder| folder.join(NAME)).find(|path| path.is_file());
    found.ok_or_else(|| {
        Error::with_code("no-graphs", format!("there is no `{NAME}` in the folders of plugins"))
            .help("build it with `cargo xtask graphs`; `plugin search-path` tells the folders")
    })
}
