//! Networks that methods ask for by name, beside the one that a call is about.

use guard_sdk::{Error, OwnedNetwork, Result};

/// Has networks with names.
pub trait NetworkSource {
    /// A copy of the network with this name, in eval mode, without gradients of its parameters.
    ///
    /// # Errors
    /// Code `unknown-network` if there is none.
    fn network(&self, name: &str) -> Result<OwnedNetwork>;
}

/// Has none.
pub struct NoNetworks;

impl NetworkSource for NoNetworks {
    fn network(&self, name: &str) -> Result<OwnedNetwork> {
        Err(unknown_network(name, &[]))
    }
}

/// That there is no network `name` among the `known` ones.
pub fn unknown_network(name: &str, known: &[&str]) -> Error {
    let error = Error::with_code("unknown-network", format!("there is no network `{name}` here"));
    let nearest = known
        .iter()
        .map(|other| (strsim::damerau_levenshtein(name, other), other))
        .filter(|(distance, other)| *distance <= 1 + other.len() / 3)
        .min();
    match (nearest, known) {
        (Some((_, nearest)), _) => error.help(format!("did you mean `{nearest}`?")),
        (None, []) => {
            error.help("name one: `evaluate.networks.NAME` in a recipe, `--surrogate NAME=FILE` elsewhere")
        }
        (None, known) => error.help(format!("there are: {}", known.join(", "))),
    }
}
