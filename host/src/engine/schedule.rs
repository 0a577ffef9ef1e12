//! What a learning rate, or the weight of a penalty, is multiplied by as a stage goes on.

use crate::recipe::{MultiStepSchedule, OneCycleSchedule, RegularizerUse, Schedule, StepSchedule};

impl Schedule {
    /// The share of the learning rate at `iteration` of `iterations`.
    pub fn rate(&self, iteration: u64, iterations: u64) -> f64 {
        let progress = iteration as f64 / iterations as f64;
        match self {
            Schedule::Constant => 1.0,
            Schedule::Cosine => cosine(1.0, 0.0, progress),
            Schedule::Step(StepSchedule { every, factor }) => factor.powf((progress / every).floor()),
            Schedule::MultiStep(MultiStepSchedule { milestones, factor }) => {
                factor.powi(milestones.iter().filter(|milestone| **milestone <= progress).count() as i32)
            }
            Schedule::OneCycle(OneCycleSchedule { rise }) => {
                const FIRST: f64 = 1.0 / 25.0;
                const LAST: f64 = FIRST / 1e4;
                let (at, top, end) =
                    (iteration as f64, rise * iterations as f64 - 1.0, iterations as f64 - 1.0);
                match at < top {
                    true => cosine(FIRST, 1.0, at / top),
                    false => cosine(1.0, LAST, (at - top) / (end - top)),
                }
            }
        }
    }

    /// The same after a rise along a line over the first `warmup` share of the iterations; the schedule has the rest.
    pub fn rate_after_warmup(&self, warmup: f64, iteration: u64, iterations: u64) -> f64 {
        let rising = (warmup * iterations as f64).ceil() as u64;
        match iteration < rising {
            true => (iteration + 1) as f64 / rising as f64 * self.rate(0, iterations - rising),
            false => self.rate(iteration - rising, iterations - rising),
        }
    }
}

/// From one value to another along half a cosine.
fn cosine(from: f64, to: f64, progress: f64) -> f64 {
    to + 0.5 * (from - to) * (1.0 + (std::f64::consts::PI * progress).cos())
}

/// How a penalty's weight goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ramp {
    /// Share of the iterations.
    pub warmup: f64,
    /// The weight at the start.
    pub initial: f64,
}

impl Ramp {
    /// As a recipe has it.
    pub fn of(written: &RegularizerUse) -> Self {
        Self { warmup: written.warmup, initial: written.initial_weight }
    }

    /// The weight at `iteration` of `iterations`, `weight` after the ramp, and where the number of iterations is not known.
    pub fn weight(self, weight: f64, iteration: u64, iterations: u64) -> f64 {
        let length = self.warmup * iterations as f64;
        match (iteration as f64) < length {
            true => self.initial + (weight - self.initial) * iteration as f64 / length,
            false => weight,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cosine_goes_from_one_to_zero() {
        assert_eq!(Schedule::Cosine.rate(0, 10), 1.0);
        assert!((Schedule::Cosine.rate(5, 10) - 0.5).abs() < 1e-15);
        assert!(Schedule::Cosine.rate(10, 10).abs() < 1e-15);
        assert_eq!(Schedule::Constant.rate(9, 10), 1.0);
    }

    #[test]
    fn steps_fall_at_their_shares_of_the_iterations() {
        let rates =
            |schedule: Schedule| [0, 49, 50, 74, 75, 99].map(|iteration| schedule.rate(iteration, 100));
        let near = |found: [f64; 6], expected: [f64; 6]| {
            found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-12)
        };
        let milestones = MultiStepSchedule { milestones: vec![0.5, 0.75], factor: 0.1 };
        assert!(near(rates(Schedule::MultiStep(milestones)), [1.0, 1.0, 0.1, 0.1, 0.01, 0.01]));
        let every = StepSchedule { every: 0.25, factor: 0.5 };
        assert!(near(rates(Schedule::Step(every)), [1.0, 0.5, 0.25, 0.25, 0.125, 0.125]));
    }

    #[test]
    fn one_cycle_is_pytorchs() {
        let cycle = Schedule::OneCycle(OneCycleSchedule::default());
        // torch.optim.lr_scheduler.OneCycleLR(max_lr = 1, total_steps = 10).
        let expected = [
            0.04,
            0.52,
            1.0,
            0.950_484_632_013_473_6,
            0.811_745_653_949_763_1,
            0.611_262_021_936_289_3,
            0.388_741_978_063_710_75,
            0.188_258_346_050_236_97,
            0.049_519_367_986_526_286,
            4e-6,
        ];
        for (iteration, expected) in (0..).zip(expected) {
            let found = cycle.rate(iteration, 10);
            assert!((found - expected).abs() < 1e-12, "{iteration}: {found}, not {expected}");
        }
    }

    #[test]
    fn a_warm_up_rises_to_where_the_schedule_starts_and_leaves_it_the_rest() {
        let rate = |iteration| Schedule::Cosine.rate_after_warmup(0.2, iteration, 10);
        assert_eq!([rate(0), rate(1), rate(2)], [0.5, 1.0, 1.0]);
        assert!((rate(6) - 0.5).abs() < 1e-15);
        assert_eq!(Schedule::Cosine.rate_after_warmup(0.0, 3, 10), Schedule::Cosine.rate(3, 10));
    }

    #[test]
    fn a_weight_goes_along_a_line_and_stays() {
        let ramp = Ramp { warmup: 0.5, initial: 1.0 };
        assert_eq!([0, 25, 50, 99].map(|iteration| ramp.weight(3.0, iteration, 100)), [1.0, 2.0, 3.0, 3.0]);
        assert_eq!(Ramp { warmup: 0.5, initial: 0.0 }.weight(3.0, 0, 0), 3.0);
        assert_eq!(Ramp { warmup: 0.0, initial: 0.0 }.weight(3.0, 0, 100), 3.0);
    }
}
