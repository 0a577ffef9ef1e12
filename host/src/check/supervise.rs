//! Tests run in child processes. A child says on stdout which test begins and what came of it; if it ends or is silent in
//! between, that test has failed, and another child goes on with the next one.

use super::{
    Test, Verdict, library_tests, method_tests,
    subject::{Library, Subject},
};
use crate::{device::DeviceRequest, plugin::Loaded};
use guard_sdk::{Error, Result, abi::shield::caught, manifest::Kind};
use serde::{Deserialize, Serialize};
use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::Duration,
};

/// Before what a child has to say: the plugin may print, too.
const MARK: &str = "guard-host-check:";

/// What to check, and how.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The library.
    pub file: PathBuf,
    /// Of random numbers and made-up options.
    pub seed: u64,
    /// The longest that a test may take.
    pub time_limit: Duration,
    /// Where methods are tried.
    pub device: DeviceRequest,
}

/// What came of a test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TestResult {
    /// `plugin`, or kind and name of a method: `attack/pgd`.
    pub subject: String,
    /// The test's name.
    pub name: String,
    /// What must hold.
    pub about: String,
    /// What came of it.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// All results.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The file.
    pub path: PathBuf,
    /// Of random numbers and made-up options.
    pub seed: u64,
    /// In order.
    pub tests: Vec<TestResult>,
}

impl Report {
    /// The tests that failed.
    pub fn failed(&self) -> usize {
        self.tests.iter().filter(|test| matches!(test.verdict, Verdict::Failed(_))).count()
    }
}

/// A child's line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    Begin(usize),
    End(usize, Verdict),
}

/// What the tests of one child are about.
#[derive(Debug, Clone, PartialEq, Eq)]
enum About {
    Library,
    Method(Kind, String),
}

impl About {
    fn read(text: &str) -> Result<Self> {
        let kind = |word: &str| {
            [Kind::Objective, Kind::Regularizer, Kind::Attack].into_iter().find(|k| k.name() == word)
        };
        match text.split_once('/').map(|(word, name)| (kind(word), name)) {
            None if text == "plugin" => Ok(About::Library),
            Some((Some(kind), name)) => Ok(About::Method(kind, name.into())),
            _ => Err(Error::new(format!("`{text}` is neither `plugin` nor a kind and a method's name"))),
        }
    }

    fn text(&self) -> String {
        match self {
            About::Library => "plugin".into(),
            About::Method(kind, name) => format!("{kind}/{name}"),
        }
    }

    /// Name and description of each test.
    fn tests(&self) -> Vec<(&'static str, &'static str)> {
        fn named<S>(tests: Vec<&'static Test<S>>) -> Vec<(&'static str, &'static str)> {
            tests.into_iter().map(|test| (test.name, test.about)).collect()
        }
        match self {
            About::Library => named(library_tests()),
            About::Method(kind, _) => named(method_tests(*kind)),
        }
    }
}

/// Checks a library: it as a whole, then each of its methods. `progress` is told of each result.
///
/// # Errors
/// If no child can be started.
pub fn check(settings: &Settings, mut progress: impl FnMut(&TestResult)) -> Result<Report> {
    let mut tests = supervise(settings, &About::Library, &mut progress)?;
    let loads = tests.iter().all(|test| {
        !(["manifest", "loads"].contains(&test.name.as_str()) && matches!(test.verdict, Verdict::Failed(_)))
    });
    if loads {
        for method in Loaded::inspect(&settings.file)?.manifest.methods {
            let about = About::Method(method.kind, method.name);
            tests.extend(supervise(settings, &about, &mut progress)?);
        }
    }
    Ok(Report { path: settings.file.clone(), seed: settings.seed, tests })
}

fn supervise(
    settings: &Settings,
    about: &About,
    progress: &mut impl FnMut(&TestResult),
) -> Result<Vec<TestResult>> {
    let tests = about.tests();
    let mut results: Vec<TestResult> = Vec::new();
    let mut record = |results: &mut Vec<TestResult>, verdict| {
        let (name, description) = tests[results.len()];
        let (name, description) = (name.to_string(), description.to_string());
        let result = TestResult { subject: about.text(), name, about: description, verdict };
        progress(&result);
        results.push(result);
    };
    while results.len() < tests.len() {
        let ended = one_child(settings, about, results.len(), |verdict| record(&mut results, verdict))?;
        let unmade = |results: &[TestResult]| results.iter().any(|test| prevents(&test.name, &test.verdict));
        if results.len() < tests.len() && !unmade(&results) {
            record(&mut results, Verdict::Failed(ended));
        }
        while results.len() < tests.len() && unmade(&results) {
            record(&mut results, Verdict::Skipped(UNMADE.into()));
        }
    }
    Ok(results)
}

/// Why tests are skipped after `default-options` failed.
const UNMADE: &str = "the method cannot be made";

/// Whether nothing more can be learned after this test of a method.
fn prevents(test: &str, verdict: &Verdict) -> bool {
    test == "default-options" && matches!(verdict, Verdict::Failed(_))
}

/// Runs a child from test `first` on, and says how it ended.
fn one_child(
    settings: &Settings,
    about: &About,
    first: usize,
    mut take: impl FnMut(Verdict),
) -> Result<String> {
    let executable = env::current_exe().map_err(|error| Error::new(format!("this executable: {error}")))?;
    let mut child = Command::new(executable)
        .args(["plugin", "check-child"])
        .arg(&settings.file)
        .args([&about.text(), &first.to_string(), &settings.seed.to_string()])
        .args(["--device", &settings.device.to_string()])
        .env("OMP_NUM_THREADS", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| Error::new(format!("no child process can be started: {error}")))?;
    let (Some(stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(Error::new("the child process has no output"));
    };
    let talk = thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stderr.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            let said = line.strip_prefix(MARK).and_then(|said| serde_json::from_str::<Line>(said).ok());
            if said.is_some_and(|said| sender.send(said).is_err()) {
                break;
            }
        }
    });
    let mut hung = false;
    loop {
        match lines.recv_timeout(settings.time_limit) {
            Ok(Line::Begin(_)) => {}
            Ok(Line::End(_, verdict)) => take(verdict),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                hung = true;
                break;
            }
        }
    }
    if hung {
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| Error::new(format!("the child process: {error}")))?;
    if hung {
        return Ok(format!("did not end within {} s", settings.time_limit.as_secs_f64()));
    }
    let talk = talk.join().unwrap_or_default();
    let last = talk.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    Ok(match last {
        "" => ending(status),
        last => format!("{}: {last}", ending(status)),
    })
}

/// How a process ended, in words.
fn ending(status: ExitStatus) -> String {
    let signal = |number| match number {
        4 => "an illegal instruction (SIGILL)".into(),
        6 => "an abort (SIGABRT)".into(),
        7 => "a bus error (SIGBUS)".into(),
        8 => "an arithmetic error (SIGFPE)".into(),
        9 => "a kill, maybe for lack of memory (SIGKILL)".into(),
        11 => "a segmentation fault (SIGSEGV)".into(),
        other => format!("signal {other}"),
    };
    match (status.signal(), status.code()) {
        (Some(number), _) => format!("the process ended with {}", signal(number)),
        (None, code) => format!("the process ended itself with code {}", code.unwrap_or_default()),
    }
}

/// The child: tests `first` and later of `about`, told line by line.
///
/// # Errors
/// If `about` cannot be read.
pub fn run_child(file: &Path, about: &str, first: usize, seed: u64) -> Result<()> {
    match About::read(about)? {
        About::Library => {
            let library = Library { path: file.to_path_buf() };
            run(library_tests(), first, || Ok(&library));
        }
        About::Method(kind, name) => {
            let subject = Subject::new(file, kind, &name, seed);
            run(method_tests(kind), first, || subject.as_ref().map_err(Clone::clone));
        }
    }
    Ok(())
}

fn run<'a, S: 'static>(tests: Vec<&'static Test<S>>, first: usize, subject: impl Fn() -> Result<&'a S>) {
    for (index, test) in tests.iter().enumerate().skip(first) {
        say(&Line::Begin(index));
        let outcome = caught("the test", || subject().and_then(test.run)).and_then(|outcome| outcome);
        let verdict = outcome.unwrap_or_else(|error| {
            let causes = error.causes.iter().filter_map(|cause| cause.lines().next());
            let message = std::iter::once(error.message.as_str()).chain(causes).collect::<Vec<_>>();
            Verdict::Failed(message.join(": "))
        });
        let end = prevents(test.name, &verdict);
        say(&Line::End(index, verdict));
        if end {
            break;
        }
    }
}

fn say(line: &Line) {
    let text = serde_json::to_string(line).unwrap_or_default();
    let mut stdout = std::io::stdout().lock();
    // Whoever does not listen any more has killed this process or is about to.
    let _ = write!(stdout, "\n{MARK}{text}\n").and_then(|()| stdout.flush());
}
