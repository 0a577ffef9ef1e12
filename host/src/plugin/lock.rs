//! A list of the only plugins that may be loaded: id, version and BLAKE3 sum of each, kept beside a recipe.

use super::loaded::Loaded;
use guard_front::Inspection;
use guard_sdk::{Error, Result};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The plugins of a recipe as they were when they were locked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// In the order of their ids.
    #[serde(default)]
    pub plugins: Vec<Locked>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Locked {
    /// Its id.
    pub id: String,
    /// Its version, for people.
    pub version: String,
    /// The file's BLAKE3 sum, in hexadecimal.
    pub blake3: String,
}

impl Lock {
    /// The file beside a recipe: `my.toml` has `my.toml.lock`.
    pub fn beside(recipe: &Path) -> PathBuf {
        let mut name = recipe.as_os_str().to_owned();
        name.push(".lock");
        name.into()
    }

    /// What is loaded now.
    pub fn of(loaded: &[&'static Loaded]) -> Self {
        let mut plugins: Vec<Locked> = loaded
            .iter()
            .map(|plugin| Locked {
                id: plugin.manifest.id.clone(),
                version: plugin.manifest.version.clone(),
                blake3: plugin.blake3.clone(),
            })
            .collect();
        plugins.sort_by(|one, other| one.id.cmp(&other.id));
        Self { plugins }
    }

    /// Reads a lock file.
    ///
    /// # Errors
    /// If there is none, or it is none.
    pub fn read(path: &Path) -> Result<Self> {
        let advice = "write it with `guard-host plugin lock RECIPE`";
        let named =
            |why: String| Error::with_code("lock", format!("the lock file `{}` {why}", path.display()));
        let text = fs::read_to_string(path)
            .map_err(|error| named(format!("cannot be read: {error}")).help(advice))?;
        toml::from_str(&text).map_err(|error| named(format!("is none: {}", error.message())).help(advice))
    }

    /// As text for the file.
    ///
    /// # Errors
    /// If an id cannot be written, which no loaded plugin has.
    pub fn text(&self) -> Result<String> {
        let plugins = toml::to_string(self).map_err(|error| Error::new(format!("the lock: {error}")))?;
        Ok(format!(
            "# Written by `guard-host plugin lock`. `guard-host run --locked` loads these files and no others.\n\n{plugins}"
        ))
    }

    /// Whether a file is one of the list. The message continues the sentence "plugin `file` ...".
    ///
    /// # Errors
    /// If its id is not listed, or with another sum.
    pub fn admit(&self, file: &Inspection) -> Result<()> {
        let id = &file.manifest.id;
        let error = match self.plugins.iter().find(|locked| locked.id == *id) {
            Some(locked) if locked.blake3 == file.blake3 => return Ok(()),
            Some(locked) => {
                let (version, found) = (&locked.version, &file.manifest.version);
                let (expected, sum) = (&locked.blake3, &file.blake3);
                format!(
                    "is not the `{id}` {version} that was locked, but {found}: BLAKE3 {sum}, locked is {expected}"
                )
            }
            None => format!("calls itself `{id}`, which the lock does not list"),
        };
        Err(Error::with_code("lock", error)
            .help("if that is meant to be, write the lock again with `guard-host plugin lock RECIPE`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guard_sdk::manifest::Manifest;

    fn file(id: &str, blake3: &str) -> Inspection {
        let manifest = Manifest {
            format: String::new(),
            id: id.into(),
            version: "1.0.0".into(),
            torch: String::new(),
            panic: String::new(),
            methods: Vec::new(),
        };
        Inspection { manifest, blake3: blake3.into() }
    }

    #[test]
    fn a_changed_and_an_unlisted_file_are_refused() {
        let locked = Locked { id: "a.b".into(), version: "1.0.0".into(), blake3: "11".into() };
        let lock = Lock { plugins: vec![locked] };
        assert!(lock.admit(&file("a.b", "11")).is_ok());
        assert!(lock.admit(&file("a.b", "22")).unwrap_err().message.contains("BLAKE3 22, locked is 11"));
        assert!(lock.admit(&file("a.c", "11")).unwrap_err().message.contains("does not list"));
        let read: Lock = toml::from_str(&lock.text().unwrap()).unwrap();
        assert_eq!(read, lock);
    }
}
