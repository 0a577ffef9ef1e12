//! Plugin side: the author's traits as the frozen tables.

use super::{
    convert::*,
    remote::HostTables,
    shield::{caught, shielded},
};
use crate::{
    Attack, AttackInfo, Batch, Budget, Error, Initial, Lab, Method, Needs, Network, Objective, Regularizer,
    Result, Services, State, Step, Synthetic, TORCH_VERSION, Value,
    export::{Entry, Plugin},
    manifest::Kind,
};
use abi_stable::{
    prefix_type::PrefixTypeTrait,
    std_types::{RNone, ROption, RSome, RStr, RString, RVec},
};
use guard_abi::{
    AttackTable, BatchView, BudgetView, Fingerprint, HostView, Instance, Interface, LabView, MethodTable,
    NetworkView, ObjectiveTable, ObjectiveValue, Outcome, RegularizerTable, Root, StepView, SyntheticView,
    TensorHandle,
};
use std::{
    cell::UnsafeCell,
    marker::PhantomData,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};
use tch::Tensor;

/// A method behind a pointer, whatever its type.
pub trait AnyMethod: Send {
    /// See [`Method::save`].
    fn save(&self) -> Result<State>;
    /// See [`Method::load`].
    fn load(&mut self, state: State) -> Result<()>;
}

impl<T: Method> AnyMethod for T {
    fn save(&self) -> Result<State> {
        Method::save(self)
    }

    fn load(&mut self, state: State) -> Result<()> {
        Method::load(self, state)
    }
}

/// A regularizer behind a pointer.
pub trait AnyRegularizer: AnyMethod {
    /// See [`Regularizer::penalty`].
    fn penalty(&mut self, step: &Step, network: &Network, batch: &Batch) -> Result<Tensor>;
}

impl<T: Regularizer> AnyRegularizer for T {
    fn penalty(&mut self, step: &Step, network: &Network, batch: &Batch) -> Result<Tensor> {
        Regularizer::penalty(self, step, network, batch)
    }
}

/// An attack behind a pointer.
pub trait AnyAttack: AnyMethod {
    /// See [`Attack::info`].
    fn info(&self) -> AttackInfo;
    /// See [`Attack::perturb`].
    fn perturb(&mut self, step: &Step, network: &Network, batch: &Batch, budget: &Budget) -> Result<Tensor>;
}

impl<T: Attack> AnyAttack for T {
    fn info(&self) -> AttackInfo {
        Attack::info(self)
    }

    fn perturb(&mut self, step: &Step, network: &Network, batch: &Batch, budget: &Budget) -> Result<Tensor> {
        Attack::perturb(self, step, network, batch, budget)
    }
}

/// An objective behind a pointer.
pub trait AnyObjective: AnyMethod {
    /// See [`Objective::needs`].
    fn needs(&self) -> Needs;
    /// See [`Objective::initialise`].
    fn initialise(&mut self, step: &Step, lab: &Lab) -> Result<Option<Initial>>;
    /// See [`Objective::value`].
    fn value(&mut self, step: &Step, synthetic: &Synthetic, lab: &Lab) -> Result<Value>;
    /// See [`Objective::after_step`].
    fn after_step(&mut self, step: &Step, synthetic: &Synthetic, lab: &Lab) -> Result<()>;
}

impl<T: Objective> AnyObjective for T {
    fn needs(&self) -> Needs {
        Objective::needs(self)
    }

    fn initialise(&mut self, step: &Step, lab: &Lab) -> Result<Option<Initial>> {
        Objective::initialise(self, step, lab)
    }

    fn value(&mut self, step: &Step, synthetic: &Synthetic, lab: &Lab) -> Result<Value> {
        Objective::value(self, step, synthetic, lab)
    }

    fn after_step(&mut self, step: &Step, synthetic: &Synthetic, lab: &Lab) -> Result<()> {
        Objective::after_step(self, step, synthetic, lab)
    }
}

/// What stands behind [`Instance::data`].
struct Guarded<D: ?Sized> {
    /// For messages, e.g. ``plugin `guard.curv`, regularizer `curvature` ``.
    who: String,
    tables: HostTables,
    /// One call at a time: a second would alias `&mut`.
    busy: AtomicBool,
    /// The first panic; nothing runs after it.
    poison: OnceLock<String>,
    method: UnsafeCell<Box<D>>,
}

/// Runs `body` on the method behind `instance`, alone, shielded, and not after a panic.
fn enter<D: ?Sized, T>(
    instance: Instance,
    call: &str,
    body: impl FnOnce(&mut D, HostTables) -> Result<T>,
) -> Result<T> {
    // SAFETY: `create` of the same table made the pointer from a `Box<Guarded<D>>`, and `release` has not been called.
    let guarded = unsafe { &*instance.data.cast::<Guarded<D>>() };
    if guarded.busy.swap(true, Ordering::Acquire) {
        return Err(Error::with_code(
            "busy",
            format!("{}: `{call}` was called during another call", guarded.who),
        )
        .help("a method can be called by one caller at a time, and not by itself"));
    }
    let result = match guarded.poison.get() {
        Some(panic) => {
            Err(Error::with_code("poisoned", format!("{} cannot be used after a panic", guarded.who))
                .cause(panic))
        }
        None => caught(&format!("{}, `{call}`", guarded.who), || {
            // SAFETY: the busy flag, taken above and given back below, keeps every other call out.
            body(unsafe { &mut **guarded.method.get() }, guarded.tables)
        })
        // Only its own panic: a method may return that of another one, and is itself in order.
        .unwrap_or_else(|panic| {
            let _ = guarded.poison.set(panic.message.clone());
            Err(panic)
        }),
    };
    guarded.busy.store(false, Ordering::Release);
    result
}

fn find<D: ?Sized>(entries: &'static [Entry<D>], name: RStr<'_>, kind: Kind) -> Result<&'static Entry<D>> {
    entries
        .iter()
        .find(|entry| entry.name == name.as_str())
        .ok_or_else(|| Error::new(format!("this plugin has no {kind} `{name}`")))
}

/// The functions of all kinds, for the kind whose methods are `D` in plugin `P`.
struct Methods<P, D: ?Sized>(PhantomData<(P, Box<D>)>);

/// Where a plugin lists its methods of a kind.
trait Listed<D: ?Sized + 'static> {
    const KIND: Kind;
    const ENTRIES: &'static [Entry<D>];
}

impl<P: Plugin> Listed<dyn AnyRegularizer> for P {
    const KIND: Kind = Kind::Regularizer;
    const ENTRIES: &'static [Entry<dyn AnyRegularizer>] = P::REGULARIZERS;
}

impl<P: Plugin> Listed<dyn AnyAttack> for P {
    const KIND: Kind = Kind::Attack;
    const ENTRIES: &'static [Entry<dyn AnyAttack>] = P::ATTACKS;
}

impl<P: Plugin> Listed<dyn AnyObjective> for P {
    const KIND: Kind = Kind::Objective;
    const ENTRIES: &'static [Entry<dyn AnyObjective>] = P::OBJECTIVES;
}

impl<P: Plugin + Listed<D>, D: ?Sized + AnyMethod + 'static> Methods<P, D> {
    const TABLE: MethodTable = MethodTable {
        schema: Self::schema,
        create: Self::create,
        save: Self::save,
        load: Self::load,
        release: Self::release,
    };

    extern "C" fn schema(name: RStr<'_>) -> Outcome<RString> {
        outcome(shielded(&format!("plugin `{}`, schema of `{name}`", P::ID), || {
            let schema = (find(P::ENTRIES, name, P::KIND)?.schema)();
            Ok(schema.to_string().into())
        }))
    }

    extern "C" fn create(host: HostView<'_>, name: RStr<'_>, options: RStr<'_>) -> Outcome<Instance> {
        let who = format!("plugin `{}`, {} `{name}`", P::ID, P::KIND);
        outcome(shielded(&who, || {
            let tables = HostTables::of(host)?;
            let services = tables.services(host);
            let options = serde_json::from_str(options.as_str())?;
            let method = (find(P::ENTRIES, name, P::KIND)?.create)(options, &Services::lend(&services))?;
            let guarded = Guarded {
                who: who.clone(),
                tables,
                busy: AtomicBool::new(false),
                poison: OnceLock::new(),
                method: UnsafeCell::new(method),
            };
            Ok(Instance { data: Box::into_raw(Box::new(guarded)).cast() })
        }))
    }

    extern "C" fn save(instance: Instance) -> Outcome<guard_abi::State> {
        outcome(enter(instance, "save", |method: &mut D, _| Ok(give_state(method.save()?))))
    }

    extern "C" fn load(instance: Instance, state: guard_abi::State) -> Outcome<()> {
        outcome(enter(instance, "load", |method: &mut D, _| method.load(take_state(state)?)))
    }

    extern "C" fn release(instance: Instance) -> Outcome<()> {
        // SAFETY: `create` made the pointer from such a box, and the host releases it once.
        let guarded = unsafe { Box::from_raw(instance.data.cast::<Guarded<D>>()) };
        let who = format!("{}, drop", guarded.who);
        outcome(shielded(&who, move || {
            drop(guarded);
            Ok(())
        }))
    }
}

/// A plugin's root and tables.
pub struct Exports<P>(PhantomData<P>);

impl<P: Plugin> Exports<P> {
    const REGULARIZERS: RegularizerTable =
        RegularizerTable { method: Methods::<P, dyn AnyRegularizer>::TABLE, penalty: Self::penalty };
    const ATTACKS: AttackTable = AttackTable {
        method: Methods::<P, dyn AnyAttack>::TABLE,
        describe: Self::describe,
        perturb: Self::perturb,
    };
    const OBJECTIVES: ObjectiveTable = ObjectiveTable {
        method: Methods::<P, dyn AnyObjective>::TABLE,
        needs: Self::needs,
        initialise: Self::initialise,
        value: Self::value,
        after_step: Self::after_step,
    };

    /// What the library exports.
    pub const ROOT: Root = Root { manifest: Self::manifest, fingerprint, interface: Self::interface };

    extern "C" fn manifest() -> RStr<'static> {
        RStr::from_str(P::MANIFEST)
    }

    extern "C" fn interface(id: RStr<'_>) -> ROption<Interface> {
        match id.as_str() {
            guard_abi::ids::REGULARIZER if !P::REGULARIZERS.is_empty() => {
                RSome(Interface::of(&Self::REGULARIZERS))
            }
            guard_abi::ids::ATTACK if !P::ATTACKS.is_empty() => RSome(Interface::of(&Self::ATTACKS)),
            guard_abi::ids::OBJECTIVE if !P::OBJECTIVES.is_empty() => RSome(Interface::of(&Self::OBJECTIVES)),
            _ => RNone,
        }
    }

    extern "C" fn penalty(
        instance: Instance,
        step: &StepView<'_>,
        network: NetworkView<'_>,
        batch: &BatchView<'_>,
    ) -> Outcome<TensorHandle> {
        outcome(enter::<dyn AnyRegularizer, _>(instance, "penalty", |method, tables| {
            let services = tables.services(step.host);
            let network = tables.network(network)?;
            with_batch(batch, |batch| {
                method.penalty(&step_of(step, &services), &Network::lend(&network), batch).map(give)
            })
        }))
    }

    extern "C" fn describe(instance: Instance) -> Outcome<RString> {
        outcome(enter::<dyn AnyAttack, _>(instance, "info", |method, _| {
            Ok(serde_json::to_string(&method.info())?.into())
        }))
    }

    extern "C" fn perturb(
        instance: Instance,
        step: &StepView<'_>,
        network: NetworkView<'_>,
        batch: &BatchView<'_>,
        budget_view: &BudgetView,
    ) -> Outcome<TensorHandle> {
        outcome(enter::<dyn AnyAttack, _>(instance, "perturb", |method, tables| {
            let services = tables.services(step.host);
            let network = tables.network(network)?;
            let budget = budget(budget_view)?;
            with_batch(batch, |batch| {
                method.perturb(&step_of(step, &services), &Network::lend(&network), batch, &budget).map(give)
            })
        }))
    }

    extern "C" fn needs(instance: Instance) -> Outcome<RString> {
        outcome(enter::<dyn AnyObjective, _>(instance, "needs", |method, _| {
            Ok(serde_json::to_string(&method.needs())?.into())
        }))
    }

    extern "C" fn initialise(
        instance: Instance,
        step: &StepView<'_>,
        lab: LabView<'_>,
    ) -> Outcome<ROption<guard_abi::Initial>> {
        outcome(enter::<dyn AnyObjective, _>(instance, "initialise", |method, tables| {
            let services = tables.services(step.host);
            let lab = tables.lab(lab)?;
            let initial = method.initialise(&step_of(step, &services), &Lab::lend(&lab))?;
            Ok(initial.map_or(RNone, |initial| {
                RSome(guard_abi::Initial { images: give(initial.images), labels: give(initial.labels) })
            }))
        }))
    }

    extern "C" fn value(
        instance: Instance,
        step: &StepView<'_>,
        synthetic: &SyntheticView<'_>,
        lab: LabView<'_>,
    ) -> Outcome<ObjectiveValue> {
        outcome(enter::<dyn AnyObjective, _>(instance, "value", |method, tables| {
            let services = tables.services(step.host);
            let lab = tables.lab(lab)?;
            with_synthetic(synthetic, |synthetic| {
                Ok(match method.value(&step_of(step, &services), synthetic, &Lab::lend(&lab))? {
                    Value::Loss(loss) => ObjectiveValue { loss: give(loss), gradients: RVec::new() },
                    Value::Gradients { loss, gradients } => ObjectiveValue {
                        loss: give(loss),
                        gradients: gradients.into_iter().map(give).collect(),
                    },
                })
            })
        }))
    }

    extern "C" fn after_step(
        instance: Instance,
        step: &StepView<'_>,
        synthetic: &SyntheticView<'_>,
        lab: LabView<'_>,
    ) -> Outcome<()> {
        outcome(enter::<dyn AnyObjective, _>(instance, "after_step", |method, tables| {
            let services = tables.services(step.host);
            let lab = tables.lab(lab)?;
            with_synthetic(synthetic, |synthetic| {
                method.after_step(&step_of(step, &services), synthetic, &Lab::lend(&lab))
            })
        }))
    }
}

extern "C" fn fingerprint() -> Fingerprint {
    Fingerprint {
        torch: RStr::from_str(TORCH_VERSION),
        cxx11_abi: super::shim::cxx11_abi(),
        symbol: super::shim::symbol(),
    }
}

fn step_of<'a>(view: &'a StepView<'_>, services: &'a super::remote::RemoteServices<'_>) -> Step<'a> {
    Step {
        stage: view.stage.as_str(),
        iteration: view.iteration,
        iterations: view.iterations,
        services: Services::lend(services),
    }
}

/// The batch behind a view.
pub(super) fn with_batch<T>(view: &BatchView<'_>, body: impl FnOnce(&Batch) -> Result<T>) -> Result<T> {
    let (images, labels) = (borrow(view.images), borrow(view.labels));
    let soft_labels = view.soft_labels.into_option().map(borrow);
    let batch = Batch {
        images: &images,
        labels: &labels,
        soft_labels: soft_labels.as_deref(),
        ids: view.ids.as_slice(),
        space: space(view.space)?,
    };
    batch.check()?;
    body(&batch)
}

fn with_synthetic<T>(view: &SyntheticView<'_>, body: impl FnOnce(&Synthetic) -> Result<T>) -> Result<T> {
    let (images, labels) = (borrow(view.images), borrow(view.labels));
    let soft_labels = view.soft_labels.into_option().map(borrow);
    let learned: Vec<_> =
        view.learnables.iter().map(|named| (named.name.as_str(), borrow(named.tensor))).collect();
    let learnables: Vec<(&str, &Tensor)> = learned.iter().map(|(name, tensor)| (*name, &**tensor)).collect();
    body(&Synthetic {
        images: &images,
        labels: &labels,
        soft_labels: soft_labels.as_deref(),
        learnables: &learnables,
        ids: view.ids.as_slice(),
        space: space(view.space)?,
    })
}

/// The root module of plugin `P`. abi_stable asks once per library, which is never unloaded.
pub fn root<P: Plugin>() -> guard_abi::RootRef {
    Exports::<P>::ROOT.leak_into_prefix()
}
