//! Builds what users run: the host and the bundled plugins, as release.
//!
//! Where the results lie is read from cargo's own messages, which know every setting that moves
//! them (target folder, target platform).

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::workspace::Workspace;

/// The package and the program of the host.
pub const HOST: &str = "guard-host";

/// The library that the program loads.
const LIBRARY: &str = "guard_host";

/// The files that a build made.
#[derive(Debug, Default, PartialEq)]
pub struct Built {
    /// The program of the host.
    pub host: PathBuf,
    /// The library that the program loads, which is linked with libtorch.
    pub library: PathBuf,
    /// The libraries of the bundled plugins.
    pub plugins: Vec<PathBuf>,
}

/// Builds the host and the bundled plugins. libtorch must be ready.
pub fn build(workspace: &Workspace) -> Result<Built> {
    let plugins = plugins(&workspace.root.join("plugins"))?;
    let mut cargo = workspace.cargo()?;
    cargo.args(["build", "--release", "--locked", "--message-format=json-render-diagnostics"]);
    for package in [HOST].into_iter().chain(plugins.iter().map(String::as_str)) {
        cargo.args(["--package", package]);
    }
    let mut child = cargo.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let output = child.stdout.take().context("cannot read what cargo says")?;
    let mut artifacts = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line.context("cannot read what cargo says")?;
        artifacts.extend(artifact(&line, &plugins));
    }
    if !child.wait().context("cannot wait for cargo")?.success() {
        bail!("`cargo build` failed");
    }
    let file = |wanted: &str| {
        let found = artifacts.iter().find(|(name, _)| name == wanted);
        found
            .map(|(_, file)| file.clone())
            .ok_or_else(|| anyhow!("`cargo build` made no file for `{wanted}`"))
    };
    Ok(Built {
        host: file(HOST)?,
        library: file(LIBRARY)?,
        plugins: plugins.iter().map(|name| file(name)).collect::<Result<_>>()?,
    })
}

/// Builds one program of the workspace, which `arguments` choose, and tells where it is. libtorch must be ready.
pub fn executable(workspace: &Workspace, arguments: &[&str], name: &str) -> Result<PathBuf> {
    let mut cargo = workspace.cargo()?;
    cargo.args(["build", "--release", "--message-format=json-render-diagnostics"]).args(arguments);
    let output = cargo.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("`cargo build` failed");
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let program = messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let file = message["executable"].as_str().filter(|_| message["target"]["name"] == name)?;
        Some(PathBuf::from(file))
    });
    program.with_context(|| format!("`cargo build` made no program `{name}`"))
}

/// The packages in the folder of plugins; each has the name of its folder.
fn plugins(folder: &Path) -> Result<Vec<String>> {
    let read = || -> std::io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.path().join("Cargo.toml").is_file() {
                names.extend(entry.file_name().into_string());
            }
        }
        names.sort();
        Ok(names)
    };
    read().with_context(|| format!("cannot read `{}`", folder.display()))
}

/// The name and the file, if a message of cargo is about the host's program, its library or a plugin.
fn artifact(line: &str, plugins: &[String]) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["reason"] != "compiler-artifact" {
        return None;
    }
    let name = message["target"]["name"].as_str()?;
    let kinds = message["target"]["kind"].as_array()?;
    if name == HOST && kinds.iter().any(|kind| kind == "bin") {
        return Some((HOST.to_owned(), message["executable"].as_str()?.into()));
    }
    let mut plugins = plugins.iter().map(String::as_str);
    let library =
        if name == LIBRARY { LIBRARY } else { plugins.find(|plugin| plugin.replace('-', "_") == name)? };
    let mut files = message["filenames"].as_array()?.iter().filter_map(Value::as_str);
    let file = files.find(|file| Path::new(file).extension().is_some_and(|end| end == "so"))?;
    Some((library.to_owned(), file.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin_names() -> Vec<String> {
        vec!["guard_curv".to_owned()]
    }

    #[test]
    fn the_program_and_the_library_of_the_host_are_told_apart() {
        let program = r#"{"reason":"compiler-artifact",
            "target":{"kind":["bin"],"name":"guard-host"},
            "filenames":["/t/release/guard-host"],"executable":"/t/release/guard-host"}"#;
        let library = r#"{"reason":"compiler-artifact",
            "target":{"kind":["rlib","cdylib"],"name":"guard_host"},
            "filenames":["/t/release/libguard_host.rlib","/t/release/libguard_host.so"],
            "executable":null}"#;
        assert_eq!(
            artifact(program, &plugin_names()),
            Some(("guard-host".to_owned(), "/t/release/guard-host".into()))
        );
        assert_eq!(
            artifact(library, &plugin_names()),
            Some(("guard_host".to_owned(), "/t/release/libguard_host.so".into()))
        );
    }

    #[test]
    fn the_shared_library_of_a_plugin_is_chosen_among_its_files() {
        let line = r#"{"reason":"compiler-artifact",
            "target":{"kind":["cdylib","rlib"],"name":"guard_curv"},
            "filenames":["/t/release/libguard_curv.rlib","/t/release/libguard_curv.so"],
            "executable":null}"#;
        assert_eq!(
            artifact(line, &plugin_names()),
            Some(("guard_curv".to_owned(), "/t/release/libguard_curv.so".into()))
        );
    }

    #[test]
    fn other_lines_are_no_artifacts() {
        let other = r#"{"reason":"compiler-artifact",
            "target":{"kind":["proc-macro"],"name":"derive"},
            "filenames":["/t/release/libderive.so"],"executable":null}"#;
        for line in [other, r#"{"reason":"build-finished","success":true}"#, "text", ""] {
            assert_eq!(artifact(line, &plugin_names()), None, "{line}");
        }
    }

    #[test]
    fn a_folder_without_a_manifest_is_no_plugin() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["guard_two", "guard_one", "notes"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        for name in ["guard_two", "guard_one"] {
            fs::write(folder.path().join(name).join("Cargo.toml"), "").unwrap();
        }
        assert_eq!(plugins(folder.path()).unwrap(), ["guard_one", "guard_two"]);
    }
}
