//! What the file says of itself, and whether it can be loaded.

use super::{
    ALL, Test, Verdict,
    subject::{Library, Subject},
};
use crate::plugin::Loaded;
use guard_sdk::{Result, manifest::Manifest};
use std::time::{Duration, Instant};

/// The longest that reading a manifest may take; the best of several, for others may be at work.
const SCAN_LIMIT: Duration = Duration::from_millis(500);

/// In this order: what cannot be read cannot be loaded.
pub(super) const TESTS: &[Test<Library>] = &[
    Test {
        name: "manifest",
        about: "the manifest is read without running any of the plugin's code, and its names follow the rules",
        kinds: ALL,
        run: names,
    },
    Test {
        name: "loads",
        about: "the library loads, was built for this libtorch, and shares the host's copy of it",
        kinds: ALL,
        run: loads,
    },
    Test {
        name: "scan-time",
        about: "the manifest is read in half a second, so that listing plugins stays quick",
        kinds: ALL,
        run: scan_time,
    },
];

fn names(library: &Library) -> Result<Verdict> {
    let Manifest { id, version, methods, .. } = library.manifest()?;
    let plain = |name: &str| {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(allowed)
    };
    let numbers = version.split(['-', '+']).next().unwrap_or_default().split('.');
    let wrong = if !id.contains('.') || id.split('.').any(|part| !plain(&part.replace('_', "-"))) {
        Some(format!("the id `{id}` is not two or more words with dots between, such as `example.curvature`"))
    } else if numbers.clone().count() != 3 || numbers.clone().any(|number| number.parse::<u64>().is_err()) {
        Some(format!("the version `{version}` is not three numbers with dots between"))
    } else if methods.is_empty() {
        Some("it offers no method that this host knows".to_string())
    } else {
        let twice = |index: usize| {
            let (kind, name) = (methods[index].kind, &methods[index].name);
            methods[..index].iter().any(|other| (other.kind, &other.name) == (kind, name))
        };
        (0..methods.len()).find_map(|index| {
            let (kind, name) = (methods[index].kind, &methods[index].name);
            if !plain(name) {
                Some(format!("the name of the {kind} `{name}` is not lower-case letters, digits and hyphens"))
            } else {
                twice(index).then(|| format!("the {kind} `{name}` is there twice"))
            }
        })
    };
    Ok(wrong.map_or(Verdict::Passed, Verdict::Failed))
}

fn loads(library: &Library) -> Result<Verdict> {
    for method in &library.manifest()?.methods {
        // Loading compares the root and libtorch; asking for a schema compares the method's table.
        Subject::new(&library.path, method.kind, &method.name, 0)?;
    }
    Ok(Verdict::Passed)
}

fn scan_time(library: &Library) -> Result<Verdict> {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        Loaded::inspect(&library.path)?;
        best = best.min(start.elapsed());
    }
    Ok(Verdict::from(best <= SCAN_LIMIT, || {
        format!("reading it takes {:.1} s; strip debug information from the library", best.as_secs_f64())
    }))
}
