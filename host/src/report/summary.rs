//! The figures of a run: accuracies of each network, mean ± standard deviation over students, and the flags.

use crate::engine::{Correct, Evaluation, RunResults, accuracy};
use guard_sdk::Budget;

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

/// One line of the table: a network, or several students of one variant.
#[derive(Debug, Clone)]
pub struct Row {
    /// The variant.
    pub variant: String,
    /// `teacher`, or `3 students`.
    pub network: String,
    /// Accuracy without attack.
    pub clean: Spread,
    /// Worst case over attacks, one per budget.
    pub robust: Vec<Spread>,
    /// What looks wrong.
    pub flags: Vec<String>,
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
    /// The budgets, in the recipe's order.
    pub budgets: Vec<Budget>,
    /// The lines.
    pub rows: Vec<Row>,
}

/// The figures of `results`.
pub fn summary(results: &RunResults) -> Summary {
    let mut rows = Vec::new();
    for variant in &results.variants {
        if let Some(teacher) = &variant.teacher {
            rows.push(row(&variant.name, "teacher".into(), &[teacher]));
        }
        let students: Vec<&Vec<Evaluation>> =
            variant.students.iter().map(|student| &student.evaluations).collect();
        if !students.is_empty() {
            let network =
                if students.len() == 1 { "1 student".into() } else { format!("{} students", students.len()) };
            rows.push(row(&variant.name, network, &students));
        }
    }
    let any = results.variants.iter().flat_map(|variant| {
        variant.teacher.iter().chain(variant.students.iter().map(|each| &each.evaluations))
    });
    let any: Vec<&Vec<Evaluation>> = any.collect();
    Summary {
        dataset: results.dataset.clone(),
        images: results.images,
        split: results.split,
        attacks: any
            .first()
            .and_then(|first| first.first())
            .map_or(Vec::new(), |first| first.attacks.iter().map(|attack| attack.name.clone()).collect()),
        budgets: any
            .first()
            .map_or(Vec::new(), |first| first.iter().filter_map(|each| each.budget).collect()),
        rows,
    }
}

fn row(variant: &str, network: String, networks: &[&Vec<Evaluation>]) -> Row {
    let over = |figure: &dyn Fn(&Vec<Evaluation>) -> Correct| {
        Spread::of(&networks.iter().map(|each| accuracy(&figure(each))).collect::<Vec<_>>())
    };
    let budgets = networks[0].iter().filter(|each| each.budget.is_some()).count();
    let mut flags: Vec<String> = networks.iter().flat_map(|evaluations| flags(evaluations)).collect();
    flags.dedup();
    Row {
        variant: variant.to_string(),
        network,
        clean: over(&|each| each[0].clean.clone()),
        robust: (0..budgets).map(|index| over(&|each| each[index].worst_case())).collect(),
        flags,
    }
}

/// What looks wrong with one network's figures: more accuracy under a larger ε of the same attack means that the attack
/// fails, not that the network resists.
pub fn flags(evaluations: &[Evaluation]) -> Vec<String> {
    let mut flags = Vec::new();
    for smaller in evaluations {
        for larger in evaluations {
            let (Some(small), Some(large)) = (smaller.budget, larger.budget) else { continue };
            for (under_small, under_large) in smaller.attacks.iter().zip(&larger.attacks) {
                let (before, after) = (accuracy(&under_small.correct), accuracy(&under_large.correct));
                if large.epsilon > small.epsilon && after > before {
                    flags.push(format!(
                        "`{}` leaves {:.1} % at ε = {} but only {:.1} % at the smaller ε = {}",
                        under_small.name,
                        100.0 * after,
                        large.epsilon,
                        100.0 * before,
                        small.epsilon
                    ));
                }
            }
        }
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::AttackResult;
    use guard_sdk::Norm;

    fn evaluation(epsilon: f64, correct: &[bool]) -> Evaluation {
        Evaluation {
            budget: Some(Budget { norm: Norm::Linf, epsilon }),
            clean: vec![true; correct.len()],
            attacks: vec![AttackResult { name: "pgd".into(), correct: correct.to_vec() }],
        }
    }

    #[test]
    fn the_spread_is_the_sample_standard_deviation() {
        let spread = Spread::of(&[0.1, 0.2, 0.3]);
        assert!((spread.mean - 0.2).abs() < 1e-15 && (spread.std.unwrap() - 0.1).abs() < 1e-15);
        assert_eq!(Spread::of(&[0.5]).to_string(), "50.0");
        assert_eq!(spread.to_string(), "20.0 ± 10.0");
    }

    #[test]
    fn accuracy_that_rises_with_epsilon_is_flagged() {
        let falling = [evaluation(0.1, &[true, true]), evaluation(0.2, &[true, false])];
        assert!(flags(&falling).is_empty());
        let rising = [evaluation(0.1, &[true, false]), evaluation(0.2, &[true, true])];
        assert_eq!(flags(&rising).len(), 1);
        assert!(flags(&rising)[0].contains("100.0 % at ε = 0.2"), "{:?}", flags(&rising));
    }

    #[test]
    fn the_worst_case_is_taken_per_example() {
        let mut both = evaluation(0.1, &[true, false, true]);
        both.attacks.push(AttackResult { name: "other".into(), correct: vec![false, true, true] });
        assert_eq!(both.worst_case(), [false, false, true]);
    }
}
