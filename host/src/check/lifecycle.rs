//! Instances come and go, and calls end when they are asked to.

use super::{ALL, Test, Verdict, room::Room, subject::Subject};
use guard_sdk::{Error, Result};
use std::fs;

/// Instances made before memory is first looked at, and after.
const INSTANCES: (u32, u32) = (50, 200);
/// Room for the allocator; 10 kB an instance would be more.
const ALLOWED: i64 = 2 << 20;
/// Forward passes that a method may make after it was asked to stop.
const PASSES: u64 = 25;

pub(super) const TESTS: &[Test<Subject>] = &[
    Test {
        name: "create-and-drop",
        about: "instances that come and go leave no memory behind",
        kinds: ALL,
        run: create_and_drop,
    },
    Test {
        name: "cancellation",
        about: "once the run is asked to stop, a call soon ends, with an answer or with the error `cancelled`",
        kinds: ALL,
        run: cancellation,
    },
];

fn create_and_drop(subject: &Subject) -> Result<Verdict> {
    let room = Room::usual(subject.seed)?;
    let options = subject.options();
    let make = |count: u32| (0..count).try_for_each(|_| subject.make_with(&room, &options).map(drop));
    make(INSTANCES.0)?;
    let before = resident()?;
    make(INSTANCES.1)?;
    let grown = resident()? - before;
    Ok(Verdict::from(grown <= ALLOWED, || {
        format!("{} instances left {:.1} MiB behind", INSTANCES.1, grown as f64 / f64::from(1 << 20))
    }))
}

/// Resident memory of this process in bytes.
fn resident() -> Result<i64> {
    let unreadable = || Error::new("/proc/self/statm cannot be read");
    let statm = fs::read_to_string("/proc/self/statm").map_err(|_| unreadable())?;
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<i64>().ok()).ok_or_else(unreadable)?;
    Ok(pages * 4096)
}

fn cancellation(subject: &Subject) -> Result<Verdict> {
    let room = Room::usual(subject.seed)?;
    let mut made = subject.make(&room)?;
    room.cancel();
    let before = room.examples.model.passes();
    let outcome = made.call(0);
    let passes = room.examples.model.passes() - before;
    match outcome {
        Err(error) if error.code != "cancelled" => Err(error),
        _ => Ok(Verdict::from(passes <= PASSES, || {
            format!(
                "{passes} forward passes after the run was asked to stop; call `check_cancelled` in loops"
            )
        })),
    }
}
