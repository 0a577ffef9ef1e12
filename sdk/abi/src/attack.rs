//! `guard.attack/0.1`.

use crate::{BatchView, Instance, MethodTable, NetworkView, Outcome, StepView, TensorHandle};
use abi_stable::{StableAbi, std_types::RString};

/// How far an attack may go.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct BudgetView {
    /// 0: linf; 1: l2.
    pub norm: u8,
    /// In pixel units.
    pub epsilon: f64,
}

/// Functions of attacks.
#[repr(C)]
#[derive(StableAbi)]
pub struct AttackTable {
    /// What all methods have.
    pub method: MethodTable,
    /// JSON: guarantee (`bounded` or `minimum-norm`), norms.
    pub describe: extern "C" fn(instance: Instance) -> Outcome<RString>,
    /// Adversarial images, of the batch's shape and dtype, without graph.
    pub perturb: extern "C" fn(
        instance: Instance,
        step: &StepView<'_>,
        network: NetworkView<'_>,
        batch: &BatchView<'_>,
        budget: &BudgetView,
    ) -> Outcome<TensorHandle>,
}
