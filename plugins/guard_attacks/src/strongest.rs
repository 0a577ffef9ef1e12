//! The strongest image found for each example so far: one that is decided wrongly, or else the one with the highest
//! cross-entropy.

use crate::{
    ball::size_each,
    examples::{Examples, positions},
    goal::{Goal, Loss},
    gradient::{fooled, look},
};
use guard_sdk::{
    Batch, Budget, Kind, Network, Norm, Result, Step, Tensor, attack::MEMBER_METRIC, batch::per_image,
};

/// Images, and what the network says of them.
pub struct Strongest {
    examples: Examples,
    goal: Goal,
    /// `[N,C,H,W]`.
    pub images: Tensor,
    /// Logits of the clean images, `[N,K]`.
    pub clean_logits: Tensor,
    fooled: Tensor,
    losses: Tensor,
}

impl Strongest {
    /// The clean images: one forward.
    ///
    /// # Errors
    /// If the network fails.
    pub fn clean(network: &Network, batch: &Batch) -> Result<Self> {
        let goal = Goal::untargeted(Loss::Ce, network)?;
        let (clean_logits, losses) = look(network, batch, &goal, batch.images)?;
        Ok(Self {
            examples: Examples::all(batch),
            goal,
            images: batch.images.detach(),
            fooled: fooled(&clean_logits, batch.labels),
            clean_logits,
            losses,
        })
    }

    /// The examples that are still decided rightly. Waits for the device.
    ///
    /// # Errors
    /// If the device fails.
    pub fn survivors(&self) -> Result<Examples> {
        self.examples.at(&positions(&self.fooled.logical_not()))
    }

    /// Tells the host how many examples `member` and those before it left: an evaluation reports it per member.
    ///
    /// # Errors
    /// If the host refuses.
    pub fn report(&self, step: &Step, member: &str) -> Result<()> {
        let left = self.fooled.logical_not().sum(Kind::Double);
        step.services.metric(&format!("{MEMBER_METRIC}{member}"), &left)
    }

    /// Takes the candidates, `[M,C,H,W]` for the rows of `examples`, that are within the budget and stronger: one forward.
    ///
    /// # Errors
    /// If the network fails.
    pub fn offer(
        &mut self,
        network: &Network,
        examples: &Examples,
        candidates: &Tensor,
        budget: &Budget,
    ) -> Result<()> {
        let (logits, losses) = look(network, &examples.batch(), &self.goal, candidates)?;
        let fools = fooled(&logits, &examples.labels);
        let (was_fooled, highest) = (examples.of(&self.fooled), examples.of(&self.losses));
        // A wrong decision counts for more than a high loss; among equals the loss decides.
        let better = losses.gt_tensor(&highest).logical_and(&fools.eq_tensor(&was_fooled));
        let better = better.logical_or(&fools.logical_and(&was_fooled.logical_not()));
        let better = better.logical_and(&within(candidates, &examples.images, budget));
        let best = candidates.where_self(&per_image(&better), &examples.of(&self.images));
        self.images = examples.put(&self.images, &best);
        self.losses = examples.put(&self.losses, &losses.where_self(&better, &highest));
        self.fooled = examples.put(&self.fooled, &was_fooled.logical_or(&fools.logical_and(&better)));
        Ok(())
    }

    /// Takes the candidates of several rounds, one after the other: what an earlier one has fooled, a later one leaves alone.
    ///
    /// # Errors
    /// If the network fails.
    pub fn offer_rounds(
        &mut self,
        network: &Network,
        examples: &Examples,
        rounds: &[Tensor],
        budget: &Budget,
    ) -> Result<()> {
        for candidates in rounds {
            let left = positions(&examples.of(&self.fooled).logical_not());
            if left.size()[0] > 0 {
                self.offer(network, &examples.at(&left)?, &candidates.index_select(0, &left), budget)?;
            }
        }
        Ok(())
    }
}

/// Whether each image is as near to the clean one as the budget says, but for rounding, `[N]`.
pub fn within(images: &Tensor, clean: &Tensor, budget: &Budget) -> Tensor {
    let limit = match budget.norm {
        Norm::Linf => budget.epsilon + f64::from(f32::EPSILON),
        Norm::L2 => budget.epsilon * (1.0 + 1e-5),
    };
    let perturbation = images.to_kind(Kind::Double) - clean.to_kind(Kind::Double);
    size_each(&perturbation, budget.norm).le(limit)
}
