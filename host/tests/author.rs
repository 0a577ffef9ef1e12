//! A plugin of one's own, in an empty folder outside the workspace: written, built, tested, checked, run.

mod here;

use here::{Here, stderr};
use std::{
    env, fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// One target folder for all crates, so that libtorch's bindings are compiled once.
fn target() -> PathBuf {
    // `<target>/<profile>/deps`
    let executable = env::current_exe().unwrap();
    executable.ancestors().nth(3).unwrap().join("authors")
}

/// A folder outside the workspace, the same in every run, for cargo compiles anew what lies elsewhere than before.
fn elsewhere() -> PathBuf {
    let mut hasher = DefaultHasher::new();
    target().hash(&mut hasher);
    let folder = env::temp_dir().join(format!("guard-authors-{:x}", hasher.finish()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).unwrap();
    folder
}

/// cargo as an author has it: nothing is set but what `.cargo/config.toml` sets.
fn cargo(folder: &Path, arguments: &[&str]) -> Output {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for variable in ["LIBTORCH", "LIBTORCH_LIB", "LD_LIBRARY_PATH", "CARGO_MANIFEST_DIR", "RUSTFLAGS"] {
        cargo.env_remove(variable);
    }
    // What is compiled is looked at, and not how fast it is.
    cargo.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0").env("CARGO_TARGET_DIR", target());
    cargo.args(arguments).current_dir(folder).output().unwrap()
}

/// Lets the crate in `folder` use the SDK of the one in `first`, which is the same, so that it is compiled once.
fn share_sdk(folder: &Path, first: &Path) {
    let replace = |name: &str, from: &str, to: &str| {
        let text = fs::read_to_string(folder.join(name)).unwrap();
        assert!(text.contains(from), "`{name}` has no `{from}`: {text}");
        fs::write(folder.join(name), text.replace(from, to)).unwrap();
    };
    let shared = first.join(".guard");
    replace("Cargo.toml", "path = \".guard/sdk\"", &format!("path = \"{}/sdk\"", shared.display()));
    let link = format!("{{ value = \"{}/link\", relative = false }}", shared.display());
    replace(".cargo/config.toml", "{ value = \".guard/link\", relative = true }", &link);
}

fn succeeds(output: &Output) -> String {
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), stderr(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Alone, for all kinds share a target folder.
#[test]
fn a_new_plugin_of_each_kind_builds_passes_its_tests_and_the_check_and_runs() {
    let here = Here::new();
    let folder = elsewhere();
    for kind in ["regularizer", "attack", "objective"] {
        let name = format!("my-{kind}");
        let place = folder.display().to_string();
        let told = here.succeeds(&["plugin", "new", &name, "--kind", kind, "--path", &place]);
        assert!(told.contains(&format!("guard-host plugin check target/release/libmy_{kind}.so")), "{told}");
        let crate_folder = folder.join(&name);
        if kind != "regularizer" {
            share_sdk(&crate_folder, &folder.join("my-regularizer"));
        }
        let tested = succeeds(&cargo(&crate_folder, &["test", "--release"]));
        assert!(tested.contains(&format!("test my_{kind}::tests::")), "{tested}");
        let built = cargo(&crate_folder, &["build", "--release"]);
        succeeds(&built);
        assert!(!stderr(&built).contains("warning: unused"), "{}", stderr(&built));

        let library = target().join("release").join(format!("libmy_{kind}.so")).display().to_string();
        let checked = here.run(&["plugin", "check", &library]);
        let checked = succeeds(&checked);
        assert!(checked.contains(&format!("\n{kind} my-{kind}\n  ok    options-schema")), "{checked}");
        let recipe = crate_folder.join("recipe.toml").display().to_string();
        let plan = here.succeeds(&["run", &recipe, "--plugin", &library, "--dry-run", "--quiet"]);
        assert!(plan.contains(&name), "{plan}");
    }
}

#[test]
fn a_name_or_folder_that_cannot_be_is_refused() {
    let here = Here::new();
    let refusal = |arguments: &[&str]| here.fails(2, arguments);
    assert!(refusal(&["plugin", "new", "MyAttack", "--kind", "attack"]).contains("is no name for a method"));
    fs::create_dir(here.path("there")).unwrap();
    assert!(refusal(&["plugin", "new", "there", "--kind", "attack"]).contains("is there already"));
    assert!(refusal(&["plugin", "sdk"]).contains("there is no crate in `.`"));
    assert!(here.path("there").read_dir().unwrap().next().is_none());
}

#[test]
fn the_sdk_of_another_host_is_replaced_and_the_authors_files_stay() {
    let here = Here::new();
    here.succeeds(&["plugin", "new", "mine", "--kind", "attack"]);
    let put = |name: &str| fs::write(here.path(name), "old").unwrap();
    let _ = ["mine/.guard/sdk/src/old.rs", "mine/.cargo/config.toml", "mine/Cargo.lock", "mine/src/lib.rs"]
        .map(put);
    here.succeeds(&["plugin", "sdk", "--path", "mine"]);
    let text = |name: &str| fs::read_to_string(here.path(name)).unwrap();
    assert!(!here.path("mine/.guard/sdk/src/old.rs").exists());
    assert!(text("mine/.cargo/config.toml").contains("LIBTORCH = "));
    assert_eq!((text("mine/Cargo.lock").as_str(), text("mine/src/lib.rs").as_str()), ("old", "old"));
}
