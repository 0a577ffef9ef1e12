//! `guard.objective/0.1`.

use crate::{Instance, LabView, MethodTable, NamedView, Outcome, StepView, TensorHandle, TensorView};
use abi_stable::{
    StableAbi,
    std_types::{ROption, RSlice, RString, RVec},
};

/// The synthetic set, or the part of it that is optimised together, lent for a call.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct SyntheticView<'a> {
    /// `[N,C,H,W]`, a leaf that requires gradients.
    pub images: TensorView<'a>,
    /// int64 `[N]`.
    pub labels: TensorView<'a>,
    /// Class probabilities `[N,K]`, where the recipe learns them.
    pub soft_labels: ROption<TensorView<'a>>,
    /// Further tensors that are learned, as `needs` named them.
    pub learnables: RSlice<'a, NamedView<'a>>,
    /// One id per image, stable over the run.
    pub ids: RSlice<'a, u64>,
    /// 0: pixels in [0,1]; 1: behind the network's normalisation.
    pub space: u8,
}

/// What an objective makes of a synthetic set.
#[repr(C)]
#[derive(StableAbi)]
pub struct ObjectiveValue {
    /// A scalar; with graph where `gradients` is empty.
    pub loss: TensorHandle,
    /// Gradients in place of the graph: of the images first, then of learned soft labels, then of the learnables in order.
    pub gradients: RVec<TensorHandle>,
}

/// Images that the objective itself starts with.
#[repr(C)]
#[derive(StableAbi)]
pub struct Initial {
    /// `[N,C,H,W]` in the space that `needs` named.
    pub images: TensorHandle,
    /// int64 `[N]`.
    pub labels: TensorHandle,
}

/// Functions of objectives.
#[repr(C)]
#[derive(StableAbi)]
pub struct ObjectiveTable {
    /// What all methods have.
    pub method: MethodTable,
    /// What the host must prepare, as JSON.
    pub needs: extern "C" fn(instance: Instance) -> Outcome<RString>,
    /// The objective's own first images, or none for those of the recipe.
    pub initialise:
        extern "C" fn(instance: Instance, step: &StepView<'_>, lab: LabView<'_>) -> Outcome<ROption<Initial>>,
    /// The loss or its gradients.
    pub value: extern "C" fn(
        instance: Instance,
        step: &StepView<'_>,
        synthetic: &SyntheticView<'_>,
        lab: LabView<'_>,
    ) -> Outcome<ObjectiveValue>,
    /// Called after the images were changed.
    pub after_step: extern "C" fn(
        instance: Instance,
        step: &StepView<'_>,
        synthetic: &SyntheticView<'_>,
        lab: LabView<'_>,
    ) -> Outcome<()>,
}
