//! `guard-host plugin check`: the bundled plugins pass, and each broken rule is found by the test that is for it.

mod here;

use here::{Here, stderr};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The library of a plugin in this workspace, e.g. `guard_curv`.
fn library(name: &str) -> PathBuf {
    let executable = env::current_exe().unwrap();
    executable.parent().unwrap().join(guard_host::plugin::library_name(name))
}

/// Exit code and what was printed.
fn check(file: &Path, more: &[&str]) -> (Option<i32>, Value) {
    let here = Here::new();
    let file = file.display().to_string();
    let arguments = [&["plugin", "check", &file, "--format", "json"], more].concat();
    let output = here.run(&arguments);
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{}", stderr(&output)));
    (output.status.code(), value)
}

/// The names of the tests of `subject` that failed.
fn failed(report: &Value, subject: &str) -> BTreeSet<String> {
    let tests = report["tests"].as_array().unwrap();
    let failed = tests.iter().filter(|test| test["subject"] == subject && test["verdict"] == "failed");
    failed.map(|test| test["name"].as_str().unwrap().to_string()).collect()
}

fn message<'a>(report: &'a Value, subject: &str, name: &str) -> &'a str {
    let tests = report["tests"].as_array().unwrap();
    let test = tests.iter().find(|test| test["subject"] == subject && test["name"] == name);
    test.unwrap_or_else(|| panic!("no test `{name}` of {subject}"))["message"].as_str().unwrap_or_default()
}

macro_rules! bundled {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                let (code, report) = check(&library(stringify!($name)), &[]);
                let tests = report["tests"].as_array().unwrap();
                let failed: Vec<_> = tests.iter().filter(|test| test["verdict"] == "failed").collect();
                assert!(failed.is_empty(), "{failed:#?}");
                let passed = tests.iter().filter(|test| test["verdict"] == "passed").count();
                assert!(passed > tests.len() * 4 / 5, "{passed} of {} passed", tests.len());
                assert_eq!((code, &report["passed"]), (Some(0), &Value::Bool(true)));
            }
        )*
    };
}

bundled!(guard_adversarial guard_attacks guard_curv guard_matching guard_sre2l guard_trajectory);

/// What each method of the fixture must fail, and what it may fail besides.
const BROKEN: &[(&str, &[&str], &[&str])] = &[
    ("attack/aborts", &["one-channel"], &[]),
    ("attack/budget", &["budget"], &[]),
    ("attack/cancellation", &["cancellation"], &[]),
    ("attack/exits", &["non-square"], &[]),
    ("attack/hangs", &["single-example"], &[]),
    ("attack/independent-examples", &["independent-examples"], &[]),
    ("attack/newer-host", &["newer-host"], &[]),
    ("attack/thread-state", &["thread-state"], &[]),
    ("attack/zero-gradient", &["zero-gradient"], &[]),
    ("objective/first-derivatives", &["first-derivatives"], &[]),
    ("regularizer/batch-size", &["batch-size"], &[]),
    ("regularizer/bfloat16", &["bfloat16"], &[]),
    ("regularizer/create-and-drop", &["create-and-drop"], &[]),
    ("regularizer/default-options", &["default-options"], &[]),
    ("regularizer/deterministic", &["deterministic"], ANY_CALL_TWICE),
    ("regularizer/first-derivatives", &["first-derivatives"], &["second-derivatives"]),
    (
        "regularizer/float64",
        &["float64"],
        &["bfloat16", "batch-size", "first-derivatives", "second-derivatives"],
    ),
    ("regularizer/foreign-state", &["foreign-state"], &[]),
    ("regularizer/made-up-options", &["made-up-options"], &[]),
    ("regularizer/non-square", &["non-square"], &[]),
    ("regularizer/older-host", &["older-host"], &[]),
    ("regularizer/one-channel", &["one-channel"], &[]),
    ("regularizer/option-ranges", &["option-ranges"], &["made-up-options"]),
    ("regularizer/options-schema", &["options-schema"], &[]),
    ("regularizer/second-derivatives", &["second-derivatives"], &[]),
    ("regularizer/side-effects", &["side-effects"], ANY_CALL),
    ("regularizer/single-example", &["single-example"], &[]),
    ("regularizer/state-round-trip", &["state-round-trip"], &[]),
    ("regularizer/thread-state", &["thread-state"], &[]),
];

/// Tests that compare two calls.
const ANY_CALL_TWICE: &[&str] = &[
    "batch-size",
    "first-derivatives",
    "second-derivatives",
    "state-round-trip",
    "older-host",
    "newer-host",
];

/// Tests that call the method.
const ANY_CALL: &[&str] = &[
    "float32",
    "float64",
    "single-example",
    "one-channel",
    "non-square",
    "bfloat16",
    "deterministic",
    "batch-size",
    "first-derivatives",
    "second-derivatives",
    "thread-state",
    "state-round-trip",
    "cancellation",
    "older-host",
    "newer-host",
];

#[test]
fn each_broken_rule_is_found_by_its_test() {
    let (code, report) = check(&library("guard_nonconforming"), &["--time-limit", "5"]);
    assert_eq!((code, &report["passed"]), (Some(1), &Value::Bool(false)));
    assert_eq!(failed(&report, "plugin"), BTreeSet::new());
    let unexpected = BROKEN.iter().filter_map(|(subject, must, may)| {
        let failed = failed(&report, subject);
        let set = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<BTreeSet<_>>();
        let right = failed.is_superset(&set(must)) && failed.is_subset(&set(&[*must, *may].concat()));
        (!right).then(|| format!("{subject} must fail {must:?} and may fail {may:?}, but fails {failed:?}"))
    });
    assert_eq!(unexpected.collect::<Vec<_>>(), Vec::<String>::new());
    let subjects: BTreeSet<&str> =
        report["tests"].as_array().unwrap().iter().map(|test| test["subject"].as_str().unwrap()).collect();
    assert_eq!(subjects.len(), BROKEN.len() + 1, "a method of the fixture is not in the table: {subjects:?}");

    assert_eq!(message(&report, "attack/hangs", "single-example"), "did not end within 5 s");
    assert_eq!(
        message(&report, "attack/aborts", "one-channel"),
        "the process ended with an abort (SIGABRT): one channel is not enough"
    );
    assert_eq!(message(&report, "attack/exits", "non-square"), "the process ended itself with code 0");
    let made_up = message(&report, "regularizer/made-up-options", "made-up-options");
    assert!(made_up.starts_with("seed 0: `{\"name\":"), "{made_up}");
    assert_eq!(message(&report, "regularizer/default-options", "float32"), "the method cannot be made");
}

/// A copy of the fixture in which each `from` is `to`.
fn altered(here: &Here, from: &str, to: &str) -> PathBuf {
    let mut bytes = fs::read(library("guard_nonconforming")).unwrap();
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    let copy = here.path("altered.so");
    fs::write(&copy, bytes).unwrap();
    copy
}

#[test]
fn a_library_that_cannot_be_loaded_fails_alone() {
    let here = Here::new();
    let cases = [
        (
            "\"id\":\"test.nonconforming\"",
            "\"id\":\"Test.nonconforming\"",
            "manifest",
            "the id `Test.nonconforming`",
        ),
        ("\"torch\":\"2.11.0\"", "\"torch\":\"2.10.0\"", "loads", "was built for libtorch 2.10.0"),
    ];
    for (from, to, name, expected) in cases {
        let (code, report) = check(&altered(&here, from, to), &[]);
        assert_eq!(code, Some(1));
        assert!(failed(&report, "plugin").contains(name), "{report:#}");
        assert!(message(&report, "plugin", name).contains(expected), "{report:#}");
        assert!(report["tests"].as_array().unwrap().iter().all(|test| test["subject"] == "plugin"));
    }
    fs::write(here.path("text.so"), "text").unwrap();
    let (code, report) = check(&here.path("text.so"), &[]);
    assert_eq!(code, Some(1));
    assert!(
        message(&report, "plugin", "manifest")
            .ends_with("is not a shared library; name the `.so` file that cargo built")
    );
}

#[test]
fn people_read_names_descriptions_and_a_sum() {
    let here = Here::new();
    let file = library("guard_curv").display().to_string();
    let text = here.succeeds(&["plugin", "check", &file, "--seed", "7"]);
    assert!(text.starts_with(&format!("{file}, seed 7\n\nplugin\n  ok    manifest ")), "{text}");
    assert!(text.contains("\nregularizer curvature\n  ok    options-schema "), "{text}");
    assert!(text.trim_end().ends_with(" 0 failed"), "{text}");
    let missing = here.fails(2, &["plugin", "check", "./missing.so"]);
    assert!(missing.contains("was not found"), "{missing}");
}

#[test]
fn a_closed_pipe_ends_a_check_quietly() {
    let file = library("guard_curv");
    let command = format!("{} plugin check {} | head -1", env!("CARGO_BIN_EXE_guard-host"), file.display());
    let output = Command::new("sh").args(["-c", &command]).output().unwrap();
    assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
}
