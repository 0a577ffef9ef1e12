//! What an attack raises for which classes: a loss, untargeted or towards target classes.

use crate::losses;
use guard_sdk::{Batch, Error, Kind, Network, Result, Step, Tensor, autograd::no_grad};

/// A loss to be raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// Cross-entropy, as the log-odds of the other classes, which have its gradient's direction and do not saturate.
    #[default]
    Ce,
    /// The largest other logit minus the true one.
    Margin,
    /// Difference of logits ratio: the margin whatever the logits' scale; three classes at least, four if targeted.
    Dlr,
}

/// The class that an attack aims at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// Any but the true one.
    #[default]
    None,
    /// The likeliest other class of the clean image.
    RunnerUp,
    /// The least likely class of the clean image.
    LeastLikely,
    /// Another class at random.
    Random,
}

/// What is raised, per example.
pub struct Goal {
    loss: Loss,
    /// Averages over several passes are taken of cross-entropy itself.
    exact: bool,
    targets: Option<Tensor>,
}

impl Goal {
    /// Raises `loss` of a network, away from the labels.
    ///
    /// # Errors
    /// If the network has too few classes for the loss.
    pub fn untargeted(loss: Loss, network: &Network) -> Result<Self> {
        Self::new(loss, network, None)
    }

    /// Raises `loss` towards `targets`, int64 `[N]`.
    ///
    /// # Errors
    /// If the network has too few classes for the loss.
    pub fn towards(loss: Loss, network: &Network, targets: Tensor) -> Result<Self> {
        Self::new(loss, network, Some(targets))
    }

    fn new(loss: Loss, network: &Network, targets: Option<Tensor>) -> Result<Self> {
        let (classes, needed) = (network.info().classes, if targets.is_some() { 4 } else { 3 });
        if loss == Loss::Dlr && classes < needed {
            let which = if targets.is_some() { "targeted DLR" } else { "DLR" };
            return Err(Error::unsupported(format!(
                "the {which} loss needs at least {needed} classes, the network has {classes}"
            ))
            .help("use cross-entropy: `loss = \"ce\"`"));
        }
        if classes < 2 {
            return Err(Error::unsupported("a network with one class cannot be attacked"));
        }
        Ok(Self { loss, exact: false, targets })
    }

    /// Raises `loss` towards what `target` says.
    ///
    /// # Errors
    /// If the network has too few classes for the loss, or fails.
    pub fn aimed(loss: Loss, target: Target, step: &Step, network: &Network, batch: &Batch) -> Result<Self> {
        let others = || -> Result<Tensor> {
            let logits = no_grad(|| network.logits(batch.images))?;
            Ok(losses::without(&logits, batch.labels))
        };
        match target {
            Target::None => Self::untargeted(loss, network),
            Target::RunnerUp => Self::towards(loss, network, others()?.argmax(-1, false)),
            Target::LeastLikely => {
                // The true class is now the least of all, and the next one wanted.
                let ascending = others()?.argsort(-1, false);
                Self::towards(loss, network, ascending.select(1, 1))
            }
            Target::Random => {
                let others = network.info().classes - 1;
                let steps = (step.uniform("target", 0, batch, &[])? * others as f64).floor() + 1.0;
                let targets = (batch.labels + steps.to_kind(Kind::Int64)).remainder(others + 1);
                Self::towards(loss, network, targets)
            }
        }
    }

    /// With cross-entropy as it is, for averages over several passes of a stochastic network.
    pub fn exactly(self, exact: bool) -> Self {
        Self { exact, ..self }
    }

    /// The goal of the examples at `positions`.
    pub fn at(&self, positions: &Tensor) -> Self {
        let targets = self.targets.as_ref().map(|targets| targets.index_select(0, positions));
        Self { targets, ..*self }
    }

    /// The target classes, if there are any.
    pub fn into_targets(self) -> Option<Tensor> {
        self.targets
    }

    /// What is to be raised, `[N]`.
    ///
    /// # Errors
    /// If the logits do not fit the batch.
    pub fn each(&self, batch: &Batch, logits: &Tensor) -> Result<Tensor> {
        Ok(match (self.loss, &self.targets) {
            (Loss::Ce, None) if self.exact || batch.soft_labels.is_some() => {
                batch.cross_entropy_each(logits)?
            }
            (Loss::Ce, None) => losses::log_odds(logits, batch.labels),
            (Loss::Ce, Some(targets)) => -losses::log_odds(logits, targets),
            (Loss::Margin, None) => losses::margin(logits, batch.labels),
            (Loss::Margin, Some(targets)) => losses::targeted_margin(logits, batch.labels, targets),
            (Loss::Dlr, None) => losses::dlr(logits, batch.labels),
            (Loss::Dlr, Some(targets)) => losses::targeted_dlr(logits, batch.labels, targets),
        })
    }
}
