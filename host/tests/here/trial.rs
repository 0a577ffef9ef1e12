//! One recipe: a run that nothing happens to, and runs in which something happens at a failpoint, and which then go on.

use super::{
    left::{Left, differences, left},
    points::Point,
};
use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// What happens at a failpoint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Then {
    Kill,
    Error,
}

impl Then {
    /// As `GUARD_FAIL_AT` calls it.
    fn word(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Error => "error",
        }
    }

    /// Whether a run ended as it should; one that met an error names the file.
    fn ended(self, output: &Output, point: &Point) -> Result<(), String> {
        let talk = stderr(output);
        let named = || talk.contains("error: ") && talk.contains(&point.file) && !talk.contains("panicked");
        match (self, output.status.signal(), output.status.code()) {
            (Self::Kill, Some(9), None) => Ok(()),
            (Self::Error, None, Some(1)) if named() => Ok(()),
            _ => Err(format!("it ended with {}: {talk}", output.status)),
        }
    }
}

/// A second life has so many operations at most: several checkpoints' worth.
const SECOND: u64 = 60;

/// A recipe, and what a run of it leaves.
pub struct Whole {
    host: PathBuf,
    /// Recipe and runs.
    folder: PathBuf,
    left: Left,
    /// Its failpoints, in their order.
    pub points: Vec<Point>,
}

impl Whole {
    /// Runs `recipe` in a folder of its own.
    pub fn run(host: &Path, folder: &Path, recipe: &str) -> Result<Self, String> {
        let file = folder.join("recipe.toml");
        let written = fs::create_dir_all(folder).and_then(|()| fs::write(&file, recipe));
        written.map_err(|error| format!("cannot write `{}`: {error}", file.display()))?;
        let mut whole =
            Self { host: host.into(), folder: folder.into(), left: Left::new(), points: Vec::new() };
        let output = whole.begin("whole", "list")?;
        let (talk, run) = (stderr(&output), folder.join("whole"));
        if !output.status.success() {
            return Err(format!("a run that nothing happens to ends with {}: {talk}", output.status));
        }
        (whole.points, whole.left) = (Point::told(&talk, &run), left(&run));
        Ok(whole)
    }

    /// What is wrong with a run in which something happens at one failpoint after another: each life is that in which it happens at
    /// the next one, as far as the run still comes there. Tells how many there were.
    pub fn again_and_again(&self, points: &[&Point], then: Then) -> Result<usize, String> {
        let out = format!("{then:?}-again").to_lowercase();
        let (run, mut next, mut reached) = (self.folder.join(&out), points.iter().peekable(), 0);
        while next.peek().is_some() {
            let mut resumes = false;
            for point in next.by_ref() {
                let begin = ["recipe.toml", "--quiet", "--checkpoint-every", "0", "--out", &out];
                let resume = ["--quiet", "--checkpoint-every", "0", "--resume", &out];
                let what = format!("{} {}:{}", point.operation, point.file, then.word());
                let mut command = self.command(if resumes { &resume } else { &begin });
                let output = self.output(command.env("GUARD_FAIL_AT", what))?;
                if output.status.success() {
                    break;
                }
                let context = |error| format!("at {}: {error}", point.kind());
                then.ended(&output, point).map_err(context)?;
                reached += 1;
                resumes = run.join("command.json").exists();
                if !resumes && run.exists() {
                    fs::remove_dir_all(&run).map_err(|error| error.to_string())?;
                }
            }
            self.go_on(&out)?;
            fs::remove_dir_all(&run).map_err(|error| error.to_string())?;
        }
        Ok(reached)
    }

    /// What is wrong with a run in which something happens at a failpoint; one that is killed is killed again soon after it went
    /// on, for what was loaded and saved again must be what it was. If nothing is, its folder is removed.
    pub fn wrong(&self, point: &Point, then: Then) -> Option<String> {
        let out = format!("{then:?}-{}", point.number).to_lowercase();
        let run = self.folder.join(&out);
        let tried = self.fall(point, then, &out);
        let tried =
            tried.and_then(|()| if then == Then::Kill { self.fall_again(point, &out) } else { Ok(()) });
        let tried = tried.and_then(|()| self.go_on(&out));
        tried.and_then(|()| fs::remove_dir_all(&run).map_err(|error| error.to_string())).err()
    }

    /// The run up to the failpoint.
    fn fall(&self, point: &Point, then: Then, out: &str) -> Result<(), String> {
        let output = self.begin(out, &format!("{}:{}", point.number, then.word()))?;
        let talk = stderr(&output);
        if Point::told(&talk, &self.folder.join(out)) != [point.clone()] {
            return Err(format!("it fell elsewhere, or not at all: {talk}"));
        }
        then.ended(&output, point)
    }

    /// A second life of the run, cut after some operations; by then it may be through, or not yet begun.
    fn fall_again(&self, point: &Point, out: &str) -> Result<(), String> {
        if !self.folder.join(out).join("command.json").exists() {
            return Ok(());
        }
        let arguments = ["--quiet", "--checkpoint-every", "0", "--resume", out];
        let place = format!("{}:kill", 1 + point.number % SECOND);
        let output = self.output(self.command(&arguments).env("GUARD_FAIL_AT", place))?;
        match (output.status.signal(), output.status.code()) {
            (Some(9), None) | (None, Some(0)) => Ok(()),
            _ => Err(format!("its second life ended with {}: {}", output.status, stderr(&output))),
        }
    }

    /// The rest of it.
    fn go_on(&self, out: &str) -> Result<(), String> {
        let resumed = self.output(&mut self.command(&["--quiet", "--resume", out]))?;
        let (talk, run) = (stderr(&resumed), self.folder.join(out));
        let begun = run.join("command.json").exists();
        if !begun && resumed.status.code() == Some(2) && talk.contains("holds no run") {
            if run.exists() {
                fs::remove_dir_all(&run).map_err(|error| error.to_string())?;
            }
            let again = self.begin(out, "list")?;
            if !again.status.success() {
                return Err(format!("it does not begin again: {}", stderr(&again)));
            }
        } else if !resumed.status.success() {
            return Err(format!("it does not go on, but ends with {}: {talk}", resumed.status));
        }
        match &differences(&self.left, &left(&run))[..] {
            [] => Ok(()),
            differences => Err(differences.join(", ")),
        }
    }

    /// A new run, with a checkpoint after every step.
    fn begin(&self, out: &str, fail_at: &str) -> Result<Output, String> {
        let arguments = ["recipe.toml", "--quiet", "--checkpoint-every", "0", "--out", out];
        self.output(self.command(&arguments).env("GUARD_FAIL_AT", fail_at))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.host);
        command.args(arguments).current_dir(&self.folder).env_remove("GUARD_PLUGIN_PATH");
        command
    }

    fn output(&self, command: &mut Command) -> Result<Output, String> {
        command.output().map_err(|error| format!("cannot start `{}`: {error}", self.host.display()))
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
