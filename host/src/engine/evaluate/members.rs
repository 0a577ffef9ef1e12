//! What the members of a composed attack left, as the attack reports it.

use crate::plugin::Recorder;
use guard_sdk::{Level, Tensor, attack::MEMBER_METRIC};
use std::cell::RefCell;

/// One member of an attack.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// How many examples are right under it and those before it.
    pub correct: u64,
}

/// Adds what the members left of a batch to what they left of those before.
pub(super) fn add(members: &mut Vec<Member>, batch: Vec<Member>) {
    for Member { name, correct } in batch {
        match members.iter_mut().find(|known| known.name == name) {
            Some(known) => known.correct += correct,
            None => members.push(Member { name, correct }),
        }
    }
}

/// Takes what the members leave of a batch, and passes everything else on.
pub(super) struct MemberRecorder<'a> {
    inner: &'a dyn Recorder,
    /// What the names of the attack's own metrics begin with.
    prefix: String,
    left: RefCell<Vec<(String, f64)>>,
}

impl<'a> MemberRecorder<'a> {
    pub(super) fn new(inner: &'a dyn Recorder, attack: &str) -> Self {
        Self { inner, prefix: format!("{attack}/{MEMBER_METRIC}"), left: RefCell::default() }
    }

    pub(super) fn members(self) -> Vec<Member> {
        let member = |(name, left): (String, f64)| Member { name, correct: left as u64 };
        self.left.into_inner().into_iter().map(member).collect()
    }
}

impl Recorder for MemberRecorder<'_> {
    fn metric(&self, name: &str, value: &Tensor) {
        let Some(member) = name.strip_prefix(&self.prefix) else {
            return self.inner.metric(name, value);
        };
        let value = value.f_double_value(&[]).unwrap_or(0.0);
        let mut left = self.left.borrow_mut();
        match left.iter_mut().find(|(known, _)| known == member) {
            Some((_, total)) => *total += value,
            None => left.push((member.to_string(), value)),
        }
    }

    fn log(&self, level: Level, message: &str) {
        self.inner.log(level, message);
    }

    fn progress(&self, fraction: f64) {
        self.inner.progress(fraction);
    }

    fn cancelled(&self) -> bool {
        self.inner.cancelled()
    }
}
