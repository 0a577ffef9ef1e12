//! What an objective asks for, in the host's terms.

use crate::{
    network::NetworkSpec,
    recipe::{Adam, Optimizer, Schedule, Sgd},
};
use guard_sdk::{
    Error, Result,
    objective::{Needs, Networks, Updates},
};

/// The optimiser that an objective asks for, unless the recipe names one.
pub(super) fn optimizer_of(needs: &Needs) -> (Optimizer, Schedule) {
    let schedule = |cosine: bool| if cosine { Schedule::Cosine } else { Schedule::Constant };
    match needs.updates {
        Updates::Sgd { learning_rate, momentum, cosine } => (
            Optimizer::Sgd(Sgd { learning_rate, momentum, weight_decay: 0.0, nesterov: false }),
            schedule(cosine),
        ),
        Updates::Adam { learning_rate, betas, cosine } => (
            Optimizer::Adam(Adam { learning_rate, betas, weight_decay: 0.0, ..Default::default() }),
            schedule(cosine),
        ),
    }
}

/// An objective whose needs this host cannot meet.
///
/// # Errors
/// If it needs expert trajectories or learns labels.
pub(super) fn check_needs(needs: &Needs) -> Result<()> {
    if needs.networks == Networks::Experts {
        return Err(Error::unsupported("it needs expert trajectories, which this host does not train"));
    }
    if needs.learn_soft_labels {
        return Err(Error::unsupported("it learns soft labels, which this host does not optimise"));
    }
    Ok(())
}

/// What is wrong with the BatchNorm layers that an objective names, if the network lacks one.
pub(super) fn unknown_layer(needs: &Needs, network: &NetworkSpec) -> Option<Error> {
    let program = network.program().ok()?;
    let layers = program.batch_norm();
    let unknown = needs.batch_norm_layers.iter().find(|name| !layers.contains(name))?;
    let names: Vec<String> = layers.iter().map(|layer| format!("`{layer}`")).collect();
    let error = Error::unsupported(format!("the network has no BatchNorm layer `{unknown}`"));
    Some(error.help(format!("it has {}", names.join(", "))))
}
