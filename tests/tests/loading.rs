//! What the host makes of files that are no plugins for it, and how it finds those that are.

use guard_host::plugin::{Loaded, Locator, Plugins, inspect, library_name};
use guard_sdk::{Kind, TORCH_VERSION, manifest::Kind as MethodKind};
use guard_tests::{Bench, Examples, altered, library, loaded_library, one_line};
use serde_json::json;
use std::{fs, path::Path};
use tempfile::TempDir;

const NO_LIBRARY: &str = "is not a shared library; name the `.so` file that cargo built";

/// Loading `path` is refused with a message that names the file in a single line, goes on as `rest` and ends with advice.
fn assert_refused(path: &Path, code: &str, rest: &str) {
    let error = Loaded::open(path).err().expect("it is refused");
    assert_eq!(one_line(&error), format!("plugin `{}` {rest}", path.display()));
    assert_eq!(error.code, code);
}

/// A copy of `guard_curv` with some of its bytes changed.
fn altered_curvature(folder: &TempDir, from: &str, to: &str) -> std::path::PathBuf {
    let copy = folder.path().join(library_name("altered"));
    altered(&library("guard_curv"), &copy, from, to);
    copy
}

#[test]
fn a_library_cut_short_anywhere_is_refused_and_the_process_lives_on() {
    let folder = tempfile::tempdir().unwrap();
    let whole = fs::read(library("guard_curv")).unwrap();
    let cut = folder.path().join(library_name("cut"));
    let length = whole.len();
    let ends = [
        4,
        16,
        63,
        64,
        65,
        1000,
        4096,
        length / 4,
        length / 2,
        3 * length / 4,
        length - 4096,
        length - 64,
        length - 1,
    ];
    for end in ends {
        fs::write(&cut, &whole[..end]).unwrap();
        let error = Loaded::open(&cut).err().unwrap_or_else(|| panic!("{end} of {length} bytes were loaded"));
        let start = format!("plugin `{}` is damaged or truncated (", cut.display());
        assert!(one_line(&error).starts_with(&start), "{end} of {length} bytes: {error}");
        assert_eq!(error.code, "file");
    }
    for end in [0, 1, 3] {
        fs::write(&cut, &whole[..end]).unwrap();
        assert_refused(&cut, "file", NO_LIBRARY);
    }
    fs::write(&cut, &whole).unwrap();
    assert!(Loaded::open(&cut).is_ok(), "the whole file is a plugin");
}

#[test]
fn a_text_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(library_name("text"));
    fs::write(&file, "INPUT(libtorch_cpu.so)").unwrap();
    assert_refused(&file, "file", NO_LIBRARY);
}

#[test]
fn a_folder_and_a_missing_file_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let plugins = Plugins::new(Locator::new(None, None));
    let path = folder.path().display().to_string();
    let error = plugins.load(&path).err().unwrap();
    assert_eq!(one_line(&error), format!("plugin `{path}` is not a file"));
    let error = plugins.load(&format!("{path}/missing.so")).err().unwrap();
    assert_eq!(one_line(&error), format!("plugin `{path}/missing.so` was not found; check the path"));
}

#[test]
fn a_shared_library_that_is_no_plugin_is_refused() {
    // libtorch's libraries are loaded by the first call into it, at the latest.
    assert!(tch::get_num_threads() > 0);
    let library = loaded_library("libc10.so");
    let rest = "is a shared library, but not a guard-host plugin: it has no manifest; \
                a plugin's crate calls `guard_sdk::plugin!` and has crate-type `cdylib`; one in C++ has `GUARD_MANIFEST`";
    assert_refused(&library, "file", rest);
}

#[test]
fn a_plugin_for_another_libtorch_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let other = TORCH_VERSION.replace(|digit: char| digit.is_ascii_digit(), "1");
    assert_ne!(other, TORCH_VERSION);
    let (ours, theirs) = (format!(r#""torch":"{TORCH_VERSION}""#), format!(r#""torch":"{other}""#));
    let copy = altered_curvature(&folder, &ours, &theirs);
    let ours = TORCH_VERSION;
    let rest =
        format!("was built for libtorch {other}, this host runs {ours}; rebuild it against libtorch {ours}");
    assert_refused(&copy, "torch-version", &rest);
}

#[test]
fn a_plugin_whose_panics_would_end_the_process_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    // White space is as long as the two letters that are missing, and JSON all the same.
    let copy = altered_curvature(&folder, r#""panic":"unwind""#, r#""panic":"abort" "#);
    let rest = "was built with `panic = \"abort\"`, so that its first panic would end the run; \
                build it with `panic = \"unwind\"`";
    assert_refused(&copy, "manifest", rest);
}

#[test]
fn a_manifest_of_a_later_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let copy = altered_curvature(&folder, "guard-manifest/1", "guard-manifest/2");
    let rest = "has a manifest of format `guard-manifest/2`, this host reads `guard-manifest/1`; \
                use a guard-host that is as new as the plugin's SDK";
    assert_refused(&copy, "manifest", rest);
}

#[test]
fn a_manifest_that_is_no_json_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let copy = altered_curvature(&folder, r#"{"format":"#, r#"["format":"#);
    let error = Loaded::open(&copy).err().unwrap();
    assert!(one_line(&error).contains("has a manifest that cannot be read ("), "{error}");
}

#[test]
fn methods_of_a_kind_that_this_host_does_not_know_are_left_out_and_the_others_work() {
    let folder = tempfile::tempdir().unwrap();
    let from = r#""regularizer","name":"curvature""#;
    let copy = altered_curvature(&folder, from, r#""somethingnew","name":"curvatur""#);
    let bench = Bench::new(&[&copy.display().to_string()]);
    let methods = &bench.plugins.loaded()[0].manifest.methods;
    let names: Vec<&str> = methods.iter().map(|method| method.name.as_str()).collect();
    assert_eq!(names, ["gradient-norm", "jacobian", "local-linearity"]);
    let examples = Examples::new(Kind::Float, 2);
    let mut method = bench.regularizer("gradient-norm", json!({})).unwrap();
    let network = guard_sdk::Network::lend(&examples.model);
    assert!(method.penalty(&bench.context(), &network, &examples.batch()).is_ok());
}

#[test]
fn a_plugin_that_is_loaded_twice_is_loaded_once() {
    let bench = Bench::new(&["guard_curv"]);
    bench.plugins.load(&library("guard_curv").display().to_string()).unwrap();
    bench.plugins.load("libguard_curv.so").unwrap();
    assert_eq!(bench.plugins.loaded().len(), 1);
}

#[test]
fn a_second_file_with_the_id_of_a_loaded_plugin_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join(library_name("copy")).display().to_string();
    fs::copy(library("guard_curv"), &copy).unwrap();
    let bench = Bench::new(&["guard_curv"]);
    let first = bench.plugins.loaded()[0].path.display().to_string();
    let error = bench.plugins.load(&copy).err().unwrap();
    assert_eq!(error.code, "duplicate");
    assert_eq!(
        one_line(&error),
        format!("plugin `{copy}` calls itself `guard.curv`, as does `{first}`, which is loaded already")
    );
    assert_eq!(bench.plugins.loaded().len(), 1);
}

#[test]
fn a_name_that_two_plugins_offer_is_refused_until_the_plugin_is_named_too() {
    let folder = tempfile::tempdir().unwrap();
    let other = altered_curvature(&folder, "guard.curv", "other.curv");
    let bench = Bench::new(&["guard_curv", &other.display().to_string()]);
    let error = bench.regularizer("curvature", json!({})).err().unwrap();
    assert_eq!(error.code, "ambiguous-method");
    assert_eq!(one_line(&error), "the regularizer `curvature` is offered by `guard.curv` and `other.curv`");
    assert_eq!(error.help.as_deref(), Some("write `guard.curv/curvature`"));
    assert!(bench.regularizer("other.curv/curvature", json!({})).is_ok());
}

#[test]
fn an_unknown_method_gets_the_nearest_name_as_a_suggestion() {
    let bench = Bench::new(&["guard_curv", "guard_attacks"]);
    for name in ["curvatur", "guard.curv/curvatur"] {
        let error = bench.regularizer(name, json!({})).err().unwrap();
        assert_eq!(error.code, "unknown-method");
        assert_eq!(one_line(&error), format!("no plugin offers the regularizer `{name}`"));
        assert_eq!(error.help.as_deref(), Some("did you mean `curvature`?"));
    }
    let error = bench.attack("curvature", json!({})).err().unwrap();
    assert_eq!(
        error.help.as_deref(),
        Some(
            "there are: apgd, autoattack, cw, deepfool, ensemble, fab, fgsm, mim, noise, pgd, square, transfer"
        ),
        "nothing is near"
    );
}

#[test]
fn a_plugin_is_found_by_name_in_the_folders_of_the_variable_in_their_order() {
    let (empty, first, second) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for folder in [&first, &second] {
        fs::copy(library("guard_curv"), folder.path().join(library_name("guard_curv"))).unwrap();
    }
    let variable = std::env::join_paths([empty.path(), first.path(), second.path()]).unwrap();
    let plugins = Plugins::new(Locator::new(Some(&variable), None));
    let loaded = plugins.load("guard_curv").unwrap();
    let expected = first.path().canonicalize().unwrap().join(library_name("guard_curv"));
    assert_eq!(loaded.path, expected);
    assert_eq!(loaded.blake3, inspect(&library("guard_curv")).unwrap().blake3);
}

#[test]
fn a_required_method_is_looked_up_in_the_manifests_of_libraries_that_are_not_loaded() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["guard_curv", "guard_attacks"] {
        fs::copy(library(name), folder.path().join(library_name(name))).unwrap();
    }
    fs::write(folder.path().join(library_name("broken")), "no library").unwrap();
    let plugins = Plugins::new(Locator::new(Some(folder.path().as_os_str()), None));
    plugins.require(MethodKind::Attack, "pgd").unwrap();
    let ids: Vec<_> = plugins.loaded().iter().map(|loaded| loaded.manifest.id.as_str()).collect();
    assert_eq!(ids, ["guard.attacks"], "only what is needed is loaded");
    let error = plugins.require(MethodKind::Regularizer, "curvatur").unwrap_err();
    assert_eq!(error.help.as_deref(), Some("did you mean `curvature`?"));
}

#[test]
fn the_schema_of_a_methods_options_is_the_plugins_own() {
    let bench = Bench::new(&["guard_curv"]);
    let schema = bench.plugins.schema(MethodKind::Regularizer, "curvature").unwrap();
    assert_eq!(schema["properties"]["radius"]["exclusiveMinimum"], json!(0.0));
    assert_eq!(schema["additionalProperties"], json!(false));
}
