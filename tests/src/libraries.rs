//! Where the plugin libraries are that cargo built, and altered copies of them.

use guard_host::plugin::{inspect, library_name};
use guard_sdk::abi::library::Library;
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

/// The folder of the test binaries, in which cargo also leaves the libraries of their dependencies.
pub fn built_folder() -> PathBuf {
    let executable = env::current_exe().expect("a test knows its own file");
    executable.parent().expect("a file is in a folder").to_path_buf()
}

/// The library of a plugin in this workspace, e.g. `guard_curv`.
pub fn library(name: &str) -> PathBuf {
    built_folder().join(library_name(name))
}

/// The same, loaded without the host's guard.
pub fn opened(name: &str) -> Library {
    let path = library(name);
    let manifest = inspect(&path).expect("a plugin of this workspace").manifest;
    Library::open(&path, &manifest).expect("a plugin of this workspace")
}

/// The file of a shared library that this process has loaded, by the start of its name, e.g. `libc10.so`.
pub fn loaded_library(name: &str) -> PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").expect("a Linux process can read its own maps");
    let mut paths = maps.lines().filter_map(|line| line.find('/').map(|start| Path::new(&line[start..])));
    let found =
        paths.find(|path| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name)));
    found.unwrap_or_else(|| panic!("`{name}` is not loaded")).to_path_buf()
}

/// A copy of `library` at `copy` in which each `from` is `to`, of the same length.
pub fn altered(library: &Path, copy: &Path, from: &str, to: &str) {
    assert_eq!(from.len(), to.len(), "offsets in the file must stay");
    let mut bytes = fs::read(library).expect("the library was built");
    let mut places = 0;
    for at in 0..bytes.len() - from.len() {
        if bytes[at..].starts_with(from.as_bytes()) {
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
            places += 1;
        }
    }
    assert!(places > 0, "`{}` does not contain `{from}`", library.display());
    fs::write(copy, bytes).expect("a temporary folder can be written to");
}

/// The plugins of `fixtures/raw`.
pub struct RawPlugins {
    /// Built against guard-abi 0.1.0.
    pub older: PathBuf,
    /// Built against guard-abi 0.1.1.
    pub second: PathBuf,
    /// Offers a changed table under a published id.
    pub changed: PathBuf,
}

/// Builds the plugin of `fixtures/c-0.1` into `folder`.
pub fn c_plugin(folder: &Path) -> PathBuf {
    let library = folder.join(library_name("c_plugin"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/c-0.1/plugin.c");
    let output = Command::new(env::var_os("CC").unwrap_or_else(|| "cc".into()))
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"])
        .arg(format!("-DTORCH=\"{}\"", guard_sdk::TORCH_VERSION))
        .args([source.as_os_str(), "-o".as_ref(), library.as_os_str()])
        .output()
        .expect("there is a C compiler");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    library
}

/// Builds the plugins of `fixtures/raw`, which are a workspace of their own, once per process.
pub fn raw_plugins() -> &'static RawPlugins {
    static BUILT: OnceLock<RawPlugins> = OnceLock::new();
    BUILT.get_or_init(build_raw_plugins)
}

fn build_raw_plugins() -> RawPlugins {
    // `<target>/<profile>/deps`
    let target = built_folder().ancestors().nth(2).expect("cargo's layout").join("fixtures");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let output = Command::new(cargo)
        .args(["build", "--locked", "--message-format=json-render-diagnostics", "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/raw/Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .env("FIXTURE_TORCH", guard_sdk::TORCH_VERSION)
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo can be started");
    assert!(output.status.success(), "cargo could not build fixtures/raw");
    let messages = String::from_utf8(output.stdout).expect("cargo prints UTF-8");
    let file = |name: &str| {
        let artifact = messages.lines().find_map(|line| {
            let message: serde_json::Value = serde_json::from_str(line).ok()?;
            let built = message["reason"] == "compiler-artifact" && message["target"]["name"] == name;
            built.then(|| message["filenames"][0].as_str().map(PathBuf::from)).flatten()
        });
        artifact.unwrap_or_else(|| panic!("cargo made no `{name}`"))
    };
    RawPlugins { older: file("older_plugin"), second: file("second_plugin"), changed: file("changed_plugin") }
}
