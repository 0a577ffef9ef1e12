//! Conformance tests of plugins: `guard-host plugin check`.
//!
//! Each test has a name and a line that says what must hold. They run in child processes (`supervise`), one for the plugin as a
//! whole and one for each method, so that a crash, a hang or an abort is a result and not an accident. `subject` is what a
//! test works on; the other files are the tests, by theme.

mod attacks;
mod boundary;
mod call;
mod derivatives;
mod determinism;
mod fuzz;
mod lifecycle;
mod manifest;
mod options;
mod room;
mod shapes;
mod side_effects;
mod state;
mod subject;
mod supervise;

pub use supervise::{Report, Settings, TestResult, check, run_child};

use guard_sdk::{Result, manifest::Kind};
use serde::{Deserialize, Serialize};
use subject::{Library, Subject};

/// A conformance test on `S`: the library as a whole, or one of its methods.
pub struct Test<S: 'static> {
    /// Its name.
    pub name: &'static str,
    /// What must hold, in a line.
    pub about: &'static str,
    /// The kinds of methods that it is for.
    pub kinds: &'static [Kind],
    /// An error is a failure.
    run: fn(&S) -> Result<Verdict>,
}

/// What came of a test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", content = "message", rename_all = "kebab-case")]
pub enum Verdict {
    /// It holds.
    Passed,
    /// It does not apply, and why.
    Skipped(String),
    /// It does not hold, and how that was seen.
    Failed(String),
}

impl Verdict {
    /// Failed unless `holds`.
    fn from(holds: bool, otherwise: impl FnOnce() -> String) -> Self {
        if holds { Verdict::Passed } else { Verdict::Failed(otherwise()) }
    }
}

const ALL: &[Kind] = &[Kind::Objective, Kind::Regularizer, Kind::Attack];

/// The tests of a library as a whole, in order; nothing is known of its methods if the first two fail.
fn library_tests() -> Vec<&'static Test<Library>> {
    [manifest::TESTS, boundary::LIBRARY_TESTS].concat_refs()
}

/// The tests of a method, in order.
fn method_tests(kind: Kind) -> Vec<&'static Test<Subject>> {
    let all = [
        options::TESTS,
        // Before there is memory that was freed, which would hide what is lost.
        lifecycle::TESTS,
        shapes::TESTS,
        determinism::TESTS,
        attacks::TESTS,
        derivatives::TESTS,
        side_effects::TESTS,
        state::TESTS,
        boundary::METHOD_TESTS,
    ];
    all.concat_refs().into_iter().filter(|test| test.kinds.contains(&kind)).collect()
}

/// Tables of tests in a row.
trait ConcatRefs<S: 'static> {
    fn concat_refs(self) -> Vec<&'static Test<S>>;
}

impl<S: 'static, const N: usize> ConcatRefs<S> for [&'static [Test<S>]; N] {
    fn concat_refs(self) -> Vec<&'static Test<S>> {
        self.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_test_has_a_name_of_its_own_and_a_line_of_description() {
        let of = |tests: Vec<&'static Test<Subject>>| tests.into_iter().map(|test| (test.name, test.about));
        let library = library_tests().into_iter().map(|test| (test.name, test.about));
        let mut all: Vec<_> = ALL.iter().flat_map(|kind| of(method_tests(*kind))).chain(library).collect();
        all.sort_unstable();
        all.dedup();
        let mut names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
        names.dedup();
        assert_eq!(names.len(), all.len(), "two tests share a name");
        assert!(
            all.iter().all(|(_, about)| about.len() > 10 && !about.contains('\n') && !about.ends_with('.'))
        );
    }
}
