//! What the machine must bring along: a C++ compiler, and for the fetch x86-64 Linux.

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::Result;

use crate::error::advise;

/// The compilers tried when `CXX` is not set; the first is the one that builds use by themselves.
const COMPILERS: [&str; 3] = ["c++", "g++", "clang++"];

/// Makes sure that there is a C++ compiler. The answer is its name if `CXX` has to be set to it.
pub fn compiler() -> Result<Option<&'static str>> {
    if let Some(value) = env::var_os("CXX").filter(|value| !value.is_empty()) {
        // The variable may hold a wrapper and flags, such as `ccache g++`.
        let value = value.to_string_lossy();
        let program = value.split_whitespace().next().unwrap_or_default();
        return match find(program) {
            Some(_) => Ok(None),
            None => Err(advise(
                format!("the C++ compiler `{program}` named by CXX was not found"),
                "set CXX to a C++17 compiler, or unset it",
            )),
        };
    }
    match COMPILERS.iter().position(|name| find(name).is_some()) {
        Some(0) => Ok(None),
        Some(place) => Ok(Some(COMPILERS[place])),
        None => Err(advise(
            "no C++ compiler was found: none of `c++`, `g++`, `clang++` is on the PATH",
            "install one that knows C++17 (Debian and Ubuntu: `apt-get install g++`, Fedora: \
             `dnf install gcc-c++`), or set CXX",
        )),
    }
}

/// Makes sure that libtorch can be fetched for this machine.
pub fn can_fetch() -> Result<()> {
    if cfg!(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")) {
        return Ok(());
    }
    let (system, processor) = (env::consts::OS, env::consts::ARCH);
    Err(advise(
        format!(
            "libtorch is fetched for x86-64 Linux with glibc only, this is `{system}` on \
             `{processor}`"
        ),
        format!("set LIBTORCH to the folder of a libtorch {} for this machine", crate::torch::VERSION),
    ))
}

/// The program that `name` starts: a path as it is, a bare name from the PATH.
pub fn find(name: &str) -> Option<PathBuf> {
    if name.is_empty() {
        return None;
    }
    // Joining an absolute path gives that path.
    let folders = match name.contains('/') {
        true => vec![env::current_dir().ok()?],
        false => env::split_paths(&env::var_os("PATH")?).collect(),
    };
    folders.into_iter().map(|folder| folder.join(name)).find(|file| {
        file.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_program_is_found_by_name_and_by_path() {
        let shell = find("sh").unwrap();
        assert_eq!(find(shell.to_str().unwrap()), Some(shell));
        assert_eq!(find("no-such-program-anywhere"), None);
        assert_eq!(find(""), None);
    }

    #[test]
    fn a_file_without_the_right_to_run_is_no_program() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("program");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(find(file.to_str().unwrap()), None);
    }
}
