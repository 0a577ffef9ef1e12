//! The search: each example goes through its queries in order and keeps what is better.
//!
//! Few examples do not fill a batch. Their next queries are then tried together, as if none of them were kept; the first that
//! is makes the tries behind it void, and these queries are tried again. So each example is asked what it would be asked by
//! itself, in fewer passes.

use crate::{
    examples::{Examples, keep, remaining, rounds_together},
    goal::Goal,
    gradient::{fooled, look},
};
use guard_sdk::{Batch, Device, Kind, Network, Result, Step, Tensor};
use std::ops::Range;

/// What a pass costs beside its images, in images: measured with ResNet-20 on two cores (12 images take 7.7 ms, 60 take 30.5). That of
/// GPUs is assumed: they take what does not fill them in the time of one image.
const PASS_ON_CPU: f64 = 3.0;
const PASS_ON_GPU: f64 = 256.0;

/// Examples that are searched, in rows, and what was found for them.
pub struct Search<'a> {
    step: &'a Step<'a>,
    network: &'a Network<'a>,
    /// How many images a pass may be of.
    room: usize,
    goal: Goal,
    examples: Examples,
    /// The best images so far, `[M,C,H,W]`.
    best: Tensor,
    /// What they reach, `[M]`.
    reached: Tensor,
    /// The best images of all examples of the batch, as they were when they left the search.
    results: Tensor,
    /// Queries that were made of late, and how many of them were kept.
    made: u64,
    kept: u64,
}

/// Queries that change images in the same way: `change` makes candidates `[N,C,H,W]` for a batch from the best images and the
/// numbers drawn, `[N, numbers]`.
pub struct Stretch<'a> {
    /// The queries, as the schedule counts them.
    pub queries: Range<u64>,
    /// What is to be added to a query for the number under which its numbers are drawn.
    pub drawn_from: u64,
    /// How many numbers a query draws for each example.
    pub numbers: i64,
    /// Makes the candidates.
    pub change: &'a dyn Fn(&Batch, &Tensor, &Tensor) -> Result<Tensor>,
}

impl<'a> Search<'a> {
    /// A search from the images `start`, in passes of `room` images at most if the batch has not more.
    ///
    /// # Errors
    /// If the network fails.
    pub fn new(
        room: usize,
        step: &'a Step<'a>,
        network: &'a Network<'a>,
        batch: &Batch,
        goal: Goal,
        start: Tensor,
    ) -> Result<Self> {
        let (logits, reached) = look(network, batch, &goal, &start)?;
        let mut search = Self {
            step,
            network,
            room,
            goal,
            examples: Examples::all(batch),
            results: start.shallow_clone(),
            best: start,
            reached,
            made: 1,
            kept: 1,
        };
        search.leave_out(&fooled(&logits, batch.labels))?;
        Ok(search)
    }

    /// True when all are decided wrongly.
    pub fn is_over(&self) -> bool {
        self.examples.is_empty()
    }

    /// The best images of all examples.
    pub fn into_results(self) -> Tensor {
        self.examples.put(&self.results, &self.best)
    }

    /// Ends the search for those that `done` `[M]` tells.
    fn leave_out(&mut self, done: &Tensor) -> Result<()> {
        if let Some(rest) = remaining(done) {
            self.results = self.examples.put(&self.results, &self.best);
            (self.examples, self.goal) = (self.examples.at(&rest)?, self.goal.at(&rest));
            keep(&mut [&mut self.best, &mut self.reached], &rest);
        }
        Ok(())
    }

    /// How many of its next queries are tried together for each of `due` examples: no more than fill the batch, and what makes a
    /// query that counts cheapest. With p of the queries kept, n tries bring (1 − (1 − p)ⁿ)/p that count.
    fn together(&self, due: usize, left: u64) -> u64 {
        let kept = (self.kept as f64 / self.made as f64).max(1e-6);
        let pass = if self.best.device().is_cuda() { PASS_ON_GPU } else { PASS_ON_CPU };
        let cost = |tries: u64| {
            let counting = (1.0 - (1.0 - kept).powf(tries as f64)) / kept;
            (pass + due as f64 * tries as f64) / counting
        };
        let most = rounds_together(self.room, due, left);
        (1..=most).min_by(|one, other| cost(*one).total_cmp(&cost(*other))).unwrap_or(1)
    }

    /// Goes through the queries of `stretch`.
    ///
    /// # Errors
    /// If the network fails, or the run is cancelled.
    pub fn go_through(&mut self, stretch: &Stretch) -> Result<()> {
        let (count, length) = (self.examples.len(), stretch.queries.end - stretch.queries.start);
        let options = (self.best.kind(), self.best.device());
        let drawn = Tensor::f_zeros([length as i64, count as i64, stretch.numbers], options)?;
        let mut draws = 0;
        // Where each example is in the stretch, and whether it is decided wrongly.
        let mut next = vec![0; count];
        let mut fools = vec![false; count];
        let (mut made, mut kept) = (0, 0);
        loop {
            let due: Vec<usize> = (0..count).filter(|&row| !fools[row] && next[row] < length).collect();
            if due.is_empty() {
                break;
            }
            self.step.services.check_cancelled()?;
            let together = self.together(due.len(), length);
            let tries: Vec<(usize, Range<u64>)> =
                due.into_iter().map(|row| (row, next[row]..(next[row] + together).min(length))).collect();
            while tries.iter().any(|(_, queries)| draws < queries.end) {
                let number = stretch.drawn_from + stretch.queries.start + draws;
                let numbers =
                    self.step.uniform("square", number, &self.examples.batch(), &[stretch.numbers])?;
                drawn.select(0, draws as i64).copy_(&numbers);
                draws += 1;
            }
            let tried = self.tried(stretch, &drawn.flatten(0, 1), count, &tries)?;

            let (mut rows, mut places, mut first) = (Vec::new(), Vec::new(), 0);
            for (row, queries) in tries {
                let outcomes = &tried.outcomes[first..first + (queries.end - queries.start) as usize];
                let hit = outcomes.iter().position(|&outcome| outcome != Outcome::NoBetter);
                if let Some(hit) = hit {
                    rows.push(row as i64);
                    places.push((first + hit) as i64);
                    fools[row] = outcomes[hit] == Outcome::Wrong;
                    kept += 1;
                }
                let valid = hit.map_or(outcomes.len(), |hit| hit + 1) as u64;
                made += valid;
                next[row] += valid;
                first += outcomes.len();
            }
            if !rows.is_empty() {
                let (rows, places) = (self.on_device(&rows), self.on_device(&places));
                self.best = self.best.index_copy(0, &rows, &tried.candidates.index_select(0, &places));
                self.reached = self.reached.index_copy(0, &rows, &tried.reached.index_select(0, &places));
            }
        }
        (self.made, self.kept) = (made, kept);
        self.leave_out(&Tensor::from_slice(&fools).to_device(self.best.device()))
    }

    /// Makes and looks at the candidates of some queries of some examples, `drawn` for which `[queries·M, numbers]` was.
    fn tried(
        &self,
        stretch: &Stretch,
        drawn: &Tensor,
        count: usize,
        tries: &[(usize, Range<u64>)],
    ) -> Result<Tried> {
        let each = || tries.iter().flat_map(|(row, queries)| queries.clone().map(|query| (*row, query)));
        let rows = self.on_device(&each().map(|(row, _)| row as i64).collect::<Vec<_>>());
        let drawn_at: Vec<i64> =
            each().map(|(row, query)| query as i64 * count as i64 + row as i64).collect();
        let (examples, goal) = (self.examples.at(&rows)?, self.goal.at(&rows));
        let batch = examples.batch();
        let numbers = drawn.index_select(0, &self.on_device(&drawn_at));
        let candidates = (stretch.change)(&batch, &self.best.index_select(0, &rows), &numbers)?;
        let (logits, reached) = look(self.network, &batch, &goal, &candidates)?;
        let wrong = fooled(&logits, batch.labels);
        let better = reached.gt_tensor(&self.reached.index_select(0, &rows));
        let codes = better.logical_or(&wrong).to_kind(Kind::Int64) + wrong;
        let outcome = |code| match code {
            0 => Outcome::NoBetter,
            1 => Outcome::Better,
            _ => Outcome::Wrong,
        };
        let codes = Vec::<i64>::try_from(codes.to_device(Device::Cpu))?;
        Ok(Tried { candidates, reached, outcomes: codes.into_iter().map(outcome).collect() })
    }

    fn on_device(&self, numbers: &[i64]) -> Tensor {
        Tensor::from_slice(numbers).to_device(self.best.device())
    }
}

/// Candidates, what they reach, and what is to be made of them.
struct Tried {
    candidates: Tensor,
    reached: Tensor,
    outcomes: Vec<Outcome>,
}

/// What a query brings.
#[derive(Clone, Copy, PartialEq)]
enum Outcome {
    NoBetter,
    Better,
    /// The image is decided wrongly.
    Wrong,
}
