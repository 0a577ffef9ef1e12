//! The failpoints of a run as `GUARD_FAIL_AT=list` tells them, and one of them as a run that fell there tells it.

use std::path::Path;

/// A place where a run can be killed, or a write be made to fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// Counted from 1.
    pub number: u64,
    /// What is about to be done.
    pub operation: String,
    /// To which file, from the run directory.
    pub file: String,
}

impl Point {
    /// All that stderr tells of the run in the folder `run`.
    pub fn told(stderr: &str, run: &Path) -> Vec<Point> {
        stderr.lines().filter_map(|line| Self::of_line(line, run)).collect()
    }

    fn of_line(line: &str, run: &Path) -> Option<Point> {
        let (number, rest) = line.strip_prefix("failpoint ")?.split_once(": ")?;
        let (operation, path) = rest.strip_suffix('`')?.split_once(" `")?;
        let name = run.file_name()?.to_str()?;
        // The run's folder may be told from elsewhere.
        let file = path.rsplit_once(&format!("{name}/")).map_or("", |(_, file)| file);
        Some(Point { number: number.parse().ok()?, operation: operation.into(), file: file.into() })
    }

    /// Operation and file, the same for files of which there are many: numbers are `N`, sums `SUM`.
    pub fn kind(&self) -> String {
        let is_sum = |word: &str| word.len() == 16 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        let word = |word: &str| match word {
            _ if is_sum(word) => "SUM".to_owned(),
            _ if number(word) => "N".to_owned(),
            _ => word.to_owned(),
        };
        let mut file = String::new();
        for part in self.file.split_inclusive(['/', '.', '-']) {
            let end = part.len() - usize::from(part.ends_with(['/', '.', '-']));
            file += &word(&part[..end]);
            file += &part[end..];
        }
        format!("{} {file}", self.operation)
    }
}
