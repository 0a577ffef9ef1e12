//! What is written out of the host itself: the page of methods, the schema of recipes, completions.

mod here;

use here::Here;
use serde_json::Value;
use std::{fs, path::Path, process::Command};

const BUNDLED: [&str; 6] =
    ["guard_adversarial", "guard_attacks", "guard_curv", "guard_matching", "guard_sre2l", "guard_trajectory"];

#[test]
fn the_page_of_methods_is_what_the_plugins_say() {
    let here = Here::new();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/METHODS.md");
    let check = |file: &Path| {
        let file = file.display().to_string();
        here.run(&[&["plugin", "reference", "--check", &file], BUNDLED.as_slice()].concat())
    };
    let output = check(&page);
    assert_eq!(output.status.code(), Some(0), "{}", here::stderr(&output));
    // A page that is older by one option.
    let text = fs::read_to_string(&page).unwrap();
    let stale = here.path("stale.md");
    let option = text.lines().find(|line| line.starts_with("| `relative_step_size`")).unwrap();
    fs::write(&stale, text.replacen(option, "", 1)).unwrap();
    let output = check(&stale);
    assert_eq!(output.status.code(), Some(1));
    assert!(here::stderr(&output).contains("is stale"), "{}", here::stderr(&output));
}

#[test]
fn the_schema_of_recipes_takes_the_built_in_recipe_and_refuses_a_slip() {
    let here = Here::new();
    let schema: Value = serde_json::from_str(&here.succeeds(&["recipe", "schema"])).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/digits.toml");
    let mut recipe: Value = toml::from_str(&fs::read_to_string(recipe).unwrap()).unwrap();
    assert!(validator.is_valid(&recipe));
    recipe["training"]["epoch"] = 3.into();
    assert!(!validator.is_valid(&recipe));
}

#[test]
fn completions_know_the_commands_and_what_is_installed() {
    let here = Here::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = here.succeeds(&["completions", shell]);
        assert!(script.contains("GUARD_HOST_COMPLETE") && script.contains("guard-host"), "{shell}: {script}");
    }
    // As bash asks: the words, and which of them is being typed.
    let completed = |words: &[&str]| {
        let asked = Command::new(env!("CARGO_BIN_EXE_guard-host"))
            .args(["--", "guard-host"])
            .args(words)
            .env("GUARD_HOST_COMPLETE", "bash")
            .env("_CLAP_COMPLETE_INDEX", words.len().to_string())
            .env("_CLAP_IFS", "\n")
            .env_remove("GUARD_PLUGIN_PATH")
            .current_dir(here.folder.path())
            .output()
            .unwrap();
        String::from_utf8(asked.stdout).unwrap().lines().map(str::to_string).collect::<Vec<_>>()
    };
    assert_eq!(completed(&["plugin", "sea"]), ["search-path"]);
    assert_eq!(completed(&["plugin", "info", "guard_c"]), ["guard_curv"]);
    assert_eq!(completed(&["evaluate", "--attack", "sq"]), ["square"]);
    assert_eq!(completed(&["evaluate", "--architecture", "mob"]), ["mobilenet_v2"]);
    assert_eq!(completed(&["data", "info", "cifar"]), ["cifar10", "cifar100"]);
    fs::write(here.path("libmine.so"), "").unwrap();
    assert_eq!(completed(&["plugin", "check", "libm"]), ["libmine.so"]);
}
