//! Where plugins come from: an explicit path, `GUARD_PLUGIN_PATH`, or the folders that belong to the executable. Never the
//! working directory by name alone.

use crate::{Refusal, Result};
use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
};

/// Finds library files by name.
#[derive(Debug, Clone)]
pub struct Locator {
    /// Searched in this order.
    directories: Vec<PathBuf>,
}

impl Locator {
    /// The folders of this process: `GUARD_PLUGIN_PATH`, then those of the executable.
    pub fn from_environment() -> Self {
        let from_variable = env::var_os("GUARD_PLUGIN_PATH");
        let executable = env::current_exe().and_then(|path| path.canonicalize()).ok();
        let beside = executable.as_deref().and_then(Path::parent);
        Self::new(from_variable.as_deref(), beside)
    }

    /// `variable` is a list as in `PATH`; `beside` the executable's folder.
    pub fn new(variable: Option<&OsStr>, beside: Option<&Path>) -> Self {
        let mut directories: Vec<PathBuf> = variable
            .map(|list| env::split_paths(list).filter(|directory| directory.is_absolute()).collect())
            .unwrap_or_default();
        if let Some(beside) = beside {
            // cargo leaves every library in `deps`, and only those that were asked for by name beside the executable: an
            // old one there must not hide the new one. `cargo xtask install` puts them into `lib/guard-host`.
            directories.extend(Some(beside.join("deps")).filter(|folder| folder.is_dir()));
            directories.push(beside.to_path_buf());
            let installed = beside.parent().map(|prefix| prefix.join("lib/guard-host"));
            directories.extend(installed.filter(|folder| folder.is_dir()));
        }
        Self { directories }
    }

    /// The folders that are searched.
    pub fn directories(&self) -> &[PathBuf] {
        &self.directories
    }

    /// The file that `request` names: a path if it has a separator, else `guard_curv` or `libguard_curv.so` in one of the
    /// folders.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn find(&self, request: &str) -> Result<PathBuf> {
        let missing = |where_: String| Refusal::new("file", format!("was not found{where_}"));
        if request.contains('/') {
            let path = Path::new(request);
            return match path.canonicalize() {
                Ok(path) if path.is_file() => Ok(path),
                Ok(_) => Err(Refusal::new("file", "is not a file")),
                Err(_) => Err(missing(String::new()).help("check the path")),
            };
        }
        let names = [request.to_string(), library_name(request)];
        for directory in &self.directories {
            for name in &names {
                let candidate = directory.join(name);
                if candidate.is_file() {
                    return Ok(candidate.canonicalize().unwrap_or(candidate));
                }
            }
        }
        let searched: Vec<_> =
            self.directories.iter().map(|directory| format!("`{}`", directory.display())).collect();
        let error = missing(format!(" in {}", searched.join(", ")));
        Err(match names.iter().find(|name| Path::new(name).is_file()) {
            Some(name) => error
                .help(format!("the working directory is not searched; for the file there, write `./{name}`")),
            None => error.help("give a path, or set GUARD_PLUGIN_PATH to the folder it is in"),
        })
    }

    /// All libraries in the folders, by path, each name once.
    pub fn libraries(&self) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = Vec::new();
        for directory in &self.directories {
            let Ok(entries) = directory.read_dir() else { continue };
            let mut here: Vec<_> =
                entries.flatten().map(|entry| entry.path()).filter(|path| is_library(path)).collect();
            here.sort();
            here.retain(|path| found.iter().all(|known| known.file_name() != path.file_name()));
            found.extend(here);
        }
        found
    }
}

/// The file name of a library on this system.
pub fn library_name(name: &str) -> String {
    format!("{}{name}{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX)
}

fn is_library(path: &Path) -> bool {
    path.extension() == Some(OsStr::new(env::consts::DLL_EXTENSION)) && path.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_folder_in_the_variable_is_left_out() {
        let locator = Locator::new(Some(OsStr::new("relative:/absolute")), None);
        assert_eq!(locator.directories(), [Path::new("/absolute")]);
    }

    #[test]
    fn a_name_is_found_in_the_folders_and_a_path_where_it_points() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(library_name("x"));
        std::fs::write(&file, "").unwrap();
        let file = file.canonicalize().unwrap();
        let locator = Locator::new(Some(folder.path().as_os_str()), None);
        assert_eq!(locator.find("x").unwrap(), file);
        assert_eq!(locator.find("libx.so").unwrap(), file);
        assert_eq!(Locator::new(None, None).find(file.to_str().unwrap()).unwrap(), file);
        let error = locator.find("y").unwrap_err();
        assert!(error.message.contains(folder.path().to_str().unwrap()), "{error:?}");
    }
}
