//! `runs/<name>/` and what every run writes there before its first stage.

use super::{
    atomic::{make_folder, remove_partial, unmade, write_text},
    failpoint::at,
    read::{read_json, read_text, unreadable},
    work::Work,
};
use crate::{
    plan::Plan,
    recipe::{Difference, differences},
};
use guard_sdk::{Error, Result, TORCH_VERSION};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

/// Is locked while a process is at work.
const LOCK: &str = "lock";

/// The recipe as it was given.
const RECIPE: &str = "recipe.toml";

/// What was typed.
const TYPED: &str = "command.json";

/// The plan.
const PLAN: &str = "plan.json";

/// The program.
const ENVIRONMENT: &str = "environment.json";

/// The folder of one run. No other process can use it at the same time.
pub struct RunDirectory {
    path: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
}

/// What was typed, so that a run can be resumed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Typed {
    /// The recipe's file, as it was called.
    pub recipe: String,
    /// Whether it is the recipe that runs when none is named.
    #[serde(default)]
    pub built_in: bool,
    /// The changes of the recipe (`--set`).
    pub sets: Vec<String>,
    /// The variants that were chosen (`--variant`); all if none.
    pub variants: Vec<String>,
    /// The plugins that were asked for (`--plugin`).
    pub plugins: Vec<String>,
    /// The texts of the recipes that the recipe extends, by path.
    #[serde(default)]
    pub bases: BTreeMap<String, String>,
    /// How much of the recipe was to be done (`--until`, `--shard`, `merge`).
    #[serde(default)]
    pub work: Work,
}

impl Typed {
    /// The command that does the same, as a shell reads it.
    pub fn command(&self) -> String {
        let options = [("--set", &self.sets), ("--variant", &self.variants), ("--plugin", &self.plugins)];
        let options = options.into_iter().flat_map(|(option, values)| {
            values.iter().flat_map(move |value| [option.to_string(), value.clone()])
        });
        let work = match self.work {
            Work::Whole | Work::Joined(_) => Vec::new(),
            Work::Teachers => vec!["--until".to_string(), "train".into()],
            Work::Part(shard) => vec!["--shard".to_string(), shard.to_string()],
        };
        let recipe = (!self.built_in).then(|| self.recipe.clone());
        let command = ["guard-host".to_string(), "run".into()];
        shell(command.into_iter().chain(recipe).chain(options).chain(work))
    }
}

/// Words as a shell reads them.
pub fn shell(words: impl Iterator<Item = String>) -> String {
    // Only a NUL cannot be quoted, which no argument holds.
    let quoted = |word: String| shlex::try_quote(&word).map(|quoted| quoted.into_owned()).unwrap_or(word);
    words.map(quoted).collect::<Vec<_>>().join(" ")
}

/// What a run directory says of the run that was begun in it.
pub struct Begun {
    /// What was typed.
    pub typed: Typed,
    /// The recipe as given.
    pub recipe: String,
    /// `plan.json` and `environment.json`; none if it was cut before its first stage.
    resolved: Option<[Value; 2]>,
}

impl RunDirectory {
    /// Makes the folder: `explicit` if given, else `<parent>/<name>`, or `<parent>/<name>-2` and so on: what is there stays.
    ///
    /// # Errors
    /// If `explicit` is there and not empty, or the file system refuses.
    pub fn create(parent: &Path, name: &str, explicit: Option<&Path>) -> Result<Self> {
        let elsewhere =
            |error: Error| error.context("no run directory").help("choose another with `--out DIR`");
        if let Some(path) = explicit {
            let occupied = path.read_dir().is_ok_and(|mut entries| entries.next().is_some());
            if occupied {
                return Err(Error::with_code(
                    "occupied",
                    format!("run directory `{}` is not empty", path.display()),
                )
                .help("a run never overwrites another; choose an empty folder"));
            }
            make_folder(path).map_err(elsewhere)?;
            return Self::locked(path.to_path_buf()).map_err(elsewhere);
        }
        make_folder(parent).map_err(elsewhere)?;
        for number in 1u32.. {
            let path = parent.join(if number == 1 { name.to_string() } else { format!("{name}-{number}") });
            match at("make folder", &path, || fs::create_dir(&path)) {
                Ok(()) => {
                    let directory = Self::locked(path).map_err(elsewhere)?;
                    point_latest(parent, &directory.path);
                    return Ok(directory);
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(elsewhere(unmade(&path, &error))),
            }
        }
        Err(Error::new(format!("`{}` holds too many runs of the name `{name}`", parent.display())))
    }

    /// The folder of a run that was begun before, and what it says of it.
    ///
    /// # Errors
    /// Code `no-run` if no run was begun there; code `in-use` if a process is at work in it; code `file` if something in it
    /// cannot be read.
    pub fn resume(path: &Path) -> Result<(Self, Begun)> {
        Begun::read(path)?;
        let directory = Self::locked(fs::canonicalize(path).unwrap_or(path.to_path_buf()))?;
        remove_partial(&directory.path)?;
        let begun = Begun::read(&directory.path)?;
        Ok((directory, begun))
    }

    fn locked(path: PathBuf) -> Result<Self> {
        let place = path.join(LOCK);
        let refused = |error: std::io::Error| {
            Error::with_code("file", format!("`{}` cannot be locked: {error}", place.display()))
        };
        let lock = at("create", &place, || File::create(&place)).map_err(refused)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                let message = format!("run directory `{}` is in use by another process", path.display());
                Err(Error::with_code("in-use", message).help("wait until it has ended"))
            }
            Err(TryLockError::Error(error)) => Err(refused(error)),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of one variant.
    pub fn variant(&self, plan: &Plan, name: &str) -> PathBuf {
        self.path.join(plan.folder(name))
    }

    /// Writes the recipe as given and what was typed, with which a run can be resumed, then plugin lock, environment and plan, so
    /// that what changes until then is noticed.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn begin(&self, recipe: &str, typed: &Typed, plan: &Plan) -> Result<()> {
        write_text(&self.path.join(RECIPE), recipe)?;
        self.write_json(TYPED, typed)?;
        self.write_json("plugins.lock.json", &plan.plugins)?;
        self.write_json(ENVIRONMENT, &environment())?;
        self.write_json(PLAN, plan)
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

impl Begun {
    /// What the run directory `run` says of its run. Nobody is kept from working in it.
    ///
    /// # Errors
    /// Code `no-run` if no run was begun there; code `file` if something in it cannot be read.
    pub fn read(run: &Path) -> Result<Self> {
        let path = |name: &str| run.join(name);
        if let Some(missing) = [RECIPE, TYPED].iter().find(|file| !path(file).is_file()) {
            let message = format!("`{}` holds no run: it has no `{missing}`", run.display());
            return Err(Error::with_code("no-run", message).help(match path(LOCK).is_file() {
                true => "it was cut before it had begun: delete the folder and start it again",
                false => "give the folder of a run, e.g. `runs/latest`",
            }));
        }
        // The plan is written last.
        let resolved = path(PLAN)
            .is_file()
            .then(|| -> Result<[Value; 2]> { Ok([read_json(&path(PLAN))?, read_json(&path(ENVIRONMENT))?]) });
        Ok(Self {
            typed: read_json(&path(TYPED))?,
            recipe: read_text(&path(RECIPE))?,
            resolved: resolved.transpose()?,
        })
    }

    /// The plan of the run, which lies in the directory `run`.
    ///
    /// # Errors
    /// Code `no-run` if it was cut before it had one; code `file` if this host cannot read it.
    pub fn plan(&self, run: &Path) -> Result<Plan> {
        let Some([plan, _]) = &self.resolved else {
            let message = format!("`{}` holds no run that has begun: it has no `{PLAN}`", run.display());
            return Err(Error::with_code("no-run", message).help("resume it first"));
        };
        Plan::deserialize(plan).map_err(|error| {
            unreadable(&run.join(PLAN), error).help("it was perhaps written by another version of guard-host")
        })
    }

    /// A field of `environment.json`.
    pub fn environment(&self, name: &str) -> Option<&str> {
        self.resolved.as_ref()?[1].get(name)?.as_str()
    }

    /// In what another run does otherwise, a line each.
    pub fn differs_from(&self, other: &Self) -> Vec<String> {
        let [Some([one, _]), Some([other, _])] = [&self.resolved, &other.resolved] else { return Vec::new() };
        told(differences(one, other))
    }

    /// What is no longer as it was when the run was begun, a line each.
    ///
    /// # Errors
    /// If the plan cannot be told as JSON.
    pub fn changes(&self, plan: &Plan) -> Result<Vec<String>> {
        let Some([before, environment_before]) = &self.resolved else { return Ok(Vec::new()) };
        let mut changes = differences(before, &serde_json::to_value(plan)?);
        changes.extend(differences(environment_before, &environment()));
        Ok(told(changes))
    }
}

/// Differences of plans, a line each. Where a plugin lies does not matter: its sum is compared.
fn told(mut changes: Vec<Difference>) -> Vec<String> {
    changes.retain(|each| !(each.pointer.starts_with("/plugins/") && each.pointer.ends_with("/path")));
    changes.iter().map(|each| format!("`{}`: {}", each.place(), each.change())).collect()
}

/// The program, as far as results depend on it. What else they depend on is in the plan.
fn environment() -> Value {
    json!({
        "guard_host": env!("CARGO_PKG_VERSION"),
        "libtorch": TORCH_VERSION,
        "system": format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
    })
}

/// Lets `<parent>/latest` point to the run. A convenience: where links are not to be had there is none.
fn point_latest(parent: &Path, path: &Path) {
    let (link, aside) = (parent.join("latest"), parent.join(format!(".latest-{}", std::process::id())));
    let target = path.file_name().map(PathBuf::from).unwrap_or_default();
    if link.is_symlink() || !link.exists() {
        #[cfg(unix)]
        let made = at("link", &link, || std::os::unix::fs::symlink(&target, &aside))
            .and_then(|()| at("rename", &link, || fs::rename(&aside, &link)));
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
    fn two_processes_cannot_use_one_directory() {
        let parent = tempfile::tempdir().unwrap();
        let first = RunDirectory::create(parent.path(), "x", None).unwrap();
        let again = || RunDirectory::locked(parent.path().join("x"));
        assert_eq!(again().err().unwrap().code, "in-use");
        drop(first);
        assert!(again().is_ok());
    }

    #[test]
    fn an_explicit_folder_that_is_not_empty_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        fs::write(parent.path().join("precious"), "").unwrap();
        let error = RunDirectory::create(Path::new("runs"), "x", Some(parent.path())).err().unwrap();
        assert!(error.message.contains("is not empty"), "{error}");
    }
}
