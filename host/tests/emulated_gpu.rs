//! Runs on a GPU that is not there (`tests/emulated_gpu`): tensors of two devices never meet, nobody reads a GPU's memory or
//! what is still on its way, and no step waits for the GPU. What only a GPU can tell, its rounding and its speed, is not told.

mod here;

use guard_sdk::{Kind, Tensor};
use here::{Here, stderr};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

/// Where it is built, once.
fn gpu() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("emulated-gpu");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/emulated_gpu/build.sh");
        let built = Command::new(script).arg(&folder).output().unwrap();
        assert!(built.status.success(), "{}", stderr(&built));
        folder.join("site/torch")
    })
}

/// Seconds at most, and with everything that the tests ask for.
const RECIPE: &str = r#"
seed = 1
[data]
dataset = "digits"
train_images = 200
test_images = 40
[network]
architecture = "convnet"
depth = 2
width = 8
norm = "batch"
[training]
epochs = 1
batch_size = 50
[experts]
count = 1
epochs = 4
[student]
epochs = 1
count = 1
"#;

fn on_gpu(here: &Here, arguments: &[&str]) -> Command {
    let mut command = here.command(arguments);
    command.arg("--libtorch").arg(gpu()).args(["--device", "cuda"]).env("LD_LIBRARY_PATH", gpu().join("lib"));
    command
}

fn succeeded(output: Output) -> Output {
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        stderr(&output)
    );
    output
}

/// How often a run waits for the GPU, and for what. Numbers of the step before are asked for by an event, which does not count.
fn waits(recipe: &str, settings: &[&str]) -> BTreeMap<String, usize> {
    let here = Here::new();
    let recipe = here.recipe(&format!("{RECIPE}{recipe}"));
    // Checkpoints, which wait, come by the clock.
    let mut arguments = vec!["run", &recipe, "--quiet", "--out", "run", "--checkpoint-every", "100000"];
    arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    let file = here.path("waits");
    succeeded(on_gpu(&here, &arguments).env("EMULATED_GPU_WAITS", &file).output().unwrap());
    let text = fs::read_to_string(file).unwrap();
    text.lines().filter(|what| *what != "an event").fold(BTreeMap::new(), |mut counted, what| {
        *counted.entry(what.to_string()).or_default() += 1;
        counted
    })
}

/// The largest difference between two files of tensors.
fn difference(one: &Path, other: &Path) -> f64 {
    let read = |path: &Path| -> BTreeMap<String, Tensor> {
        Tensor::read_safetensors(path).unwrap().into_iter().collect()
    };
    let (one, other) = (read(one), read(other));
    assert!(one.keys().eq(other.keys()));
    let each = one.values().zip(other.values()).map(|(one, other)| {
        let (one, other) = (one.to_kind(Kind::Double), other.to_kind(Kind::Double));
        (one - other).abs().max().double_value(&[])
    });
    each.fold(0.0, f64::max)
}

#[test]
fn a_run_computes_what_it_does_on_the_cpu() {
    let here = Here::new();
    let recipe = here.recipe(&format!(
        "{RECIPE}{}",
        r#"
        [[training.regularizers]]
        use = "curvature"
        weight = 0.1
        [distill]
        objective = "sre2l"
        images_per_class = 1
        iterations = 3
        [[evaluate.attacks]]
        use = "pgd"
        [evaluate.threat]
        norm = "linf"
        epsilon = [0.05]
        "#
    ));
    let output = succeeded(on_gpu(&here, &["run", &recipe, "--out", "gpu"]).output().unwrap());
    assert!(stderr(&output).contains("on GPU 0, an emulated GPU"), "{}", stderr(&output));
    assert!(!stderr(&output).contains("Warning"), "libtorch has nothing to say: {}", stderr(&output));
    here.succeeds(&["run", &recipe, "--out", "cpu", "--device", "cpu"]);
    for file in ["checkpoints/teacher.safetensors", "distilled/distilled.safetensors"] {
        let off = difference(&here.path("gpu").join(file), &here.path("cpu").join(file));
        assert!(off < 1e-3, "{file}: {off}");
    }
}

#[test]
fn no_step_of_training_waits_for_the_gpu() {
    let regularizers = r#"
        [[training.regularizers]]
        use = "curvature"
        weight = 0.1
        [[training.regularizers]]
        use = "trades"
        weight = 0.1
        options = { threat = { norm = "linf", epsilon = 0.05 }, steps = 2 }
    "#;
    let augmented = "training.augment=[\"crop\"]";
    let of_epochs = |epochs: &str| waits(regularizers, &[augmented, epochs, "distill.objective=\"random\""]);
    assert_eq!(of_epochs("training.epochs=1"), of_epochs("training.epochs=4"));
    for labels in ["hard", "soft", "online", "stored"] {
        let labels = format!("relabel.labels=\"{labels}\"");
        let of_students = |epochs: &str| {
            let mut waits = waits("", &["distill.objective=\"random\"", &labels, epochs]);
            if labels.contains("stored") {
                // Labels of each epoch are written to a file before.
                waits.remove("a copy to the CPU");
            }
            waits
        };
        assert_eq!(of_students("student.epochs=1"), of_students("student.epochs=4"), "{labels}");
    }
}

#[test]
fn no_step_of_an_objective_waits_for_the_gpu() {
    for objective in ["sre2l", "cda", "dc", "dm", "dsa"] {
        let of = |iterations: u64| {
            let distill = format!(
                "distill={{ objective = \"{objective}\", images_per_class = 1, iterations = {iterations} }}"
            );
            waits("", &[&distill])
        };
        assert_eq!(of(2), of(5), "{objective}");
    }
    for objective in ["mtt", "tesla"] {
        let of = |iterations: u64| {
            let distill = format!(
                "distill={{ objective = \"{objective}\", images_per_class = 1, iterations = {iterations}, options = {{ synthetic_steps = 2, max_start_epoch = 2, expert_epochs = 1 }} }}"
            );
            waits("", &[&distill])
        };
        // Whether the expert has moved.
        let mut expected = of(2);
        *expected.get_mut("a number").unwrap() += 3;
        assert_eq!(of(5), expected, "{objective}");
    }
}

#[test]
fn a_loss_that_is_not_finite_leaves_the_network_of_the_step_before() {
    let here = Here::new();
    let recipe = here.recipe(RECIPE);
    let explode = ["--set", "training.optimizer={ kind = \"sgd\", learning_rate = 1e30 }"];
    let output = on_gpu(&here, &["run", &recipe, "--quiet", "--out", "run"]).args(explode).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains(" is NaN at iteration 1 of stage `train`"), "{}", stderr(&output));
    let mut on_cpu = here.command(&["run", &recipe, "--quiet", "--out", "cpu", "--device", "cpu"]);
    assert_eq!(on_cpu.args(explode).output().unwrap().status.code(), Some(1));
    let kept = "checkpoints/teacher-last-good.safetensors";
    // Of the size of the learning rate.
    let off = difference(&here.path("run").join(kept), &here.path("cpu").join(kept));
    assert!(off < 1e25, "{off}");
}

#[test]
fn a_term_that_is_not_finite_leaves_the_images_of_the_step_before() {
    let here = Here::new();
    let recipe = here.recipe(&format!(
        "{RECIPE}{}",
        r#"
        [distill]
        objective = "sre2l"
        images_per_class = 1
        iterations = 3
        [[distill.regularizers]]
        use = "l2"
        weight = 1e39
        "#
    ));
    let kept = |out: &str, mut command: Command| {
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).contains("at iteration 0 of stage `distill`"), "{}", stderr(&output));
        here.path(out).join("distilled-last-good.safetensors")
    };
    let gpu = kept("gpu", on_gpu(&here, &["run", &recipe, "--quiet", "--out", "gpu"]));
    let cpu = kept("cpu", here.command(&["run", &recipe, "--quiet", "--out", "cpu", "--device", "cpu"]));
    let off = difference(&gpu, &cpu);
    assert!(off < 1e-6, "{off}");
}

#[test]
fn plugins_pass_their_checks_on_a_gpu() {
    let here = Here::new();
    for plugin in ["guard_curv", "guard_adversarial", "guard_matching", "guard_sre2l", "guard_trajectory"] {
        succeeded(on_gpu(&here, &["plugin", "check", plugin]).output().unwrap());
    }
}
