//! The host's services and networks as the functions of `guard_host`.

use super::{
    tables,
    text::{c_text, needed, tell},
};
use crate::{
    Batch, Budget, Error, Mode, Network, Pass, Result, Services, State, Step,
    abi::{
        convert::{
            Borrowed, borrow_pointer, budget, budget_view, distribution, give_pointer, level, space,
            space_code, usable,
        },
        host::describe,
        shield::shielded,
    },
    network::NetworkBackend,
    services::{Draw, ServicesBackend},
};
use guard_abi::BudgetView;
use serde_json::Value;
use std::{
    cell::{OnceCell, RefCell},
    ffi::{CString, c_char},
    ptr, slice,
};
use tch::{Device, Kind, Tensor};

/// `guard_host` with what only the host knows behind it.
#[repr(C)]
struct HostBox<'a> {
    table: tables::Host,
    services: &'a dyn ServicesBackend,
}

const TABLE: tables::Host = tables::Host {
    size: size_of::<tables::Host>(),
    log,
    metric,
    cancelled,
    progress,
    device,
    random,
    attack,
    regularizer,
    perturb,
    penalty,
    describe: network_describe,
    pass: network_pass,
    parameter_count,
    parameter,
    with_parameters,
    release_network,
    release_tensor,
    options_json,
    option_number,
    option_text,
};

/// Lends the host's functions for the duration of `body`.
pub fn lend_host<T>(services: &Services, body: impl FnOnce(*const tables::Host) -> T) -> T {
    let host = HostBox { table: TABLE, services: services.backend() };
    body((&raw const host).cast())
}

/// Lends a step for the duration of `body`.
pub fn lend_step<T>(step: &Step, body: impl FnOnce(*const tables::Step) -> T) -> T {
    let stage = c_text(step.stage);
    lend_host(&step.services, |host| {
        let Step { iteration, iterations, .. } = *step;
        body(&tables::Step { stage: stage.as_ptr(), iteration, iterations, host })
    })
}

/// Lends a batch for the duration of `body`.
pub fn lend_batch<T>(batch: &Batch, body: impl FnOnce(*const tables::Batch) -> T) -> T {
    body(&tables::Batch {
        images: batch.images.as_ptr(),
        labels: batch.labels.as_ptr(),
        soft_labels: batch.soft_labels.map_or(ptr::null(), Tensor::as_ptr),
        ids: batch.ids.as_ptr(),
        count: batch.ids.len(),
        space: i32::from(space_code(batch.space)),
    })
}

/// A budget as the header has it.
pub fn budget_of(budget: &Budget) -> tables::Budget {
    tables::Budget { epsilon: budget.epsilon, norm: i32::from(budget_view(budget).norm) }
}

/// A network as plugins hold it.
struct Held {
    /// Lent, or in `owned`.
    backend: *const dyn NetworkBackend,
    _owned: Option<Box<dyn NetworkBackend>>,
    info: CString,
    parameters: OnceCell<Vec<(CString, Tensor)>>,
}

impl Held {
    fn new(backend: *const dyn NetworkBackend, owned: Option<Box<dyn NetworkBackend>>) -> Result<Self> {
        // SAFETY: the caller lends it, or hands it over in `owned`, for as long as this lives.
        let info = describe(unsafe { &*backend }.info())?;
        Ok(Self { backend, _owned: owned, info: c_text(&info), parameters: OnceCell::new() })
    }

    fn parameters(&self) -> Result<&[(CString, Tensor)]> {
        if self.parameters.get().is_none() {
            let tensors = backend_of(self).tensors()?;
            let named = tensors.parameters.into_iter().map(|(name, tensor)| (c_text(&name), tensor));
            let _ = self.parameters.set(named.collect());
        }
        Ok(self.parameters.get().map_or(&[], Vec::as_slice))
    }
}

fn backend_of(held: &Held) -> &dyn NetworkBackend {
    // SAFETY: see `Held::new`.
    unsafe { &*held.backend }
}

/// Lends a network for the duration of `body`.
///
/// # Errors
/// If it cannot be described.
pub fn lend_network<T>(network: &Network, body: impl FnOnce(*const tables::Network) -> T) -> Result<T> {
    let backend: *const (dyn NetworkBackend + '_) = network.backend();
    // SAFETY: only the lifetime is left out; `held` ends before the loan does.
    let backend: *const (dyn NetworkBackend + 'static) = unsafe { std::mem::transmute(backend) };
    let held = Held::new(backend, None)?;
    Ok(body((&raw const held).cast()))
}

/// The options of a method that is made.
pub struct GivenOptions {
    json: CString,
    value: Value,
    /// Texts that were asked for.
    texts: RefCell<Vec<CString>>,
}

impl GivenOptions {
    /// Lends `value` for the duration of `body`.
    pub fn lend<T>(value: Value, body: impl FnOnce(*const tables::Options) -> T) -> T {
        let given = Self { json: c_text(&value.to_string()), value, texts: RefCell::default() };
        body((&raw const given).cast())
    }
}

/// `guard_state_writer` with what it writes into.
#[repr(C)]
struct WriterBox {
    table: tables::StateWriter,
    state: State,
}

/// Lends a writer for the duration of `body`, and tells what was written.
pub fn lend_writer<T>(body: impl FnOnce(*mut tables::StateWriter) -> T) -> (T, State) {
    let table = tables::StateWriter { put_json, put_tensor };
    let mut writer = WriterBox { table, state: State::default() };
    let done = body((&raw mut writer).cast());
    (done, writer.state)
}

/// Shields a callback: 0, or 1 with the error told.
fn call(name: &str, error: *mut tables::Error, body: impl FnOnce() -> Result<()>) -> i32 {
    match shielded(&format!("the host's `{name}`"), body) {
        Ok(()) => 0,
        Err(failure) => {
            // SAFETY: null, or the place that the plugin provides.
            if let Some(place) = unsafe { error.as_mut() } {
                tell(failure, place);
            }
            1
        }
    }
}

/// As [`call`], where nothing can be told: `otherwise` then.
fn quietly<T>(name: &str, otherwise: T, body: impl FnOnce() -> Result<T>) -> T {
    shielded(&format!("the host's `{name}`"), body).unwrap_or(otherwise)
}

/// What `pointer` points to; an error if it is null.
///
/// # Safety
/// It is null, or lent by or to the plugin during the call.
unsafe fn at<'a, T>(pointer: *const T, what: &str) -> Result<&'a T> {
    // SAFETY: promised by the caller.
    unsafe { pointer.as_ref() }.ok_or_else(|| Error::with_code("interface", format!("{what} is null")))
}

/// A list of the plugin's.
///
/// # Safety
/// `first` points to `count` values that live during the call, or `count` is 0.
unsafe fn list<'a, T>(first: *const T, count: usize, what: &str) -> Result<&'a [T]> {
    match (count, first.is_null()) {
        (0, _) => Ok(&[]),
        (_, true) => Err(Error::with_code("interface", format!("{what} is null"))),
        // SAFETY: promised by the caller.
        _ => Ok(unsafe { slice::from_raw_parts(first, count) }),
    }
}

/// A tensor of the plugin's.
fn tensor<'a>(pointer: *const tables::Tensor, what: &str) -> Result<Borrowed<'a>> {
    match pointer.is_null() {
        true => Err(Error::with_code("interface", format!("{what} is null"))),
        // SAFETY: not null, and lent during the call.
        false => Ok(unsafe { borrow_pointer(pointer) }),
    }
}

/// Writes a result to where the plugin wants it.
fn put<T>(place: *mut T, value: T, what: &str) -> Result<()> {
    match place.is_null() {
        true => Err(Error::with_code("interface", format!("the place for {what} is null"))),
        false => {
            // SAFETY: not null, and the plugin's to be written.
            unsafe { place.write(value) };
            Ok(())
        }
    }
}

/// Hands a tensor over.
fn hand(place: *mut *mut tables::Tensor, tensor: Tensor, what: &str) -> Result<()> {
    match place.is_null() {
        true => put(place, ptr::null_mut(), what),
        false => put(place, give_pointer(tensor), what),
    }
}

fn services<'a>(host: *const tables::Host) -> Result<&'a dyn ServicesBackend> {
    // SAFETY: what plugins are given as `guard_host` is in a `HostBox`.
    Ok(unsafe { at(host.cast::<HostBox<'a>>(), "`host`") }?.services)
}

fn held<'a>(network: *const tables::Network) -> Result<&'a Held> {
    // SAFETY: what plugins are given as `guard_network` is `Held`.
    unsafe { at(network.cast(), "`network`") }
}

fn code<T: Copy>(code: i32, read: impl FnOnce(u8) -> Result<T>) -> Result<T> {
    read(u8::try_from(code).unwrap_or(u8::MAX))
}

extern "C" fn log(host: *const tables::Host, loudness: i32, message: *const c_char) {
    quietly("log", (), || {
        // SAFETY: a text of the plugin's.
        let message = unsafe { needed(message, "the message") }?;
        services(host)?.log(level(u8::try_from(loudness).unwrap_or(u8::MAX)), &message);
        Ok(())
    });
}

extern "C" fn metric(
    host: *const tables::Host,
    name: *const c_char,
    value: *const tables::Tensor,
    error: *mut tables::Error,
) -> i32 {
    call("metric", error, || {
        // SAFETY: a text of the plugin's.
        let name = unsafe { needed(name, "the metric's name") }?;
        let value = usable(tensor(value, "the metric's value")?.shallow_clone())?;
        Services::lend(services(host)?).metric(&name, &value)
    })
}

extern "C" fn cancelled(host: *const tables::Host) -> i32 {
    quietly("cancelled", 1, || Ok(i32::from(services(host)?.cancelled())))
}

extern "C" fn progress(host: *const tables::Host, fraction: f64) {
    quietly("progress", (), || {
        services(host)?.progress(fraction);
        Ok(())
    });
}

extern "C" fn device(host: *const tables::Host) -> i32 {
    quietly("device", -1, || {
        Ok(match services(host)?.device() {
            Device::Cuda(index) => index as i32,
            _ => -1,
        })
    })
}

extern "C" fn random(
    host: *const tables::Host,
    draw: *const tables::Draw,
    numbers: *mut *mut tables::Tensor,
    error: *mut tables::Error,
) -> i32 {
    call("random", error, || {
        // SAFETY: the plugin's, during the call.
        let draw = unsafe { at(draw, "`draw`") }?;
        // SAFETY: as above; the lists have the lengths beside them.
        let (stream, ids, shape) = unsafe {
            let ids = list(draw.ids, draw.count, "`ids`")?;
            (needed(draw.stream, "`stream`")?, ids, list(draw.shape, draw.dimensions, "`shape`")?)
        };
        let kind = match draw.bits {
            32 => Kind::Float,
            64 => Kind::Double,
            other => return Err(Error::with_code("interface", format!("numbers of {other} bits"))),
        };
        let distribution = code(draw.distribution, distribution)?;
        let drawn = Draw { stream: &stream, draw: draw.draw, ids, shape, distribution, kind };
        hand(numbers, services(host)?.random(&drawn)?, "the numbers")
    })
}

/// Asks for another method.
fn other_method(
    (name, options): (*const c_char, *const c_char),
    handle: *mut u64,
    make: impl FnOnce(&str, &Value) -> Result<u64>,
) -> Result<()> {
    // SAFETY: texts of the plugin's.
    let (name, options) = unsafe { (needed(name, "the name")?, needed(options, "the options")?) };
    put(handle, make(&name, &serde_json::from_str(&options)?)?, "the handle")
}

extern "C" fn attack(
    host: *const tables::Host,
    name: *const c_char,
    options: *const c_char,
    handle: *mut u64,
    error: *mut tables::Error,
) -> i32 {
    call("attack", error, || {
        let services = services(host)?;
        other_method((name, options), handle, |name, options| services.attack(name, options))
    })
}

extern "C" fn regularizer(
    host: *const tables::Host,
    name: *const c_char,
    options: *const c_char,
    handle: *mut u64,
    error: *mut tables::Error,
) -> i32 {
    call("regularizer", error, || {
        let services = services(host)?;
        other_method((name, options), handle, |name, options| services.regularizer(name, options))
    })
}

/// Calls `body` with the step, network and batch of a plugin that calls another method.
fn with_call<T>(
    step: *const tables::Step,
    network: *const tables::Network,
    batch: *const tables::Batch,
    body: impl FnOnce(&dyn ServicesBackend, &Step, &Network, &Batch) -> Result<T>,
) -> Result<T> {
    // SAFETY: what the plugin was lent, or of its own, during the call.
    let (step, batch) = unsafe { (at(step, "`step`")?, at(batch, "`batch`")?) };
    let backend = services(step.host)?;
    // SAFETY: as above.
    let (stage, ids) = unsafe { (needed(step.stage, "`stage`")?, list(batch.ids, batch.count, "`ids`")?) };
    let (images, labels) = (tensor(batch.images, "`images`")?, tensor(batch.labels, "`labels`")?);
    let soft_labels = match batch.soft_labels.is_null() {
        true => None,
        false => Some(tensor(batch.soft_labels, "`soft_labels`")?),
    };
    let batch = Batch {
        images: &images,
        labels: &labels,
        soft_labels: soft_labels.as_deref(),
        ids,
        space: code(batch.space, space)?,
    };
    batch.check()?;
    let (iteration, iterations) = (step.iteration, step.iterations);
    let step = Step { stage: &stage, iteration, iterations, services: Services::lend(backend) };
    body(backend, &step, &Network::lend(backend_of(held(network)?)), &batch)
}

extern "C" fn perturb(
    handle: u64,
    step: *const tables::Step,
    network: *const tables::Network,
    batch: *const tables::Batch,
    within: *const tables::Budget,
    adversarial: *mut *mut tables::Tensor,
    error: *mut tables::Error,
) -> i32 {
    call("perturb", error, || {
        // SAFETY: what the plugin was lent, or of its own.
        let &tables::Budget { epsilon, norm } = unsafe { at(within, "`budget`") }?;
        let budget = code(norm, |norm| budget(&BudgetView { norm, epsilon }))?;
        let images = with_call(step, network, batch, |backend, step, network, batch| {
            backend.perturb(handle, step, network, batch, &budget)
        })?;
        hand(adversarial, images, "the images")
    })
}

extern "C" fn penalty(
    handle: u64,
    step: *const tables::Step,
    network: *const tables::Network,
    batch: *const tables::Batch,
    penalty: *mut *mut tables::Tensor,
    error: *mut tables::Error,
) -> i32 {
    call("penalty", error, || {
        let value = with_call(step, network, batch, |backend, step, network, batch| {
            backend.penalty(handle, step, network, batch)
        })?;
        hand(penalty, value, "the penalty")
    })
}

extern "C" fn network_describe(network: *const tables::Network) -> *const c_char {
    quietly("network describe", ptr::null(), || Ok(held(network)?.info.as_ptr()))
}

extern "C" fn network_pass(
    network: *const tables::Network,
    pass: *const tables::Pass,
    output: *mut tables::Output,
    error: *mut tables::Error,
) -> i32 {
    call("network pass", error, || {
        // SAFETY: the plugin's, during the call.
        let wanted = unsafe { at(pass, "`pass`") }?;
        let mode = match wanted.mode {
            0 => Mode::Eval,
            1 => Mode::Train,
            other => return Err(Error::with_code("interface", format!("unknown mode {other}"))),
        };
        let pass = Pass { mode, embedding: wanted.embedding != 0, ..Pass::new(code(wanted.space, space)?) };
        let images = tensor(wanted.images, "`images`")?;
        let found = Network::lend(backend_of(held(network)?)).pass(&images, pass)?;
        if output.is_null() {
            return Err(Error::with_code("interface", "the place for the output is null"));
        }
        let embedding = found.embedding.map_or(ptr::null_mut(), give_pointer);
        put(output, tables::Output { logits: give_pointer(found.logits), embedding }, "the output")
    })
}

extern "C" fn parameter_count(network: *const tables::Network) -> usize {
    quietly("parameter count", 0, || Ok(held(network)?.parameters()?.len()))
}

extern "C" fn parameter(
    network: *const tables::Network,
    index: usize,
    name: *mut *const c_char,
    parameter: *mut *mut tables::Tensor,
    error: *mut tables::Error,
) -> i32 {
    call("parameter", error, || {
        let parameters = held(network)?.parameters()?;
        let (own_name, tensor) = parameters.get(index).ok_or_else(|| {
            Error::new(format!("there is no parameter {index}, the network has {}", parameters.len()))
        })?;
        if !name.is_null() {
            put(name, own_name.as_ptr(), "the name")?;
        }
        hand(parameter, tensor.shallow_clone(), "the parameter")
    })
}

extern "C" fn with_parameters(
    network: *const tables::Network,
    parameters: *const *const tables::Tensor,
    count: usize,
    owned: *mut *mut tables::Network,
    error: *mut tables::Error,
) -> i32 {
    call("network with parameters", error, || {
        // SAFETY: the plugin's list, of that length.
        let pointers = unsafe { list(parameters, count, "`parameters`") }?;
        let given = pointers.iter().map(|&pointer| tensor(pointer, "a parameter"));
        let given = given.collect::<Result<Vec<_>>>()?;
        let given: Vec<&Tensor> = given.iter().map(|tensor| &**tensor).collect();
        let backend = backend_of(held(network)?).rebind(&given)?;
        let pointer: *const dyn NetworkBackend = &*backend;
        let held = Box::into_raw(Box::new(Held::new(pointer, Some(backend))?));
        put(owned, held.cast(), "the network").inspect_err(|_| release_network(held.cast()))
    })
}

extern "C" fn release_network(network: *mut tables::Network) {
    quietly("release network", (), || {
        if !network.is_null() {
            // SAFETY: `with_parameters` made it, and the owner releases it once.
            drop(unsafe { Box::from_raw(network.cast::<Held>()) });
        }
        Ok(())
    });
}

extern "C" fn release_tensor(tensor: *mut tables::Tensor) {
    quietly("release tensor", (), || {
        if !tensor.is_null() {
            // SAFETY: `give_pointer` gave it, and the owner releases it once.
            drop(unsafe { Tensor::from_ptr(tensor) });
        }
        Ok(())
    });
}

fn options<'a>(options: *const tables::Options) -> Result<&'a GivenOptions> {
    // SAFETY: what plugins are given as `guard_options` is `GivenOptions`.
    unsafe { at(options.cast(), "`options`") }
}

extern "C" fn options_json(given: *const tables::Options) -> *const c_char {
    quietly("options", ptr::null(), || Ok(options(given)?.json.as_ptr()))
}

extern "C" fn option_number(given: *const tables::Options, pointer: *const c_char, value: *mut f64) -> i32 {
    quietly("option", 0, || {
        // SAFETY: a text of the plugin's.
        let pointer = unsafe { needed(pointer, "the option's name") }?;
        let number = match options(given)?.value.pointer(&pointer) {
            Some(Value::Bool(flag)) => Some(f64::from(u8::from(*flag))),
            found => found.and_then(Value::as_f64),
        };
        let Some(number) = number else { return Ok(0) };
        put(value, number, "the number").map(|()| 1)
    })
}

extern "C" fn option_text(
    given: *const tables::Options,
    pointer: *const c_char,
    value: *mut *const c_char,
) -> i32 {
    quietly("option", 0, || {
        // SAFETY: a text of the plugin's.
        let pointer = unsafe { needed(pointer, "the option's name") }?;
        let given = options(given)?;
        let Some(text) = given.value.pointer(&pointer).and_then(Value::as_str) else { return Ok(0) };
        let text = c_text(text);
        let place = text.as_ptr();
        given.texts.borrow_mut().push(text);
        put(value, place, "the text").map(|()| 1)
    })
}

fn writer<'a>(writer: *mut tables::StateWriter) -> Result<&'a mut State> {
    // SAFETY: what plugins are given as `guard_state_writer` is in a `WriterBox`.
    let found = unsafe { writer.cast::<WriterBox>().as_mut() };
    let found = found.ok_or_else(|| Error::with_code("interface", "`writer` is null"))?;
    Ok(&mut found.state)
}

extern "C" fn put_json(
    to: *mut tables::StateWriter,
    version: u32,
    json: *const c_char,
    error: *mut tables::Error,
) -> i32 {
    call("put json", error, || {
        // SAFETY: a text of the plugin's, or null.
        let json = unsafe { super::text::owned(json) };
        let state = writer(to)?;
        state.version = version;
        state.json = json.map_or(Ok(Value::Null), |json| serde_json::from_str(&json))?;
        Ok(())
    })
}

extern "C" fn put_tensor(
    to: *mut tables::StateWriter,
    name: *const c_char,
    value: *const tables::Tensor,
    error: *mut tables::Error,
) -> i32 {
    call("put tensor", error, || {
        // SAFETY: a text of the plugin's.
        let name = unsafe { needed(name, "the tensor's name") }?;
        let value = usable(tensor(value, "the tensor")?.shallow_clone())?;
        let state = writer(to)?;
        if state.tensors.iter().any(|(other, _)| *other == name) {
            return Err(Error::new(format!("the state has two tensors `{name}`")));
        }
        state.tensors.push((name, value));
        Ok(())
    })
}
