//! What makes a folder an installation of libtorch that this workspace can be built against.
//!
//! torch-sys skips its own version check when `LIBTORCH` is set, so the check is made here.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

/// The release that tch is bound to; the two change together.
pub const VERSION: &str = "2.11.0";

/// What a build needs of an installation.
const FILES: [&str; 3] = ["include", "lib/libtorch_cpu.so", "lib/libc10.so"];

/// Makes sure that `torch` is a complete libtorch of the right version.
pub fn check(torch: &Path) -> Result<()> {
    if !torch.is_dir() {
        bail!("`{}` is not a folder", torch.display());
    }
    match version(torch) {
        Some(found) if matches(&found) => {}
        Some(found) => bail!("`{}` is libtorch `{found}`, needed is `{VERSION}`", torch.display()),
        None => bail!(
            "`{}` tells its version neither in `version.py` nor in `build-version`, needed is \
             `{VERSION}`",
            torch.display()
        ),
    }
    let missing: Vec<_> =
        FILES.into_iter().filter(|file| !torch.join(file).exists()).map(|file| format!("`{file}`")).collect();
    if !missing.is_empty() {
        bail!("`{}` has no {}", torch.display(), missing.join(", no "));
    }
    Ok(())
}

/// The version of an installation: from Python's package or from the archive of libtorch.
fn version(torch: &Path) -> Option<String> {
    let read = |name| fs::read_to_string(torch.join(name)).ok();
    let of_package = || python_version(&read("version.py")?).map(str::to_owned);
    let of_archive = || Some(read("build-version")?.trim().to_owned());
    of_package().or_else(of_archive)
}

/// The string that `version.py` assigns to `__version__`.
fn python_version(source: &str) -> Option<&str> {
    source.lines().find_map(|line| {
        let value = line.strip_prefix("__version__")?.trim_start();
        let value = value.strip_prefix('=')?.trim();
        let quote = value.chars().next().filter(|mark| "'\"".contains(*mark))?;
        value[1..].split(quote).next()
    })
}

/// Whether this is the needed release; what follows `+` names the build, such as `cpu`.
fn matches(version: &str) -> bool {
    version.split('+').next() == Some(VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that looks like libtorch of `version`.
    fn installation(file: &str, version: &str) -> tempfile::TempDir {
        let torch = tempfile::tempdir().unwrap();
        fs::write(torch.path().join(file), version).unwrap();
        fs::create_dir_all(torch.path().join("include")).unwrap();
        fs::create_dir_all(torch.path().join("lib")).unwrap();
        fs::write(torch.path().join("lib/libtorch_cpu.so"), "").unwrap();
        fs::write(torch.path().join("lib/libc10.so"), "").unwrap();
        torch
    }

    #[test]
    fn the_version_is_read_from_version_py_with_either_quote() {
        let source = "from typing import Optional\n__version__ = '2.11.0+cu130'\ndebug = False\n";
        assert_eq!(python_version(source), Some("2.11.0+cu130"));
        assert_eq!(python_version("__version__ = \"2.11.0\""), Some("2.11.0"));
        assert_eq!(python_version("__version__ = other"), None);
        assert_eq!(python_version("debug = '2.11.0'"), None);
    }

    #[test]
    fn builds_of_the_release_match_and_other_releases_do_not() {
        for version in ["2.11.0", "2.11.0+cpu", "2.11.0+cu130"] {
            assert!(matches(version), "{version}");
        }
        for version in ["2.11.01", "2.11", "2.11.0a0+git", "2.10.0+cpu", "12.11.0", ""] {
            assert!(!matches(version), "{version}");
        }
    }

    #[test]
    fn a_python_package_and_an_archive_are_both_accepted() {
        let package = installation("version.py", "__version__ = '2.11.0+cu130'\n");
        let archive = installation("build-version", "2.11.0+cpu\n");
        check(package.path()).unwrap();
        check(archive.path()).unwrap();
    }

    #[test]
    fn an_error_names_the_path_the_version_found_and_the_one_needed() {
        let torch = installation("build-version", "2.10.0+cpu\n");
        let error = check(torch.path()).unwrap_err().to_string();
        let path = torch.path().display();
        assert_eq!(error, format!("`{path}` is libtorch `2.10.0+cpu`, needed is `2.11.0`"));
    }

    #[test]
    fn an_error_names_all_that_is_missing() {
        let torch = installation("build-version", "2.11.0\n");
        fs::remove_dir(torch.path().join("include")).unwrap();
        fs::remove_file(torch.path().join("lib/libtorch_cpu.so")).unwrap();
        let error = check(torch.path()).unwrap_err().to_string();
        let path = torch.path().display();
        assert_eq!(error, format!("`{path}` has no `include`, no `lib/libtorch_cpu.so`"));
    }
}
