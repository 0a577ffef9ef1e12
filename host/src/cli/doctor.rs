//! `guard-host doctor`: what this installation has, and what is wrong with it, a line each: ok, warn or fail.

use super::{Format, Requests, Session, print, print_json, written::Written};
use crate::{cli::Failure, data, plugin::Loaded};
use clap::Args;
use guard_sdk::{Error, TORCH_VERSION};
use indicatif::HumanBytes;
use serde_json::{Map, Value, json};
use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

/// What `doctor` takes.
#[derive(Debug, Args)]
pub(super) struct DoctorArguments {
    /// Recipes whose data are looked for, too.
    #[arg(value_name = "RECIPE")]
    recipes: Vec<PathBuf>,
    #[command(flatten)]
    pub requests: Requests,
}

/// Less room than this is soon used up.
const LITTLE_DISK: u64 = 2 << 30;
const LITTLE_MEMORY: u64 = 2 << 30;

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One line.
struct Finding {
    name: &'static str,
    verdict: Verdict,
    what: String,
    help: Option<String>,
}

impl Finding {
    fn ok(name: &'static str, what: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, what: what.into(), help: None }
    }

    fn warn(name: &'static str, what: impl Into<String>, help: &str) -> Self {
        Self { name, verdict: Verdict::Warn, what: what.into(), help: Some(help.into()) }
    }

    fn fail(name: &'static str, what: impl Into<String>, help: Option<String>) -> Self {
        Self { name, verdict: Verdict::Fail, what: what.into(), help }
    }

    fn json(&self) -> Value {
        json!({ "name": self.name, "verdict": self.verdict.word(), "what": self.what, "help": self.help })
    }
}

/// Looks at everything, loads every plugin it finds; fails if something cannot be used.
pub(super) fn doctor(session: &Session, arguments: &DoctorArguments) -> Result<(), Failure> {
    let plugins = plugins(session)?;
    let facts = [
        ("guard-host", env!("CARGO_PKG_VERSION").to_string()),
        (
            "executable",
            std::env::current_exe().map_or_else(|error| error.to_string(), |path| path.display().to_string()),
        ),
        ("libtorch", TORCH_VERSION.to_string()),
        (
            "libtorch file",
            guard_device::libtorch().map_or_else(|| "unknown".into(), |file| file.display().to_string()),
        ),
        ("device", session.place.told()),
    ];
    let mut findings: Vec<Finding> =
        facts.iter().map(|(name, fact)| Finding::ok(name, fact.clone())).collect();
    findings.extend([threads(), memory(), disk(Path::new("."))]);
    let folders: Vec<String> =
        session.plugins.locator().directories().iter().map(|folder| folder.display().to_string()).collect();
    findings.push(Finding::ok("plugin folders", folders.join(", ")));
    findings.extend(plugins.iter().map(|(path, loaded)| plugin(path, loaded)));
    findings.extend(arguments.recipes.iter().map(|recipe| data_of(recipe)));
    let failed = findings.iter().filter(|finding| finding.verdict == Verdict::Fail).count();

    if session.format == Format::Json {
        let mut value: Map<String, Value> =
            facts.into_iter().map(|(name, fact)| (name.replace([' ', '-'], "_"), json!(fact))).collect();
        value.insert("threads".into(), json!(tch::get_num_threads()));
        value.insert("plugin_folders".into(), json!(folders));
        value.insert("plugins".into(), plugins.iter().map(plugin_json).collect());
        value.insert("findings".into(), findings.iter().map(Finding::json).collect());
        value.insert("ok".into(), json!(failed == 0));
        print_json(&Value::Object(value))?;
    } else {
        let mut text = String::new();
        for Finding { name, verdict, what, help } in &findings {
            let _ = writeln!(text, "{:<5} {name:<15} {what}", verdict.word());
            if let Some(help) = help {
                let _ = writeln!(text, "{:21} help: {help}", "");
            }
        }
        print(&text)?;
    }
    match failed {
        0 => Ok(()),
        1 => Err(Failure::usage("1 thing cannot be used")),
        _ => Err(Failure::usage(format!("{failed} things cannot be used"))),
    }
}

type Opened = (String, Result<Loaded, Error>);

fn plugins(session: &Session) -> Result<Vec<Opened>, Failure> {
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
    let open = |path: &PathBuf| session.plugins.admit(path).and_then(|()| Loaded::open(path));
    Ok(paths.iter().map(|path| (path.display().to_string(), open(path))).collect())
}

fn plugin(path: &str, loaded: &Result<Loaded, Error>) -> Finding {
    match loaded {
        Ok(Loaded { manifest, .. }) => {
            Finding::ok("plugin", format!("{} {} ({path})", manifest.id, manifest.version))
        }
        Err(error) => Finding::fail("plugin", error.message.clone(), error.help.clone()),
    }
}

fn plugin_json((path, loaded): &Opened) -> Value {
    match loaded {
        Ok(loaded) => json!({ "path": path, "id": loaded.manifest.id, "ok": true }),
        Err(error) => json!({ "path": path, "ok": false, "error": error.message, "help": error.help }),
    }
}

fn threads() -> Finding {
    let (threads, cores) = (tch::get_num_threads(), std::thread::available_parallelism());
    if threads > 1 && !guard_kernels::parallel() {
        return Finding::warn(
            "threads",
            format!("{threads}, of which this build's own kernels take one"),
            "compile it with GCC: `CXX=g++ cargo build --release`",
        );
    }
    match cores {
        Ok(cores) if threads as usize > cores.get() => Finding::warn(
            "threads",
            format!("{threads}, on {cores} cores"),
            "set OMP_NUM_THREADS to the number of cores at most",
        ),
        Ok(cores) => Finding::ok("threads", format!("{threads}, on {cores} cores")),
        Err(_) => Finding::ok("threads", threads.to_string()),
    }
}

fn memory() -> Finding {
    let available = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
    });
    match available {
        None => Finding::warn("memory", "unknown", "the system does not tell it in /proc/meminfo"),
        Some(free) if free < LITTLE_MEMORY => Finding::warn(
            "memory",
            format!("{} available", HumanBytes(free)),
            "`--dry-run` tells what a recipe takes; end what else is running",
        ),
        Some(free) => Finding::ok("memory", format!("{} available", HumanBytes(free))),
    }
}

/// Whether runs can be written in `folder`.
fn disk(folder: &Path) -> Finding {
    let here = folder.canonicalize().unwrap_or(folder.to_path_buf()).display().to_string();
    if let Err(error) = tempfile::tempfile_in(folder) {
        let help = "run where you may write, or give `--out DIR`".to_string();
        return Finding::fail("disk", format!("`{here}` cannot be written to: {error}"), Some(help));
    }
    match rustix::fs::statvfs(folder) {
        Err(error) => Finding::warn("disk", format!("room in `{here}` is unknown: {error}"), "see `df`"),
        Ok(found) => {
            let free = found.f_bavail * found.f_frsize;
            let what = format!("{} free in `{here}`", HumanBytes(free));
            match free < LITTLE_DISK {
                true => Finding::warn("disk", what, "`--dry-run` tells what a recipe takes"),
                false => Finding::ok("disk", what),
            }
        }
    }
}

/// Whether a recipe's data are there.
fn data_of(recipe: &Path) -> Finding {
    let named = |what: String| format!("{what} (`{}`)", recipe.display());
    let loaded = match Written::read(recipe).and_then(|written| Ok(written.load(&[])?)) {
        Ok(loaded) => loaded,
        Err(failure) => {
            let told = failure.render(false);
            let first = told.lines().next().unwrap_or_default().trim_start_matches("error: ").to_string();
            let help = format!("`guard-host recipe check {}` tells all", recipe.display());
            return Finding::fail("data", named(first), Some(help));
        }
    };
    match data::prepare(&loaded.recipe.data).and_then(|prepared| prepared.open()) {
        Ok(set) => Finding::ok(
            "data",
            named(format!(
                "{}: {} training and {} test images",
                set.info.name,
                set.train.len(),
                set.test.len()
            )),
        ),
        Err(error) => Finding::fail("data", named(error.message), error.help),
    }
}
