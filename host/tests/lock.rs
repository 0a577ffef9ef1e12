//! `plugin lock`, `run --locked` and what is not loaded.

mod here;

use here::{Here, json, stderr};
use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Output},
};

fn library(name: &str) -> PathBuf {
    env::current_exe().unwrap().parent().unwrap().join(guard_host::plugin::library_name(name))
}

/// A recipe whose only plugin is a copy that the test may change.
fn locked() -> (Here, PathBuf) {
    let here = Here::new();
    let copy = here.path("libguard_curv.so");
    fs::copy(library("guard_curv"), &copy).unwrap();
    let recipe = "plugins = [\"./libguard_curv.so\", \"guard_sre2l\"]\n\
                  [data]\ndataset = \"digits\"\n\
                  [network]\narchitecture = \"convnet\"\nnorm = \"batch\"\n\
                  [[training.regularizers]]\nuse = \"curvature\"\n\
                  [distill]\nobjective = \"sre2l\"\nimages_per_class = 1\n\
                  [evaluate]\nprobe_images = 0\n";
    here.recipe(recipe);
    let lines = here.succeeds(&["plugin", "lock", "my.toml"]);
    let ids: Vec<&str> = lines.lines().map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert_eq!(ids, ["guard.curv", "guard.sre2l"]);
    (here, copy)
}

const DRY: [&str; 5] = ["run", "my.toml", "--locked", "--dry-run", "--quiet"];

#[test]
fn a_locked_recipe_runs_and_refuses_a_changed_file() {
    let (here, copy) = locked();
    let text = fs::read_to_string(here.path("my.toml.lock")).unwrap();
    assert!(
        !text.contains(&*here.folder.path().to_string_lossy()),
        "a lock holds no paths of this machine: {text}"
    );
    here.succeeds(&DRY);
    // A byte that nothing reads: the last of the file.
    let mut bytes = fs::read(&copy).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&copy, bytes).unwrap();
    let error = here.fails(2, &DRY);
    assert!(error.contains("is not the `guard.curv` 0.1.0 that was locked"), "{error}");
    assert!(error.contains("write the lock again"), "{error}");
    let lines = here.succeeds(&["plugin", "lock", "my.toml", "--format", "json"]);
    assert!(lines.contains("my.toml.lock"));
    here.succeeds(&DRY);
}

#[test]
fn a_locked_recipe_refuses_a_plugin_that_is_not_listed() {
    let (here, _copy) = locked();
    let attacks = library("guard_attacks").display().to_string();
    let error = here.fails(2, &[&DRY[..], &["--plugin", &attacks]].concat());
    assert!(error.contains("calls itself `guard.attacks`, which the lock does not list"), "{error}");
    // Nor one that a method of the recipe would have found by itself.
    let set =
        ["--set", "evaluate.threat={norm=\"linf\",epsilon=0.1}", "--set", "evaluate.attacks=[{use=\"pgd\"}]"];
    let error = here.fails(2, &[&DRY[..], &set].concat());
    assert!(error.contains("which the lock does not list"), "{error}");
}

#[test]
fn a_lock_that_is_not_there_or_none_is_an_error() {
    let here = Here::new();
    here.recipe("[data]\ndataset = \"digits\"\n");
    let missing = here.fails(2, &DRY);
    assert!(missing.contains("lock file `my.toml.lock` cannot be read"), "{missing}");
    fs::write(here.path("my.toml.lock"), "plugins = 3").unwrap();
    assert!(here.fails(2, &DRY).contains("lock file `my.toml.lock` is none"));
    assert!(here.fails(2, &["run", "--locked"]).contains("`--locked` needs a recipe"));
}

#[test]
fn what_everybody_may_change_and_what_is_in_the_working_directory_by_name_alone_is_not_loaded() {
    let (here, copy) = locked();
    fs::rename(&copy, here.path("libmine.so")).unwrap();
    let error = here.fails(2, &["plugin", "info", "libmine.so"]);
    assert!(error.contains("the working directory is not searched"), "{error}");
    here.succeeds(&["plugin", "info", "./libmine.so"]);
    fs::set_permissions(here.path("libmine.so"), fs::Permissions::from_mode(0o646)).unwrap();
    let error = here.fails(2, &["plugin", "info", "./libmine.so"]);
    assert!(error.contains("can be written to by everybody"), "{error}");
}

#[test]
fn the_search_path_is_the_variable_and_the_executables_folders_but_nothing_relative() {
    let here = Here::new();
    let output = Command::new(env!("CARGO_BIN_EXE_guard-host"))
        .args(["plugin", "search-path", "--format", "json"])
        .env("GUARD_PLUGIN_PATH", "relative:/some/folder")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    fs::write(here.path("out.json"), output.stdout).unwrap();
    let folders = json(&here.path("out.json"));
    assert_eq!(folders[0], "/some/folder");
    let beside = PathBuf::from(env!("CARGO_BIN_EXE_guard-host"));
    let beside = beside.parent().unwrap().canonicalize().unwrap();
    assert!(folders.as_array().unwrap().iter().any(|folder| *folder == beside.display().to_string()));
    assert!(!folders.to_string().contains("relative"));
}

#[test]
fn with_trusted_keys_only_signed_plugins_are_loaded() {
    let here = Here::new();
    let (mine, theirs) = (
        minisign::KeyPair::generate_unencrypted_keypair(),
        minisign::KeyPair::generate_unencrypted_keypair(),
    );
    let (mine, theirs) = (mine.unwrap(), theirs.unwrap());
    let copy = here.path("libguard_curv.so");
    fs::copy(library("guard_curv"), &copy).unwrap();
    let sign = |pair: &minisign::KeyPair| {
        let file = fs::File::open(&copy).unwrap();
        let signature = minisign::sign(Some(&pair.pk), &pair.sk, file, None, None).unwrap();
        fs::write(here.path("libguard_curv.so.minisig"), signature.into_string()).unwrap();
    };
    // A `.pub` file and a line of one's own.
    let keys = format!("{}# a colleague\n{}\n", mine.pk.to_box().unwrap(), theirs.pk.to_base64());
    fs::write(here.path("keys"), keys).unwrap();
    fs::write(here.path("mine"), mine.pk.to_base64()).unwrap();
    let info = |keys| ["plugin", "info", "./libguard_curv.so", "--trusted-keys", keys];

    let error = here.fails(2, &info("keys"));
    assert!(error.contains("has no signature") && error.contains("minisign -S"), "{error}");
    sign(&theirs);
    here.succeeds(&info("keys"));
    let error = here.fails(2, &info("mine"));
    assert!(error.contains("is not signed by any of the trusted keys"), "{error}");
    let error = here.fails(2, &["plugin", "check", "./libguard_curv.so", "--trusted-keys", "mine"]);
    assert!(error.contains("is not signed by any"), "{error}");
    let told = here.run(&["doctor", "--plugin", "./libguard_curv.so", "--trusted-keys", "mine"]);
    assert!(String::from_utf8_lossy(&told.stdout).contains("is not signed by any"), "{told:?}");
    let list = || here.run(&["plugin", "list", "--plugin", "./libguard_curv.so", "--trusted-keys", "mine"]);
    let warned = |output: &Output| stderr(output).contains(&format!("warning: plugin `{}`", copy.display()));
    assert!(warned(&list()), "{:?}", list());
    sign(&mine);
    here.succeeds(&info("mine"));
    assert!(!warned(&list()), "{:?}", list());

    // What is changed after it was signed, and what was never signed.
    let mut bytes = fs::read(&copy).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&copy, bytes).unwrap();
    assert!(here.fails(2, &info("mine")).contains("was changed since"));
    let error = here.fails(2, &["--trusted-keys", "mine", "--dry-run", "--quiet"]);
    assert!(error.contains("has no signature"), "{error}");
    fs::write(here.path("libguard_curv.so.minisig"), "hello").unwrap();
    assert!(here.fails(2, &info("mine")).contains("that is none"));

    for (text, expected) in [("", "has no key"), ("RWQx", "has no key on line 1")] {
        fs::write(here.path("keys"), text).unwrap();
        let error = here.fails(2, &info("keys"));
        assert!(error.contains(expected) && error.contains("`keys`"), "{error}");
    }
    assert!(here.fails(2, &info("nowhere")).contains("cannot be read"));
}
