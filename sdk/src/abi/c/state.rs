//! A method's state as plugins in C write it.

use super::{
    shield::{call, tensor, usable},
    tables,
    text::{needed, owned},
};
use crate::{Error, Result, State};
use serde_json::Value;
use std::ffi::c_char;

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
        let json = unsafe { owned(json) };
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
