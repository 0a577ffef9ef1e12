//! Square Attack (Andriushchenko et al., ECCV 2020, arXiv 1912.00049): random search over square-shaped changes, without
//! gradients. What a query changes is in `square/linf.rs` and `square/l2.rs`, which of them are made when in `square/search.rs`.

mod l2;
mod linf;
mod search;

use crate::{
    compat::Compat,
    goal::{Goal, Loss, Target},
    strongest::Strongest,
};
use guard_sdk::{
    Attack, AttackInfo, Batch, Budget, Method, Network, Norm, Result, Services, Step, Tensor,
    attack::Knowledge,
};
use search::{Search, Stretch};

/// How many queries at most the examples go through before they wait for each other.
const STRETCH: u64 = 100;

/// Options of `square`.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("examples" = [{ "queries": 100 }]))]
pub struct SquareOptions {
    /// Number of queries per example and restart.
    #[schemars(range(min = 1))]
    pub queries: u64,
    /// p, the share of pixels that the first squares change.
    #[schemars(extend("exclusiveMinimum" = 0.0), range(max = 1.0))]
    pub initial_share: f64,
    /// Number of runs.
    #[schemars(range(min = 1))]
    pub restarts: u64,
    /// The class that the margin aims at; a wrong decision counts, whichever class it is for.
    pub target: Target,
    /// Stretch or shrink the schedule of p, made for 10 000 queries, to the number of queries.
    pub rescale_schedule: bool,
    /// Computes what released code computes: positions leave out the last row and column, and the schedule is rescaled.
    pub compat: Option<Compat>,
}

impl Default for SquareOptions {
    fn default() -> Self {
        Self {
            queries: 5000,
            initial_share: 0.8,
            restarts: 1,
            target: Target::None,
            rescale_schedule: false,
            compat: None,
        }
    }
}

/// Random search on the margin. Attacks what is decided rightly, and each example only until it is decided wrongly; where
/// that fails, returns the image with the smallest margin.
pub struct Square {
    options: SquareOptions,
}

impl Method for Square {
    type Options = SquareOptions;
    const NAME: &'static str = "square";

    fn new(options: SquareOptions, _: &Services) -> Result<Self> {
        Ok(Self { options })
    }
}

impl Attack for Square {
    fn info(&self) -> AttackInfo {
        let caveat = Compat::caveat(
            self.options.compat,
            "rescales the schedule of the squares' sizes, and never changes the last row and column alone",
        );
        AttackInfo { knowledge: Knowledge::BlackBox, caveat, ..AttackInfo::default() }
    }

    /// Passes: one forward for the clean images; for the survivors of each restart `queries + 2` forwards, fewer and larger
    /// ones where they are few, and one more for a target that depends on the network.
    fn perturb(&mut self, step: &Step, network: &Network, batch: &Batch, budget: &Budget) -> Result<Tensor> {
        self.within(batch.len(), step, network, batch, budget)
    }
}

impl Square {
    /// The attack where passes may be of `room` images: of a batch, these may be what others have left.
    pub fn within(
        &self,
        room: usize,
        step: &Step,
        network: &Network,
        batch: &Batch,
        budget: &Budget,
    ) -> Result<Tensor> {
        let mut strongest = Strongest::clean(network, batch)?;
        for restart in 0..self.options.restarts {
            let survivors = strongest.survivors()?;
            if survivors.is_empty() {
                break;
            }
            let candidates = self.search(room, step, network, &survivors.batch(), budget, restart)?;
            strongest.offer(network, &survivors, &candidates, budget)?;
        }
        Ok(strongest.images)
    }
}

impl Square {
    fn search(
        &self,
        room: usize,
        step: &Step,
        network: &Network,
        batch: &Batch,
        budget: &Budget,
        restart: u64,
    ) -> Result<Tensor> {
        let goal = Goal::aimed(Loss::Margin, self.options.target, step, network, batch)?;
        let start = match budget.norm {
            Norm::Linf => linf::stripes(step, batch, budget, restart)?,
            Norm::L2 => l2::tiles(step, batch, budget, restart)?,
        };
        let mut search = Search::new(room, step, network, batch, goal, start)?;
        let slip = i64::from(self.options.compat.is_none());
        let mut query = 0;
        while query < self.options.queries && !search.is_over() {
            let before = restart * self.options.queries;
            step.services
                .progress((before + query) as f64 / (self.options.restarts * self.options.queries) as f64);
            let side = self.side(query, batch);
            let change = |batch: &Batch, best: &Tensor, drawn: &Tensor| match budget.norm {
                Norm::Linf => linf::change(batch, budget, best, drawn, side, slip),
                Norm::L2 => l2::change(batch, budget, best, drawn, side, slip),
            };
            let last = self.options.queries.min(query + STRETCH);
            let queries = query..(query + 1..last).find(|&at| self.side(at, batch) != side).unwrap_or(last);
            query = queries.end;
            let numbers = match budget.norm {
                Norm::Linf => linf::numbers(batch),
                Norm::L2 => l2::numbers(batch),
            };
            search.go_through(&Stretch { queries, drawn_from: before, numbers, change: &change })?;
        }
        Ok(search.into_results())
    }

    /// The side of a query's square in pixels.
    fn side(&self, query: u64, batch: &Batch) -> f64 {
        let size = batch.images.size();
        let rescaled = self.options.rescale_schedule || self.options.compat.is_some();
        let at = if rescaled { query * 10_000 / self.options.queries } else { query };
        let halvings = [10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000].iter().filter(|&&after| at > after);
        let share = self.options.initial_share / f64::from(1u32 << halvings.count());
        (share * (size[2] * size[3]) as f64).sqrt()
    }
}

/// ⌊u · n⌋ as int64, for u uniform on [0,1).
fn whole(uniform: &Tensor, n: i64) -> Tensor {
    (uniform * n as f64).floor().clamp(0.0, (n - 1).max(0) as f64).to_kind(guard_sdk::Kind::Int64)
}

/// −1 or 1 with equal chances, for u uniform on [0,1).
fn sign(uniform: &Tensor) -> Tensor {
    (uniform * 2.0 - 1.0).sign()
}
