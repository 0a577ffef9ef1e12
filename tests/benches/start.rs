//! From the start of a process to its first answer: our side of `cargo xtask bench start`. The peer's is `start.py`.
//!
//! `start CASE DATA PEERS THREADS` starts the guard-host that GUARD_HOST names, once to warm up and then five times, and prints one
//! JSON line: the milliseconds until it has ended, and the most memory that it was seen to hold.

use guard_sdk::{Error, Result};
use serde_json::json;
use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const RUNS: usize = 5;

/// One step of training on the digits.
const FIRST_STEP: &str = r#"
[data]
dataset = "digits"
train_images = 128

[network]
architecture = "convnet"

[training]
epochs = 1
batch_size = 128
"#;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [case, _, _, threads] = arguments.as_slice() else {
        return Err(Error::new("usage: start CASE DATA PEERS THREADS"));
    };
    let host = env::var_os("GUARD_HOST").ok_or_else(|| Error::new("GUARD_HOST names no guard-host"))?;
    let folder = tempfile::tempdir().map_err(|error| Error::new(error.to_string()))?;
    let recipe = folder.path().join("first-step.toml");
    fs::write(&recipe, FIRST_STEP).map_err(|error| Error::new(error.to_string()))?;
    let (mut times, mut peak) = (Vec::new(), 0.0f64);
    for run in 0..=RUNS {
        let mut command = Command::new(&host);
        match case.as_str() {
            "plugin-list" => command.args(["plugin", "list"]),
            "first-step" => {
                let out = folder.path().join(run.to_string());
                command.args(["run", "--quiet", "--until", "train"]).arg(&recipe).arg("--out").arg(out)
            }
            _ => return Err(Error::new(format!("there is no case `{case}`"))),
        };
        let (time, held) = ended(command.env("OMP_NUM_THREADS", threads), case)?;
        if run > 0 {
            times.push(time);
            peak = peak.max(held);
        }
    }
    times.sort_by(f64::total_cmp);
    println!("{}", json!({ "ms": times[RUNS / 2], "ms_all": times, "peak_mib": peak }));
    Ok(())
}

/// Milliseconds until the command has ended, and the MiB that it was last seen to have held at most.
fn ended(command: &mut Command, case: &str) -> Result<(f64, f64)> {
    let failed = |what: String| Error::new(format!("`{case}`: {what}"));
    let begun = Instant::now();
    let mut child = command.stdout(Stdio::null()).spawn().map_err(|error| failed(error.to_string()))?;
    let status = Path::new("/proc").join(child.id().to_string()).join("status");
    let mut peak = 0.0;
    loop {
        let outcome = child.try_wait().map_err(|error| failed(error.to_string()))?;
        if let Some(outcome) = outcome {
            let time = begun.elapsed().as_secs_f64() * 1e3;
            return if outcome.success() { Ok((time, peak)) } else { Err(failed(outcome.to_string())) };
        }
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        if let Some(kib) = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok()) {
            peak = kib / 1024.0;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}
