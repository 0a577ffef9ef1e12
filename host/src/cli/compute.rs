//! Which device and which libtorch compute: `--device`, `--libtorch`, `--deterministic`.

use super::Failure;
use crate::{
    device::{DeviceRequest, Place},
    plugin::Locator,
};
use clap::Args;
use guard_device::load_graphs;
use guard_sdk::{Error, TORCH_VERSION};
use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

/// Where the loader looks for libraries first.
const LIBRARIES: &str = "LD_LIBRARY_PATH";

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

    /// Starts this program again with the libtorch of `--libtorch`, unless it runs with it: the loader chooses once.
    pub(super) fn switch_libtorch(&self) -> Result<(), Failure> {
        let Some(folder) = &self.libtorch else { return Ok(()) };
        let libraries = usable(folder).map_err(Failure::Usage)?;
        let running = guard_device::libtorch().and_then(|file| file.parent()?.canonicalize().ok());
        if running.as_ref() == Some(&libraries) {
            return Ok(());
        }
        let before = env::var_os(LIBRARIES).unwrap_or_default();
        let first = env::split_paths(&before).next();
        if first.as_ref() == Some(&libraries) {
            let message = format!("the loader does not take the libtorch in `{}`", folder.display());
            return Err(Failure::usage(message));
        }
        let paths: Vec<PathBuf> = std::iter::once(libraries)
            .chain(env::split_paths(&before).filter(|path| !path.as_os_str().is_empty()))
            .collect();
        let paths: OsString = env::join_paths(paths)
            .map_err(|error| Failure::usage(format!("`{}`: {error}", folder.display())))?;
        let program = env::current_exe().map_err(|error| Failure::usage(format!("this program: {error}")))?;
        let mut again = Command::new(program);
        again.args(env::args_os().skip(1)).env(LIBRARIES, paths);
        if let Some(name) = env::args_os().next() {
            again.arg0(name);
        }
        // Comes back only if it fails.
        let error = again.exec();
        Err(Failure::usage(format!("this program cannot be started again: {error}")))
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

/// The folder with the libraries of the libtorch in `folder`.
fn usable(folder: &Path) -> Result<PathBuf, Error> {
    let wrong = |what: String| {
        Error::new(format!("`{}` {what}", folder.display()))
            .help(format!("give the folder of a libtorch {TORCH_VERSION}, with `lib` in it"))
    };
    let libraries = folder.join("lib");
    if !libraries.join("libtorch_cpu.so").is_file() {
        return Err(wrong("holds no libtorch: there is no `lib/libtorch_cpu.so`".into()));
    }
    // Python's package says its version in one file, the archive in another.
    let version = ["version.py", "build-version"].iter().find_map(|name| {
        let text = fs::read_to_string(folder.join(name)).ok()?;
        let line = text.lines().find(|line| *name == "build-version" || line.starts_with("__version__"))?;
        Some(line.rsplit('=').next()?.trim().trim_matches(['\'', '"']).to_string())
    });
    match version {
        Some(found) if found.split('+').next() != Some(TORCH_VERSION) => {
            Err(wrong(format!("is libtorch {found}, this program runs with {TORCH_VERSION}")))
        }
        // An unknown one the loader refuses if it lacks something.
        _ => libraries.canonicalize().map_err(|error| wrong(format!("cannot be read: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_libtorch_of_another_version_or_none_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let refused = || usable(folder.path()).unwrap_err().message;
        assert!(refused().contains("holds no libtorch"), "{}", refused());
        fs::create_dir(folder.path().join("lib")).unwrap();
        fs::write(folder.path().join("lib/libtorch_cpu.so"), "").unwrap();
        assert!(usable(folder.path()).is_ok());
        for (name, text) in [("version.py", "__version__ = '2.10.0+cpu'\n"), ("build-version", "2.12.0\n")] {
            fs::write(folder.path().join(name), text).unwrap();
            assert!(refused().contains("this program runs with 2.11.0"), "{}", refused());
            fs::write(folder.path().join(name), text.replace("2.10.0", "2.11.0").replace("2.12.0", "2.11.0"))
                .unwrap();
            assert!(usable(folder.path()).is_ok());
            fs::remove_file(folder.path().join(name)).unwrap();
        }
    }
}
