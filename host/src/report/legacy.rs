//! Figures that other papers print, for comparison with those papers and for nothing else; [`CAVEATS`] says what is wrong with
//! each. They stay out of the table and of `results.json`.
//!
//! | name | where it comes from |
//! |---|---|
//! | `rr`, `ae`, `crei` | BEARD (arXiv 2411.09265): robustness ratio, attack efficiency, and their mean |
//! | `relative_drop` | the share of clean accuracy that an attack takes |
//! | `lrs`, `ars` | DD-Ranking (arXiv 2505.13300): label-robust and augmentation-robust score, of fractions |

use super::{json::threat_json, summary::Spread};
use crate::{
    engine::{Evaluation, NetworkResults, RunResults, UnderThreat, VariantResults, accuracy},
    plan::{Plan, VariantPlan},
    recipe::{Labels, Recipe},
};
use guard_sdk::Budget;
use serde_json::{Value, json};

/// What is wrong with each figure.
pub const CAVEATS: [(&str, &str); 6] = [
    (
        "rr",
        "100·[1 − (clean − mean)/(clean − min)] over the attacks: it falls when a weak attack is left out, is 0 with a single attack however robust the network is, and rises with the number of weak attacks",
    ),
    (
        "ae",
        "100·(mean − clean)/(max − clean) of seconds: it measures the implementation of the attacks and the machine, and is 100 with a single attack",
    ),
    ("crei", "½·rr + ½·ae: it adds a ratio of accuracies to a ratio of seconds"),
    (
        "relative_drop",
        "(clean − worst case)/clean: a network that is never right loses nothing; compare accuracies at equal clean accuracy",
    ),
    (
        "lrs",
        "(exp α − 1/e)/(e − 1/e) for α = ½·IOR − ½·HLR, of clean accuracies: it says nothing of robustness, rises where the variant's own teacher, which stands for the whole data, is worse, and published values that put percent into the exponential cannot be compared",
    ),
    (
        "ars",
        "the same of the gain over random images, half with and half without augmentation: it says nothing of robustness to attacks",
    ),
];

/// RR of a network that is right for the share `clean` of the images without attack, and for `attacked` under each; none where
/// no attack takes anything.
pub fn robustness_ratio(clean: f64, attacked: &[f64]) -> Option<f64> {
    let least = attacked.iter().copied().reduce(f64::min)?;
    let mean = attacked.iter().sum::<f64>() / attacked.len() as f64;
    (clean > least).then(|| 100.0 * (1.0 - (clean - mean) / (clean - least)))
}

/// AE of the seconds that the images took without attack and under each.
pub fn attack_efficiency(clean: f64, attacked: &[f64]) -> Option<f64> {
    let most = attacked.iter().copied().reduce(f64::max)?;
    let mean = attacked.iter().sum::<f64>() / attacked.len() as f64;
    // Rounded, the mean of equal seconds can be more than the most.
    (most > clean).then(|| (100.0 * (mean - clean) / (most - clean)).min(100.0))
}

/// The share of the clean accuracy that is lost.
pub fn relative_drop(clean: f64, robust: f64) -> Option<f64> {
    (clean > 0.0).then(|| (clean - robust) / clean)
}

/// DD-Ranking's scale, from 0 at −1 to 1 at 1.
pub fn ranking_score(gain: f64) -> f64 {
    let (e, least) = (1f64.exp(), (-1f64).exp());
    (gain.exp() - least) / (e - least)
}

/// The figures of one network within one budget.
fn of_threat(evaluation: &Evaluation, threat: &UnderThreat) -> [Option<f64>; 4] {
    let clean = accuracy(&evaluation.clean);
    let each: Vec<f64> = threat.attacks.iter().map(|attack| accuracy(&attack.correct)).collect();
    let seconds: Vec<f64> = threat.attacks.iter().map(|attack| attack.seconds).collect();
    let (rr, ae) = (robustness_ratio(clean, &each), attack_efficiency(evaluation.clean_seconds, &seconds));
    let crei = rr.zip(ae).map(|(rr, ae)| 0.5 * rr + 0.5 * ae);
    [rr, ae, crei, relative_drop(clean, accuracy(&evaluation.worst_case(threat)))]
}

/// The figures of one network within one budget as JSON, with their caveats.
pub fn legacy_of_network(evaluation: &Evaluation, threat: &UnderThreat) -> Value {
    let [rr, ae, crei, relative_drop] = of_threat(evaluation, threat);
    json!({ "rr": rr, "ae": ae, "crei": crei, "relative_drop": relative_drop, "caveats": caveats(4) })
}

/// Those of the first `count` figures.
fn caveats(count: usize) -> Value {
    CAVEATS[..count].iter().map(|(name, caveat)| ((*name).to_string(), json!(caveat))).collect()
}

/// One line: a network, or the mean over the students of a variant, within one budget.
#[derive(Debug, Clone, PartialEq)]
pub struct LegacyRow {
    /// The variant.
    pub variant: String,
    /// `teacher`, or `3 students`.
    pub network: String,
    /// The budget.
    pub budget: Budget,
    /// RR, AE, CREI (of 100) and the relative drop (a fraction).
    pub figures: [Option<f64>; 4],
}

/// DD-Ranking's scores of one variant.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    /// The variant.
    pub variant: String,
    /// LRS; it takes a random baseline, and the variant itself with hard labels.
    pub label_robust: Option<f64>,
    /// ARS; it takes variant and random baseline with and without augmentation.
    pub augmentation_robust: Option<f64>,
}

/// All legacy figures of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Legacy {
    /// Of the attacks.
    pub rows: Vec<LegacyRow>,
    /// Of the distilled sets for which the recipe has the variants that these figures compare.
    pub rankings: Vec<Ranking>,
}

/// The figures of `results`.
pub fn legacy(plan: &Plan, results: &RunResults) -> Legacy {
    let mut rows = Vec::new();
    for variant in &results.variants {
        for NetworkResults { name, evaluations, .. } in variant.networks() {
            for (index, threat) in evaluations[0].threats.iter().enumerate() {
                let each: Vec<_> =
                    evaluations.iter().map(|each| of_threat(each, &each.threats[index])).collect();
                let mean = |figure: usize| {
                    let values: Option<Vec<f64>> = each.iter().map(|figures| figures[figure]).collect();
                    values.map(|values| Spread::of(&values).mean)
                };
                rows.push(LegacyRow {
                    variant: variant.name.clone(),
                    network: name.clone(),
                    budget: threat.budget,
                    figures: [0, 1, 2, 3].map(mean),
                });
            }
        }
    }
    let both: Vec<Entry> = plan.variants.iter().zip(&results.variants).collect();
    let rankings = both.iter().filter(|(plan, _)| !plan.baseline).map(|entry| ranking(entry, &both));
    let told = |ranking: &Ranking| ranking.label_robust.is_some() || ranking.augmentation_robust.is_some();
    Legacy { rows, rankings: rankings.filter(told).collect() }
}

/// A variant, and what it found.
type Entry<'a> = (&'a VariantPlan, &'a VariantResults);

/// The mean clean accuracy of a variant's students.
fn students((_, results): &Entry) -> Option<f64> {
    let accuracies: Vec<f64> =
        results.students.iter().map(|student| accuracy(&student.evaluation.clean)).collect();
    (!accuracies.is_empty()).then(|| Spread::of(&accuracies).mean)
}

fn ranking(entry: &Entry, all: &[Entry]) -> Ranking {
    // The variant whose recipe differs from that of `from` as `change` says, or `from` itself.
    let like = |from: &Entry, change: &dyn Fn(&mut Recipe)| {
        let mut wanted = from.0.recipe.clone();
        change(&mut wanted);
        all.iter().find(|(plan, _)| plan.recipe == wanted).and_then(students)
    };
    let hard = |recipe: &mut Recipe| recipe.relabel.labels = Labels::Hard;
    let plain = |recipe: &mut Recipe| {
        (recipe.student.mixup, recipe.student.cutmix) = (0.0, 0.0);
        recipe.student.augment = Default::default();
    };
    let random = all.iter().find(|other| is_random_for(&other.0.recipe, &entry.0.recipe) && other.0.baseline);
    let gain = random.and_then(|random| Some(students(entry)? - students(random)?));
    let lost =
        entry.1.teacher.as_ref().and_then(|teacher| Some(accuracy(&teacher.clean) - like(entry, &hard)?));
    let plain_gain = random.and_then(|random| Some(like(entry, &plain)? - like(random, &plain)?));
    let score = |(one, other): (f64, f64)| ranking_score(0.5 * one + 0.5 * other);
    Ranking {
        variant: entry.1.name.clone(),
        label_robust: gain.zip(lost.map(|lost| -lost)).map(score),
        augmentation_robust: gain.zip(plain_gain).map(score),
    }
}

/// Whether `random` trains its students on as many real images drawn at random, and otherwise as `recipe` does.
fn is_random_for(random: &Recipe, recipe: &Recipe) -> bool {
    let (Some(drawn), Some(distilled)) = (&random.distill, &recipe.distill) else { return false };
    let name = drawn.objective.rsplit('/').next();
    name == Some("random")
        && drawn.images_per_class == distilled.images_per_class
        && (&random.data, &random.network, &random.student, &random.students, &random.relabel)
            == (&recipe.data, &recipe.network, &recipe.student, &recipe.students, &recipe.relabel)
}

impl Legacy {
    /// For `legacy.json`.
    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let [rr, ae, crei, relative_drop] = row.figures;
            json!({
                "variant": row.variant, "network": row.network, "threat": threat_json(&row.budget),
                "rr": rr, "ae": ae, "crei": crei, "relative_drop": relative_drop,
            })
        });
        let rankings = self.rankings.iter().map(|ranking| {
            json!({ "variant": ranking.variant, "lrs": ranking.label_robust, "ars": ranking.augmentation_robust })
        });
        json!({
            "caveats": caveats(CAVEATS.len()),
            "networks": rows.collect::<Vec<_>>(),
            "variants": rankings.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{data::prepare, engine::StudentResult, network::NetworkSpec, recipe};

    /// Clean accuracy and those under six attacks at 8/255 of the golden case `robust_dist`, network `cnat`.
    const CLEAN: f64 = 0.953125;
    const ATTACKED: [f64; 6] = [0.390625, 0.375, 0.578125, 0.453125, 0.375, 0.40625];

    #[test]
    fn the_robustness_ratio_is_that_of_beard() {
        let ratio = robustness_ratio(CLEAN, &ATTACKED).unwrap();
        assert!((ratio - 100.0 * (1.0 - 0.5234375 / 0.578125)).abs() < 1e-9, "{ratio}");
    }

    #[test]
    fn the_ratio_rises_when_a_weak_attack_is_added() {
        let more: Vec<f64> = ATTACKED.into_iter().chain([CLEAN]).collect();
        assert!(robustness_ratio(CLEAN, &more) > robustness_ratio(CLEAN, &ATTACKED));
        assert_eq!(robustness_ratio(CLEAN, &[0.9]), Some(0.0));
        assert_eq!(robustness_ratio(CLEAN, &[CLEAN]), None);
    }

    #[test]
    fn attack_efficiency_is_a_ratio_of_seconds() {
        assert_eq!(attack_efficiency(1.0, &[2.0, 5.0]), Some(62.5));
        assert_eq!(attack_efficiency(1.0, &[5.0]), Some(100.0));
    }

    #[test]
    fn the_ranking_scale_goes_from_0_to_1_on_fractions() {
        assert_eq!((ranking_score(-1.0), ranking_score(1.0)), (0.0, 1.0));
        // 45 % where random images give 26 % and the whole data 85 %.
        let score = ranking_score(0.5 * (0.45 - 0.26) - 0.5 * (0.85 - 0.45));
        assert!((score - 0.226_534).abs() < 1e-6, "{score}");
    }

    #[test]
    fn a_network_that_is_never_right_has_no_relative_drop() {
        assert_eq!(relative_drop(0.0, 0.0), None);
        assert_eq!(relative_drop(0.75, 0.375), Some(0.5));
    }

    /// Soft labels and Mixup, with everything that DD-Ranking compares it with, and much that it must not be compared with.
    const RECIPE: &str = r#"
[data]
dataset = "digits"
[network]
architecture = "convnet"
[distill]
objective = "sre2l"
images_per_class = 5
[relabel]
labels = "soft"
[student]
augment = ["flip"]
[[variants]]
name = "ours"
[[variants]]
name = "ours hard"
relabel.labels = "hard"
[[variants]]
name = "ours plain"
student = { mixup = 0, augment = [] }
[[variants]]
name = "random without mark"
distill.objective = "random"
training.epochs = 3
[[variants]]
name = "more random"
baseline = true
distill = { objective = "random", images_per_class = 10 }
[[variants]]
name = "random for a wider network"
baseline = true
distill.objective = "random"
network.width = 64
[[variants]]
name = "random"
baseline = true
distill.objective = "random"
[[variants]]
name = "random plain"
baseline = true
distill.objective = "random"
student = { mixup = 0, augment = [] }
"#;

    fn right(count: usize) -> Evaluation {
        let clean = (0..20).map(|index| index < count).collect();
        Evaluation { clean, ..Evaluation::default() }
    }

    /// The scores of `recipe`, whose variants have these numbers of 20 images right: the teacher's, and the students'.
    fn rankings(text: &str, found: &[(&str, usize, &[usize])]) -> Vec<Ranking> {
        let loaded = recipe::load("test.toml", text, &[]).unwrap_or_else(|problems| panic!("{problems}"));
        let data = prepare(&loaded.recipe.data).unwrap().info().clone();
        let variants =
            loaded.variants.into_iter().map(|recipe::Variant { name, baseline, recipe, .. }| {
                let network = NetworkSpec {
                    architecture: recipe.network.clone(),
                    input: data.image,
                    classes: 10,
                    mean: data.mean.clone(),
                    std: data.std.clone(),
                    whitening: None,
                    precision: Default::default(),
                };
                let (students, surrogates, budgets) = Default::default();
                let (trains_teacher, distillation) = (true, None);
                VariantPlan {
                    name,
                    baseline,
                    recipe,
                    network,
                    students,
                    trains_teacher,
                    distillation,
                    surrogates,
                    budgets,
                }
            });
        let variants: Vec<VariantPlan> = variants.collect();
        let results = variants.iter().map(|VariantPlan { name, baseline, .. }| {
            let (_, teacher, students) = found.iter().find(|(known, ..)| known == name).unwrap();
            let students = students.iter().zip(0..).map(|(&count, number)| StudentResult {
                network: None,
                number,
                evaluation: right(count),
            });
            VariantResults {
                name: name.clone(),
                baseline: *baseline,
                images_per_class: None,
                teacher: Some(right(*teacher)),
                students: students.collect(),
            }
        });
        let results = RunResults {
            dataset: "digits".into(),
            images: 20,
            split: "test",
            skipped: Vec::new(),
            variants: results.collect(),
        };
        let (name, cpu_capability, plugins) = Default::default();
        let (gpu, deterministic) = (None, false);
        let plan =
            Plan { name, seed: 0, threads: 1, cpu_capability, gpu, deterministic, data, variants, plugins };
        legacy(&plan, &results).rankings
    }

    #[test]
    fn distilled_images_are_ranked_against_their_own_random_images_whole_data_hard_labels_and_plain_training()
    {
        let found = rankings(
            RECIPE,
            &[
                ("ours", 19, &[12, 14]),
                ("ours hard", 18, &[9, 9]),
                ("ours plain", 18, &[9, 11]),
                ("random without mark", 18, &[1]),
                ("more random", 18, &[11]),
                ("random for a wider network", 18, &[2]),
                ("random", 18, &[6]),
                ("random plain", 18, &[5]),
            ],
        );
        let of = |name: &str| found.iter().find(|ranking| ranking.variant == name);
        let near = |score: Option<f64>, wanted: f64| {
            assert!((score.unwrap() - wanted).abs() < 1e-6, "{score:?}, not {wanted}");
        };
        let ours = of("ours").unwrap();
        // IOR = 13/20 − 6/20, HLR = 19/20 − 9/20: α = −.075.
        near(ours.label_robust, 0.238_199);
        // 13/20 − 6/20 with Mixup and flips, 10/20 − 5/20 without: β = .3.
        near(ours.augmentation_robust, 0.417_792);
        // Without augmentation already: the same gain twice. Its own hard labels were not tried.
        let plain = of("ours plain").unwrap();
        near(plain.augmentation_robust, 0.389_783);
        assert_eq!(plain.label_robust, None);
        // Nobody drew random images with hard labels; and baselines are what others are ranked by.
        for unranked in ["ours hard", "more random", "random", "random plain"] {
            assert_eq!(of(unranked), None, "{unranked}");
        }
    }

    #[test]
    fn random_images_that_are_no_baseline_rank_nothing() {
        let text = RECIPE.replace("baseline = true\n", "");
        let all = ["ours", "ours hard", "ours plain", "random without mark", "more random"];
        let rest = ["random for a wider network", "random", "random plain"];
        let found: Vec<_> = all.into_iter().chain(rest).map(|name| (name, 18, &[9][..])).collect();
        assert_eq!(rankings(&text, &found), []);
    }
}
