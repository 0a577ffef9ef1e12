//! Places where a test can kill the process or let a write fail. Every operation through which a run leaves something on disk
//! passes one of them first, in an order that depends on nothing but the run. They are for tests only.
//!
//! | `GUARD_FAIL_AT` | what happens |
//! |---|---|
//! | `N:kill` | the process is killed before the N-th operation, counted from 1, as by `kill -9` |
//! | `N:error` | the N-th operation fails, and only that one, as on a full disk |
//! | `OPERATION FILE:kill`, `OPERATION FILE:error` | the same at the first operation of a name on a file, e.g. `rename manifest.json` |
//! | `list` | nothing; each operation is told on stderr |
//!
//! What is told of an operation is a line ``failpoint N: OPERATION `FILE` ``. The file is the one that is to be written, not the
//! one aside.

use signal_hook::{consts::SIGKILL, low_level::raise};
use std::{
    io::{Error, ErrorKind, Result},
    path::Path,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// The variable that tells what is to happen.
const VARIABLE: &str = "GUARD_FAIL_AT";

/// What is to happen.
#[derive(Debug, PartialEq)]
enum Trap {
    List,
    Kill(Place),
    Fail(Place),
}

/// Where it is to happen.
#[derive(Debug, PartialEq)]
enum Place {
    Number(u64),
    Named(String),
}

/// Read once; the value where it is none that is understood.
static TRAP: LazyLock<std::result::Result<Option<Trap>, String>> =
    LazyLock::new(|| match std::env::var_os(VARIABLE) {
        None => Ok(None),
        Some(value) => {
            let value = value.to_string_lossy();
            parse(&value).map(Some).ok_or_else(|| value.into_owned())
        }
    });

/// How many operations there were.
static PASSED: AtomicU64 = AtomicU64::new(0);

fn parse(value: &str) -> Option<Trap> {
    if value == "list" {
        return Some(Trap::List);
    }
    let (place, what) = value.rsplit_once(':')?;
    let place = match place.parse() {
        Ok(0) => return None,
        Ok(number) => Place::Number(number),
        Err(_) if place.contains(' ') => Place::Named(place.to_owned()),
        Err(_) => return None,
    };
    match what {
        "kill" => Some(Trap::Kill(place)),
        "error" => Some(Trap::Fail(place)),
        _ => None,
    }
}

impl Place {
    fn is(&self, number: u64, operation: &str, file: &Path) -> bool {
        match self {
            Self::Number(wanted) => *wanted == number,
            Self::Named(wanted) => {
                let wanted = wanted.strip_prefix(operation).and_then(|rest| rest.strip_prefix(' '));
                wanted.is_some_and(|wanted| file.ends_with(wanted))
            }
        }
    }
}

/// Does `operation`, which is of `file` and is called `name`, unless a test has it fail here.
///
/// # Errors
/// Those of the operation; of kind [`ErrorKind::StorageFull`] where a test has it fail.
pub(super) fn at<T>(name: &str, file: &Path, operation: impl FnOnce() -> Result<T>) -> Result<T> {
    let number = PASSED.fetch_add(1, Ordering::SeqCst) + 1;
    match &*TRAP {
        Ok(None) => {}
        Ok(Some(Trap::List)) => tell(number, name, file),
        Ok(Some(Trap::Kill(place))) if place.is(number, name, file) => {
            tell(number, name, file);
            raise(SIGKILL)?;
        }
        Ok(Some(Trap::Fail(place))) if place.is(number, name, file) => {
            tell(number, name, file);
            return Err(ErrorKind::StorageFull.into());
        }
        Ok(Some(_)) => {}
        Err(value) => {
            let message = format!("`{VARIABLE}={value}` is no failpoint: give `N:kill`, `N:error` or `list`");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
    }
    operation()
}

fn tell(number: u64, name: &str, file: &Path) {
    eprintln!("failpoint {number}: {name} `{}`", file.display());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_described_is_understood() {
        assert_eq!(parse("list"), Some(Trap::List));
        assert_eq!(parse("3:kill"), Some(Trap::Kill(Place::Number(3))));
        assert_eq!(parse("12:error"), Some(Trap::Fail(Place::Number(12))));
        let named = parse("sync folder distilled/manifest.json:kill");
        assert_eq!(named, Some(Trap::Kill(Place::Named("sync folder distilled/manifest.json".into()))));
        for wrong in ["", "3", "kill", "0:kill", "-1:error", "3:list", "3:die", "manifest.json:kill"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_name_is_that_of_an_operation_and_the_end_of_a_path() {
        let place = Place::Named("sync distilled/manifest.json".into());
        let is = |operation, file| place.is(7, operation, Path::new(file));
        assert!(is("sync", "runs/x/distilled/manifest.json"));
        assert!(
            !is("sync folder", "runs/x/distilled/manifest.json") && !is("sync", "runs/x/other/manifest.json")
        );
    }
}
