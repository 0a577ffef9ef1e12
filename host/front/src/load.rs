//! The host is a library that is linked with libtorch; it lies beside the program.

use crate::{Refusal, Result, library_name, libtorch};
use guard_manifest::TORCH_VERSION;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW, Symbol};
use std::{
    env,
    path::{Path, PathBuf},
};

/// The function of the library that does what the command line says. It returns the exit code.
const ENTRY: &str = "guard_host_main";

/// See [`ENTRY`].
pub(crate) type Host = extern "C" fn() -> u8;

/// Loads the host, with the libtorch in `folder` if one is given.
///
/// # Errors
/// If the library or libtorch is not found, or is not one for this program.
pub(crate) fn host(folder: Option<&Path>) -> Result<Host> {
    let file = file()?;
    if let Some(folder) = folder {
        libtorch::take(folder)?;
        return open(&file);
    }
    open(&file).or_else(|refusal| match libtorch::of_variable() {
        Some(folder) if refusal.code == "libtorch" => {
            let of_variable = |refusal: Refusal| Refusal {
                message: format!("the loader finds no libtorch, and LIBTORCH: {}", refusal.message),
                ..refusal
            };
            libtorch::take(&folder).map_err(of_variable)?;
            open(&file)
        }
        _ => Err(refusal),
    })
}

/// Where the library is.
fn file() -> Result<PathBuf> {
    let program = env::current_exe()
        .and_then(|path| path.canonicalize())
        .map_err(|error| Refusal::new("host", format!("this program does not know where it is: {error}")))?;
    let beside = program.parent().unwrap_or(Path::new("/"));
    let name = library_name("guard_host");
    // cargo's newest, cargo's, and that of `cargo xtask install`.
    let places = [beside.join("deps"), beside.to_path_buf(), beside.join("../lib")];
    places.iter().map(|folder| folder.join(&name)).find(|file| file.is_file()).ok_or_else(|| {
        Refusal::new("host", format!("there is no `{name}` beside `{}`", program.display()))
            .help("the program is one part of the host, the library the other: install both")
    })
}

fn open(file: &Path) -> Result<Host> {
    // SAFETY: the library's initialisers, and libtorch's, are those that would run at the start of a program.
    let library = unsafe { Library::open(Some(file), RTLD_NOW | RTLD_LOCAL) };
    let library = library.map_err(|error| unloadable(file, &error.to_string()))?;
    libtorch::share();
    // SAFETY: the host has the function in this form, which takes nothing.
    let entry: Result<Symbol<Host>, _> = unsafe { library.get(ENTRY.as_bytes()) };
    let host = *entry.map_err(|error| {
        Refusal::new("host", format!("`{}` is not this program's host ({error})", file.display()))
            .help("install both parts of the host anew")
    })?;
    // Never unloaded.
    std::mem::forget(library);
    Ok(host)
}

fn unloadable(file: &Path, why: &str) -> Refusal {
    if why.contains("undefined symbol") {
        let message = format!("the libtorch that the loader takes does not fit ({why})");
        return Refusal::new("host", message).help(format!(
            "name the folder of a libtorch {TORCH_VERSION} with `--libtorch DIR`; is LD_LIBRARY_PATH right?"
        ));
    }
    // Not the file itself, so one that it needs: libtorch, or what a libtorch brings along.
    if why.contains("cannot open shared object file") && !why.starts_with('/') {
        let message = format!("libtorch, or what it needs, was not found ({why})");
        return Refusal::new("libtorch", message).help(format!(
            "name the folder of a libtorch {TORCH_VERSION} with `--libtorch DIR` or in LIBTORCH, e.g. `torch` in the \
             `site-packages` of a Python that has torch {TORCH_VERSION}"
        ));
    }
    Refusal::new("host", format!("`{}` cannot be loaded: {why}", file.display()))
}
