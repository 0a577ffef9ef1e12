//! Texts and errors of the C interface.

use super::tables;
use crate::{Error, Result};
use std::ffi::{CStr, CString, c_char};

/// A text as C has it; what follows a zero inside is cut.
pub fn c_text(text: &str) -> CString {
    let until_zero = text.split('\0').next().unwrap_or_default();
    CString::new(until_zero).unwrap_or_default()
}

/// A text of the other side; none for null.
///
/// # Safety
/// The pointer is null or to a text that ends in a zero and lives during the call.
pub unsafe fn owned(text: *const c_char) -> Option<String> {
    // SAFETY: promised by the caller.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

/// As [`owned`], where there must be one.
///
/// # Safety
/// See [`owned`].
pub unsafe fn needed(text: *const c_char, what: &str) -> Result<String> {
    // SAFETY: promised by the caller.
    unsafe { owned(text) }.ok_or_else(|| Error::with_code("interface", format!("{what} is null")))
}

/// An error with nothing in it yet.
pub fn no_error() -> Box<tables::Error> {
    Box::new(tables::Error { code: [0; 64], message: [0; 2048], help: [0; 512], option_path: [0; 256] })
}

/// What a function that failed has told.
pub fn told(error: &tables::Error) -> Error {
    let (code, message) = (read(&error.code), read(&error.message));
    let some = |text: String| (!text.is_empty()).then_some(text);
    Error {
        code: some(code).unwrap_or_else(|| "failed".into()),
        message: some(message).unwrap_or_else(|| "failed without saying why".into()),
        help: some(read(&error.help)),
        causes: Vec::new(),
        option_path: some(read(&error.option_path)),
    }
}

/// Tells an error; causes become part of the message.
pub fn tell(error: Error, place: &mut tables::Error) {
    let message = std::iter::once(error.message).chain(error.causes).collect::<Vec<_>>().join(": ");
    write(&mut place.code, &error.code);
    write(&mut place.message, &message);
    write(&mut place.help, error.help.as_deref().unwrap_or_default());
    write(&mut place.option_path, error.option_path.as_deref().unwrap_or_default());
}

fn read(text: &[c_char]) -> String {
    let bytes: Vec<u8> = text.iter().take_while(|&&byte| byte != 0).map(|&byte| byte as u8).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn write(place: &mut [c_char], text: &str) {
    let most = text.floor_char_boundary(place.len() - 1);
    place.fill(0);
    for (place, byte) in place.iter_mut().zip(&text.as_bytes()[..most]) {
        *place = *byte as c_char;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_as_it_is_and_cut_where_it_does_not_fit() {
        let error = Error::option("/steps", "there are none").help("take one").cause("it was 0");
        let mut place = no_error();
        tell(error, &mut place);
        let expected = Error::option("/steps", "there are none: it was 0").help("take one");
        assert_eq!(told(&place), expected);
        tell(Error::new("ä".repeat(2000)), &mut place);
        assert_eq!(told(&place).message, "ä".repeat(1023));
        assert_eq!(told(&no_error()).message, "failed without saying why");
    }

    #[test]
    fn a_text_ends_at_its_first_zero() {
        assert_eq!(c_text("ab\0c").to_str(), Ok("ab"));
        // SAFETY: null, and a text that lives.
        unsafe {
            assert_eq!(owned(std::ptr::null()), None);
            assert_eq!(owned(c_text("x").as_ptr()), Some("x".into()));
        }
    }
}
