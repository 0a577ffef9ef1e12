//! What is wrong with a recipe, and where: `Problem`, its `Location`, and `Problems`, all that one pass found.
//!
//! The rule: a problem carries its place from the moment it is made. Nobody adds file names or lines later, and the
//! text below is the only rendering. It reads like rustc's and needs no colour.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::snippet;

/// A text that problems can point into: the recipe file, or one `--set` assignment.
#[derive(Debug)]
pub(super) struct Source {
    name: String,
    text: String,
    /// 0 for the file; assignments count from 1 in the order of the command line.
    order: usize,
}

impl Source {
    /// The recipe file, under the name that the user knows it by.
    pub(super) fn file(name: &str, text: &str) -> Arc<Source> {
        Arc::new(Source { name: snippet::printable(name), text: text.to_owned(), order: 0 })
    }

    /// The `order`-th `--set` assignment.
    pub(super) fn assignment(text: &str, order: usize) -> Arc<Source> {
        Arc::new(Source { name: format!("--set {}", snippet::printable(text)), text: text.to_owned(), order })
    }

    /// The place of these bytes.
    pub(super) fn at(self: &Arc<Source>, range: Range<usize>) -> Location {
        Location { source: Arc::clone(self), range: Some(range) }
    }

    /// The text as a whole.
    pub(super) fn whole(self: &Arc<Source>) -> Location {
        Location { source: Arc::clone(self), range: None }
    }

    fn is_file(&self) -> bool {
        self.order == 0
    }
}

/// A place in the recipe file or on the command line.
///
/// Displays as `my.toml:12:1` or as `--set training.epochs=0`.
#[derive(Clone)]
pub struct Location {
    source: Arc<Source>,
    range: Option<Range<usize>>,
}

impl Location {
    /// The file's name, or the assignment as typed.
    pub fn name(&self) -> &str {
        &self.source.name
    }

    /// Line, from 1; `None` for a file as a whole and for the command line.
    pub fn line(&self) -> Option<usize> {
        self.line_in_file().map(|(line, _)| line)
    }

    /// Column in characters, from 1; `None` for a file as a whole and for the command line.
    pub fn column(&self) -> Option<usize> {
        self.line_in_file().map(|(_, column)| column)
    }

    fn line_in_file(&self) -> Option<(usize, usize)> {
        let range = self.range.as_ref().filter(|_| self.source.is_file())?;
        let cut = snippet::cut(&self.source.text, range);
        Some((cut.line, cut.column))
    }

    fn key(&self) -> (usize, &str, Option<(usize, usize)>) {
        let range = self.range.as_ref().map(|range| (range.start, range.end));
        (self.source.order, &self.source.name, range)
    }

    /// The `-->` line, and the source line with its carets where there is one to show.
    fn render(&self, gutter: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{:gutter$}--> {self}", "")?;
        let Some(range) = &self.range else {
            return Ok(());
        };
        let cut = snippet::cut(&self.source.text, range);
        let number = self.line().map(|line| line.to_string());
        let number = number.as_deref().unwrap_or("");
        write!(f, "\n{:gutter$} |", "")?;
        write!(f, "\n{number:gutter$} | {}", cut.shown)?;
        let (indent, carets) = (cut.indent, "^".repeat(cut.carets));
        write!(f, "\n{:gutter$} | {:indent$}{carets}", "", "")
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source.name)?;
        match self.line_in_file() {
            Some((line, column)) => write!(f, ":{line}:{column}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({self})")
    }
}

impl PartialEq for Location {
    fn eq(&self, other: &Location) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Location {}

impl PartialOrd for Location {
    fn partial_cmp(&self, other: &Location) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Location {
    fn cmp(&self, other: &Location) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// One thing that is wrong, with its place and a way out where one is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong: lower-case, no full stop, values in backticks.
    pub message: String,
    /// Where it was written.
    pub location: Option<Location>,
    /// What to do about it.
    pub help: Option<String>,
}

impl Problem {
    /// A problem without a place.
    pub fn new(message: impl Into<String>) -> Problem {
        Problem { message: message.into(), location: None, help: None }
    }

    /// A problem with a place.
    pub fn at(location: Location, message: impl Into<String>) -> Problem {
        Problem { location: Some(location), ..Problem::new(message) }
    }

    /// The same problem with a way out.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Problem {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", snippet::printable(&self.message))?;
        let line = self.location.as_ref().and_then(Location::line);
        let gutter = line.map_or(1, |line| line.to_string().len());
        if let Some(location) = &self.location {
            location.render(gutter, f)?;
        }
        if let Some(help) = &self.help {
            let label = format!("{:gutter$} = help: ", "");
            for (index, line) in help.lines().enumerate() {
                let lead = if index == 0 { label.as_str() } else { "" };
                let line = snippet::printable(line);
                write!(f, "\n{lead:width$}{line}", width = label.len())?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

/// Everything that one pass found, in the order of the text, each thing once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Sorts the problems by place (those without one come first) and drops repetitions.
    pub fn new(mut problems: Vec<Problem>) -> Problems {
        problems.sort_by(|a, b| a.location.cmp(&b.location));
        let mut kept: Vec<Problem> = Vec::with_capacity(problems.len());
        for problem in problems {
            let repeats =
                |other: &Problem| other.location == problem.location && other.message == problem.message;
            if !kept.iter().any(repeats) {
                kept.push(problem);
            }
        }
        Problems(kept)
    }

    /// The problems, in order.
    pub fn as_slice(&self) -> &[Problem] {
        &self.0
    }

    /// The problems, in order.
    pub fn into_vec(self) -> Vec<Problem> {
        self.0
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Problems {
        Problems(vec![problem])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_like_one_of_rustc() {
        let source = Source::file("my.toml", &format!("{}epoch = 20\n", "\n".repeat(11)));
        let problem = Problem::at(source.at(11..16), "unknown key `epoch` in `training`")
            .help("did you mean `epochs`?");
        assert_eq!(
            problem.to_string(),
            "\
error: unknown key `epoch` in `training`
  --> my.toml:12:1
   |
12 | epoch = 20
   | ^^^^^
   = help: did you mean `epochs`?"
        );
    }

    #[test]
    fn a_problem_on_the_command_line_has_no_line_number() {
        let source = Source::assignment("seed=x", 1);
        let problem = Problem::at(source.at(5..6), "expected a whole number for `seed`");
        assert_eq!(
            problem.to_string(),
            "\
error: expected a whole number for `seed`
 --> --set seed=x
  |
  | seed=x
  |      ^"
        );
    }

    #[test]
    fn problems_are_sorted_by_place_and_told_once() {
        let file = Source::file("a.toml", "one\ntwo\n");
        let typed = Source::assignment("a=1", 1);
        let problems = Problems::new(vec![
            Problem::at(typed.at(0..1), "third"),
            Problem::at(file.at(4..7), "second"),
            Problem::at(file.at(4..7), "second"),
            Problem::at(file.whole(), "first"),
        ]);
        let messages: Vec<_> = problems.as_slice().iter().map(|p| &p.message).collect();
        assert_eq!(messages, ["first", "second", "third"]);
    }

    #[test]
    fn help_of_several_lines_stays_in_its_column() {
        let problem = Problem::new("wrong").help("first\nsecond");
        assert_eq!(problem.to_string(), "error: wrong\n  = help: first\n          second");
    }
}
