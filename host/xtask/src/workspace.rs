//! Where the workspace is, which libtorch the user asked for, and how cargo is called from here.
//!
//! xtask is started through cargo, so it already sees `[env]` of `.cargo/config.toml`: `LIBTORCH`
//! is always set. Only a value other than the configured one is the user's. The configured values
//! are taken out again before cargo is called, which sets them itself: the call then equals one
//! typed by hand, and nothing is rebuilt between the two.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::error::advise;
use crate::platform;

/// The checkout and what the environment says about libtorch.
pub struct Workspace {
    /// The folder of the workspace's `Cargo.toml`.
    pub root: PathBuf,
    /// The user's own libtorch, absolute; `None` when one is to be fetched.
    pub libtorch: Option<PathBuf>,
}

impl Workspace {
    /// Finds the workspace of the running xtask.
    pub fn find() -> Result<Workspace> {
        let manifest = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let root = manifest.as_deref().and_then(|xtask| xtask.ancestors().nth(2));
        let Some(root) = root.filter(|root| root.join("Cargo.toml").is_file()) else {
            return Err(advise(
                "the workspace was not found",
                "start xtask with `cargo xtask` inside the checkout",
            ));
        };
        let root = root.to_path_buf();
        let libtorch = match env::var_os("LIBTORCH") {
            Some(value) => own(&value, &root.join(".libtorch/torch"))?,
            None => None,
        };
        Ok(Workspace { root, libtorch })
    }

    /// The folder for what setup fetches and links.
    pub fn folder(&self) -> PathBuf {
        self.root.join(".libtorch")
    }

    /// A call of cargo in the workspace, with the user's environment.
    pub fn cargo(&self) -> Result<Command> {
        let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut cargo = Command::new(program);
        cargo.current_dir(&self.root);
        match &self.libtorch {
            Some(libtorch) => cargo.env("LIBTORCH", libtorch),
            None => cargo.env_remove("LIBTORCH"),
        };
        if let Some(value) = env::var_os("LIBTORCH_LIB")
            && own(&value, &self.root.join(".libtorch/link"))?.is_none()
        {
            cargo.env_remove("LIBTORCH_LIB");
        }
        // What cargo told xtask about the package xtask is no news for other packages.
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(is_about_xtask) {
                cargo.env_remove(name);
            }
        }
        if let Some(compiler) = platform::compiler()? {
            cargo.env("CXX", compiler);
        }
        Ok(cargo)
    }
}

/// `value` made absolute, unless it is empty or names the path that cargo's configuration gives.
fn own(value: &OsString, configured: &Path) -> Result<Option<PathBuf>> {
    if value.is_empty() {
        return Ok(None);
    }
    let path = std::path::absolute(value)
        .with_context(|| format!("cannot resolve the path `{}`", value.display()))?;
    Ok((!same_entry(&path, configured)).then_some(path))
}

/// Whether two paths name the same entry of the same folder, itself not followed if it is a link.
fn same_entry(one: &Path, other: &Path) -> bool {
    let folder = |path: &Path| path.parent().and_then(|folder| folder.canonicalize().ok());
    one == other
        || one.file_name() == other.file_name() && folder(one).is_some_and(|one| folder(other) == Some(one))
}

/// Whether cargo sets this variable to describe the package it runs.
fn is_about_xtask(name: &str) -> bool {
    name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") || name.starts_with("CARGO_BIN_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_configured_path_and_an_empty_one_are_not_the_users() {
        let configured = Path::new("/checkout/.libtorch/torch");
        assert_eq!(own(&"".into(), configured).unwrap(), None);
        assert_eq!(own(&configured.into(), configured).unwrap(), None);
        assert_eq!(own(&"/checkout/.libtorch/torch/".into(), configured).unwrap(), None);
        assert_eq!(own(&"/elsewhere/torch".into(), configured).unwrap(), Some("/elsewhere/torch".into()));
    }

    #[test]
    fn the_configured_path_is_recognised_through_a_link_to_the_checkout() {
        let folder = tempfile::tempdir().unwrap();
        let checkout = folder.path().join("checkout");
        fs::create_dir_all(checkout.join(".libtorch/site/torch")).unwrap();
        symlink("site/torch", checkout.join(".libtorch/torch")).unwrap();
        symlink("checkout", folder.path().join("alias")).unwrap();
        let configured = checkout.join(".libtorch/torch");
        let alias = folder.path().join("alias/.libtorch/torch");
        assert!(same_entry(&alias, &configured));
        // The folder behind the link is a choice of its own, although it is the same libtorch.
        assert!(!same_entry(&checkout.join(".libtorch/site/torch"), &configured));
    }
}
