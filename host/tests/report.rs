//! What runs have found, told again and side by side, as a user meets it.

mod here;

use here::{Here, json, quick};
use serde_json::Value;
use std::fs;

/// A teacher and students that are quickly trained, under an attack.
const RECIPE: &str = r#"
plugins = ["guard_sre2l", "guard_attacks"]
data = { dataset = "digits", train_images = 300, test_images = 60 }
network = { architecture = "convnet", depth = 2, width = 8, norm = "batch" }
training = { epochs = 6, batch_size = 16, optimizer = { kind = "adam", learning_rate = 0.01 } }
student = { epochs = 2, count = 2 }
distill = { objective = "sre2l", images_per_class = 1, iterations = 4 }
relabel = { labels = "soft" }
[evaluate]
threat = { norm = "linf", epsilon = [0.05, 0.1] }
probe_images = 0
[[evaluate.attacks]]
use = "pgd"
options = { steps = 2 }
[[evaluate.attacks]]
use = "fgsm"
"#;

fn done(here: &Here, name: &str, more: &[&str]) {
    let arguments = [&["my.toml", "--quiet", "--out", name], more].concat();
    here.succeeds(&arguments);
}

#[test]
fn the_page_of_a_run_holds_everything_and_needs_nothing() {
    let here = Here::new();
    here.recipe(RECIPE);
    done(&here, "one", &["--set", "name=a b"]);
    let page = fs::read_to_string(here.path("one/report.html")).unwrap();
    for part in [
        "<title>a b</title>",
        "Accuracy against ε",
        "On the way",
        "<h3>train</h3>",
        "loss/sre2l",
        "Distilled images",
        "soft labels of the images of each class",
        "What the networks take images for",
        "without attack: true class by row",
        "under the attacks at ε = 0.1",
        "under pgd (linf, ε = 0.1000)",
        "guard-host run my.toml --set 'name=a b'",
        "objective = &quot;sre2l&quot;",
        "BLAKE3",
    ] {
        assert!(page.contains(part), "no `{part}`");
    }
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("<script"));
    let sources: Vec<&str> = page.split("src=\"").skip(1).collect();
    assert!(sources.len() > 10 && sources.iter().all(|source| source.starts_with("data:image/png;base64,")));
    // The same from the directory alone, wherever it lies.
    fs::rename(here.path("one"), here.path("moved")).unwrap();
    let again = here.succeeds(&["report", "moved", "--as", "html"]);
    assert_eq!(again, page);
}

#[test]
fn evaluations_hold_what_each_image_was_taken_for() {
    let here = Here::new();
    here.recipe(RECIPE);
    done(&here, "one", &[]);
    let file = fs::read(here.path("one/evaluations/teacher.safetensors")).unwrap();
    let names = String::from_utf8_lossy(&file[8..1500]).into_owned();
    for name in ["\"labels\"", "\"predicted\"", "\"linf-0.1/pgd/predicted\"", "\"linf-0.1/pgd/correct\""] {
        assert!(names.contains(name), "{names}");
    }
    let examples = json(&here.path("one/evaluations/teacher-examples.json"));
    assert_eq!(examples["epsilon"], 0.1);
    assert_eq!(examples["attacks"][1][0], "fgsm");
    let labels: Vec<i64> = serde_json::from_value(examples["labels"].clone()).unwrap();
    assert!(labels.len() > 2 && labels.windows(2).all(|pair| pair[0] < pair[1]), "{labels:?}");
    assert!(here.path("one/evaluations/teacher-examples.png").is_file());
}

#[test]
fn runs_are_told_side_by_side_in_every_form() {
    let here = Here::new();
    here.recipe(RECIPE);
    done(&here, "one", &[]);
    done(
        &here,
        "two",
        &[
            "--reuse",
            "one",
            "--set",
            "name=larger_set",
            "--set",
            "distill.images_per_class=2",
            "--set",
            "evaluate.threat.epsilon=[0.1, 0.2]",
        ],
    );
    done(
        &here,
        "other",
        &["--reuse", "one", "--set", "name=weak", "--set", "evaluate.attacks=[{ use = \"fgsm\" }]"],
    );

    let text = here.succeeds(&["report", "one", "two", "other"]);
    here.succeeds(&[
        "my.toml",
        "--quiet",
        "--out",
        "stronger",
        "--reuse",
        "one",
        "--set",
        "evaluate.attacks.0.options.steps=3",
    ]);
    let both = here.succeeds(&["report", "one", "stronger"]);
    assert!(
        both.contains("pgd (steps 2) and fgsm, worst") && both.contains("pgd (steps 3) and fgsm, worst"),
        "{both}"
    );
    here.succeeds(&["my.toml", "--quiet", "--out", "split", "--set", "data.split_seed=1"]);
    let both = here.succeeds(&["report", "one", "split"]);
    assert_eq!(both.matches("accuracy in %").count(), 2, "other images: {both}");
    here.succeeds(&["report", "one", "--format", "json", "--out", "one.json"]);
    assert_eq!(json(&here.path("one.json"))[0]["options"][0], "steps 2");
    let captions = text.lines().filter(|line| line.starts_with("accuracy in %")).count();
    assert_eq!(captions, 2, "what fgsm alone has measured stands apart: {text}");
    assert!(
        text.contains("| images per class |") && text.contains("ε = 0.05 |") && text.contains("ε = 0.2 |"),
        "{text}"
    );
    assert!(text.lines().any(|line| line.contains("larger_set") && line.contains(" – ")), "{text}");

    let text = here.succeeds(&["report", "one", "--attacks"]);
    assert!(text.contains("ε = 0.1, fgsm |") && text.contains("ε = 0.1, worst case |"), "{text}");
    let latex = here.succeeds(&["report", "one", "two", "--as", "latex"]);
    assert!(latex.contains("\\toprule") && latex.contains("larger\\_set & 2 students & 2 & "), "{latex}");
    let csv = here.succeeds(&["report", "one", "two", "--as", "csv"]);
    assert!(
        csv.lines().any(|line| line.contains(",larger_set,false,2,2 students,linf,0.2,worst case,")),
        "{csv}"
    );
    let all: Value =
        serde_json::from_str(&here.succeeds(&["report", "one", "two", "--format", "json"])).unwrap();
    assert_eq!(all[0]["table"].as_array().unwrap().len(), 4);

    here.succeeds(&["report", "one", "two", "--as", "html", "--out", "both.html"]);
    let page = fs::read_to_string(here.path("both.html")).unwrap();
    assert!(
        page.contains("larger_set")
            && page.contains("<polyline")
            && !page.contains("http://")
            && !page.contains("https://"),
        "{page}"
    );
}

#[test]
fn a_run_that_is_not_finished_is_told_as_far_as_it_is() {
    let here = Here::new();
    here.recipe(RECIPE);
    done(&here, "one", &[]);
    for file in
        ["evaluations/student-1.json", "evaluations/student-1.safetensors", "results.json", "metrics.jsonl"]
    {
        fs::remove_file(here.path("one").join(file)).unwrap();
    }
    let output = here.run(&["report", "one"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("| teacher   |") && text.contains("| 1 student |"), "{text}");
    let told =
        "warning: `one` is not finished: 2 of 3 networks are evaluated; `guard-host --resume one` goes on";
    assert!(here::stderr(&output).contains(told), "{}", here::stderr(&output));
}

#[test]
fn what_is_no_run_or_is_damaged_is_told_by_name() {
    let here = Here::new();
    here.recipe(RECIPE);
    let error = here.fails(2, &["report", "nowhere"]);
    assert!(error.contains("`nowhere` holds no run") && error.contains("help: "), "{error}");
    done(&here, "one", &[]);
    let damaged = here.path("one/evaluations/teacher.safetensors");
    let bytes = fs::read(&damaged).unwrap();
    fs::write(&damaged, &bytes[..bytes.len() / 2]).unwrap();
    let error = here.fails(2, &["report", "one"]);
    assert!(error.contains("evaluations/teacher.safetensors` cannot be read"), "{error}");
    fs::write(here.path("one/plan.json"), "{}").unwrap();
    let error = here.fails(2, &["report", "one"]);
    assert!(error.contains("plan.json` cannot be read") && error.contains("another version"), "{error}");
}

#[test]
fn the_built_in_run_repeats_with_the_command_that_its_page_tells() {
    let here = Here::new();
    here.succeeds(&quick(&["--quiet", "--out", "one"]));
    let page = fs::read_to_string(here.path("one/report.html")).unwrap();
    let command =
        page.split("<h2>To repeat it</h2>\n<pre><code>").nth(1).unwrap().split("</code>").next().unwrap();
    let words = shlex::split(command).unwrap();
    assert_eq!(words[..2], ["guard-host", "run"], "{command}");
    let words: Vec<&str> = words[1..].iter().map(String::as_str).collect();
    here.succeeds(&[&words[..], &["--quiet", "--out", "two"]].concat());
    let results = |run: &str| json(&here.path(run).join("results.json"));
    assert_eq!(results("one"), results("two"));
}
