//! Host side: a plugin's tables as safe calls.

use super::{
    convert::*,
    exports::{AnyAttack, AnyObjective, AnyRegularizer},
    host::*,
    remote::batch_view,
};
use crate::{
    AttackInfo, Batch, Budget, Initial, Lab, Needs, Network, Result, Services, State, Step, Synthetic, Value,
};
use abi_stable::std_types::{RNone, RSlice, RSome, RStr};
use guard_abi::{
    AttackTable, Instance, MethodTable, NamedView, ObjectiveTable, RegularizerTable, SyntheticView,
};
use tch::Tensor;

/// An instance in a plugin's memory, released when dropped.
struct Held {
    table: &'static MethodTable,
    instance: Instance,
    released: bool,
}

// SAFETY: the SDK makes instances of `Send` types only and lets in one call at a time.
unsafe impl Send for Held {}

impl Held {
    fn create(
        table: &'static MethodTable,
        services: &Services,
        name: &str,
        options: &serde_json::Value,
    ) -> Result<Self> {
        let options = options.to_string();
        let made = lend_services(services, |host| {
            (table.create)(host, RStr::from(name), RStr::from(options.as_str()))
        });
        Ok(Self { table, instance: result(made)?, released: false })
    }

    fn release(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.released, true) {
            Ok(())
        } else {
            result((self.table.release)(self.instance))
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Whoever wants the error of a drop as such calls `release`; here nobody is left to return it to.
        if let Err(error) = self.release() {
            eprintln!("warning: {error}");
        }
    }
}

/// The JSON Schema of a method's options.
fn schema(table: &MethodTable, name: &str) -> Result<serde_json::Value> {
    Ok(serde_json::from_str(&result((table.schema)(RStr::from(name)))?)?)
}

/// What instances of all kinds can do.
pub trait Stateful {
    /// See [`Method::save`](crate::Method::save).
    ///
    /// # Errors
    /// Those of the method.
    fn save(&self) -> Result<State>;

    /// See [`Method::load`](crate::Method::load).
    ///
    /// # Errors
    /// Those of the method.
    fn load(&mut self, state: State) -> Result<()>;
}

/// What stands behind an instance.
enum Behind<T: 'static, D: ?Sized> {
    /// A plugin's table of functions.
    Table(&'static T, Held),
    /// Anything else that has the trait, such as a plugin in C.
    Trait(Box<D>),
}

macro_rules! held {
    ($(#[$doc:meta])* $name:ident, $table:ty, $trait:ty) => {
        $(#[$doc])*
        pub struct $name {
            behind: Behind<$table, $trait>,
        }

        impl $name {
            /// The JSON Schema of the options of the method `name`.
            ///
            /// # Errors
            /// If the plugin has no such method.
            pub fn schema(table: &'static $table, name: &str) -> Result<serde_json::Value> {
                schema(&table.method, name)
            }

            /// Makes the method `name`.
            ///
            /// # Errors
            /// If the plugin has no such method or refuses the options.
            pub fn create(table: &'static $table, services: &Services, name: &str, options: &serde_json::Value) -> Result<Self> {
                let held = Held::create(&table.method, services, name, options)?;
                Ok(Self { behind: Behind::Table(table, held) })
            }

            /// Takes a method over.
            pub fn boxed(method: Box<$trait>) -> Self {
                Self { behind: Behind::Trait(method) }
            }

            /// Frees the instance and reports what went wrong in its `Drop`.
            ///
            /// # Errors
            /// If it panicked.
            pub fn release(self) -> Result<()> {
                match self.behind {
                    Behind::Table(_, mut held) => held.release(),
                    Behind::Trait(method) => {
                        drop(method);
                        Ok(())
                    }
                }
            }
        }

        impl Stateful for $name {
            fn save(&self) -> Result<State> {
                match &self.behind {
                    Behind::Table(_, held) => result((held.table.save)(held.instance)).and_then(take_state),
                    Behind::Trait(method) => method.save(),
                }
            }

            fn load(&mut self, state: State) -> Result<()> {
                match &mut self.behind {
                    Behind::Table(_, held) => result((held.table.load)(held.instance, give_state(state))),
                    Behind::Trait(method) => method.load(state),
                }
            }
        }
    };
}

held! {
    /// A regularizer of a plugin.
    RegularizerInstance, RegularizerTable, dyn AnyRegularizer
}

held! {
    /// An attack of a plugin.
    AttackInstance, AttackTable, dyn AnyAttack
}

held! {
    /// An objective of a plugin.
    ObjectiveInstance, ObjectiveTable, dyn AnyObjective
}

impl RegularizerInstance {
    /// See [`Regularizer::penalty`](crate::Regularizer::penalty).
    ///
    /// # Errors
    /// Those of the method.
    pub fn penalty(&mut self, step: &Step, network: &Network, batch: &Batch) -> Result<Tensor> {
        let (table, held) = match &mut self.behind {
            Behind::Table(table, held) => (table, held),
            Behind::Trait(method) => return method.penalty(step, network, batch),
        };
        let outcome = lend_step(step, |step| {
            lend_network(network, |network| (table.penalty)(held.instance, step, network, &batch_view(batch)))
        });
        result(outcome).map(take)
    }
}

impl AttackInstance {
    /// See [`Attack::info`](crate::Attack::info).
    ///
    /// # Errors
    /// If the method panicked.
    pub fn info(&self) -> Result<AttackInfo> {
        match &self.behind {
            Behind::Table(table, held) => {
                Ok(serde_json::from_str(&result((table.describe)(held.instance))?)?)
            }
            Behind::Trait(method) => Ok(method.info()),
        }
    }

    /// See [`Attack::perturb`](crate::Attack::perturb).
    ///
    /// # Errors
    /// Those of the method.
    pub fn perturb(
        &mut self,
        step: &Step,
        network: &Network,
        batch: &Batch,
        budget: &Budget,
    ) -> Result<Tensor> {
        let (table, held) = match &mut self.behind {
            Behind::Table(table, held) => (table, held),
            Behind::Trait(method) => return method.perturb(step, network, batch, budget),
        };
        let outcome = lend_step(step, |step| {
            lend_network(network, |network| {
                (table.perturb)(held.instance, step, network, &batch_view(batch), &budget_view(budget))
            })
        });
        result(outcome).map(take)
    }
}

impl ObjectiveInstance {
    /// See [`Objective::needs`](crate::Objective::needs).
    ///
    /// # Errors
    /// If the method panicked.
    pub fn needs(&self) -> Result<Needs> {
        match &self.behind {
            Behind::Table(table, held) => Ok(serde_json::from_str(&result((table.needs)(held.instance))?)?),
            Behind::Trait(method) => Ok(method.needs()),
        }
    }

    /// See [`Objective::initialise`](crate::Objective::initialise).
    ///
    /// # Errors
    /// Those of the method.
    pub fn initialise(&mut self, step: &Step, lab: &Lab) -> Result<Option<Initial>> {
        let (table, held) = match &mut self.behind {
            Behind::Table(table, held) => (table, held),
            Behind::Trait(method) => return method.initialise(step, lab),
        };
        let outcome = lend_step(step, |step| {
            lend_lab(lab.backend(), |lab| (table.initialise)(held.instance, step, lab))
        });
        let initial = result(outcome)?.into_option();
        Ok(initial.map(|initial| Initial { images: take(initial.images), labels: take(initial.labels) }))
    }

    /// See [`Objective::value`](crate::Objective::value).
    ///
    /// # Errors
    /// Those of the method.
    pub fn value(&mut self, step: &Step, synthetic: &Synthetic, lab: &Lab) -> Result<Value> {
        let (table, held) = match &mut self.behind {
            Behind::Table(table, held) => (table, held),
            Behind::Trait(method) => return method.value(step, synthetic, lab),
        };
        let outcome = lend_step(step, |step| {
            lend_lab(lab.backend(), |lab| {
                lend_synthetic(synthetic, |synthetic| (table.value)(held.instance, step, synthetic, lab))
            })
        });
        let value = result(outcome)?;
        let (loss, gradients) = (take(value.loss), value.gradients.into_iter().map(take).collect::<Vec<_>>());
        Ok(if gradients.is_empty() { Value::Loss(loss) } else { Value::Gradients { loss, gradients } })
    }

    /// See [`Objective::after_step`](crate::Objective::after_step).
    ///
    /// # Errors
    /// Those of the method.
    pub fn after_step(&mut self, step: &Step, synthetic: &Synthetic, lab: &Lab) -> Result<()> {
        let (table, held) = match &mut self.behind {
            Behind::Table(table, held) => (table, held),
            Behind::Trait(method) => return method.after_step(step, synthetic, lab),
        };
        result(lend_step(step, |step| {
            lend_lab(lab.backend(), |lab| {
                lend_synthetic(synthetic, |synthetic| (table.after_step)(held.instance, step, synthetic, lab))
            })
        }))
    }
}

fn lend_synthetic<T>(synthetic: &Synthetic, body: impl FnOnce(&SyntheticView<'_>) -> T) -> T {
    let learnables: Vec<_> = synthetic
        .learnables
        .iter()
        .map(|(name, tensor)| NamedView { name: RStr::from(*name), tensor: lend(tensor) })
        .collect();
    body(&SyntheticView {
        images: lend(synthetic.images),
        labels: lend(synthetic.labels),
        soft_labels: synthetic.soft_labels.map_or(RNone, |soft| RSome(lend(soft))),
        learnables: RSlice::from_slice(&learnables),
        ids: RSlice::from_slice(synthetic.ids),
        space: space_code(synthetic.space),
    })
}
