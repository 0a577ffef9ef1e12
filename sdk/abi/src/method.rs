//! What all kinds of methods share.

use crate::{HostView, NamedHandle, Outcome};
use abi_stable::{
    StableAbi,
    std_types::{RStr, RString, RVec},
};

/// A method in a plugin's memory. Made by `create`, freed by `release`; one call at a time.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct Instance {
    /// Opaque to the host.
    pub data: *mut (),
}

/// What a method needs to continue where it was.
#[repr(C)]
#[derive(StableAbi)]
pub struct State {
    /// The method's own number for the layout of its state.
    pub version: u32,
    /// Anything that is not a tensor, as JSON.
    pub json: RString,
    /// Named tensors.
    pub tensors: RVec<NamedHandle>,
}

/// Functions of every method.
#[repr(C)]
#[derive(StableAbi)]
pub struct MethodTable {
    /// The JSON Schema of the options of the method with this name.
    pub schema: extern "C" fn(name: RStr<'_>) -> Outcome<RString>,
    /// Makes an instance. `options` is JSON.
    pub create: extern "C" fn(host: HostView<'_>, name: RStr<'_>, options: RStr<'_>) -> Outcome<Instance>,
    /// The instance's state.
    pub save: extern "C" fn(instance: Instance) -> Outcome<State>,
    /// Puts a saved state back.
    pub load: extern "C" fn(instance: Instance, state: State) -> Outcome<()>,
    /// Frees the instance, which must not be used again, whatever the outcome.
    pub release: extern "C" fn(instance: Instance) -> Outcome<()>,
}
