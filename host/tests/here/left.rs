//! What a run left behind, to be held against what another left: every file, without how long anything took.
//!
//! | file | what is left out of it |
//! |---|---|
//! | `evaluations/*.json` | `seconds` and `clean_seconds` |
//! | `stages/*.json` | the BLAKE3 sums of those files |
//! | `legacy.json` | `ae` and `crei`, which are made of seconds |
//! | `report.html` | the folded part with the same figures |
//! | `tensorboard/` | all of it: a copy with wall times, which `resume.rs` compares |

use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The files of a run by name.
pub type Left = BTreeMap<String, Vec<u8>>;

/// What is in the folder of a run.
pub fn left(run: &Path) -> Left {
    let files = walk(run).into_iter().filter(|name| !name.starts_with("tensorboard/"));
    files
        .map(|name| (name.clone(), without_times(&name, fs::read(run.join(&name)).unwrap_or_default())))
        .collect()
}

/// In what two runs differ, a line each.
pub fn differences(whole: &Left, other: &Left) -> Vec<String> {
    let names = whole.keys().chain(other.keys().filter(|name| !whole.contains_key(*name)));
    let difference = |name: &String| match (whole.get(name), other.get(name)) {
        (Some(_), None) => Some(format!("`{name}` is missing")),
        (None, Some(_)) => Some(format!("`{name}` is left over")),
        (one, other) => (one != other).then(|| format!("`{name}` differs")),
    };
    names.filter_map(difference).collect()
}

/// The files in a folder and below, by their names from there.
pub fn walk(folder: &Path) -> Vec<String> {
    let (mut names, mut folders) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(next) = folders.pop() {
        // A folder may be gone by now: a run is at work here.
        for path in fs::read_dir(next).into_iter().flatten().flatten().map(|entry| entry.path()) {
            match path.is_dir() {
                true => folders.push(path),
                false => names.extend(relative(folder, path)),
            }
        }
    }
    names
}

fn relative(folder: &Path, path: PathBuf) -> Option<String> {
    Some(path.strip_prefix(folder).ok()?.to_str()?.to_owned())
}

fn without_times(name: &str, bytes: Vec<u8>) -> Vec<u8> {
    let is_evaluation = |name: &str| name.contains("evaluations/") && name.ends_with(".json");
    if name == "report.html" {
        let page = String::from_utf8_lossy(&bytes);
        let parts = page
            .split_once("<details class=\"legacy\">")
            .map(|(before, rest)| (before, rest.split_once("</details>")));
        return match parts {
            Some((before, Some((_, after)))) => format!("{before}{after}").into_bytes(),
            _ => bytes,
        };
    }
    let drop: &dyn Fn(&str) -> bool = match name {
        "legacy.json" => &|key| ["ae", "crei"].contains(&key),
        name if is_evaluation(name) => &|key| ["seconds", "clean_seconds"].contains(&key),
        name if name.starts_with("stages/") => &is_evaluation,
        _ => return bytes,
    };
    match serde_json::from_slice(&bytes) {
        Ok(mut value) => {
            forget(&mut value, drop);
            value.to_string().into_bytes()
        }
        Err(_) => bytes,
    }
}

/// Leaves the keys and forgets the values.
fn forget(value: &mut Value, drop: &dyn Fn(&str) -> bool) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                if drop(key) {
                    *value = Value::Null;
                } else {
                    forget(value, drop);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| forget(item, drop)),
        _ => {}
    }
}
