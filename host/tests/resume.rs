//! Runs that were stopped and go on, as a user meets them.

mod here;
#[allow(dead_code, reason = "nothing is mangled here")]
#[path = "../src/mangle.rs"]
mod mangle;

use here::{
    Here,
    events::told,
    left::{differences, left, walk},
    quick, stderr,
};
use mangle::Dice;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Objectives of every kind, labels that are stored, averaged weights, the best epoch, attacks with members, several
/// batches and radii.
const OF_EVERYTHING: &str = r#"
plugins = ["guard_sre2l", "guard_matching", "guard_trajectory", "guard_attacks"]
data = { dataset = "digits", train_images = 400, test_images = 100 }
network = { architecture = "convnet", depth = 2, width = 8, norm = "batch" }
student = { epochs = 2, count = 1, optimizer = { kind = "adamw", learning_rate = 0.01 } }
[training]
epochs = 3
batch_size = 64
augment = ["crop"]
optimizer = { kind = "adam", learning_rate = 0.01 }
ema = 0.5
keep = "best"
validation_share = 0.2
[evaluate]
threat = { norm = "linf", epsilon = [0.05, 0.1] }
batch_size = 5
probe_images = 0
[[evaluate.attacks]]
use = "ensemble"
options = { attacks = [{ use = "fgsm" }, { use = "pgd", options = { steps = 2 } }] }
[[evaluate.attacks]]
use = "fgsm"
[[variants]]
name = "sre2l"
[variants.distill]
objective = "sre2l"
images_per_class = 2
iterations = 4
regularizers = [{ use = "l2", weight = 0.1 }]
[variants.relabel]
labels = "stored"
[[variants]]
name = "dc"
relabel = { labels = "hard" }
[variants.distill]
objective = "dc"
images_per_class = 1
iterations = 3
options = { outer_loops = 3, inner_epochs = 2, real_images = 16 }
[[variants]]
name = "mtt"
relabel = { labels = "hard" }
experts = { count = 2, epochs = 3 }
distill = { objective = "mtt", images_per_class = 1, iterations = 4 }
"#;

/// Starts a run whose stages leave a checkpoint after every step.
fn start(here: &Here, arguments: &[&str]) -> Child {
    here.command(arguments)
        .args(["--checkpoint-every", "0"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits until the run has done something.
fn wait_for(run: &mut Child, done: impl Fn() -> bool) {
    while !done() {
        assert!(run.try_wait().unwrap().is_none(), "the run ended too early");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn signal(run: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &run.id().to_string()]).status().unwrap().success());
}

/// Exit code and stderr.
fn ended(run: Child) -> (Option<i32>, String) {
    let output = run.wait_with_output().unwrap();
    (output.status.code(), stderr(&output))
}

/// The records of finished stages, and the checkpoints of others, oldest first.
fn stages(run: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let folder = run.join("stages");
    let whole =
        walk(&folder).into_iter().filter(|name| name.ends_with(".json") && !name.contains(".partial-"));
    let all = whole.map(|name| folder.join(name));
    let (records, mut checkpoints): (Vec<_>, Vec<_>) =
        all.partition(|path| path.parent().unwrap().ends_with("stages"));
    checkpoints.retain(|path| !records.contains(&path.parent().unwrap().with_extension("json")));
    // Soft labels and expert trajectories have files of other names beside them.
    checkpoints.retain(|path| path.file_stem().unwrap().to_str().unwrap().parse::<u64>().is_ok());
    checkpoints.sort_by_key(|path| iteration(path));
    (records, checkpoints)
}

fn iteration(checkpoint: &Path) -> u64 {
    checkpoint.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

/// The command that a run which was stopped tells on stderr.
fn told_command(talk: &str) -> String {
    let command = talk.split("stopped; this goes on:\n").nth(1).unwrap_or_else(|| panic!("{talk}"));
    command.trim().to_string()
}

fn same_files(whole: &Path, other: &Path) {
    assert_eq!(differences(&left(whole), &left(other)), Vec::<String>::new());
    same_events(whole, other);
}

/// Holds what TensorBoard is told of two runs against each other.
fn same_events(whole: &Path, other: &Path) {
    for variant in fs::read_dir(whole.join("tensorboard")).unwrap() {
        let variant = variant.unwrap().file_name();
        let told = |run: &Path| told(&run.join("tensorboard").join(&variant));
        assert!(told(whole) == told(other), "TensorBoard is told something else of {variant:?}");
    }
}

/// In [0,1), the same in every run.
fn share(dice: &mut Dice) -> f64 {
    const STEPS: usize = 1 << 52;
    dice.below(STEPS) as f64 / STEPS as f64
}

/// Kills a run at `kills` random moments, and as many further ones as are left when it is through; holds what each left
/// against that of one that was not killed.
fn kill_again_and_again(here: &Here, arguments: &[&str], kills: usize) {
    let arguments = |out| [arguments, &["--quiet", "--out", out]].concat();
    let begun = Instant::now();
    let table = here.succeeds(&[&arguments("whole")[..], &["--checkpoint-every", "0"]].concat());
    let (whole, kept) = (begun.elapsed(), left(&here.path("whole")));
    let (mut dice, mut left_to_do, mut lives) = (Dice(kills as u64), kills, 0u32);
    while left_to_do > 0 {
        let (run, mut next) = (here.path("killed"), arguments("killed"));
        for life in 1u32.. {
            // A life that is killed is up to a third as long as the whole run; later ones last longer, so that the run gets
            // through whatever else the machine does.
            let end = Instant::now() + whole.mul_f64(share(&mut dice) * f64::from(8 + life) / 24.0);
            let mut going = start(here, &next);
            lives += 1;
            while going.try_wait().unwrap().is_none() && (left_to_do == 0 || Instant::now() < end) {
                std::thread::sleep(Duration::from_millis(2));
            }
            if going.try_wait().unwrap().is_some() {
                let (code, talk) = ended(going);
                assert_eq!(code, Some(0), "after {lives} lives: {talk}");
                break;
            }
            going.kill().unwrap();
            going.wait().unwrap();
            left_to_do -= 1;
            let (done, checkpoints) = stages(&run);
            println!(
                "killed with {} stages done and {} checkpoints of the next",
                done.len(),
                checkpoints.len()
            );
            if run.join("command.json").exists() {
                next = vec!["--quiet", "--resume", "killed"];
            } else if run.exists() {
                fs::remove_dir_all(&run).unwrap();
            }
        }
        assert_eq!(here.succeeds(&["--quiet", "--resume", "killed"]), table);
        assert_eq!(differences(&kept, &left(&run)), Vec::<String>::new());
        same_events(&here.path("whole"), &run);
        fs::remove_dir_all(&run).unwrap();
    }
}

#[test]
fn a_run_that_is_killed_again_and_again_ends_like_one_that_was_not() {
    kill_again_and_again(&Here::new(), &quick(&[]), 3);
}

#[test]
fn a_run_with_stages_of_every_kind_is_killed_twenty_times_at_random_moments() {
    let here = Here::new();
    let recipe = here.recipe(OF_EVERYTHING);
    kill_again_and_again(&here, &[&recipe], 20);
}

/// What methods remember is not lost where a run is cut twice with no step between.
#[test]
fn a_run_that_is_killed_twice_at_the_same_step_ends_like_one_that_was_not() {
    let here = Here::new();
    let recipe = here.recipe(OF_EVERYTHING);
    here.succeeds(&[&recipe, "--quiet", "--variant", "dc", "--out", "whole"]);
    let arguments = [&recipe, "--quiet", "--variant", "dc", "--out", "killed"];
    for arguments in [&arguments[..], &["--quiet", "--resume", "killed"]] {
        // The newest checkpoint is written, and the oldest still there.
        let mut command = here.command(arguments);
        command.args(["--checkpoint-every", "0"]).env("GUARD_FAIL_AT", "remove 6.json:kill");
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), None, "{}", stderr(&output));
    }
    here.succeeds(&["--quiet", "--resume", "killed"]);
    same_files(&here.path("whole"), &here.path("killed"));
}

#[test]
fn every_stage_goes_on_with_the_command_that_ctrl_c_tells() {
    let here = Here::new();
    let recipe = here.recipe(OF_EVERYTHING);
    here.succeeds(&[&recipe, "--quiet", "--out", "whole"]);
    let run = here.path("stopped here");
    let mut arguments = vec![recipe.as_str(), "--out", "stopped here"];
    let mut resumed = 0;
    // Once in every stage; a stage may end before the signal comes.
    for finished in 0.. {
        let before = stages(&run);
        let mut going = start(&here, &arguments);
        // What an earlier life left does not tell that this one is at work, and heeds signals.
        let inside = || {
            let now = stages(&run);
            let (done, checkpoints) = &now;
            now != before && (done.len() > finished || (done.len() == finished && checkpoints.len() > 1))
        };
        while going.try_wait().unwrap().is_none() && !inside() {
            std::thread::sleep(Duration::from_millis(1));
        }
        if going.try_wait().unwrap().is_none() {
            signal(&going, "-INT");
        }
        let (code, talk) = ended(going);
        resumed += usize::from(talk.contains("goes on at iteration"));
        if code == Some(0) {
            break;
        }
        assert_eq!(code, Some(130), "{talk}");
        let command = told_command(&talk);
        assert!(command.contains(" --resume '") && command.ends_with("stopped here'"), "{command}");
        arguments = vec!["--resume", "stopped here"];
    }
    assert!(resumed > 3, "{resumed}");
    same_files(&here.path("whole"), &run);
}

#[test]
fn what_ctrl_c_tells_is_a_command_and_a_damaged_checkpoint_is_passed_over() {
    let here = Here::new();
    let sets = ["--variant", "SRe2L", "--set", "distill.iterations=300"];
    here.succeeds(&quick(&[&sets[..], &["--quiet", "--out", "whole"]].concat()));
    let run = here.path("run");
    let mut going = start(&here, &quick(&[&sets[..], &["--out", "run"]].concat()));
    // The third stage is the distillation.
    wait_for(&mut going, || {
        let (done, checkpoints) = stages(&run);
        done.len() == 2 && checkpoints.len() == 2 && iteration(&checkpoints[0]) > 10
    });
    signal(&going, "-INT");
    let (code, talk) = ended(going);
    assert_eq!(code, Some(130), "{talk}");
    let left = stages(&run).1;
    let [older, newest] = &left[..] else { panic!("{left:?}") };
    let tensors = newest.with_extension("safetensors");
    let mut bytes = fs::read(&tensors).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&tensors, bytes).unwrap();
    let output = Command::new("sh")
        .args(["-c", &told_command(&talk)])
        .current_dir(here.folder.path())
        .output()
        .unwrap();
    let talk = stderr(&output);
    assert!(output.status.success(), "{talk}");
    assert!(talk.contains(&format!("{}.safetensors` cannot be read", iteration(newest))), "{talk}");
    assert!(talk.contains(&format!("distill: goes on at iteration {}", iteration(older))), "{talk}");
    same_files(&here.path("whole"), &run);
}

#[test]
fn an_attack_that_is_stopped_is_no_result() {
    let here = Here::new();
    let endless = ["--set", "evaluate.attacks.0.options.steps=100000000", "--quiet", "--out", "run"];
    let mut run = start(&here, &quick(&endless));
    wait_for(&mut run, || !stages(&here.path("run")).1.is_empty() && stages(&here.path("run")).0.len() == 1);
    std::thread::sleep(Duration::from_millis(200));
    signal(&run, "-TERM");
    let (code, talk) = ended(run);
    assert_eq!(code, Some(143), "{talk}");
    assert!(!here.path("run/SRe2L/evaluations").exists());
    assert_eq!(stages(&here.path("run")).0.len(), 1);
}

#[test]
fn a_step_is_finished_unless_the_signal_comes_twice() {
    let here = Here::new();
    let recipe = here.recipe(
        "plugins = [\"guard_adversarial\", \"guard_attacks\"]\n\
         data.dataset = \"digits\"\n\
         network = { architecture = \"convnet\", width = 8 }\n\
         [[training.regularizers]]\n\
         use = \"adversarial\"\n\
         options = { attack = { use = \"pgd\", options = { steps = 100000000 } }, threat = { norm = \"linf\", epsilon = 0.1 } }\n",
    );
    let mut run = start(&here, &[&recipe, "--quiet", "--out", "run"]);
    wait_for(&mut run, || stages(&here.path("run")).1.len() == 1);
    signal(&run, "-INT");
    std::thread::sleep(Duration::from_millis(500));
    assert!(run.try_wait().unwrap().is_none());
    signal(&run, "-INT");
    assert_eq!(ended(run).0, Some(130));
}

#[test]
fn stages_that_variants_have_in_common_are_run_once() {
    let here = Here::new();
    let recipe = here.recipe(
        "plugins = [\"guard_sre2l\", \"guard_attacks\"]\n\
         data.dataset = \"digits\"\n\
         network = { architecture = \"convnet\", width = 8, norm = \"batch\" }\n\
         training = { epochs = 1, batch_size = 64, optimizer = { kind = \"sgd\", learning_rate = 0.01 } }\n\
         distill = { objective = \"sre2l\", images_per_class = 1, iterations = 2, options = { augment = \"none\" } }\n\
         student = { epochs = 1, count = 1 }\n\
         [[variants]]\nname = \"one\"\n\
         [[variants]]\nname = \"two\"\ndistill.images_per_class = 2\n",
    );
    let output = here.run(&[&recipe, "--out", "run"]);
    let talk = stderr(&output);
    assert!(output.status.success(), "{talk}");
    for line in ["two: train: as of one", "two: evaluate teacher: as of one"] {
        assert!(talk.contains(line), "{talk}");
    }
    assert!(!talk.contains("two: distill: as of one"), "{talk}");
    let teacher =
        |variant: &str| fs::read(here.path("run").join(variant).join("checkpoints/teacher.safetensors"));
    assert_eq!(teacher("one").unwrap(), teacher("two").unwrap());
}

#[test]
fn a_run_goes_on_with_another_recipe_only_by_force_and_runs_again_what_that_touches() {
    let here = Here::new();
    here.succeeds(&quick(&["--quiet", "--out", "run", "--variant", "SRe2L"]));
    let longer = ["--resume", "run", "--set", "student.epochs=3"];
    let error = here.fails(2, &longer);
    assert!(error.contains("`variants.0.recipe.student.epochs`: 2 → 3"), "{error}");
    assert!(error.contains("--force"), "{error}");
    let output = here.run(&[&longer[..], &["--force"]].concat());
    let talk = stderr(&output);
    assert!(output.status.success(), "{talk}");
    assert!(talk.contains("SRe2L: distill: finished before"), "{talk}");
    assert!(talk.contains("SRe2L: student 1: 3 epochs"), "{talk}");
    // The change is now part of the run.
    here.succeeds(&["--quiet", "--resume", "run"]);
}

#[test]
fn another_run_takes_networks_over_and_attacks_them_otherwise() {
    let here = Here::new();
    let one = ["--variant", "SRe2L"];
    here.succeeds(&quick(&[&one[..], &["--quiet", "--out", "first"]].concat()));
    let sets = ["--set", "evaluate.attacks=[{use=\"fgsm\"}]", "--set", "data.test_images=50"];
    let second = [&one[..], &sets, &["--out", "second", "--reuse", "first"]].concat();
    let output = here.run(&quick(&second));
    let talk = stderr(&output);
    assert!(output.status.success(), "{talk}");
    for stage in ["train", "distill", "student 1", "student 2"] {
        assert!(talk.contains(&format!("SRe2L: {stage}: as of SRe2L in `first`")), "{talk}");
    }
    assert!(talk.contains("SRe2L: evaluate student 1: clean"), "{talk}");
    let error = here.fails(2, &quick(&["--out", "third", "--reuse", "nowhere"]));
    assert!(error.contains("`nowhere` holds no finished stage"), "{error}");
}

#[test]
fn a_folder_without_a_run_cannot_be_resumed() {
    let here = Here::new();
    fs::create_dir(here.path("empty")).unwrap();
    let error = here.fails(2, &["--resume", "empty"]);
    assert!(error.contains("`empty` holds no run"), "{error}");
    assert!(here.fails(2, &["--force"]).contains("--resume"));
}
