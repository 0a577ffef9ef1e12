//! The real binary, started in a folder of its own.
#![allow(dead_code, reason = "no test program uses all of it")]

pub mod events;
pub mod left;
pub mod points;
pub mod trial;

use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// Makes the built-in recipe take a second.
pub const QUICK: [&str; 12] = [
    "--set",
    "training.epochs=1",
    "--set",
    "distill.iterations=3",
    "--set",
    "student.epochs=2",
    "--set",
    "student.count=2",
    "--set",
    "evaluate.attacks.0.options.steps=2",
    "--set",
    "evaluate.probe_images=0",
];

pub struct Here {
    pub folder: tempfile::TempDir,
}

impl Here {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_guard-host"));
        command.args(arguments).current_dir(self.folder.path()).env_remove("GUARD_PLUGIN_PATH");
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub fn succeeds(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// stderr of a call that must end with `code` and print no data.
    pub fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        assert!(output.stdout.is_empty());
        stderr(&output)
    }

    pub fn recipe(&self, text: &str) -> String {
        fs::write(self.path("my.toml"), text).unwrap();
        "my.toml".into()
    }
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn quick<'a>(more: &[&'a str]) -> Vec<&'a str> {
    QUICK.iter().copied().chain(more.iter().copied()).collect()
}

pub fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}
