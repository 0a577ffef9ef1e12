//! `runs/<name>/` and what every run writes there before its first stage.

use super::atomic::write_text;
use crate::plan::Plan;
use guard_sdk::{Error, Result, TORCH_VERSION};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The folder of one run.
pub struct RunDirectory {
    path: PathBuf,
}

impl RunDirectory {
    /// Makes the folder: `explicit` if given, else `<parent>/<name>`, or `<parent>/<name>-2` and so on: what is there stays.
    ///
    /// # Errors
    /// If `explicit` is there and not empty, or the file system refuses.
    pub fn create(parent: &Path, name: &str, explicit: Option<&Path>) -> Result<Self> {
        let refused = |path: &Path, error: std::io::Error| {
            Error::with_code("file", format!("run directory `{}` cannot be made: {error}", path.display()))
                .help("choose another with `--out DIR`")
        };
        if let Some(path) = explicit {
            let occupied = path.read_dir().is_ok_and(|mut entries| entries.next().is_some());
            if occupied {
                return Err(Error::with_code(
                    "occupied",
                    format!("run directory `{}` is not empty", path.display()),
                )
                .help("a run never overwrites another; choose an empty folder"));
            }
            fs::create_dir_all(path).map_err(|error| refused(path, error))?;
            return Ok(Self { path: path.to_path_buf() });
        }
        fs::create_dir_all(parent).map_err(|error| refused(parent, error))?;
        for number in 1u32.. {
            let path = parent.join(if number == 1 { name.to_string() } else { format!("{name}-{number}") });
            match fs::create_dir(&path) {
                Ok(()) => {
                    point_latest(parent, &path);
                    return Ok(Self { path });
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(refused(&path, error)),
            }
        }
        Err(Error::new(format!("`{}` holds too many runs of the name `{name}`", parent.display())))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of one variant: the run's own if there is only one.
    pub fn variant(&self, plan: &Plan, name: &str) -> PathBuf {
        if plan.variants.len() == 1 { self.path.clone() } else { self.path.join(name) }
    }

    /// Writes recipe, plan, environment and plugin lock.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn begin(&self, recipe: &str, plan: &Plan) -> Result<()> {
        write_text(&self.path.join("recipe.toml"), recipe)?;
        self.write_json("plan.json", plan)?;
        self.write_json("plugins.lock.json", &plan.plugins)?;
        self.write_json(
            "environment.json",
            &serde_json::json!({
                "guard_host": env!("CARGO_PKG_VERSION"),
                "libtorch": TORCH_VERSION,
                "threads": plan.threads,
                "cpu_capability": plan.cpu_capability,
                "system": format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
                "arguments": std::env::args().skip(1).collect::<Vec<_>>(),
            }),
        )
    }

    /// Writes a JSON file, whole or not at all.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn write_json(&self, name: &str, value: &impl serde::Serialize) -> Result<()> {
        let text = serde_json::to_string_pretty(value)?;
        write_text(&self.path.join(name), &(text + "\n"))
    }
}

/// Lets `<parent>/latest` point to the run. A convenience: where links are not to be had there is none.
fn point_latest(parent: &Path, path: &Path) {
    let (link, aside) = (parent.join("latest"), parent.join(format!(".latest-{}", std::process::id())));
    let target = path.file_name().map(PathBuf::from).unwrap_or_default();
    if link.is_symlink() || !link.exists() {
        #[cfg(unix)]
        let made = std::os::unix::fs::symlink(&target, &aside).and_then(|()| fs::rename(&aside, &link));
        #[cfg(not(unix))]
        let made: std::io::Result<()> = Ok(());
        if made.is_err() {
            let _ = fs::remove_file(&aside);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_gets_a_folder_of_its_own_and_latest_points_to_it() {
        let parent = tempfile::tempdir().unwrap();
        let first = RunDirectory::create(parent.path(), "x", None).unwrap();
        let second = RunDirectory::create(parent.path(), "x", None).unwrap();
        assert_eq!(first.path(), parent.path().join("x"));
        assert_eq!(second.path(), parent.path().join("x-2"));
        assert_eq!(fs::read_link(parent.path().join("latest")).unwrap(), Path::new("x-2"));
    }

    #[test]
    fn an_explicit_folder_that_is_not_empty_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        fs::write(parent.path().join("precious"), "").unwrap();
        let error = RunDirectory::create(Path::new("runs"), "x", Some(parent.path())).err().unwrap();
        assert!(error.message.contains("is not empty"), "{error}");
    }
}
