//! Networks as plugins in C hold them.

use super::{
    shield::{at, call, code, hand, list, put, quietly, tensor},
    tables,
    text::c_text,
};
use crate::{
    Error, Mode, Network, Pass, Result,
    abi::{
        convert::{give_pointer, space},
        host::describe as described,
    },
    network::NetworkBackend,
};
use std::{
    cell::OnceCell,
    ffi::{CString, c_char},
    ptr,
};
use tch::Tensor;

/// A network as plugins hold it.
pub(super) struct Held {
    /// Lent, or in `owned`.
    backend: *const dyn NetworkBackend,
    _owned: Option<Box<dyn NetworkBackend>>,
    info: CString,
    parameters: OnceCell<Vec<(CString, Tensor)>>,
}

impl Held {
    fn new(backend: *const dyn NetworkBackend, owned: Option<Box<dyn NetworkBackend>>) -> Result<Self> {
        // SAFETY: the caller lends it, or hands it over in `owned`, for as long as this lives.
        let info = described(unsafe { &*backend }.info())?;
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

pub(super) fn backend_of(held: &Held) -> &dyn NetworkBackend {
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

pub(super) fn held<'a>(network: *const tables::Network) -> Result<&'a Held> {
    // SAFETY: what plugins are given as `guard_network` is `Held`.
    unsafe { at(network.cast(), "`network`") }
}

pub(super) extern "C" fn describe(network: *const tables::Network) -> *const c_char {
    quietly("network describe", ptr::null(), || Ok(held(network)?.info.as_ptr()))
}

pub(super) extern "C" fn pass(
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

pub(super) extern "C" fn parameter_count(network: *const tables::Network) -> usize {
    quietly("parameter count", 0, || Ok(held(network)?.parameters()?.len()))
}

pub(super) extern "C" fn parameter(
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

pub(super) extern "C" fn with_parameters(
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

pub(super) extern "C" fn release_network(network: *mut tables::Network) {
    quietly("release network", (), || {
        if !network.is_null() {
            // SAFETY: `with_parameters` made it, and the owner releases it once.
            drop(unsafe { Box::from_raw(network.cast::<Held>()) });
        }
        Ok(())
    });
}
