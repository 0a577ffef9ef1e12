//! The figures of a run: accuracies of each network, mean ± standard deviation over students, and the flags.

use crate::engine::{
    Correct, Evaluation, Flag, NetworkResults, RunResults, UnderThreat, VariantResults, accuracy,
};
use crate::recipe::TEACHER;
use guard_sdk::{Budget, attack::Knowledge};

/// Mean and sample standard deviation of fractions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The sample standard deviation; none for a single value.
    pub std: Option<f64>,
}

impl Spread {
    /// Of at least one value.
    pub fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Self { mean, std: (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt()) }
    }
}

impl std::fmt::Display for Spread {
    /// In percent.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.std {
            Some(std) => write!(f, "{:.1} ± {:.1}", 100.0 * self.mean, 100.0 * std),
            None => write!(f, "{:.1}", 100.0 * self.mean),
        }
    }
}

/// Accuracy within one budget.
#[derive(Debug, Clone, PartialEq)]
pub struct Robust {
    /// Worst case over the attacks, image by image.
    pub worst: Spread,
    /// Under each attack.
    pub attacks: Vec<Spread>,
}

/// One line of the table: a network, or several students of one variant.
#[derive(Debug, Clone)]
pub struct Row {
    /// The variant.
    pub variant: String,
    /// Whether the others are to be measured by it.
    pub baseline: bool,
    /// How many synthetic images of each class the students are trained on; nothing for a teacher.
    pub images_per_class: Option<usize>,
    /// `teacher`, or `3 students`.
    pub network: String,
    /// Accuracy without attack.
    pub clean: Spread,
    /// Within each budget, where it was measured.
    pub robust: Vec<Option<Robust>>,
    /// The curvature of the loss, where it was measured.
    pub curvature: Option<Spread>,
    /// What looks wrong.
    pub flags: Vec<Flag>,
}

impl Row {
    /// What looks wrong, by code, each once.
    pub fn codes(&self) -> Vec<&str> {
        codes(&self.flags)
    }

    /// The variant's name, marked where it is a baseline.
    pub fn label(&self) -> String {
        if self.baseline { format!("{} (baseline)", self.variant) } else { self.variant.clone() }
    }
}

/// The codes of flags in order, each once.
pub(super) fn codes<'a>(flags: impl IntoIterator<Item = &'a Flag>) -> Vec<&'a str> {
    let mut codes: Vec<&str> = flags.into_iter().map(|flag| flag.code.as_ref()).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

/// The figures of a run.
#[derive(Debug, Clone)]
pub struct Summary {
    /// The data set.
    pub dataset: String,
    /// Number of images that were evaluated on.
    pub images: usize,
    /// `test` or `validation`.
    pub split: &'static str,
    /// The attacks, by name.
    pub attacks: Vec<String>,
    /// Their options in words, where runs of several are told apart.
    pub options: Vec<String>,
    /// What they see of the network.
    pub knowledge: Knowledge,
    /// The budgets, in the recipe's order.
    pub budgets: Vec<Budget>,
    /// The lines.
    pub rows: Vec<Row>,
    /// Whether tables have a column for each attack, beside the worst case.
    pub each_attack: bool,
}

impl Summary {
    /// Every flag once, with the networks that it is about.
    pub fn flags(&self) -> Vec<(&Flag, String)> {
        let mut flags: Vec<(&Flag, Vec<String>)> = Vec::new();
        for row in &self.rows {
            for flag in &row.flags {
                let who = format!("{}, {}", row.variant, row.network);
                match flags.iter_mut().find(|(known, _)| *known == flag) {
                    Some((_, networks)) => networks.push(who),
                    None => flags.push((flag, vec![who])),
                }
            }
        }
        let all = |networks: &[String]| networks.len() > 1 && networks.len() == self.rows.len();
        let told =
            |networks: Vec<String>| if all(&networks) { "every network".into() } else { networks.join("; ") };
        flags.into_iter().map(|(flag, networks)| (flag, told(networks))).collect()
    }
}

/// The figures of `results`.
pub fn summary(results: &RunResults) -> Summary {
    let mut rows = Vec::new();
    for variant in &results.variants {
        for NetworkResults { name, evaluations, .. } in variant.networks() {
            rows.push(row(variant, name, &evaluations));
        }
    }
    let mut any = results.variants.iter().flat_map(VariantResults::evaluations);
    let threats = any.next().map_or(&[][..], |first| &first.threats);
    let names =
        threats.first().map(|threat| threat.attacks.iter().map(|attack| attack.name.clone()).collect());
    let knowledge = threats.first().map_or(Knowledge::WhiteBox, UnderThreat::knowledge);
    Summary {
        dataset: results.dataset.clone(),
        images: results.images,
        split: results.split,
        attacks: names.unwrap_or_default(),
        options: Vec::new(),
        knowledge,
        budgets: threats.iter().map(|threat| threat.budget).collect(),
        rows,
        each_attack: false,
    }
}

fn row(variant: &VariantResults, network: String, networks: &[&Evaluation]) -> Row {
    let over = |figure: &dyn Fn(&Evaluation) -> Correct| {
        Spread::of(&networks.iter().map(|each| accuracy(&figure(each))).collect::<Vec<_>>())
    };
    let mut flags: Vec<Flag> = Vec::new();
    for flag in networks.iter().flat_map(|each| &each.flags) {
        if !flags.contains(flag) {
            flags.push(flag.clone());
        }
    }
    let curvature: Option<Vec<f64>> = networks.iter().map(|each| each.mean_curvature()).collect();
    Row {
        variant: variant.name.clone(),
        baseline: variant.baseline,
        images_per_class: variant.images_per_class.filter(|_| network != TEACHER),
        network,
        clean: over(&|each| each.clean.clone()),
        robust: (0..networks[0].threats.len())
            .map(|index| {
                let attacks = 0..networks[0].threats[index].attacks.len();
                Some(Robust {
                    worst: over(&|each| each.worst_case(&each.threats[index])),
                    attacks: attacks
                        .map(|attack| over(&|each| each.threats[index].attacks[attack].correct.clone()))
                        .collect(),
                })
            })
            .collect(),
        curvature: curvature.map(|each| Spread::of(&each)),
        flags,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::AttackResult;
    use guard_sdk::Norm;

    #[test]
    fn the_spread_is_the_sample_standard_deviation() {
        let spread = Spread::of(&[0.1, 0.2, 0.3]);
        assert!((spread.mean - 0.2).abs() < 1e-15 && (spread.std.unwrap() - 0.1).abs() < 1e-15);
        assert_eq!(Spread::of(&[0.5]).to_string(), "50.0");
        assert_eq!(spread.to_string(), "20.0 ± 10.0");
    }

    #[test]
    fn the_worst_case_is_taken_per_example() {
        let result = |name: &str, correct: &[bool]| AttackResult {
            name: name.into(),
            correct: correct.to_vec(),
            predicted: correct.iter().map(|&correct| i64::from(!correct)).collect(),
            sizes: vec![0.0; 3],
            minimum_norm: false,
            knowledge: Knowledge::WhiteBox,
            caveat: None,
            members: Vec::new(),
            seconds: 0.0,
        };
        let threat = UnderThreat {
            budget: Budget { norm: Norm::Linf, epsilon: 0.1 },
            attacks: vec![result("pgd", &[true, false, true]), result("other", &[false, true, true])],
        };
        let clean = vec![true; 3];
        let evaluation =
            Evaluation { clean, clean_seconds: 0.0, threats: vec![threat], ..Evaluation::default() };
        assert_eq!(evaluation.worst_case(&evaluation.threats[0]), [false, false, true]);
    }

    #[test]
    fn a_flag_is_told_once_for_all_networks_that_have_it() {
        let flag = |message: &str| Flag { code: "few-steps".into(), message: message.into() };
        let row = |network: &str, flags: &[&str]| Row {
            variant: "SRe2L".into(),
            baseline: false,
            images_per_class: None,
            network: network.into(),
            clean: Spread::of(&[1.0]),
            robust: Vec::new(),
            curvature: None,
            flags: flags.iter().map(|message| flag(message)).collect(),
        };
        let rows = vec![row("teacher", &["a", "b"]), row("1 wide", &["a"]), row("1 deep", &["c", "a", "b"])];
        let (dataset, attacks, budgets) = Default::default();
        let summary = Summary {
            dataset,
            images: 1,
            split: "test",
            attacks,
            options: Vec::new(),
            knowledge: Knowledge::WhiteBox,
            budgets,
            rows,
            each_attack: false,
        };
        let told: Vec<(String, String)> =
            summary.flags().into_iter().map(|(flag, who)| (flag.message.clone(), who)).collect();
        let wanted = [("a", "every network"), ("b", "SRe2L, teacher; SRe2L, 1 deep"), ("c", "SRe2L, 1 deep")];
        assert_eq!(told, wanted.map(|(flag, who)| (flag.to_string(), who.to_string())));
    }
}
