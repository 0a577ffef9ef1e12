//! `cargo xtask soak`: runs of every objective with every kind of labels are killed, or find the disk full, wherever they write,
//! go on, and must end with the same bits as a run that nothing happened to.
//!
//! It needs nobody. It goes on for the time it is given, and takes the failpoints of each recipe in an order that is spread over
//! the run however early it ends. What is wrong is told with the folder that shows it, and fails the command. The result is a
//! table, kept in `tests/soak/RESULT.md`.

#[path = "../../../tests/here/left.rs"]
mod left;
#[path = "../../../tests/here/points.rs"]
mod points;
mod recipes;
mod result;
#[allow(dead_code, reason = "the host's tests use the rest of it")]
#[path = "../../../tests/here/trial.rs"]
mod trial;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;

use crate::error::say;
use crate::workspace::Workspace;
use crate::{build, setup};
use points::Point;
use trial::{Then, Whole};

/// How often it says how far it is, and writes the result as it is by then.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Steps of this share of a run are spread evenly over it, however many there are.
const GOLDEN: f64 = 0.618_033_988_75;

/// What `soak` takes.
#[derive(Args)]
pub struct SoakArguments {
    /// How long it goes on
    #[arg(long, value_name = "M", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
    /// Take only this objective, and keep no result. May be repeated
    #[arg(long = "objective", value_name = "NAME")]
    objectives: Vec<String>,
    /// A host that is built, with the plugins beside it, instead of one that is built now
    #[arg(long, value_name = "FILE")]
    host: Option<PathBuf>,
}

/// One recipe, and what became of its trials.
struct Subject {
    objective: &'static str,
    labels: &'static str,
    whole: Whole,
    /// What is to be tried, in this order.
    trials: Vec<(Then, Point)>,
    /// How many were.
    done: usize,
    wrong: Vec<String>,
}

/// Tries as many failpoints as the time allows and writes the result.
pub fn soak(workspace: &Workspace, arguments: &SoakArguments) -> Result<()> {
    let begun = Instant::now();
    let end = begun + Duration::from_secs(60 * arguments.minutes);
    let host = match &arguments.host {
        Some(host) => host.canonicalize().with_context(|| format!("no host in `{}`", host.display()))?,
        None => {
            setup::setup(workspace, false)?;
            build::build(workspace)?.host
        }
    };
    // Before the time passes in which it may change.
    let of = result::Of::now(workspace);
    let folder = workspace.root.join("target/soak");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot clear `{}`", folder.display()))?;
    }
    let mut subjects = Vec::new();
    for (objective, labels, recipe) in recipes::chosen(&arguments.objectives)? {
        let place = folder.join(format!("{objective}-{labels}"));
        let whole = Whole::run(&host, &place, &recipe)
            .map_err(|error| anyhow!("{objective}, {labels} labels: {error}"))?;
        let trials = trials(&whole.points, subjects.len());
        subjects.push(Subject { objective, labels, whole, trials, done: 0, wrong: Vec::new() });
    }
    let keep =
        |page: &str| if arguments.objectives.is_empty() { result::keep(workspace, page) } else { Ok(()) };
    let all: usize = subjects.iter().map(|subject| subject.trials.len()).sum();
    let (mut done, mut told) = (0, begun);
    // In turn, so that each recipe gets as many.
    while Instant::now() < end && done < all {
        for subject in &mut subjects {
            done += usize::from(Instant::now() < end && subject.try_next());
        }
        if told.elapsed() >= TOLD_EVERY {
            told = Instant::now();
            say(format!("{done} of {all} trials in {} minutes", begun.elapsed().as_secs() / 60));
            keep(&result::page(&of, begun.elapsed(), &subjects))?;
        }
    }
    let page = result::page(&of, begun.elapsed(), &subjects);
    keep(&page)?;
    println!("{page}");
    let wrong: usize = subjects.iter().map(|subject| subject.wrong.len()).sum();
    if wrong > 0 {
        bail!("{wrong} runs did not end as they should; they are in `{}`", folder.display());
    }
    fs::remove_dir_all(&folder).with_context(|| format!("cannot clear `{}`", folder.display()))
}

impl Subject {
    /// The next trial, if there is one.
    fn try_next(&mut self) -> bool {
        let Some((then, point)) = self.trials.get(self.done) else { return false };
        self.done += 1;
        if let Some(what) = self.whole.wrong(point, *then) {
            let (Self { objective, labels, .. }, kind) = (&*self, point.kind());
            let told = format!("{objective}, {labels} labels, {then:?} at {} ({kind}): {what}", point.number);
            say(&told);
            self.wrong.push(told);
        }
        true
    }
}

/// Every failpoint, to be killed at and to fail at. However many are tried, they are spread over the run, and a third of them
/// are failures, until all were killed at. Each recipe, by its number, begins elsewhere: much is the same in all.
fn trials(points: &[Point], number: usize) -> Vec<(Then, Point)> {
    let mut points = points.to_vec();
    let begin = points.len() as f64 * (number as f64 * GOLDEN).fract();
    points.rotate_left(begin as usize);
    let order = spread(&points);
    let mut errors = order.iter();
    let mut trials = Vec::new();
    for two in order.chunks(2) {
        trials.extend(two.iter().map(|point| (Then::Kill, point.clone())));
        trials.extend(errors.next().map(|point| (Then::Error, point.clone())));
    }
    trials.extend(errors.map(|point| (Then::Error, point.clone())));
    trials
}

/// The same in the order of van der Corput's sequence: first the whole in coarse steps, then ever finer ones between.
fn spread(points: &[Point]) -> Vec<Point> {
    let bits = points.len().next_power_of_two().trailing_zeros();
    let reversed = |number: usize| if bits == 0 { 0 } else { number.reverse_bits() >> (usize::BITS - bits) };
    (0..1usize << bits).filter_map(|number| points.get(reversed(number)).cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(count: u64) -> Vec<Point> {
        let point = |number| Point { number, operation: "write".into(), file: String::new() };
        (1..=count).map(point).collect()
    }

    #[test]
    fn every_failpoint_is_taken_once_and_the_first_few_are_far_apart() {
        for count in [0, 1, 2, 5, 8, 100] {
            let order = spread(&points(count));
            let mut sorted = order.clone();
            sorted.sort_by_key(|point| point.number);
            assert_eq!(sorted, points(count));
        }
        let first: Vec<u64> = spread(&points(128)).iter().take(4).map(|point| point.number).collect();
        assert_eq!(first, [1, 65, 33, 97]);
    }

    #[test]
    fn every_failpoint_is_tried_both_ways() {
        let trials = trials(&points(7), 3);
        assert_eq!(trials.len(), 14);
        for then in [Then::Kill, Then::Error] {
            assert_eq!(trials.iter().filter(|(found, _)| *found == then).count(), 7);
        }
        assert_eq!(trials[2].0, Then::Error);
    }
}
