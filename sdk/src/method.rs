//! What objectives, regularizers and attacks have in common.

use crate::{Error, Result, Services};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use tch::Tensor;

/// A method that a recipe can name.
///
/// The pattern is `XOptions` (documented fields with defaults) → `X::new(options)` → explicit state in `X`.
pub trait Method: Sized + Send + 'static {
    /// The `options` table of the recipe. Derive `Deserialize` and `JsonSchema`, with
    /// `#[serde(deny_unknown_fields, default)]`; the schema's ranges (`#[schemars(range(min = 0.0))]`) are checked by the
    /// host before anything runs.
    type Options: DeserializeOwned + JsonSchema;

    /// The name after `use =` or `objective =`: lower-case letters, digits and hyphens.
    const NAME: &'static str;

    /// Whether the method may run inside a CUDA graph: static shapes, nothing read back to the CPU, no draws.
    const CAPTURABLE: bool = false;

    /// Whether the result's derivatives are others than those of its value, on purpose: an inner attack's images or a direction
    /// taken as constants. `guard-host plugin check` then holds them against no finite differences.
    const STOPS_GRADIENT: bool = false;

    /// Makes the method. Other methods are asked for here (`services.attack(...)`), so that a wrong recipe fails early.
    ///
    /// # Errors
    /// [`Error::option`] for a value that the schema cannot rule out.
    fn new(options: Self::Options, services: &Services) -> Result<Self>;

    /// What the method needs to continue where it is. Stateless methods keep the default.
    ///
    /// # Errors
    /// If the state cannot be read.
    fn save(&self) -> Result<State> {
        Ok(State::default())
    }

    /// Puts a saved state back; the next call then gives the same bits as if the run had never stopped.
    ///
    /// # Errors
    /// If the state is another method's or has an unknown version.
    fn load(&mut self, state: State) -> Result<()> {
        if state.is_empty() { Ok(()) } else { Err(Error::new("this method has no state to load")) }
    }
}

/// A method's state: tensors by name, anything else as JSON, and a number for the layout of both.
#[derive(Debug, Default)]
pub struct State {
    /// The method's own number; raise it when the meaning of the rest changes.
    pub version: u32,
    /// Anything that is not a tensor.
    pub json: serde_json::Value,
    /// Tensors by name; they come back in this order.
    pub tensors: Vec<(String, Tensor)>,
}

impl State {
    /// True if there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.json.is_null() && self.tensors.is_empty()
    }
}
