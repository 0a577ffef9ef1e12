//! The host's services as the functions of `guard_host`.

use super::{
    network::{self, backend_of, held},
    options,
    shield::{at, call, code, hand, list, put, quietly, tensor, usable},
    tables,
    text::{c_text, needed},
};
use crate::{
    Batch, Budget, Error, Network, Result, Services, Step,
    abi::convert::{budget, budget_view, distribution, level, space, space_code},
    services::{Draw, ServicesBackend},
};
use guard_abi::BudgetView;
use serde_json::Value;
use std::{ffi::c_char, ptr};
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
    describe: network::describe,
    pass: network::pass,
    parameter_count: network::parameter_count,
    parameter: network::parameter,
    with_parameters: network::with_parameters,
    release_network: network::release_network,
    release_tensor,
    options_json: options::json,
    option_number: options::number,
    option_text: options::text,
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

fn services<'a>(host: *const tables::Host) -> Result<&'a dyn ServicesBackend> {
    // SAFETY: what plugins are given as `guard_host` is in a `HostBox`.
    Ok(unsafe { at(host.cast::<HostBox<'a>>(), "`host`") }?.services)
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

extern "C" fn release_tensor(tensor: *mut tables::Tensor) {
    quietly("release tensor", (), || {
        if !tensor.is_null() {
            // SAFETY: `give_pointer` gave it, and the owner releases it once.
            drop(unsafe { Tensor::from_ptr(tensor) });
        }
        Ok(())
    });
}
