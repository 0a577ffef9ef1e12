//! Plugins in C++: the example of `sdk/examples/cpp`, built with the system's compiler and nothing else, is a plugin like any
//! other; and the types of the C header are those that the host uses.

mod here;

use guard_sdk::abi::c::tables;
use here::{Here, json, stderr};
use std::{
    env, fs,
    mem::offset_of,
    path::{Path, PathBuf},
    process::Command,
};

fn sdk() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk").canonicalize().unwrap()
}

/// Compiles C++ as the example's README has it.
fn compile(arguments: &[&str], source: &Path, output: &Path) {
    let libtorch = PathBuf::from(env::var_os("LIBTORCH").expect("`.cargo/config.toml` sets LIBTORCH"));
    let mut compiler = Command::new(env::var_os("CXX").unwrap_or_else(|| "c++".into()));
    compiler
        .args(["-std=c++17", "-Wall", "-Wextra", "-Werror"])
        .args(arguments)
        .arg(source)
        .arg("-o")
        .arg(output);
    compiler.arg("-I").arg(sdk().join("include"));
    for include in ["include", "include/torch/csrc/api/include"] {
        compiler.arg("-isystem").arg(libtorch.join(include));
    }
    compiler.arg("-L").arg(libtorch.join("lib")).args(["-ltorch_cpu", "-lc10"]);
    let made = compiler.output().unwrap();
    assert!(made.status.success(), "{}", stderr(&made));
}

/// One after the other, for the plugin takes a while to compile.
#[test]
fn a_plugin_in_cpp_is_listed_checked_locked_and_run_like_any_other() {
    let here = Here::new();
    let library = here.path("libexample_cpp.so");
    compile(&["-O1", "-shared", "-fPIC"], &sdk().join("examples/cpp/example.cpp"), &library);
    let library = "./libexample_cpp.so";

    let list = here.succeeds(&["--plugin", library, "plugin", "list"]);
    assert!(list.contains("example.cpp") && list.contains("iterated-sign"), "{list}");
    let info = here.succeeds(&["plugin", "info", library]);
    assert!(info.contains("guard.c/0.1") && info.contains("relative_step_size"), "{info}");

    let report = here.run(&["plugin", "check", library, "--format", "json"]);
    let report: serde_json::Value =
        serde_json::from_slice(&report.stdout).unwrap_or_else(|_| panic!("{}", stderr(&report)));
    let tests: Vec<&serde_json::Value> = report["tests"].as_array().unwrap().iter().collect();
    let failed: Vec<_> = tests.iter().filter(|test| test["verdict"] == "failed").collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(tests.iter().filter(|test| test["verdict"] == "passed").count() > 30, "{report:#}");

    // Its regularizer trains, its attack attacks, and another plugin's regularizer uses it.
    let recipe = r#"
plugins = ["./libexample_cpp.so", "guard_adversarial"]
[data]
dataset = "digits"
train_images = 200
test_images = 60
[network]
architecture = "convnet"
depth = 1
width = 4
[training]
epochs = 2
[[training.regularizers]]
use = "input-gradient"
weight = 0.1
[[training.regularizers]]
use = "adversarial"
weight = 0.1
options = { attack = { use = "iterated-sign", options = { steps = 2 } }, threat = { norm = "linf", epsilon = 0.1 } }
[evaluate]
probe_images = 0
[evaluate.threat]
norm = "linf"
epsilon = [0.1]
[[evaluate.attacks]]
use = "iterated-sign"
options = { steps = 5 }
"#;
    fs::write(here.path("recipe.toml"), recipe).unwrap();
    here.succeeds(&["plugin", "lock", "recipe.toml"]);
    here.succeeds(&["recipe.toml", "--locked", "--quiet", "--out", "one"]);
    here.succeeds(&["recipe.toml", "--locked", "--quiet", "--out", "two"]);
    let results = json(&here.path("one/results.json"));
    assert_eq!(results, json(&here.path("two/results.json")));
    let metrics = fs::read_to_string(here.path("one/metrics.jsonl")).unwrap();
    assert!(metrics.contains("input-gradient/root"), "{metrics}");
    let lock = fs::read_to_string(here.path("one/plugins.lock.json")).unwrap();
    assert!(lock.contains("example.cpp"), "{lock}");

    // The schema is held against what the recipe says, at its place.
    fs::write(here.path("wrong.toml"), recipe.replace("steps = 5", "stepps = 5")).unwrap();
    let error = here.fails(2, &["wrong.toml", "--dry-run"]);
    assert!(error.contains("stepps") && error.contains("wrong.toml:27:13"), "{error}");

    // A file of another libtorch is refused before it is loaded, and one that was changed after the lock.
    let bytes = fs::read(here.path("libexample_cpp.so")).unwrap();
    let text = format!("\"torch\":\"{}\"", guard_sdk::TORCH_VERSION);
    let at = bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
    let mut other = bytes.clone();
    other[at + text.len() - 2] = b'9';
    fs::write(here.path("libother.so"), other).unwrap();
    let error = stderr(&here.run(&["plugin", "info", "./libother.so"]));
    assert!(error.contains("was built for libtorch") && error.contains("this host runs"), "{error}");
    let mut changed = bytes;
    changed.push(0);
    fs::write(here.path("libexample_cpp.so"), changed).unwrap();
    let error = here.fails(2, &["recipe.toml", "--locked", "--dry-run"]);
    assert!(error.contains("libexample_cpp.so"), "{error}");
}

/// Sizes and offsets of the types of the header, as the host has them.
fn layout() -> String {
    let mut text = String::new();
    macro_rules! type_of {
        ($name:literal, $type:ident: $($field:ident)*) => {
            text += &format!("{} {}\n", $name, size_of::<tables::$type>());
            $(text += &format!("{}.{} {}\n", $name, stringify!($field), offset_of!(tables::$type, $field));)*
        };
    }
    type_of!("guard_error", Error: code message help option_path);
    type_of!("guard_batch", Batch: images labels soft_labels ids count space);
    type_of!("guard_budget", Budget: epsilon norm);
    type_of!("guard_draw", Draw: stream draw ids count shape dimensions distribution bits);
    type_of!("guard_step", Step: stage iteration iterations host);
    type_of!("guard_pass", Pass: images space mode embedding);
    type_of!("guard_output", Output: logits embedding);
    type_of!("guard_state", State: version count json names tensors);
    type_of!("guard_state_writer", StateWriter: put_json put_tensor);
    type_of!("guard_host", Host: size log metric cancelled progress device random attack regularizer perturb penalty
        describe pass parameter_count parameter with_parameters release_network release_tensor options_json
        option_number option_text);
    type_of!("guard_plugin", Plugin: size torch_version cxx11_abi torch_symbol schema create release save load penalty
        attack_info perturb);
    text
}

/// What was published never changes: an edit of the header or of the host's types that moves anything fails here. What is new
/// gets a new id and a header of its own.
#[test]
fn the_types_of_the_header_are_those_of_the_host_and_stay_as_they_were_published() {
    let layout = layout();
    let snapshot = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/snapshots/guard-c-0.1.txt");
    assert_eq!(layout, fs::read_to_string(snapshot).unwrap());

    // The header's own, from a C compiler, so that it stays C.
    let here = Here::new();
    let mut program = "#include \"guard_plugin.h\"\n#include <stdio.h>\nint main(void) {\n".to_string();
    for line in layout.lines() {
        let (what, _) = line.split_once(' ').unwrap();
        let value = match what.split_once('.') {
            None => format!("sizeof({})", of_struct(what)),
            Some((name, field)) => format!("offsetof({}, {field})", of_struct(name)),
        };
        program += &format!("  printf(\"{what} %zu\\n\", {value});\n");
    }
    program += "  return 0;\n}\n";
    fs::write(here.path("layout.c"), program).unwrap();
    let mut compiler = Command::new(env::var_os("CC").unwrap_or_else(|| "cc".into()));
    compiler.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-I"]).arg(sdk().join("include"));
    let made = compiler.arg(here.path("layout.c")).arg("-o").arg(here.path("layout")).output().unwrap();
    assert!(made.status.success(), "{}", stderr(&made));
    let found = Command::new(here.path("layout")).output().unwrap().stdout;
    assert_eq!(String::from_utf8(found).unwrap(), layout);
}

fn of_struct(name: &str) -> String {
    match name {
        "guard_host" | "guard_state_writer" => format!("struct {name}"),
        name => name.to_string(),
    }
}

/// A method that remembers something, and failures that cross in both directions.
#[test]
fn state_errors_and_exceptions_cross_as_they_are() {
    let here = Here::new();
    fs::write(here.path("remembering.cpp"), REMEMBERING).unwrap();
    compile(&["-O0", "-shared", "-fPIC"], &here.path("remembering.cpp"), &here.path("libremembering.so"));
    let report = here.run(&["plugin", "check", "./libremembering.so", "--format", "json"]);
    let report: serde_json::Value =
        serde_json::from_slice(&report.stdout).unwrap_or_else(|_| panic!("{}", stderr(&report)));
    let tests = report["tests"].as_array().unwrap();
    let verdict = |method: &str, name: &str| {
        let found = tests
            .iter()
            .find(|test| test["name"] == name && test["subject"] == format!("regularizer/{method}"));
        found.unwrap_or_else(|| panic!("{report:#}"))["verdict"].clone()
    };
    assert_eq!(verdict("remembering", "state-round-trip"), "passed", "{report:#}");
    let recipe = |method: &str| {
        format!(
            "plugins = [\"./libremembering.so\"]\n[data]\ndataset = \"digits\"\ntrain_images = 50\ntest_images = 20\n\
             [network]\narchitecture = \"convnet\"\ndepth = 1\nwidth = 4\n[training]\nepochs = 1\n\
             [[training.regularizers]]\nuse = \"{method}\"\n[evaluate]\nattacks = []\n"
        )
    };
    for (method, expected) in [
        ("throwing", "the method threw 7"),
        ("torch-error", "shape '[5]' is invalid for input of size 4"),
        ("wrong-network", "the network takes images"),
        ("empty-handed", "regularizer `empty-handed` returned a penalty that is undefined"),
    ] {
        fs::write(here.path("recipe.toml"), recipe(method)).unwrap();
        let error = stderr(&here.run(&["recipe.toml", "--quiet", "--out", &format!("run {expected:.8}")]));
        assert!(error.contains(expected), "{method}: {error}");
    }
}

/// What goes wrong while a library is loaded, described or made.
#[test]
fn a_library_that_fails_early_is_an_error_and_no_crash() {
    let here = Here::new();
    let built = |name: &str, text: &str| {
        fs::write(here.path("early.cpp"), text).unwrap();
        let garbage =
            ["-O0", "-shared", "-fPIC", "-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections"];
        compile(&garbage, &here.path("early.cpp"), &here.path(name));
        format!("./{name}")
    };
    let circle = built("libcircle.so", CIRCLE);
    let recipe = format!(
        "plugins = [\"{circle}\"]\n[data]\ndataset = \"digits\"\n[evaluate.threat]\nnorm = \"linf\"\nepsilon = [0.1]\n\
         [[evaluate.attacks]]\nuse = \"circle\"\n"
    );
    fs::write(here.path("recipe.toml"), recipe).unwrap();
    let error = here.fails(2, &["recipe.toml", "--dry-run", "--quiet"]);
    assert!(error.contains("methods ask for each other without end: circle asks for circle"), "{error}");
    let error = here.fails(2, &["plugin", "info", &circle]);
    assert!(error.contains("this plugin has no attack `mute`"), "{error}");
    let early = built("libearly.so", &format!("{EARLY}{CIRCLE}"));
    let error = here.fails(2, &["plugin", "info", &early]);
    assert!(error.contains("libearly.so") && error.contains("too early"), "{error}");
}

/// An attack that asks for itself, and one whose schema throws.
const CIRCLE: &str = r#"
#include "guard_plugin.hpp"

struct Circle : guard::Attack {
  Circle(const guard::Options &, const guard::Host &host) { host.attack("circle"); }
  static const char *schema() { return R"({ "type": "object" })"; }
  at::Tensor perturb(const guard::Step &, const guard::Network &, const guard::Batch &batch, const guard_budget &) override {
    return batch.images().clone();
  }
};

struct Mute : Circle {
  using Circle::Circle;
  static const char *schema() { throw guard::Error("no schema"); }
};

GUARD_MANIFEST("example.circle", "0.1.0", GUARD_OFFER("attack", "circle") "," GUARD_OFFER("attack", "mute"))
GUARD_METHODS(guard::attack<Circle>("circle"), guard::attack<Mute>("mute"))
"#;

/// Throws while the library is loaded.
const EARLY: &str = r#"
#include <stdexcept>
struct Early {
  Early() { throw std::runtime_error("too early"); }
};
Early early;
"#;

const REMEMBERING: &str = r#"
#include "guard_plugin.hpp"

struct Plain : guard::Regularizer {
  explicit Plain(const guard::Options &) {}
  static const char *schema() { return R"({ "type": "object", "additionalProperties": false, "properties": {} })"; }
  at::Tensor mean(const guard::Network &network, const guard::Batch &batch) const {
    return network.logits(batch.images(), batch.space()).square().mean();
  }
};

struct Remembering : Plain {
  using Plain::Plain;
  at::Tensor penalty(const guard::Step &, const guard::Network &network, const guard::Batch &batch) override {
    calls = calls + 1;
    return mean(network, batch) * calls.item<double>();
  }
  void save(guard::StateWriter &writer) const override {
    writer.json(3, "{\"of\":\"calls\"}");
    writer.tensor("calls", calls);
  }
  void load(const guard_state &state) override {
    if (state.version != 3 || state.count != 1 || std::string(state.names[0]) != "calls") throw guard::Error("another state");
    calls = state.tensors[0]->clone();
  }
  at::Tensor calls = at::zeros({}, at::kDouble);
};

struct Throwing : Plain {
  using Plain::Plain;
  at::Tensor penalty(const guard::Step &, const guard::Network &, const guard::Batch &) override {
    throw guard::Error("the method threw 7");
  }
};

struct TorchError : Plain {
  using Plain::Plain;
  at::Tensor penalty(const guard::Step &, const guard::Network &, const guard::Batch &) override {
    return at::zeros({4}).reshape({5});
  }
};

struct WrongNetwork : Plain {
  using Plain::Plain;
  at::Tensor penalty(const guard::Step &, const guard::Network &network, const guard::Batch &batch) override {
    return network.logits(batch.images().flatten(1), batch.space()).sum();
  }
};

struct EmptyHanded : Plain {
  using Plain::Plain;
  at::Tensor penalty(const guard::Step &, const guard::Network &, const guard::Batch &) override { return at::Tensor(); }
};

GUARD_MANIFEST("example.remembering", "0.1.0",
               GUARD_OFFER("regularizer", "remembering") "," GUARD_OFFER("regularizer", "throwing") ","
               GUARD_OFFER("regularizer", "torch-error") "," GUARD_OFFER("regularizer", "wrong-network") ","
               GUARD_OFFER("regularizer", "empty-handed"))
GUARD_METHODS(guard::regularizer<Remembering>("remembering"), guard::regularizer<Throwing>("throwing"),
              guard::regularizer<TorchError>("torch-error"), guard::regularizer<WrongNetwork>("wrong-network"),
              guard::regularizer<EmptyHanded>("empty-handed"))
"#;
