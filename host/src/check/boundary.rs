//! Interfaces of other versions: what is not known is answered with nothing, and other hosts make no difference.

use super::{
    ALL, Test, Verdict,
    determinism::same,
    room::Room,
    subject::{Library, Subject},
};
use crate::plugin::Loaded;
use guard_sdk::{
    Result, Tensor,
    abi::host::{Age, as_host},
};

pub(super) const LIBRARY_TESTS: &[Test<Library>] = &[Test {
    name: "unknown-interfaces",
    about: "every interface that the manifest names is there, and one that nobody has published is not",
    kinds: ALL,
    run: unknown_interfaces,
}];

pub(super) const METHOD_TESTS: &[Test<Subject>] = &[
    Test {
        name: "older-host",
        about: "a host without the optional interfaces gets the same answer, or an error that says what it lacks",
        kinds: ALL,
        run: older_host,
    },
    Test {
        name: "newer-host",
        about: "a host that says more than this SDK knows, in a stage of a new name, gets the same answer",
        kinds: ALL,
        run: newer_host,
    },
];

fn unknown_interfaces(library: &Library) -> Result<Verdict> {
    let loaded = Loaded::open(&library.path)?;
    let named = loaded.manifest.methods.iter().find(|method| !loaded.answers(&method.interface));
    if let Some(method) = named {
        let text = format!("`{}` is in the manifest, but not in the library", method.interface);
        return Ok(Verdict::Failed(text));
    }
    let unknown = ["guard.regularizer/999", "guard.attack/999", "guard.nothing/1", ""];
    let answered = unknown.iter().find(|id| loaded.answers(id));
    Ok(Verdict::from(answered.is_none(), || {
        format!(
            "the library answers for the interface `{}`, which nobody has published",
            answered.unwrap_or(&"")
        )
    }))
}

fn answer(subject: &Subject, age: Age, room: Room) -> Result<Vec<Tensor>> {
    as_host(age, || subject.make(&room)?.call(0))
}

fn older_host(subject: &Subject) -> Result<Verdict> {
    let room = || Room::usual(subject.seed);
    let expected = answer(subject, Age::Present, room()?)?;
    match answer(subject, Age::Older, room()?) {
        Ok(found) => Ok(Verdict::from(same(&found, &expected)?, || "the answer is another".into())),
        // A method that needs a later service says so.
        Err(error) if matches!(error.code.as_str(), "interface" | "unsupported") => {
            Ok(Verdict::Skipped(error.message))
        }
        Err(error) => Err(error),
    }
}

fn newer_host(subject: &Subject) -> Result<Verdict> {
    let room = || Room::usual(subject.seed);
    let expected = answer(subject, Age::Present, room()?)?;
    let found = answer(subject, Age::Newer, room()?.in_stage("a-stage-of-a-newer-host"))?;
    Ok(Verdict::from(same(&found, &expected)?, || "the answer is another".into()))
}
