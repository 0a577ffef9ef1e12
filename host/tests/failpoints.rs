//! A run that is killed, or whose disk is full, at any place where it writes something: what was written before is not lost, and
//! the run goes on and ends with the same bits.
//!
//! The places are those of `GUARD_FAIL_AT` (host/src/run/failpoint.rs). One of each kind, which is an operation and a file, is
//! tried here; `cargo xtask soak` tries the others, in other recipes too.

mod here;

use here::{
    Here,
    left::{self, differences, left},
    points::Point,
    stderr,
    trial::{Then, Whole},
};
use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Output},
    thread,
};

/// Every stage with every kind of file, as small as can be: a teacher, which two variants share, an expert, images, stored labels,
/// a student, an attack.
const SMALL: &str = r#"
plugins = ["guard_trajectory", "guard_attacks"]
data = { dataset = "digits", train_images = 40, test_images = 20 }
network = { architecture = "convnet", depth = 1, width = 2, norm = "batch" }
training = { epochs = 2, batch_size = 20 }
experts = { count = 1, epochs = 1 }
relabel = { labels = "stored" }
student = { epochs = 2, count = 1, batch_size = 10 }
[evaluate]
threat = { norm = "linf", epsilon = 0.1 }
batch_size = 20
probe_images = 0
[[evaluate.attacks]]
use = "fgsm"
[[variants]]
name = "mtt"
distill = { objective = "mtt", images_per_class = 1, iterations = 1, options = { synthetic_steps = 1, expert_epochs = 1, max_start_epoch = 1 } }
[[variants]]
name = "teacher"
"#;

/// One failpoint of each kind, in the order of the run.
fn of_each_kind(points: &[Point]) -> Vec<&Point> {
    let mut kinds = BTreeSet::new();
    points.iter().filter(|point| kinds.insert(point.kind())).collect()
}

#[test]
fn a_run_that_is_killed_or_meets_a_full_disk_at_every_kind_of_place_where_it_writes_ends_like_others() {
    let here = Here::new();
    let host = Path::new(env!("CARGO_BIN_EXE_guard-host"));
    let whole = Whole::run(host, &here.path("runs"), SMALL).unwrap();
    let points = of_each_kind(&whole.points);
    println!("{} failpoints of {} kinds:", whole.points.len(), points.len());
    points.iter().for_each(|point| println!("{}", point.kind()));
    let (whole, points) = (&whole, &points);
    thread::scope(|scope| {
        let each = [Then::Kill, Then::Error];
        let workers = each.map(|then| scope.spawn(move || whole.again_and_again(points, then)));
        for worker in workers {
            let reached = worker.join().unwrap().unwrap();
            println!("{reached} of them were reached");
            // All but a few: what is there already need not be written again.
            assert!(reached + 5 >= points.len(), "{reached} of {}", points.len());
        }
    });
}

/// Chosen failpoints, each in a run of its own: where it is known that a stage could be lost.
#[test]
fn a_single_fall_ends_like_others() {
    let here = Here::new();
    let host = Path::new(env!("CARGO_BIN_EXE_guard-host"));
    let whole = Whole::run(host, &here.path("runs"), SMALL).unwrap();
    let last = |file: &str| whole.points.iter().rfind(|point| point.kind().ends_with(file)).unwrap();
    for file in ["trajectory-N.safetensors", "distilled/soft-labels.safetensors", "metrics.jsonl"] {
        for then in [Then::Kill, Then::Error] {
            assert_eq!(whole.wrong(last(file), then), None, "{file}");
        }
    }
}

#[test]
fn stored_labels_and_an_expert_go_on_at_their_last_checkpoint_and_damaged_labels_are_made_again() {
    let here = Here::new();
    let recipe = here.recipe(SMALL);
    let killed = |place: &str, out: &str| {
        let arguments = [&recipe, "--quiet", "--checkpoint-every", "0", "--out", out];
        let output = here.command(&arguments).env("GUARD_FAIL_AT", format!("{place}:kill")).output().unwrap();
        assert_eq!(output.status.code(), None, "{}", stderr(&output));
    };
    let resumed = |out: &str| {
        let output = here.run(&["--resume", out]);
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output)
    };
    here.succeeds(&[&recipe, "--quiet", "--out", "whole"]);
    let same = |out: &str| {
        assert_eq!(differences(&left(&here.path("whole")), &left(&here.path(out))), Vec::<String>::new());
    };

    // All is done but that the file gets its name.
    killed("set aside experts/trajectory-0000.safetensors", "expert");
    let talk = resumed("expert");
    assert!(talk.contains("mtt: experts: goes on at iteration 1"), "{talk}");
    same("expert");
    killed("set aside distilled/soft-labels.safetensors", "labels");
    let talk = resumed("labels");
    assert!(talk.contains("mtt: relabel: goes on at iteration 1") && !talk.contains("warning"), "{talk}");
    same("labels");

    killed("set aside distilled/soft-labels.safetensors", "damaged");
    let labels = left::walk(&here.path("damaged/stages"));
    let labels = labels.iter().find(|name| name.ends_with("soft-labels.safetensors")).unwrap();
    let path = here.path("damaged/stages").join(labels);
    let mut bytes = fs::read(&path).unwrap();
    let first = bytes.len() - 2 * 200;
    bytes[first] ^= 1;
    fs::write(&path, bytes).unwrap();
    let talk = resumed("damaged");
    let warning =
        "soft-labels.safetensors` is not what was written: labels are made again from iteration 0 on";
    assert!(talk.contains("warning: mtt: relabel: `") && talk.contains(warning), "{talk}");
    same("damaged");
}

#[test]
fn a_value_that_is_not_understood_is_told() {
    let here = Here::new();
    let recipe = here.recipe(SMALL);
    let output = here.command(&[&recipe, "--quiet"]).env("GUARD_FAIL_AT", "3:die").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("`GUARD_FAIL_AT=3:die` is no failpoint"), "{}", stderr(&output));
}

/// A shell in name spaces of its own, in which anybody may mount a file system. None where the machine forbids that.
fn shell(here: &Here, script: &str) -> Option<Output> {
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        let command = command.args(["--user", "--map-root-user", "--mount", "sh", "-euc", script]);
        command.current_dir(here.folder.path()).env_remove("GUARD_PLUGIN_PATH").output()
    };
    fs::create_dir_all(here.path("disk")).unwrap();
    match unshare("mount -t tmpfs none disk") {
        Ok(allowed) if allowed.status.success() => Some(unshare(script).unwrap()),
        Ok(refused) => {
            println!("skipped: no file system can be mounted here: {}", stderr(&refused).trim());
            None
        }
        Err(error) => {
            println!("skipped: `unshare` cannot be started: {error}");
            None
        }
    }
}

/// Runs `recipe` into `disk/run` on a disk of its own, which is mounted as said: `refused` runs it until the disk lets it no
/// more, `mended` gives the disk back, and the run goes on. Tells what `refused` printed; what is left must be that of other runs.
fn on_a_disk(here: &Here, recipe: &str, mount: &str, refused: &str, mended: &str) -> Option<String> {
    let host = env!("CARGO_BIN_EXE_guard-host");
    let script = format!(
        "mount -t tmpfs -o {mount} none disk\n\
         {refused}\n\
         {mended}\n\
         '{host}' --quiet --resume disk/run > /dev/null\n\
         cp -r disk/run copy\n"
    )
    .replace("HOST", &format!("'{host}'"))
    .replace("RECIPE", recipe);
    let output = shell(here, &script)?;
    assert!(output.status.success(), "{}", stderr(&output));
    here.succeeds(&[recipe, "--quiet", "--out", "whole"]);
    let different = differences(&left(&here.path("whole")), &left(&here.path("copy")));
    assert_eq!(different, Vec::<String>::new());
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_disk_that_is_full_is_named_and_the_run_goes_on_once_there_is_room() {
    let here = Here::new();
    let recipe = here.recipe(SMALL);
    // Every file of some size fails in its turn: there is ever more room.
    let refused = "size=64; next='RECIPE --out disk/run'\n\
         while [ $size -lt 4000 ]; do\n\
             HOST $next --quiet --checkpoint-every 0 > table 2> talk && break; echo \"ended with $?\"; cat talk\n\
             size=$((size + 8)); mount -o remount,size=${size}k disk; next='--resume disk/run'\n\
         done\n";
    let Some(talk) = on_a_disk(&here, &recipe, "size=64k", refused, "mount -o remount,size=4m disk") else {
        return;
    };
    let times = talk.matches("ended with 1").count();
    println!("{times} times full");
    assert!(times > 3 && times == talk.matches("ended with").count(), "{talk}");
    let told =
        talk.lines().filter(|line| line.starts_with("error: ") && line.contains("No space left on device"));
    assert_eq!(told.count(), times, "{talk}");
    assert!(!talk.contains("panicked"), "{talk}");
    assert!(talk.contains("once that is put right, this goes on: "), "{talk}");
}

#[test]
fn a_disk_that_is_read_only_is_named_and_what_was_written_stays() {
    let here = Here::new();
    let recipe = here.recipe(SMALL);
    let refused = "GUARD_FAIL_AT=300:kill HOST RECIPE --quiet --checkpoint-every 0 --out disk/run || true\n\
         mount -o remount,ro disk\n\
         HOST --quiet --resume disk/run 2>&1 && exit 3; echo \"ended with $?\"\n\
         HOST RECIPE --quiet --out disk/other 2>&1 && exit 3; echo \"ended with $?\"\n";
    let Some(talk) = on_a_disk(&here, &recipe, "size=10m", refused, "mount -o remount,rw disk") else {
        return;
    };
    assert_eq!(talk.matches("ended with 1").count(), 2, "{talk}");
    assert_eq!(talk.matches("Read-only file system").count(), 2, "{talk}");
    assert!(talk.contains("`") && talk.contains("disk/run/lock` cannot be locked"), "{talk}");
    assert!(talk.contains("folder `disk/other` cannot be made"), "{talk}");
}

#[test]
fn a_folder_that_may_not_be_written_to_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let here = Here::new();
    let recipe = here.recipe(SMALL);
    let folder = here.path("forbidden");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(folder.join("x"), "").is_ok() {
        println!("skipped: this user may write everywhere");
        return;
    }
    let error = here.fails(1, &[&recipe, "--quiet", "--out", "forbidden/run"]);
    assert!(error.contains("folder `forbidden/run` cannot be made: Permission denied"), "{error}");
    assert!(error.contains("choose another with `--out DIR`"), "{error}");
    assert!(!Path::new(&folder.join("run")).exists());
}
