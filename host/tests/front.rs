//! The program is small and does not need libtorch: what it answers alone, and what it says where a part is missing.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// An installation whose loader finds no libtorch: `bin/guard-host`, `lib/libguard_host.so` and one plugin.
struct Installed {
    folder: tempfile::TempDir,
}

impl Installed {
    fn new() -> Self {
        let installed = Self { folder: tempfile::tempdir().unwrap() };
        let program = Path::new(env!("CARGO_BIN_EXE_guard-host"));
        let library = |name: &str| program.parent().unwrap().join("deps").join(name);
        for folder in ["bin", "lib/guard-host"] {
            fs::create_dir_all(installed.path(folder)).unwrap();
        }
        fs::copy(program, installed.path("bin/guard-host")).unwrap();
        fs::copy(library("libguard_curv.so"), installed.path("lib/guard-host/libguard_curv.so")).unwrap();
        let mut host = fs::read(library("libguard_host.so")).unwrap();
        // Behind it stands where libtorch was when this was built.
        let first = b"$ORIGIN/../lib:";
        let at = host.windows(first.len()).position(|bytes| bytes == first).unwrap() + first.len();
        let length = host[at..].iter().position(|byte| *byte == 0).unwrap();
        host[at..at + length].fill(b'/');
        fs::write(installed.path("lib/libguard_host.so"), host).unwrap();
        installed
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.path("bin/guard-host"));
        command.args(arguments);
        let own =
            ["GUARD_PLUGIN_PATH", "GUARD_TRUSTED_KEYS", "GUARD_HOST_COMPLETE", "LD_LIBRARY_PATH", "LIBTORCH"];
        for variable in own {
            command.env_remove(variable);
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty());
        text(output.stderr)
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// The libtorch that this was built with.
fn libtorch() -> PathBuf {
    PathBuf::from(env::var_os("LIBTORCH").expect("`.cargo/config.toml` sets LIBTORCH"))
        .canonicalize()
        .unwrap()
}

#[test]
fn plugins_are_listed_without_libtorch_as_the_host_lists_them() {
    let installed = Installed::new();
    let keys = installed.path("keys");
    fs::write(&keys, "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\n").unwrap();
    for arguments in [
        &["plugin", "list"][..],
        &["--format", "json", "plugin", "list"],
        &["plugin", "list", "--format", "json", "--plugin", "guard_curv"],
    ] {
        let output = installed.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{}", text(output.stderr));
        let answer = text(output.stdout);
        assert!(answer.contains("guard.curv") && answer.contains("libguard_curv.so"), "{answer}");
        // A list of keys is the host's to read.
        let mut by_host = installed.command(arguments);
        let by_host = by_host.env("LIBTORCH", libtorch()).env("GUARD_TRUSTED_KEYS", &keys).output().unwrap();
        assert_eq!(answer, text(by_host.stdout));
        // It was the host that answered: it reads signatures.
        assert!(text(by_host.stderr).contains("has no signature"));
    }
    let version = installed.run(&["--version"]);
    assert_eq!(text(version.stdout), concat!("guard-host ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn a_missing_libtorch_is_named_with_what_to_do_and_may_be_given() {
    let installed = Installed::new();
    let error = installed.refused(&["doctor", "--device", "cpu"]);
    assert!(error.starts_with("error: libtorch, or what it needs, was not found ("), "{error}");
    assert!(error.contains("--libtorch DIR"), "{error}");
    // What is wrong with a command is the host's to say.
    let error = installed.refused(&["plugin", "list", "--wrong"]);
    assert!(error.starts_with("error: libtorch, or what it needs"), "{error}");

    let file = libtorch().join("lib/libtorch_cpu.so").canonicalize().unwrap();
    let doctor = ["doctor", "--device", "cpu", "--format", "json"];
    let given = installed.command(&doctor).arg("--libtorch").arg(libtorch()).output().unwrap();
    let in_variable = installed.command(&doctor).env("LIBTORCH", libtorch()).output().unwrap();
    for output in [given, in_variable] {
        assert_eq!(output.status.code(), Some(0), "{}", text(output.stderr));
        let facts: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let used = Path::new(facts["libtorch_file"].as_str().unwrap()).canonicalize().unwrap();
        assert_eq!(used, file);
        assert_eq!(facts["plugins"][0]["id"], "guard.curv");
    }
    // Child processes find it as well.
    let mut check = installed.command(&["plugin", "check", "guard_curv", "--device", "cpu", "--libtorch"]);
    let output = check.arg(libtorch()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}{}", text(output.stdout), text(output.stderr));
}

#[test]
fn a_part_that_is_missing_or_damaged_is_named() {
    let installed = Installed::new();
    let library = installed.path("lib/libguard_host.so");
    fs::write(&library, "text").unwrap();
    let error = installed.refused(&["doctor"]);
    assert!(error.contains("libguard_host.so` cannot be loaded: "), "{error}");
    fs::remove_file(&library).unwrap();
    let error = installed.refused(&["doctor"]);
    assert!(error.starts_with("error: there is no `libguard_host.so` beside `"), "{error}");
    assert!(error.contains("help: "), "{error}");
}
