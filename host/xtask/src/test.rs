//! `cargo xtask test`: runs all tests and closes with one line that counts them.
//!
//! What cargo and the tests print is passed on line by line while it is read; every
//! `test result:` line adds to the sum.

use std::env;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::ops::AddAssign;
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result, anyhow};

use crate::error;
use crate::setup;
use crate::workspace::Workspace;

/// What libtorch takes its number of threads from.
const THREADS: &str = "OMP_NUM_THREADS";

/// Runs the tests of the workspace; `args` go to `cargo test`.
pub fn test(workspace: &Workspace, args: &[OsString]) -> Result<ExitCode> {
    setup::setup(workspace, false)?;
    let mut cargo = workspace.cargo()?;
    cargo.args(["test", "--release", "--workspace", "--no-fail-fast"]).args(args);
    // Tests run side by side, and the programs that they start: threads of their own would wait for each other.
    if env::var_os(THREADS).is_none() {
        cargo.env(THREADS, "1");
    }
    let mut child = cargo.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let output = child.stdout.take().context("cannot read what cargo prints")?;
    let mut stdout = io::stdout().lock();
    let counts = pass_on(BufReader::new(output), &mut stdout);
    // Before anything else, so that nothing goes on printing after xtask has ended.
    let status = child.wait().context("cannot wait for cargo")?;
    let counts = counts.context("cannot pass on what cargo prints")?;

    let problem = if !status.success() && counts.failed == 0 {
        Some("`cargo test` failed although no test did: see above for what did not build or died")
    } else if counts.passed + counts.failed == 0 {
        Some("no test ran")
    } else {
        None
    };
    if let Some(problem) = problem {
        error::report(&anyhow!(problem));
    }
    let Counts { passed, failed, skipped } = counts;
    writeln!(stdout, "tests: {passed} passed, {failed} failed, {skipped} skipped")?;
    Ok(match problem.is_none() && status.success() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// How many tests ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// Copies `input` to `output` line by line and sums the results in it.
fn pass_on(mut input: impl BufRead, output: &mut impl Write) -> io::Result<Counts> {
    let mut counts = Counts::default();
    let mut line = Vec::new();
    // Bytes, not text: a test may print anything.
    while input.read_until(b'\n', &mut line)? > 0 {
        output.write_all(&line)?;
        output.flush()?;
        counts += result(&String::from_utf8_lossy(&line)).unwrap_or_default();
        line.clear();
    }
    Ok(counts)
}

/// The counts of a line like `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; ...`.
fn result(line: &str) -> Option<Counts> {
    let (_verdict, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut parts = counts.split("; ");
    let mut next = |unit| parts.next()?.strip_suffix(unit)?.parse().ok();
    Some(Counts { passed: next(" passed")?, failed: next(" failed")?, skipped: next(" ignored")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_results_of_all_test_programs_are_summed() {
        let output = "running 2 tests\ntest a ... ok\ntest b ... ignored\n\n\
            test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; \
            finished in 0.00s\n\n\
            running 3 tests\n\
            test result: FAILED. 12 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; \
            finished in 1.50s\n";
        let mut copy = Vec::new();
        let counts = pass_on(output.as_bytes(), &mut copy).unwrap();
        assert_eq!(counts, Counts { passed: 13, failed: 2, skipped: 1 });
        assert_eq!(copy, output.as_bytes());
    }

    #[test]
    fn lines_that_only_resemble_a_result_are_not_counted() {
        for line in [
            "test result: ok.",
            "test result: ok. 1 passed",
            "test result: ok. many passed; 0 failed; 0 ignored; 0 measured",
            "the test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured",
            "test results ... ok",
        ] {
            assert_eq!(result(line), None, "{line}");
        }
    }

    #[test]
    fn output_that_is_not_text_and_lacks_a_last_newline_is_passed_on_unchanged() {
        let output = b"\xff\xfe\n\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured";
        let mut copy = Vec::new();
        let counts = pass_on(output.as_slice(), &mut copy).unwrap();
        assert_eq!(copy, output);
        assert_eq!(counts.passed, 1);
    }
}
