//! `guard-host doctor`: what this installation has, and what is wrong with it.

use super::{Format, Session, print, print_json};
use crate::{cli::Failure, plugin::Loaded};
use guard_sdk::{Error, TORCH_VERSION};
use serde_json::{Value, json};
use std::fmt::Write;

/// Loads every plugin it finds; fails if one cannot be used.
pub(super) fn doctor(session: Session) -> Result<(), Failure> {
    let mut paths = Vec::new();
    for request in &session.requests {
        paths.push(session.plugins.find_file(request).map_err(Failure::Usage)?);
    }
    // Libraries without a manifest are other people's.
    paths.extend(
        session.plugins.locator().libraries().into_iter().filter(|path| {
            crate::plugin::inspect(path).map_or_else(|error| error.code == "manifest", |_| true)
        }),
    );
    paths = paths.into_iter().map(|path| path.canonicalize().unwrap_or(path)).collect();
    paths.sort();
    paths.dedup();
    // Nothing of an unsigned file runs where only signed ones may.
    let open = |path: &std::path::PathBuf| session.plugins.admit(path).and_then(|()| Loaded::open(path));
    let opened: Vec<(String, Result<Loaded, Error>)> =
        paths.iter().map(|path| (path.display().to_string(), open(path))).collect();
    let broken = opened.iter().filter(|(_, loaded)| loaded.is_err()).count();

    let facts = [
        ("guard-host", env!("CARGO_PKG_VERSION").to_string()),
        (
            "executable",
            std::env::current_exe().map_or_else(|error| error.to_string(), |path| path.display().to_string()),
        ),
        ("libtorch", TORCH_VERSION.to_string()),
        ("libtorch file", libtorch_file().unwrap_or_else(|| "unknown".into())),
        ("threads", tch::get_num_threads().to_string()),
        ("device", "cpu".to_string()),
    ];
    let folders: Vec<String> =
        session.plugins.locator().directories().iter().map(|folder| folder.display().to_string()).collect();
    if session.format == Format::Json {
        let plugins: Vec<Value> = opened
            .iter()
            .map(|(path, loaded)| match loaded {
                Ok(loaded) => json!({ "path": path, "id": loaded.manifest.id, "ok": true }),
                Err(error) => {
                    json!({ "path": path, "ok": false, "error": error.message, "help": error.help })
                }
            })
            .collect();
        let mut value: serde_json::Map<String, Value> =
            facts.into_iter().map(|(name, fact)| (name.replace([' ', '-'], "_"), json!(fact))).collect();
        value.insert("plugin_folders".into(), json!(folders));
        value.insert("plugins".into(), json!(plugins));
        value.insert("ok".into(), json!(broken == 0));
        print_json(&Value::Object(value))?;
    } else {
        let mut text = String::new();
        for (name, fact) in facts {
            let _ = writeln!(text, "{name:<15} {fact}");
        }
        let _ = writeln!(text, "{:<15} {}", "plugin folders", folders.join("\n                "));
        for (path, loaded) in &opened {
            let _ = match loaded {
                Ok(loaded) => writeln!(
                    text,
                    "{:<15} ok: {} {} ({path})",
                    "plugin", loaded.manifest.id, loaded.manifest.version
                ),
                Err(error) => writeln!(text, "{:<15} broken: {error}", "plugin"),
            };
        }
        print(&text)?;
    }
    match broken {
        0 => Ok(()),
        1 => Err(Failure::usage("1 plugin cannot be used")),
        _ => Err(Failure::usage(format!("{broken} plugins cannot be used"))),
    }
}

/// The libtorch that the loader chose.
fn libtorch_file() -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.contains("libtorch_cpu"))?;
    line.split_whitespace().last().map(str::to_string)
}
