//! What came of it: a table, with what the reader must know to believe it.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Subject;
use super::points::Point;
use super::trial::Then;
use crate::files;
use crate::workspace::Workspace;

/// Where it is kept.
const RESULT: &str = "tests/soak/RESULT.md";

/// What is tried, and when.
pub struct Of {
    date: String,
    commit: String,
}

impl Of {
    /// The checkout as it is now.
    pub fn now(workspace: &Workspace) -> Self {
        Self { date: said("date", &["-u", "+%F"], workspace), commit: commit(workspace) }
    }
}

/// Writes the page where it is kept.
pub fn keep(workspace: &Workspace, page: &str) -> Result<()> {
    let path = workspace.root.join(RESULT);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    }
    files::write(page, &path)
}

/// What there is to tell.
pub fn page(Of { date, commit }: &Of, elapsed: Duration, subjects: &[Subject]) -> String {
    let rows: Vec<String> = subjects.iter().map(row).collect();
    let together = |kinds: fn(&Subject) -> BTreeSet<String>| -> usize {
        subjects.iter().flat_map(kinds).collect::<BTreeSet<String>>().len()
    };
    let minutes = elapsed.as_secs().div_ceil(60);
    let threads =
        std::env::var("OMP_NUM_THREADS").map_or("as many as there are cores".into(), |threads| threads);
    let done: usize = subjects.iter().map(|subject| subject.done).sum();
    let all: usize = subjects.iter().map(|subject| subject.trials.len()).sum();
    let wrong = subjects.iter().flat_map(|subject| &subject.wrong);
    // The rest is what the run printed.
    let wrong: Vec<String> =
        wrong.map(|wrong| format!("* {}\n", wrong.lines().next().unwrap_or_default())).collect();
    format!(
        "# What `cargo xtask soak` found\n\n\
         {date}, commit {commit}; {minutes} minutes, threads of a run: {threads}. {done} trials of the {all} that there are, {} wrong.\n\n\
         Each row is a recipe, run with a checkpoint after every step. A failpoint is an operation that leaves something on disk: a\n\
         write, an fsync, a rename, a link, a folder that is made, a file that is removed. In a trial the run is killed there\n\
         (`kill -9`), and once more soon after it went on; or the operation fails as on a full disk: then the run must end with exit\n\
         code 1 and name the file. Either way\n\
         `--resume` must go on and leave the same files to the last bit as a run that nothing happened to, but for measured\n\
         times (host/tests/here/left.rs). Trials are spread evenly over the runs. A kind is an operation on a\n\
         file of one sort: {} of {} were tried.\n\n\
         | objective | labels | failpoints | killed at | failed at | kinds tried | wrong |\n\
         |---|---|---|---|---|---|---|\n\
         {}\n{}",
        wrong.len(),
        together(tried),
        together(kinds),
        rows.join("\n"),
        if wrong.is_empty() { String::new() } else { format!("\n{}", wrong.concat()) },
    )
}

fn row(subject: &Subject) -> String {
    let Subject { objective, labels, whole, trials, done, wrong } = subject;
    let of = |wanted: Then| trials[..*done].iter().filter(|(then, _)| *then == wanted).count();
    format!(
        "| {objective} | {labels} | {} | {} | {} | {} of {} | {} |",
        whole.points.len(),
        of(Then::Kill),
        of(Then::Error),
        tried(subject).len(),
        kinds(subject).len(),
        wrong.len()
    )
}

/// The kinds of failpoints that something happened at.
fn tried(Subject { trials, done, .. }: &Subject) -> BTreeSet<String> {
    trials[..*done].iter().map(|(_, point)| point.kind()).collect()
}

/// All kinds.
fn kinds(subject: &Subject) -> BTreeSet<String> {
    subject.whole.points.iter().map(Point::kind).collect()
}

fn commit(workspace: &Workspace) -> String {
    let commit = said("git", &["rev-parse", "--short", "HEAD"], workspace);
    match said("git", &["status", "--porcelain", "--", "host", "sdk", "plugins", "Cargo.lock"], workspace)
        .as_str()
    {
        "" => commit,
        _ => format!("{commit} and what was changed since"),
    }
}

/// The first line of what a program prints, `unknown` if it cannot be asked.
fn said(program: &str, arguments: &[&str], workspace: &Workspace) -> String {
    let output = Command::new(program).args(arguments).current_dir(&workspace.root).output();
    match output {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned()
        }
        _ => "unknown".into(),
    }
}
