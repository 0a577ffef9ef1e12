//! Panics become errors before they reach the boundary, where they would abort the process.
//!
//! Each library has its own copy of std and hence its own panic hook; the one installed here keeps the message and the
//! place of a shielded panic, and leaves all others to the hook before it.

use crate::{Error, Result};
use std::{
    cell::{Cell, RefCell},
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static CAUGHT: RefCell<Option<String>> = const { RefCell::new(None) };
}

fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if DEPTH.get() == 0 {
                return previous(info);
            }
            let message = info.payload_as_str().unwrap_or("a value that is not text").trim();
            let place = info.location().map_or(String::new(), |at| format!(" ({}:{})", at.file(), at.line()));
            CAUGHT.set(Some(format!("{}{place}", crate::error::first_lines(message))));
        }));
    });
}

/// Runs `body`; its panic becomes an error with code `panic` that names `what`.
pub fn shielded<T>(what: &str, body: impl FnOnce() -> Result<T>) -> Result<T> {
    caught(what, body).unwrap_or_else(Err)
}

/// As [`shielded`], but tells a panic of `body` (the outer error) from an error that it returned, which may be the panic
/// of somebody else.
pub fn caught<T>(what: &str, body: impl FnOnce() -> T) -> Result<T> {
    install_hook();
    DEPTH.set(DEPTH.get() + 1);
    let outcome = panic::catch_unwind(AssertUnwindSafe(body));
    DEPTH.set(DEPTH.get() - 1);
    outcome.map_err(|payload| {
        // The payload's own drop could panic again; a few bytes are the smaller loss.
        std::mem::forget(payload);
        let message = CAUGHT.take().unwrap_or_else(|| "no message".into());
        Error::with_code("panic", format!("{what} panicked: {message}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_with_its_message_and_place() {
        let error = shielded::<()>("`x`", || panic!("number {}", 7)).unwrap_err();
        assert_eq!(error.code, "panic");
        assert!(error.message.starts_with("`x` panicked: number 7 ("), "{}", error.message);
        assert!(error.message.contains("shield.rs:"), "{}", error.message);
    }

    #[test]
    fn the_panic_of_a_tch_operation_is_caught() {
        let error = shielded("`x`", || Ok(tch::Tensor::from_slice(&[1.0]).reshape([5, 5]))).unwrap_err();
        assert!(error.message.contains("shape '[5, 5]' is invalid"), "{}", error.message);
    }

    #[test]
    fn a_nested_panic_is_reported_by_the_inner_shield() {
        let outer = shielded("`outer`", || {
            let inner = shielded::<()>("`inner`", || panic!("inside")).unwrap_err();
            assert!(inner.message.starts_with("`inner` panicked: inside"));
            Ok(1)
        });
        assert_eq!(outer.unwrap(), 1);
    }
}
