//! The golden values: numbers that PyTorch computed from the methods' formulas, against what this host and its plugins
//! compute from the same parameters and inputs.
//!
//! Everything comes from the folder's `index.json` (`../shared/golden` beside the checkout, or `GUARD_GOLDEN_DIR`): one
//! trial for each case of a known kind, one ignored trial for each kind that is not known yet.

mod attacks;
mod auto_attack;
mod basic;
mod checks;
mod curvature;
mod gradient_norm;
mod host;
mod index;
mod kd;
mod kinds;
mod lab;
mod matching;
mod minimum_norm;
mod mix;
mod network;
mod priors;
mod replay;
mod robustness;
mod schedule;
mod sre2l;
mod tally;
mod trades;
mod trajectory;

use checks::Checks;
use index::{Golden, folder};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use std::{
    process::ExitCode,
    sync::{Arc, Mutex},
};
use tally::Tally;

/// Float32 cases in which rounding decides something: the side of 0 on which a ReLU's argument is, 3.1e-7 in the first, where the
/// recorded float32 activations beside it are off by 2.5e-6; the sign of a pixel's step to the neighbour in the second, of which
/// libtorch's own convolutions and those of `host/kernels` are of two minds. What comes after it says nothing of the computation.
const KINKS: [&str; 2] = ["rna.basic_train.f32", "cnb.trades.f32"];

/// How many roundings darker the images of such a case may be at most.
const ROUNDINGS: i32 = 4;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Replayed draws come from libtorch's own generator, which the whole process shares.
    arguments.test_threads = Some(1);
    // Before anything else is asked of libtorch.
    guard_tests::device();
    // As the golden values were made.
    tch::set_num_threads(1);
    let tally = Arc::new(Mutex::new(Tally::default()));
    let conclusion = libtest_mimic::run(&arguments, trials(&tally));
    if !arguments.list && folder().exists() {
        print!("{}", tally.lock().expect("no trial panics while it holds the tally"));
    }
    conclusion.exit_code()
}

fn trials(tally: &Arc<Mutex<Tally>>) -> Vec<Trial> {
    let folder = folder();
    if !folder.exists() {
        return vec![ignored(
            "golden",
            format!("there is no folder `{}`; GUARD_GOLDEN_DIR names another", folder.display()),
        )];
    }
    let golden = match Golden::read(folder) {
        Ok(golden) => Arc::new(golden),
        Err(error) => return vec![Trial::test("index", move || Err(Failed::from(error)))],
    };
    let mut trials = Vec::new();
    let mut unknown: Vec<(String, usize)> = Vec::new();
    for (position, case) in golden.index.cases.iter().enumerate() {
        let kind = kinds::kind(&case.name);
        match kinds::check(&kind) {
            Some(check) => {
                let (golden, tally) = (golden.clone(), tally.clone());
                let run = move || {
                    one(&golden, position, &kinds::kind(&golden.index.cases[position].name), check, &tally)
                };
                trials.push(Trial::test(case.title(), run).with_kind(kind));
            }
            None => match unknown.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, count)) => *count += 1,
                None => unknown.push((kind, 1)),
            },
        }
    }
    tally.lock().expect("nothing runs yet").unknown(&unknown);
    trials.extend(
        unknown
            .into_iter()
            .map(|(kind, count)| ignored(&kind, format!("{count} cases of a kind that is not known yet"))),
    );
    trials
}

fn one(
    golden: &Golden,
    position: usize,
    kind: &str,
    check: kinds::Check,
    tally: &Mutex<Tally>,
) -> Result<(), Failed> {
    let case = &golden.index.cases[position];
    let attempt = |roundings| -> guard_sdk::Result<_> {
        let mut checks = Checks::new(golden, case, roundings)?;
        let outcome = check(&mut checks);
        Ok((outcome, checks.report()))
    };
    let (outcome, mut report) = attempt(0)?;
    if outcome.is_ok() && !report.failures.is_empty() && KINKS.contains(&case.title().as_str()) {
        for roundings in 1..=ROUNDINGS {
            let (outcome, mut beside) = attempt(roundings)?;
            if outcome.is_ok() && beside.failures.is_empty() {
                let reason = format!("at the recorded images, but at some {roundings} roundings darker");
                beside.uncompared.extend(report.keys().map(|key| (key, reason.clone())));
                report = beside;
                break;
            }
        }
    }
    tally.lock().expect("no trial panics while it holds the tally").add(kind, &report);
    outcome?;
    match report.failures.is_empty() {
        true => Ok(()),
        false => Err(Failed::from(report.failures.join("\n"))),
    }
}

fn ignored(name: &str, reason: String) -> Trial {
    Trial::ignorable_test(name, move || Ok(Completion::ignored_with(reason)))
}
