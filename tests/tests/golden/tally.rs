//! The summary: how many cases of each kind ran, how close they came to what is allowed, what was not compared.

use crate::checks::Report;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

#[derive(Default)]
pub struct Tally {
    kinds: BTreeMap<String, Kind>,
    unknown_kinds: usize,
    unknown_cases: usize,
}

#[derive(Default)]
struct Kind {
    cases: usize,
    failed: usize,
    /// The largest deviation as a share of the allowed one, and where.
    closest: Option<(f64, String)>,
    /// Keys that were not compared, by reason.
    uncompared: BTreeMap<String, BTreeSet<String>>,
}

impl Tally {
    pub fn unknown(&mut self, kinds: &[(String, usize)]) {
        self.unknown_kinds = kinds.len();
        self.unknown_cases = kinds.iter().map(|(_, cases)| cases).sum();
    }

    pub fn add(&mut self, kind: &str, report: &Report) {
        let kind = self.kinds.entry(kind.to_string()).or_default();
        kind.cases += 1;
        kind.failed += usize::from(!report.failures.is_empty());
        if let Some(closest) = &report.closest
            && kind.closest.as_ref().is_none_or(|(share, _)| closest.share > *share)
        {
            kind.closest = Some((closest.share, format!("`{}` of {}", closest.key, report.title)));
        }
        for (key, reason) in &report.uncompared {
            kind.uncompared.entry(reason.clone()).or_default().insert(format!("`{}`", pattern(key)));
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: usize = self.kinds.values().map(|kind| kind.cases).sum();
        writeln!(f, "golden: {total} cases of {} kinds ran", self.kinds.len())?;
        for (name, kind) in &self.kinds {
            write!(f, "  {name}: {} cases, {} failed", kind.cases, kind.failed)?;
            if let Some((share, at)) = &kind.closest {
                write!(f, "; largest deviation {share:.1e} of the allowed, {at}")?;
            }
            writeln!(f)?;
            for (reason, keys) in &kind.uncompared {
                let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                writeln!(f, "    not compared: {}: {reason}", keys.join(", "))?;
            }
        }
        writeln!(f, "golden: {} kinds are not known yet ({} cases)", self.unknown_kinds, self.unknown_cases)
    }
}

/// The key with one `*` for all parameters or buffers.
fn pattern(key: &str) -> String {
    match key.split_once(".grad.") {
        Some((output, _)) => format!("{output}.grad.*"),
        None if key.starts_with("after.") => "after.*".to_string(),
        None => key.to_string(),
    }
}
