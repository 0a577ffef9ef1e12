//! Attacks: search for adversarial images within a budget.

use crate::{Batch, Budget, Method, Network, Norm, Result, Step};
use tch::Tensor;

/// What an attack promises of its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guarantee {
    /// Every image is within the budget; one outside it is an error.
    Bounded,
    /// The smallest perturbation found, whatever its size; an example whose perturbation exceeds ε counts as robust.
    MinimumNorm,
}

/// What an attack sees of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Knowledge {
    /// Gradients.
    #[default]
    WhiteBox,
    /// Logits or decisions only, or another network's gradients.
    BlackBox,
}

/// Prefix of the metric by which an attack that consists of several tells, in the order of its members and in every call, how
/// many examples of the batch each member and those before it left: `member/apgd-ce`.
pub const MEMBER_METRIC: &str = "member/";

/// What the host knows of an attack before it runs.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct AttackInfo {
    /// What the attack promises.
    pub guarantee: Guarantee,
    /// The norms it is defined for.
    pub norms: Vec<Norm>,
    /// What it sees of the network; evaluations flag a black-box attack that beats the white-box ones.
    pub knowledge: Knowledge,
    /// Why its numbers are not to be believed, if the attack itself knows, such as a mode that repeats what faulty code computes;
    /// printed beside them.
    pub caveat: Option<String>,
}

impl Default for AttackInfo {
    fn default() -> Self {
        Self {
            guarantee: Guarantee::Bounded,
            norms: vec![Norm::Linf, Norm::L2],
            knowledge: Knowledge::WhiteBox,
            caveat: None,
        }
    }
}

/// An attack on a network's decisions.
pub trait Attack: Method {
    /// What the attack promises, and for which norms it is defined.
    fn info(&self) -> AttackInfo {
        AttackInfo::default()
    }

    /// Adversarial images `[N,C,H,W]` in [0,1], of the batch's dtype, inside `budget`, without graph.
    ///
    /// The batch holds pixels in [0,1]; the network is in eval mode and its parameters need no gradients. Each example is
    /// attacked on its own: no result depends on batch mates or batch size, and draws use the batch's ids.
    ///
    /// # Errors
    /// If the attack is not defined for this network or budget.
    fn perturb(&mut self, step: &Step, network: &Network, batch: &Batch, budget: &Budget) -> Result<Tensor>;
}
