//! What every function that plugins call does with its arguments, its result and its panics.

use super::{tables, text::tell};
use crate::{
    Error, Result,
    abi::{
        convert::{Borrowed, borrow_pointer, give_pointer, unusable},
        shield::shielded,
    },
};
use std::{ptr, slice};
use tch::Tensor;

/// Shields a callback: 0, or 1 with the error told.
pub(super) fn call(name: &str, error: *mut tables::Error, body: impl FnOnce() -> Result<()>) -> i32 {
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
pub(super) fn quietly<T>(name: &str, otherwise: T, body: impl FnOnce() -> Result<T>) -> T {
    shielded(&format!("the host's `{name}`"), body).unwrap_or(otherwise)
}

/// What `pointer` points to; an error if it is null.
///
/// # Safety
/// It is null, or lent by or to the plugin during the call.
pub(super) unsafe fn at<'a, T>(pointer: *const T, what: &str) -> Result<&'a T> {
    // SAFETY: promised by the caller.
    unsafe { pointer.as_ref() }.ok_or_else(|| Error::with_code("interface", format!("{what} is null")))
}

/// A list of the plugin's.
///
/// # Safety
/// `first` points to `count` values that live during the call, or `count` is 0.
pub(super) unsafe fn list<'a, T>(first: *const T, count: usize, what: &str) -> Result<&'a [T]> {
    match (count, first.is_null()) {
        (0, _) => Ok(&[]),
        (_, true) => Err(Error::with_code("interface", format!("{what} is null"))),
        // SAFETY: promised by the caller.
        _ => Ok(unsafe { slice::from_raw_parts(first, count) }),
    }
}

/// A tensor of the plugin's.
pub(super) fn tensor<'a>(pointer: *const tables::Tensor, what: &str) -> Result<Borrowed<'a>> {
    match pointer.is_null() {
        true => Err(Error::with_code("interface", format!("{what} is null"))),
        // SAFETY: not null, and lent during the call.
        false => Ok(unsafe { borrow_pointer(pointer) }),
    }
}

/// Writes a result to where the plugin wants it.
pub(super) fn put<T>(place: *mut T, value: T, what: &str) -> Result<()> {
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
pub(super) fn hand(place: *mut *mut tables::Tensor, tensor: Tensor, what: &str) -> Result<()> {
    match place.is_null() {
        true => put(place, ptr::null_mut(), what),
        false => put(place, give_pointer(tensor), what),
    }
}

/// A number that stands for something, as `read` knows it.
pub(super) fn code<T: Copy>(code: i32, read: impl FnOnce(u8) -> Result<T>) -> Result<T> {
    read(u8::try_from(code).unwrap_or(u8::MAX))
}

/// A tensor that libtorch's operations take.
pub(super) fn usable(tensor: Tensor) -> Result<Tensor> {
    match unusable(&tensor) {
        None => Ok(tensor),
        Some(problem) => Err(Error::with_code("interface", format!("a tensor is {problem}"))),
    }
}
