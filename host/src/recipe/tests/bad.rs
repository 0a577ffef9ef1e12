//! Bad recipes come back as texts, here whole, since they are the product.

use super::*;

#[test]
fn an_unknown_key_is_shown_with_the_nearest() {
    assert_eq!(
        bad(&with("\n\n\n\n\n\n\n[training]\n\nepoch = 20\n"), &[]),
        "\
error: unknown key `epoch` in `training`
  --> my.toml:12:1
   |
12 | epoch = 20
   | ^^^^^
   = help: did you mean `epochs`?"
    );
}

#[test]
fn several_errors_come_in_one_pass_in_the_order_of_the_text() {
    let text = r#"trainig = 1
seed = "7"
when = 2024-01-01
[data]
mean = [0.5, 0.5]
[training]
epochs = 0
optimizer = { kind = "sgd", learning_rate = 0.1, beta = 1 }
schedule = "cosin"
augment = ["flip", "rotate"]
[[evaluate.attacks]]
use = "pgd"
"#;
    assert_eq!(
        bad(text, &[]),
        "\
error: unknown key `trainig`
 --> my.toml:1:1
  |
1 | trainig = 1
  | ^^^^^^^
  = help: did you mean `training`?

error: expected a whole number for `seed`, found a string
 --> my.toml:2:8
  |
2 | seed = \"7\"
  |        ^^^
  = help: leave out the quotes: 7

error: unknown key `when`
 --> my.toml:3:1
  |
3 | when = 2024-01-01
  | ^^^^
  = help: choose `name`, `seed`, `plugins`, `data`, `network`, `precision`, `training`, `experts`, `distill`, `relabel`, \
`student`, `students`, `evaluate`, `extends`, `sweep` or `variants`

error: dates and times are not used in recipes
 --> my.toml:3:8
  |
3 | when = 2024-01-01
  |        ^^^^^^^^^^
  = help: put it in quotes to make it text

error: missing key `dataset` in `data`
 --> my.toml:4:1
  |
4 | [data]
  | ^^^^^^
  = help: The data set's name, such as `digits` or `cifar10`, or its format, such as `imagefolder`.

error: `data.mean` is given without `data.std`
 --> my.toml:5:1
  |
5 | mean = [0.5, 0.5]
  | ^^^^
  = help: give both, or neither for the data set's own

error: `training.epochs` must be at least 1, found 0
 --> my.toml:7:10
  |
7 | epochs = 0
  |          ^

error: unknown key `beta` in `training.optimizer`
 --> my.toml:8:50
  |
8 | optimizer = { kind = \"sgd\", learning_rate = 0.1, beta = 1 }
  |                                                  ^^^^
  = help: choose `kind`, `learning_rate`, `momentum`, `weight_decay` or `nesterov`

error: unknown value `cosin` for `training.schedule`
 --> my.toml:9:12
  |
9 | schedule = \"cosin\"
  |            ^^^^^^^
  = help: did you mean `cosine`?

error: unknown value `rotate` for `training.augment.1`
  --> my.toml:10:20
   |
10 | augment = [\"flip\", \"rotate\"]
   |                    ^^^^^^^^
   = help: choose `flip`, `crop`, `random-resized-crop`, `color-jitter` or `dsa`

error: attacks need a threat model
  --> my.toml:11:1
   |
11 | [[evaluate.attacks]]
   | ^^^^^^^^^^^^^^^^^^^^
   = help: say what an attacker may do:
           [evaluate.threat]
           norm = \"linf\"
           epsilon = \"8/255\""
    );
}

#[test]
fn a_missing_table_has_no_line_to_show() {
    assert_eq!(bad("seed = 1\n", &[]), "error: missing key `data`\n --> my.toml\n  = help: The real data.");
}

#[test]
fn an_unknown_kind_of_optimizer_lists_those_there_are() {
    let text = with("[distill]\nobjective = \"dm\"\noptimizer = { kind = \"lion\", learning_rate = 0 }\n");
    assert_eq!(
        bad(&text, &[]),
        "\
error: unknown value `lion` for `distill.optimizer.kind`
 --> my.toml:5:22
  |
5 | optimizer = { kind = \"lion\", learning_rate = 0 }
  |                      ^^^^^^
  = help: choose `sgd`, `adam` or `adamw`"
    );
}

#[test]
fn an_error_in_a_variant_is_shown_in_the_variant_and_once() {
    let text = with(
        r#"[training]
epochs = 2.5
[[variants]]
name = "a"
training.epoch = 3
seed = 3
[[variants]]
name = "A"
training.optimizer.kind = "adam"
network = { architecture = "resnet", depth = 3 }
trainin.epochs = 4
"#,
    );
    assert_eq!(
        bad(&text, &[]),
        "\
error: expected a whole number for `training.epochs`, found 2.5
 --> my.toml:4:10
  |
4 | epochs = 2.5
  |          ^^^

error: unknown key `epoch` in `training`
 --> my.toml:7:10
  |
7 | training.epoch = 3
  |          ^^^^^
  = help: did you mean `epochs`?

error: variants cannot differ in `seed`
 --> my.toml:8:1
  |
8 | seed = 3
  | ^^^^
  = help: variants are compared with each other, so all have the same `seed`: set it at the top of the recipe

error: two variants are called `A`
  --> my.toml:10:8
   |
10 | name = \"A\"
   |        ^^^

error: unknown key `depth` in `network`
  --> my.toml:12:38
   |
12 | network = { architecture = \"resnet\", depth = 3 }
   |                                      ^^^^^
   = help: choose `architecture`, `stem`, `width`, `blocks` or `bottleneck`

error: unknown key `trainin` in `variants.1`
  --> my.toml:13:1
   |
13 | trainin.epochs = 4
   | ^^^^^^^
   = help: did you mean `training`?"
    );
}

#[test]
fn a_variant_needs_a_name_that_can_be_a_folder() {
    let text = with("[[variants]]\nname = \"../x\"\n[[variants]]\n[[variants]]\nname = \"α\"\n");
    assert_eq!(
        bad(&text, &[]),
        "\
error: the name `../x` starts with a dot
 --> my.toml:4:8
  |
4 | name = \"../x\"
  |        ^^^^^^
  = help: it becomes a folder: letters, digits, spaces and `.`, `_`, `+`, `-` are good

error: missing key `name` in `variants.1`
 --> my.toml:5:1
  |
5 | [[variants]]
  | ^^^^^^^^^^^^
  = help: The variant's name, different from the others'.

error: the name `α` contains `α`
 --> my.toml:7:8
  |
7 | name = \"α\"
  |        ^^^
  = help: it becomes a folder: letters, digits, spaces and `.`, `_`, `+`, `-` are good"
    );
}

#[test]
fn an_error_by_set_is_shown_on_the_command_line() {
    assert_eq!(
        bad(&with("[training]\nepochs = 5\n"), &["training.epochs=0", "studnet.count=3", "seed", "data"]),
        "\
error: `training.epochs` must be at least 1, found 0
 --> --set training.epochs=0
  |
  | training.epochs=0
  |                 ^

error: unknown key `studnet`
 --> --set studnet.count=3
  |
  | studnet.count=3
  | ^^^^^^^
  = help: did you mean `student`?

error: `seed` sets no value
 --> --set seed
  |
  | seed
  | ^^^^
  = help: write `--set key.path=value`, for example `--set training.epochs=5`; lists count from 0

error: `data` sets no value
 --> --set data
  |
  | data
  | ^^^^
  = help: write `--set key.path=value`, for example `--set training.epochs=5`; lists count from 0"
    );
}

#[test]
fn a_bad_epsilon_is_told_what_a_good_one_is() {
    let text =
        with("[evaluate.threat]\nnorm = \"linf\"\nepsilon = [\"8/0\", \"8\", -1, 8, true, \"8/255\"]\n");
    assert_eq!(
        bad(&text, &[]),
        "\
error: the radius `8/0` divides by zero
 --> my.toml:5:12
  |
5 | epsilon = [\"8/0\", \"8\", -1, 8, true, \"8/255\"]
  |            ^^^^^
  = help: a radius is above 0, such as \"8/255\"

error: `8` is not a valid value for `evaluate.threat.epsilon.1`
 --> my.toml:5:19
  |
5 | epsilon = [\"8/0\", \"8\", -1, 8, true, \"8/255\"]
  |                   ^^^
  = help: write a fraction in quotes, such as \"8/255\", or a number without them

error: `evaluate.threat.epsilon.2` must be greater than 0, found -1
 --> my.toml:5:24
  |
5 | epsilon = [\"8/0\", \"8\", -1, 8, true, \"8/255\"]
  |                        ^^

error: the radius `8` is more than the whole range of a pixel
 --> my.toml:5:28
  |
5 | epsilon = [\"8/0\", \"8\", -1, 8, true, \"8/255\"]
  |                            ^
  = help: pixels are in [0, 1]; 8 levels of 255 are \"8/255\"

error: expected a number or a string for `evaluate.threat.epsilon.4`, found a boolean
 --> my.toml:5:31
  |
5 | epsilon = [\"8/0\", \"8\", -1, 8, true, \"8/255\"]
  |                               ^^^^"
    );
}

#[test]
fn a_curve_is_of_single_pixels_and_networks_of_attacks_have_names_of_their_own() {
    let text = with(
        r#"[evaluate.threat]
norm = "l2"
epsilon = "curve"
[evaluate.networks.teacher]
weights = "a.pth"
[evaluate.networks.other]
weights = "b.pth"
std = [0.5]
network = { architecture = "resnet20", weights = 3 }
"#,
    );
    let problems = load("my.toml", &text, &[]).expect_err("bad");
    let told: Vec<String> = problems.as_slice().iter().map(|problem| problem.message.clone()).collect();
    assert_eq!(
        told,
        [
            "a curve's radii are those of single pixels, for the norm `linf`",
            "`teacher` is the network that the run trains on real data",
            "`evaluate.networks.other.std` is given without `evaluate.networks.other.mean`",
            "unknown key `weights` in `evaluate.networks.other.network`",
        ]
    );
    let curv = bad(&with("[evaluate.threat]\nnorm = \"linf\"\nepsilon = \"curv\"\n"), &[]);
    assert!(curv.contains("\"curve\""), "{curv}");
}

#[test]
fn what_belongs_together_must_fit_together() {
    let text = r#"name = "a/b"
[data]
dataset = "x"
mean = [0.5, 0.5]
std = [0.1]
[student]
optimizer = { kind = "sgd", momentum = 0, nesterov = true }
[evaluate]
threat = { norm = "l2", epsilon = 2 }
attacks = [{ use = "pgd" }, { use = "fgsm", name = "PGD" }]
"#;
    let problems = load("my.toml", text, &[]).expect_err("bad");
    let messages: Vec<&str> = problems.as_slice().iter().map(|p| p.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "the name `a/b` contains `/`",
            "`data.std` has 1 channels, `data.mean` has 2",
            "`student.optimizer.nesterov` needs a momentum above 0",
            "two attacks are called `PGD`",
        ]
    );
}

#[test]
fn a_syntax_error_of_toml_is_a_problem_like_any_other() {
    assert_eq!(
        bad("[data]\ndataset = digits\nseed = 1 = 2\n", &[]),
        "\
error: invalid TOML: string values must be quoted
 --> my.toml:2:11
  |
2 | dataset = digits
  |           ^^^^^^

error: invalid TOML: unexpected key or value, expected newline, `#`
 --> my.toml:3:10
  |
3 | seed = 1 = 2
  |          ^"
    );
}

#[test]
fn the_options_of_a_plugin_are_checked_at_their_place() {
    let document = good(FULL, &["training.regularizers.0.options.raduis=2"]).document;
    let schema = serde_json::json!({
        "type": "object",
        "additionalProperties": false,
        "properties": { "form": { "enum": ["norm"] }, "radius": { "type": "number" } }
    });
    let problems = document.validate(&schema, "/training/regularizers/0/options");
    assert_eq!(
        Problems::new(problems).to_string(),
        "\
error: unknown key `raduis` in `training.regularizers.0.options`
 --> --set training.regularizers.0.options.raduis=2
  |
  | training.regularizers.0.options.raduis=2
  |                                 ^^^^^^
  = help: did you mean `radius`?"
    );
}

#[test]
fn schedules_averages_and_ramps_are_held_to_their_ranges() {
    let text = with(
        r#"
[training]
schedule = { kind = "multi-step", milestones = [0.5, 1.5] }
warmup = 1
ema = 1.0
clip_gradient = 0
keep = "first"
validation_share = 0
[[training.regularizers]]
use = "curvature"
warmup = 2
initial_weight = -1
[student]
schedule = { kind = "step", factor = 0.1 }
[distill]
objective = "sre2l"
regularizers = [{ use = "l2", warmup = 0.5 }]
"#,
    );
    let found = bad(&text, &[]);
    for part in [
        "`training.schedule.milestones.1` must be at most 1, found 1.5",
        "`training.warmup` must be less than 1, found 1",
        "`training.ema` must be less than 1, found 1.0",
        "`training.clip_gradient` must be greater than 0, found 0",
        "unknown value `first` for `training.keep`",
        "`training.validation_share` must be greater than 0, found 0",
        "`training.regularizers.0.warmup` must be at most 1, found 2",
        "`training.regularizers.0.initial_weight` must be at least 0, found -1",
        "missing key `every` in `student.schedule`",
        "`distill.regularizers.0.warmup` changes nothing: penalties on images keep their weight",
    ] {
        assert!(found.contains(part), "`{part}` is missing in:\n{found}");
    }
}
