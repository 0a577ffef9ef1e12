//! libtorch's CUDA part, opened at run time.

use crate::{checked, owned};
use guard_sdk::{Error, Result, TORCH_VERSION};
use std::{
    ffi::{CStr, CString, c_char},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// As `driver.cpp` has it.
#[repr(C)]
struct GuardDriver {
    missing: [c_char; 512],
    refused: [c_char; 256],
    version: i32,
    gpus: i32,
}

unsafe extern "C" {
    fn guard_device_driver(found: *mut GuardDriver);
    fn guard_device_name(index: i32, name: *mut c_char, length: i32) -> bool;
    fn guard_device_libtorch() -> *mut c_char;
    fn guard_device_open(path: *const c_char) -> *mut c_char;
    fn guard_device_present(index: i32) -> *mut c_char;
    fn guard_device_peak_memory(index: i32, bytes: *mut i64) -> *mut c_char;
}

/// The CUDA that libtorch's CUDA part was built with, as drivers count: 1000 · major + 10 · minor.
const CUDA_VERSION: i32 = 13_000;

/// The library of libtorch's CUDA part.
const LIBRARY: &str = "libtorch_cuda.so";

/// Opens libtorch's CUDA part and tells how many GPUs there are: one at least. To be called before any other call of libtorch,
/// which looks for CUDA once and remembers.
///
/// # Errors
/// Code `no-cuda` with what is missing: the driver, a GPU, the CUDA part, NVIDIA's libraries.
pub fn open_cuda() -> Result<usize> {
    driver()?;
    let library = libtorch()
        .ok_or_else(|| missing("the loader does not tell where libtorch is".into()))?
        .with_file_name(LIBRARY);
    if !library.is_file() {
        let folder = library.parent().unwrap_or(&library).display();
        return Err(missing(format!("the libtorch in `{folder}` has no CUDA part, `{LIBRARY}`"))
            .help(format!("give another libtorch {TORCH_VERSION} with `--libtorch DIR`")));
    }
    open_library(&library).map_err(|error| {
        missing(format!("libtorch's CUDA part cannot be opened: {}", error.message)).help(format!(
            "fetch NVIDIA's libraries with `cargo xtask setup --cuda`, or give a Python installation's libtorch \
             {TORCH_VERSION} with `--libtorch DIR`"
        ))
    })?;
    match usize::try_from(tch::Cuda::device_count()) {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(missing("the driver has a GPU, but libtorch finds none".into())
            .help("`nvidia-smi` tells what the driver sees; is CUDA_VISIBLE_DEVICES right?")),
    }
}

fn missing(message: String) -> Error {
    Error::with_code("no-cuda", message)
}

/// Makes sure that there is a driver with a GPU, which is of use.
fn driver() -> Result<()> {
    let mut found = GuardDriver { missing: [0; 512], refused: [0; 256], version: 0, gpus: 0 };
    // SAFETY: a local of the layout that the function fills, texts with a zero at their end.
    unsafe { guard_device_driver(&mut found) };
    // SAFETY: filled by the function, with a zero at the end.
    let text = |text: &[c_char]| unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy().into_owned();
    let (absent, refused) = (text(&found.missing), text(&found.refused));
    let version = |version: i32| format!("{}.{}", version / 1000, version % 1000 / 10);
    if absent.starts_with("libcuda.so.1:") && absent.contains("No such file") {
        return Err(missing("there is no NVIDIA driver (no `libcuda.so.1`)".into()));
    }
    if !absent.is_empty() {
        return Err(missing(format!("the NVIDIA driver cannot be opened: {absent}")));
    }
    if !refused.is_empty() {
        return Err(missing(format!("the NVIDIA driver does not start: {refused}")).help("see `nvidia-smi`"));
    }
    if found.gpus < 1 {
        return Err(missing("the NVIDIA driver finds no GPU".into())
            .help("`nvidia-smi` tells what the driver sees; is CUDA_VISIBLE_DEVICES right?"));
    }
    if found.version < CUDA_VERSION {
        let (has, needs) = (version(found.version), version(CUDA_VERSION));
        return Err(missing(format!(
            "the NVIDIA driver is for CUDA {has}, libtorch {TORCH_VERSION} needs {needs}"
        ))
        .help("update the driver"));
    }
    Ok(())
}

/// The file of the libtorch that this process runs on, if the loader tells.
pub fn libtorch() -> Option<PathBuf> {
    // SAFETY: takes nothing; the text is ours.
    owned(unsafe { guard_device_libtorch() }).map(PathBuf::from)
}

pub(crate) fn open_library(library: &Path) -> Result<()> {
    let path = CString::new(library.as_os_str().as_bytes())
        .map_err(|_| missing(format!("`{}` is no path", library.display())))?;
    // SAFETY: a text that ends in a zero. What is opened is part of the libtorch that runs already, or of this host.
    checked(unsafe { guard_device_open(path.as_ptr()) })
}

/// Makes the GPU `index` the one that this thread's work goes to unless its tensors say otherwise.
///
/// # Errors
/// If CUDA is not open, or there is no such GPU.
pub fn make_present(index: usize) -> Result<()> {
    // SAFETY: takes a number.
    checked(unsafe { guard_device_present(i32::try_from(index).unwrap_or(i32::MAX)) })
}

/// What the driver calls the GPU `index`.
pub fn name(index: usize) -> Option<String> {
    let mut name = [0; 256];
    let index = i32::try_from(index).ok()?;
    // SAFETY: a buffer of that length, which is filled up to a zero on success.
    let found = unsafe { guard_device_name(index, name.as_mut_ptr(), name.len() as i32) };
    // SAFETY: filled by the function, with a zero at the end.
    found.then(|| unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned())
}

/// The most bytes that tensors have held on the GPU `index` since the process began.
///
/// # Errors
/// If CUDA is not open, or there is no such GPU.
pub fn peak_memory(index: usize) -> Result<u64> {
    let mut bytes = 0;
    // SAFETY: a local to write to.
    checked(unsafe { guard_device_peak_memory(i32::try_from(index).unwrap_or(i32::MAX), &mut bytes) })?;
    Ok(bytes.unsigned_abs())
}
