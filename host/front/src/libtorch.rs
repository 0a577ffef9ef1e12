//! Which libtorch is loaded: that of `--libtorch`, else the one that the loader finds, else that of the variable LIBTORCH.

use crate::{Refusal, Result};
use guard_manifest::TORCH_VERSION;
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

/// The library that the host and all plugins are linked with.
const LIBRARY: &str = "libtorch_cpu.so";

/// Its foundation, which it may not say where to find.
const FOUNDATION: &str = "libc10.so";

/// The loader's flag for a library that is loaded already, on Linux.
const RTLD_NOLOAD: i32 = 4;

/// Where the loader looks for libraries first.
const LIBRARIES: &str = "LD_LIBRARY_PATH";

/// The folder that `--libtorch` names in a command line. The host reads the line again, and tells what is wrong with it: what
/// cannot be meant is left to it.
pub(crate) fn asked_for(arguments: impl Iterator<Item = OsString>) -> Option<PathBuf> {
    let mut options = arguments.take_while(|argument| argument != "--");
    while let Some(option) = options.next() {
        let folder = match option.as_bytes().strip_prefix(b"--libtorch=") {
            Some(folder) => Some(OsString::from_vec(folder.to_vec())),
            None if option == "--libtorch" => options.next(),
            None => continue,
        };
        let meant = |folder: &OsString| !folder.is_empty() && !folder.as_bytes().starts_with(b"-");
        return folder.filter(meant).map(PathBuf::from);
    }
    None
}

/// The folder in the variable LIBTORCH.
pub(crate) fn of_variable() -> Option<PathBuf> {
    env::var_os("LIBTORCH").filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

/// Loads the libtorch in `folder`, before anything else starts a thread: what is linked with one takes it from here on. Child
/// processes take it by a variable, which the loader of this one has read already.
///
/// # Errors
/// If there is none, or one that this program cannot use.
pub(crate) fn take(folder: &Path) -> Result<()> {
    let libraries = usable(folder)?;
    let before = env::var_os(LIBRARIES).unwrap_or_default();
    let rest = env::split_paths(&before).filter(|path| !path.as_os_str().is_empty() && *path != libraries);
    let paths = env::join_paths(std::iter::once(libraries.clone()).chain(rest))
        .map_err(|error| wrong(folder, &error.to_string()))?;
    // SAFETY: this process has no other thread yet.
    unsafe { env::set_var(LIBRARIES, paths) };
    for name in [FOUNDATION, LIBRARY] {
        // SAFETY: libtorch's initialisers are those that run when it is loaded in any other way.
        let library = unsafe { Library::open(Some(libraries.join(name)), RTLD_NOW | RTLD_GLOBAL) };
        let library = library.map_err(|error| wrong(folder, &format!("cannot be loaded: {error}")))?;
        // Never unloaded.
        std::mem::forget(library);
    }
    Ok(())
}

/// Lets plugins find the symbols of the libtorch that is loaded, even if they do not say that they need it.
pub(crate) fn share() {
    for name in [FOUNDATION, LIBRARY] {
        // SAFETY: nothing is loaded: either the library is there already, or this fails.
        let library = unsafe { Library::open(Some(name), RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD) };
        std::mem::forget(library);
    }
}

/// The folder with the libraries of the libtorch in `folder`.
///
/// # Errors
/// If it holds none, or one of another version.
pub fn usable(folder: &Path) -> Result<PathBuf> {
    let libraries = folder.join("lib");
    if !libraries.join(LIBRARY).is_file() {
        return Err(wrong(folder, &format!("holds no libtorch: there is no `lib/{LIBRARY}`")));
    }
    // Python's package says its version in one file, the archive in another.
    let version = ["version.py", "build-version"].iter().find_map(|name| {
        let text = fs::read_to_string(folder.join(name)).ok()?;
        let line = text.lines().find(|line| *name == "build-version" || line.starts_with("__version__"))?;
        Some(line.rsplit('=').next()?.trim().trim_matches(['\'', '"']).to_string())
    });
    match version {
        Some(found) if found.split('+').next() != Some(TORCH_VERSION) => {
            Err(wrong(folder, &format!("is libtorch {found}, this program runs with {TORCH_VERSION}")))
        }
        // An unknown one the loader refuses if it lacks something.
        _ => libraries.canonicalize().map_err(|error| wrong(folder, &format!("cannot be read: {error}"))),
    }
}

fn wrong(folder: &Path, what: &str) -> Refusal {
    Refusal::new("libtorch", format!("`{}` {what}", folder.display()))
        .help(format!("give the folder of a libtorch {TORCH_VERSION}, with `lib` in it"))
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
        fs::write(folder.path().join("lib").join(LIBRARY), "").unwrap();
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

    #[test]
    fn the_folder_is_read_from_the_command_line_in_both_spellings() {
        let asked = |line: &str| asked_for(line.split(' ').map(OsString::from));
        assert_eq!(asked("doctor --libtorch /a --verbose"), Some("/a".into()));
        assert_eq!(asked("--libtorch=/b run"), Some("/b".into()));
        for line in [
            "run recipe.toml",
            "run --libtorch",
            "run --libtorch --verbose",
            "run --libtorch=",
            "run -- --libtorch /a",
            "run --libtorches /a",
        ] {
            assert_eq!(asked(line), None, "{line}");
        }
    }
}
