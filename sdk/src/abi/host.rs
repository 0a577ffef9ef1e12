//! Host side: the host's own networks, services and lab as the frozen tables.

use super::{convert::*, exports::with_batch, shield::shielded};
use crate::{
    Network, OwnedNetwork, Result, Step,
    lab::LabBackend,
    network::NetworkBackend,
    services::{Draw, Services, ServicesBackend},
};
use abi_stable::std_types::{RNone, ROption, RSlice, RSome, RStr, RString, RVec};
use guard_abi::{
    BatchView, BudgetView, CleanOutput, CleanRequest, CleanTable, DrawnBatch, HostView, Interface, LabTable,
    LabView, NetworkHandle, NetworkTable, NetworkTensors, NetworkView, NetworksTable, NumbersTable, Outcome,
    PassOutput, PassRequest, RandomRequest, ServicesTable, StepView, TensorHandle, TensorView, ids,
};
use std::{cell::Cell, marker::PhantomData};

/// What `data` points to: a fat pointer of the host's, behind a thin one.
struct Slot<T: ?Sized>(*const T);

/// The backend behind `data`.
///
/// # Safety
/// `data` comes from a view or handle of this module whose loan or ownership has not ended.
unsafe fn backend<'a, T: ?Sized>(data: *const ()) -> &'a T {
    // SAFETY: promised by the caller; the slot and what it points to live as long as the loan.
    unsafe { &*(*data.cast::<Slot<T>>()).0 }
}

/// Lends a network for the duration of `body`.
pub fn lend_network<T>(network: &Network, body: impl FnOnce(NetworkView<'_>) -> T) -> T {
    let slot: Slot<dyn NetworkBackend> = Slot(network.backend());
    body(NetworkView { data: (&raw const slot).cast(), lent: PhantomData })
}

/// Lends a step with its services for the duration of `body`.
pub fn lend_step<T>(step: &Step, body: impl FnOnce(&StepView<'_>) -> T) -> T {
    lend_services(&step.services, |host| {
        body(&StepView {
            stage: RStr::from(step.stage),
            iteration: step.iteration,
            iterations: step.iterations,
            host,
        })
    })
}

/// Lends services for the duration of `body`.
pub fn lend_services<T>(services: &Services, body: impl FnOnce(HostView<'_>) -> T) -> T {
    let backend: *const (dyn ServicesBackend + '_) = services.backend();
    let slot = Slot(backend);
    let interface = match AGE.get() {
        Age::Older => older_interface,
        Age::Present | Age::Newer => interface,
    };
    body(HostView { data: (&raw const slot).cast(), interface, lent: PhantomData })
}

/// Lends a lab for the duration of `body`.
pub fn lend_lab<T>(lab: &dyn LabBackend, body: impl FnOnce(LabView<'_>) -> T) -> T {
    let backend: *const (dyn LabBackend + '_) = lab;
    let slot = Slot(backend);
    body(LabView { data: (&raw const slot).cast(), lent: PhantomData })
}

/// The host that plugins see, to try them with others than this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// Offers no more than a host of guard-abi 0.1.0.
    Older,
    /// This one.
    Present,
    /// Says more in its descriptions than this SDK knows.
    Newer,
}

thread_local! {
    static AGE: Cell<Age> = const { Cell::new(Age::Present) };
}

/// Runs `body`, during which this thread lends to plugins what a host of that age would.
pub fn as_host<T>(age: Age, body: impl FnOnce() -> T) -> T {
    struct Before(Age);
    impl Drop for Before {
        fn drop(&mut self) {
            AGE.set(self.0);
        }
    }
    let _before = Before(AGE.replace(age));
    body()
}

/// A description as text.
pub(super) fn describe(value: &impl serde::Serialize) -> Result<RString> {
    let mut value = serde_json::to_value(value)?;
    if AGE.get() == Age::Newer {
        value["x-of-a-newer-host"] = serde_json::json!({ "numbers": [1, 2] });
    }
    Ok(value.to_string().into())
}

extern "C" fn older_interface(id: RStr<'_>) -> ROption<Interface> {
    match id.as_str() {
        ids::NETWORKS | ids::CLEAN | ids::NUMBERS => RNone,
        _ => interface(id),
    }
}

extern "C" fn interface(id: RStr<'_>) -> ROption<Interface> {
    match id.as_str() {
        ids::NETWORK => RSome(Interface::of(&NETWORK)),
        ids::SERVICES => RSome(Interface::of(&SERVICES)),
        ids::LAB => RSome(Interface::of(&LAB)),
        ids::NETWORKS => RSome(Interface::of(&NETWORKS)),
        ids::CLEAN => RSome(Interface::of(&CLEAN)),
        ids::NUMBERS => RSome(Interface::of(&NUMBERS)),
        _ => RNone,
    }
}

/// Shields a callback: a panic of the host becomes an error in the plugin.
fn call<T>(name: &str, body: impl FnOnce() -> Result<T>) -> Outcome<T> {
    outcome(shielded(&format!("the host's `{name}`"), body))
}

const NETWORK: NetworkTable = NetworkTable {
    describe: network_describe,
    pass: network_pass,
    tensors: network_tensors,
    rebind: network_rebind,
    release: network_release,
};

/// The network behind `data`, see [`backend`].
fn network<'a>(data: *const ()) -> &'a dyn NetworkBackend {
    // SAFETY: plugins pass back the data of a view or handle they hold.
    unsafe { backend::<dyn NetworkBackend>(data) }
}

fn own_network(owned: Box<dyn NetworkBackend>) -> NetworkHandle {
    let slot: Slot<dyn NetworkBackend> = Slot(Box::into_raw(owned));
    NetworkHandle { data: Box::into_raw(Box::new(slot)).cast_const().cast() }
}

extern "C" fn network_describe(data: *const ()) -> Outcome<RString> {
    call("network describe", || describe(network(data).info()))
}

extern "C" fn network_pass(data: *const (), request: &PassRequest<'_>) -> Outcome<PassOutput> {
    call("network pass", || {
        let output = network(data).pass(&borrow(request.input), pass(request)?)?;
        Ok(PassOutput {
            logits: give(output.logits),
            embedding: output.embedding.map_or(RNone, |tensor| RSome(give(tensor))),
            statistics: output
                .statistics
                .into_iter()
                .map(|each| guard_abi::Statistics {
                    layer: each.layer.into(),
                    mean: give(each.mean),
                    variance: give(each.variance),
                    running_mean: give(each.running_mean),
                    running_variance: give(each.running_variance),
                })
                .collect(),
            features: give_named(output.features),
        })
    })
}

extern "C" fn network_tensors(data: *const ()) -> Outcome<NetworkTensors> {
    call("network tensors", || {
        let tensors = network(data).tensors()?;
        Ok(NetworkTensors {
            parameters: give_named(tensors.parameters),
            buffers: give_named(tensors.buffers),
        })
    })
}

extern "C" fn network_rebind(
    data: *const (),
    parameters: RSlice<'_, TensorView<'_>>,
) -> Outcome<NetworkHandle> {
    call("network rebind", || {
        let borrowed: Vec<_> = parameters.iter().map(|view| borrow(*view)).collect();
        let parameters: Vec<_> = borrowed.iter().map(|tensor| &**tensor).collect();
        Ok(own_network(network(data).rebind(&parameters)?))
    })
}

extern "C" fn network_release(data: *const ()) {
    let freed = shielded("the host's `network release`", || {
        // SAFETY: `own_network` made both boxes, and the owner releases them once.
        unsafe {
            let slot = Box::from_raw(data.cast::<Slot<dyn NetworkBackend>>().cast_mut());
            drop(Box::from_raw(slot.0.cast_mut()));
        }
        Ok(())
    });
    // Nobody is there to take an error of a drop.
    drop(freed);
}

const SERVICES: ServicesTable = ServicesTable {
    log: services_log,
    metric: services_metric,
    cancelled: services_cancelled,
    progress: services_progress,
    device: services_device,
    random: services_random,
    attack: services_attack,
    regularizer: services_regularizer,
    perturb: services_perturb,
    penalty: services_penalty,
};

/// The services behind `data`, see [`backend`].
fn services<'a>(data: *const ()) -> &'a dyn ServicesBackend {
    // SAFETY: plugins pass back the data of the host view they were lent, during the call.
    unsafe { backend::<dyn ServicesBackend>(data) }
}

extern "C" fn services_log(data: *const (), level_code: u8, message: RStr<'_>) {
    let logged = shielded("the host's `log`", || {
        services(data).log(level(level_code), message.as_str());
        Ok(())
    });
    // A log that cannot be written is not the method's failure.
    drop(logged);
}

extern "C" fn services_metric(data: *const (), name: RStr<'_>, value: TensorView<'_>) -> Outcome<()> {
    call("metric", || services(data).metric(name.as_str(), &borrow(value)))
}

extern "C" fn services_cancelled(data: *const ()) -> bool {
    shielded("the host's `cancelled`", || Ok(services(data).cancelled())).unwrap_or(true)
}

extern "C" fn services_progress(data: *const (), fraction: f64) {
    let shown = shielded("the host's `progress`", || {
        services(data).progress(fraction);
        Ok(())
    });
    // As for the log.
    drop(shown);
}

extern "C" fn services_device(data: *const ()) -> i32 {
    let device = shielded("the host's `device`", || Ok(services(data).device()));
    match device {
        Ok(tch::Device::Cuda(index)) => index as i32,
        _ => -1,
    }
}

extern "C" fn services_random(data: *const (), request: &RandomRequest<'_>) -> Outcome<TensorHandle> {
    call("random", || services(data).random(&draw_of(request)?).map(give))
}

fn draw_of<'a>(request: &RandomRequest<'a>) -> Result<Draw<'a>> {
    Ok(Draw {
        stream: request.stream.as_str(),
        draw: request.draw,
        ids: request.ids.as_slice(),
        shape: request.shape.as_slice(),
        distribution: distribution(request.distribution)?,
        kind: kind(request.kind)?,
    })
}

extern "C" fn services_attack(data: *const (), name: RStr<'_>, options: RStr<'_>) -> Outcome<u64> {
    call("attack", || services(data).attack(name.as_str(), &serde_json::from_str(options.as_str())?))
}

extern "C" fn services_regularizer(data: *const (), name: RStr<'_>, options: RStr<'_>) -> Outcome<u64> {
    call("regularizer", || {
        services(data).regularizer(name.as_str(), &serde_json::from_str(options.as_str())?)
    })
}

fn step_of<'a>(view: &'a StepView<'_>, backend: &'a dyn ServicesBackend) -> Step<'a> {
    Step {
        stage: view.stage.as_str(),
        iteration: view.iteration,
        iterations: view.iterations,
        services: Services::lend(backend),
    }
}

extern "C" fn services_perturb(
    data: *const (),
    key: u64,
    step: &StepView<'_>,
    view: NetworkView<'_>,
    batch: &BatchView<'_>,
    budget_view: &BudgetView,
) -> Outcome<TensorHandle> {
    call("perturb", || {
        let (backend, budget) = (services(data), budget(budget_view)?);
        let network = Network::lend(network(view.data));
        with_batch(batch, |batch| {
            backend.perturb(key, &step_of(step, backend), &network, batch, &budget).map(give)
        })
    })
}

extern "C" fn services_penalty(
    data: *const (),
    key: u64,
    step: &StepView<'_>,
    view: NetworkView<'_>,
    batch: &BatchView<'_>,
) -> Outcome<TensorHandle> {
    call("penalty", || {
        let backend = services(data);
        let network = Network::lend(network(view.data));
        with_batch(batch, |batch| backend.penalty(key, &step_of(step, backend), &network, batch).map(give))
    })
}

const NETWORKS: NetworksTable = NetworksTable { network: networks_network };

extern "C" fn networks_network(data: *const (), name: RStr<'_>) -> Outcome<NetworkHandle> {
    call("network", || Ok(hand_over(services(data).network(name.as_str())?)))
}

const NUMBERS: NumbersTable = NumbersTable { numbers: services_numbers };

extern "C" fn services_numbers(data: *const (), request: &RandomRequest<'_>) -> Outcome<RVec<f64>> {
    call("numbers", || services(data).numbers(&draw_of(request)?).map(RVec::from))
}

const CLEAN: CleanTable = CleanTable { clean: services_clean };

extern "C" fn services_clean(
    data: *const (),
    view: NetworkView<'_>,
    batch: &BatchView<'_>,
    request: &CleanRequest,
) -> Outcome<CleanOutput> {
    call("clean pass", || {
        let (backend, request) = (services(data), clean_request(request)?);
        let network = Network::lend(network(view.data));
        let clean = with_batch(batch, |batch| backend.clean(&network, batch, request))?;
        Ok(CleanOutput {
            images: give(clean.images),
            logits: give(clean.logits),
            losses: give(clean.losses),
            gradient: clean.gradient.map_or(RNone, |gradient| RSome(give(gradient))),
        })
    })
}

const LAB: LabTable = LabTable {
    describe: lab_describe,
    teacher: lab_teacher,
    fresh: lab_fresh,
    real: lab_real,
    training_loss: lab_training_loss,
    experts: lab_experts,
    expert: lab_expert,
};

/// The lab behind `data`, see [`backend`].
fn lab<'a>(data: *const ()) -> &'a dyn LabBackend {
    // SAFETY: plugins pass back the data of the lab view they were lent, during the call.
    unsafe { backend::<dyn LabBackend>(data) }
}

/// Hands over a network that the host made.
fn hand_over(network: OwnedNetwork) -> NetworkHandle {
    own_network(network.into_backend())
}

extern "C" fn lab_describe(data: *const ()) -> Outcome<RString> {
    call("lab describe", || describe(lab(data).info()))
}

extern "C" fn lab_teacher(data: *const ()) -> Outcome<NetworkHandle> {
    call("teacher", || Ok(hand_over(lab(data).teacher()?)))
}

extern "C" fn lab_fresh(data: *const (), draw: u64) -> Outcome<NetworkHandle> {
    call("fresh network", || Ok(hand_over(lab(data).fresh_network(draw)?)))
}

extern "C" fn lab_real(data: *const (), class: i64, count: u64, draw: u64) -> Outcome<DrawnBatch> {
    call("real images", || {
        let batch = lab(data).real((class >= 0).then_some(class), count, draw)?;
        Ok(DrawnBatch { images: give(batch.images), labels: give(batch.labels), ids: batch.ids.into() })
    })
}

extern "C" fn lab_training_loss(
    data: *const (),
    view: NetworkView<'_>,
    batch: &BatchView<'_>,
) -> Outcome<TensorHandle> {
    call("training loss", || {
        let network = Network::lend(network(view.data));
        with_batch(batch, |batch| lab(data).training_loss(&network, batch).map(give))
    })
}

extern "C" fn lab_experts(data: *const ()) -> Outcome<RString> {
    call("experts", || describe(&lab(data).experts()?))
}

extern "C" fn lab_expert(data: *const (), trajectory: u64, snapshot: u64) -> Outcome<NetworkHandle> {
    call("expert", || Ok(hand_over(lab(data).expert(trajectory, snapshot)?)))
}
