//! A method's options as plugins in C ask for them.

use super::{
    shield::{at, put, quietly},
    tables,
    text::{c_text, needed},
};
use crate::Result;
use serde_json::Value;
use std::{
    cell::RefCell,
    ffi::{CString, c_char},
    ptr,
};

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

fn options<'a>(options: *const tables::Options) -> Result<&'a GivenOptions> {
    // SAFETY: what plugins are given as `guard_options` is `GivenOptions`.
    unsafe { at(options.cast(), "`options`") }
}

pub(super) extern "C" fn json(given: *const tables::Options) -> *const c_char {
    quietly("options", ptr::null(), || Ok(options(given)?.json.as_ptr()))
}

pub(super) extern "C" fn number(
    given: *const tables::Options,
    pointer: *const c_char,
    value: *mut f64,
) -> i32 {
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

pub(super) extern "C" fn text(
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
