//! Host side: a plugin's tables as safe calls.

use super::{convert::*, host::*, remote::batch_view};
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

macro_rules! held {
    ($(#[$doc:meta])* $name:ident, $table:ty) => {
        $(#[$doc])*
        pub struct $name {
            table: &'static $table,
            held: Held,
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
                Ok(Self { table, held: Held::create(&table.method, services, name, options)? })
            }

            /// Frees the instance and reports what went wrong in its `Drop`.
            ///
            /// # Errors
            /// If it panicked.
            pub fn release(mut self) -> Result<()> {
                self.held.release()
            }
        }

        impl Stateful for $name {
            fn save(&self) -> Result<State> {
                result((self.held.table.save)(self.held.instance)).and_then(take_state)
            }

            fn load(&mut self, state: State) -> Result<()> {
                result((self.held.table.load)(self.held.instance, give_state(state)))
            }
        }
    };
}

held! {
    /// A regularizer of a plugin.
    RegularizerInstance, RegularizerTable
}

held! {
    /// An attack of a plugin.
    AttackInstance, AttackTable
}

held! {
    /// An objective of a plugin.
    ObjectiveInstance, ObjectiveTable
}

impl RegularizerInstance {
    /// See [`Regularizer::penalty`](crate::Regularizer::penalty).
    ///
    /// # Errors
    /// Those of the method.
    pub fn penalty(&mut self, step: &Step, network: &Network, batch: &Batch) -> Result<Tensor> {
        let penalty = self.table.penalty;
        let outcome = lend_step(step, |step| {
            lend_network(network, |network| penalty(self.held.instance, step, network, &batch_view(batch)))
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
        Ok(serde_json::from_str(&result((self.table.describe)(self.held.instance))?)?)
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
        let perturb = self.table.perturb;
        let outcome = lend_step(step, |step| {
            lend_network(network, |network| {
                perturb(self.held.instance, step, network, &batch_view(batch), &budget_view(budget))
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
        Ok(serde_json::from_str(&result((self.table.needs)(self.held.instance))?)?)
    }

    /// See [`Objective::initialise`](crate::Objective::initialise).
    ///
    /// # Errors
    /// Those of the method.
    pub fn initialise(&mut self, step: &Step, lab: &Lab) -> Result<Option<Initial>> {
        let initialise = self.table.initialise;
        let outcome =
            lend_step(step, |step| lend_lab(lab.backend(), |lab| initialise(self.held.instance, step, lab)));
        let initial = result(outcome)?.into_option();
        Ok(initial.map(|initial| Initial { images: take(initial.images), labels: take(initial.labels) }))
    }

    /// See [`Objective::value`](crate::Objective::value).
    ///
    /// # Errors
    /// Those of the method.
    pub fn value(&mut self, step: &Step, synthetic: &Synthetic, lab: &Lab) -> Result<Value> {
        let value = self.table.value;
        let outcome = lend_step(step, |step| {
            lend_lab(lab.backend(), |lab| {
                lend_synthetic(synthetic, |synthetic| value(self.held.instance, step, synthetic, lab))
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
        let after_step = self.table.after_step;
        result(lend_step(step, |step| {
            lend_lab(lab.backend(), |lab| {
                lend_synthetic(synthetic, |synthetic| after_step(self.held.instance, step, synthetic, lab))
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
