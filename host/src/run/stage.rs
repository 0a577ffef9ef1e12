//! What a stage shows and writes while it goes: one progress line on stderr, and its lines of `metrics.jsonl`.

use super::{
    checkpoints::{Checkpoint, Checkpoints},
    journal::Journal,
    metrics::Line,
    talk::Event,
};
use crate::plugin::Recorder;
use guard_device::Fetch;
use guard_sdk::{Error, Level, Result, State, Tensor};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    time::{Duration, Instant},
};
use tracing::{info_span, span::EnteredSpan};

/// Watches a stage from outside: progress bars, the metrics file, checkpoints, and whether it is to stop.
pub trait Observer {
    /// Called before each iteration; what is recorded until the next call belongs to it.
    fn iteration(&self, iteration: u64, iterations: u64);

    /// Where the stage was cut, if it was; told once.
    fn resumed(&self) -> Option<Checkpoint> {
        None
    }

    /// Called after [`iteration`](Self::iteration), before the iteration's work; `state` is what the stage needs to begin there.
    ///
    /// # Errors
    /// Code [`CANCELLED`](super::CANCELLED) if the stage is to stop, those of `state`, or if the file system refuses.
    fn checkpoint(&self, iteration: u64, state: &mut dyn FnMut() -> Result<State>) -> Result<()> {
        let _ = (iteration, state);
        Ok(())
    }

    /// Called after the last iteration, before what it leaves counts.
    ///
    /// # Errors
    /// If a number of an earlier iteration that must be finite is not.
    fn settled(&self) -> Result<()> {
        Ok(())
    }

    /// Told what does not look right.
    fn warn(&self, message: &str) {
        let _ = message;
    }

    /// Called where there is nothing to keep.
    ///
    /// # Errors
    /// Code [`CANCELLED`](super::CANCELLED) if the stage is to stop.
    fn stop_if_asked(&self) -> Result<()> {
        Ok(())
    }
}

/// A line this often where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// A number that must be finite.
struct Watched {
    value: Tensor,
    otherwise: Box<dyn Fn(f64) -> Error>,
}

/// Numbers of an iteration that were asked for.
struct Coming {
    iteration: u64,
    names: Vec<String>,
    watched: Vec<Watched>,
    fetch: Fetch,
}

/// Values of a stage are read and written every so many iterations, so that a step does not wait for the device.
const RECORD_EVERY: u64 = 10;

/// Stage, bar, iterations, rate, time left, main figure.
fn style() -> ProgressStyle {
    let template = "{prefix:<36} {bar:24} {pos:>6}/{len:<6} {rate:>9} ETA {eta:>4}  {msg}";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).with_key(
        "rate",
        |state: &ProgressState, text: &mut dyn std::fmt::Write| {
            let _ = write!(text, "{:.1}/s", state.per_sec());
        },
    )
}

/// One stage of one variant.
pub struct StageLog<'a> {
    journal: &'a Journal,
    variant: &'a str,
    stage: &'a str,
    lines: bool,
    bar: ProgressBar,
    begun: Instant,
    shown: Cell<Instant>,
    /// Iteration and number of iterations.
    position: Cell<(u64, u64)>,
    pending: RefCell<Vec<(String, Tensor)>>,
    /// What must be finite, of the present iteration.
    watched: RefCell<Vec<Watched>>,
    /// What was asked for of earlier iterations, in order.
    coming: RefCell<VecDeque<Coming>>,
    figure: RefCell<String>,
    /// The first failure to write, or of a number that must be finite; reported at the next checkpoint, or when the stage ends.
    failure: RefCell<Option<Error>>,
    checkpoints: Option<Checkpoints>,
    resumed: RefCell<Option<Checkpoint>>,
    /// Whether a step that has begun is finished before the stage stops.
    finishes_steps: Cell<bool>,
    /// Whether it is so never.
    stops_within_steps: Cell<bool>,
    /// The step that is at work, for `--profile`, and the stage itself; dropped in this order.
    step: RefCell<Option<EnteredSpan>>,
    _span: EnteredSpan,
}

impl<'a> StageLog<'a> {
    pub(super) fn open(journal: &'a Journal, variant: &'a str, stage: &'a str) -> Self {
        let has_bars = journal.display.has_bars();
        let bar = if has_bars { ProgressBar::new(0) } else { ProgressBar::hidden() };
        bar.set_style(style());
        bar.set_prefix(format!("{variant}: {stage}"));
        Self {
            journal,
            variant,
            stage,
            lines: !has_bars,
            bar,
            begun: Instant::now(),
            shown: Cell::new(Instant::now()),
            position: Cell::new((0, 0)),
            pending: RefCell::default(),
            watched: RefCell::default(),
            coming: RefCell::default(),
            figure: RefCell::default(),
            failure: RefCell::default(),
            checkpoints: None,
            resumed: RefCell::default(),
            finishes_steps: Cell::default(),
            stops_within_steps: Cell::default(),
            step: RefCell::default(),
            _span: info_span!("stage", variant, stage).entered(),
        }
    }

    /// The same with checkpoints, at one of which the stage goes on maybe.
    pub(super) fn keeping(mut self, checkpoints: Checkpoints, resumed: Option<Checkpoint>) -> Self {
        if let Some(Checkpoint { iteration, .. }) = resumed {
            self.bar.set_position(iteration);
            self.bar.reset_eta();
        }
        (self.checkpoints, self.resumed) = (Some(checkpoints), RefCell::new(resumed));
        self
    }

    /// Drops what an earlier part of the run wrote of the iteration `from` and later ones.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn begin(&self, from: u64) -> Result<()> {
        self.journal.begin(self.variant, self.stage, from)
    }

    /// Lets methods stop within a step: for stages whose steps take long and change nothing.
    pub fn stop_within_steps(&self) {
        self.stops_within_steps.set(true);
    }

    fn records(&self) -> bool {
        let (iteration, iterations) = self.position.get();
        iteration.is_multiple_of(RECORD_EVERY) || iteration + 1 == iterations
    }

    /// Asks for what was recorded since the last iteration began, and takes what has come; of a GPU's numbers all but those of
    /// the iteration that it is perhaps still at work on, unless `all` are to be waited for.
    fn flush(&self, all: bool) {
        if let Err(error) = self.ask().and_then(|()| self.take_what_came(all)) {
            self.failure.borrow_mut().get_or_insert(error);
        }
    }

    fn ask(&self) -> Result<()> {
        let (metrics, watched) = (self.pending.take(), self.watched.take());
        if metrics.is_empty() && watched.is_empty() {
            return Ok(());
        }
        let watched_values = watched.iter().map(|watched| &watched.value);
        let scalars: Vec<&Tensor> = metrics.iter().map(|(_, value)| value).chain(watched_values).collect();
        let fetch = Fetch::begin(&scalars)?;
        let iteration = self.position.get().0;
        let names = metrics.into_iter().map(|(name, _)| name).collect();
        self.coming.borrow_mut().push_back(Coming { iteration, names, watched, fetch });
        Ok(())
    }

    fn take_what_came(&self, all: bool) -> Result<()> {
        loop {
            let mut coming = self.coming.borrow_mut();
            let Some(first) = coming.front() else { return Ok(()) };
            if first.fetch.waits() && coming.len() == 1 && !all {
                return Ok(());
            }
            let Some(first) = coming.pop_front() else { return Ok(()) };
            drop(coming);
            self.take(first)?;
        }
    }

    /// Writes an iteration's numbers; an error if one is not finite that must be.
    fn take(&self, Coming { iteration, names, watched, fetch }: Coming) -> Result<()> {
        let values = fetch.wait()?;
        let (metrics_found, watched_found) = values.split_at(names.len());
        let mut metrics = serde_json::Map::new();
        for (name, value) in names.iter().zip(metrics_found) {
            let figure =
                name.strip_prefix("loss/").filter(|term| !term.contains('/') && *term != "cross-entropy");
            if figure.is_some() {
                *self.figure.borrow_mut() = format!("loss {value:.4}");
            }
            metrics.insert(name.clone(), serde_json::json!(value));
        }
        if !metrics.is_empty() {
            self.write_at(iteration, metrics);
        }
        let wrong = watched.iter().zip(watched_found).find(|(_, value)| !value.is_finite());
        wrong.map_or(Ok(()), |(watched, value)| Err((watched.otherwise)(*value)))
    }

    /// Writes numbers at the present iteration.
    pub fn write(&self, metrics: serde_json::Map<String, serde_json::Value>) {
        self.write_at(self.position.get().0, metrics);
    }

    fn write_at(&self, iteration: u64, metrics: serde_json::Map<String, serde_json::Value>) {
        let line = Line { variant: self.variant.into(), stage: self.stage.into(), iteration, metrics };
        if let Err(error) = self.journal.write(&line) {
            self.failure.borrow_mut().get_or_insert(error);
        }
    }

    fn event<'b>(&'b self, event: &'static str, text: &'b str) -> Event<'b> {
        Event::of_stage(event, self.variant, self.stage, text)
    }

    /// Says how far the stage is, now and then, where there is no bar.
    fn progressed(&self, text: &str) {
        if self.lines && self.shown.get().elapsed() >= LINE_EVERY {
            self.shown.set(Instant::now());
            let iteration = Some(self.position.get());
            self.journal.display.say(&Event { iteration, ..self.event("progress", text) });
        }
    }

    /// Ends the stage with a word on its outcome. Its lines then outlast a failure of the machine, before its outcome counts.
    ///
    /// # Errors
    /// If the metrics could not be written.
    pub fn finish(&self, outcome: &str) -> Result<()> {
        self.flush(true);
        drop(self.step.take());
        let seconds = self.begun.elapsed().as_secs_f64();
        self.bar.finish_and_clear();
        self.journal.display.say(&Event { seconds: Some(seconds), ..self.event("finished", outcome) });
        self.failed()?;
        self.journal.sync()
    }

    /// The first failure to write, or number that is not finite.
    fn failed(&self) -> Result<()> {
        self.failure.take().map_or(Ok(()), Err)
    }
}

impl Observer for StageLog<'_> {
    fn iteration(&self, iteration: u64, iterations: u64) {
        self.flush(false);
        // The one before ends before the next begins.
        drop(self.step.take());
        *self.step.borrow_mut() = Some(info_span!("step", iteration).entered());
        self.position.set((iteration, iterations));
        self.bar.set_length(iterations);
        self.bar.set_position(iteration);
        self.bar.set_message(self.figure.borrow().clone());
        self.progressed(&self.figure.borrow());
    }

    fn resumed(&self) -> Option<Checkpoint> {
        self.resumed.take()
    }

    fn checkpoint(&self, iteration: u64, state: &mut dyn FnMut() -> Result<State>) -> Result<()> {
        self.finishes_steps.set(!self.stops_within_steps.get());
        self.failed()?;
        let stop = self.stop_if_asked();
        if let Some(checkpoints) = self.checkpoints.as_ref().filter(|each| stop.is_err() || each.due()) {
            // The lines of the iterations before are part of what is kept, and what is not finite is not.
            self.flush(true);
            self.failed()?;
            self.journal.sync()?;
            checkpoints.write(&Checkpoint { iteration, state: state()? })?;
        }
        stop
    }

    fn settled(&self) -> Result<()> {
        self.flush(true);
        self.failed()
    }

    fn warn(&self, message: &str) {
        self.journal.warn(&format!("{}: {}: {message}", self.variant, self.stage));
    }

    fn stop_if_asked(&self) -> Result<()> {
        self.journal.interruption.check()
    }
}

impl Drop for StageLog<'_> {
    /// A stage that stopped leaves no bar.
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl Recorder for StageLog<'_> {
    fn metric(&self, name: &str, value: &Tensor) {
        // What is measured once an epoch is rare enough to be written always.
        if self.records() || name.starts_with("validation/") {
            self.pending.borrow_mut().push((name.to_string(), value.detach()));
        }
    }

    fn watch(&self, value: &Tensor, otherwise: Box<dyn Fn(f64) -> Error>) -> Result<()> {
        self.watched.borrow_mut().push(Watched { value: value.detach(), otherwise });
        Ok(())
    }

    fn log(&self, level: Level, message: &str) {
        if level != Level::Detail {
            self.bar.suspend(|| self.journal.display.say(&self.event("log", message)));
        }
    }

    fn progress(&self, fraction: f64) {
        let percent = (100.0 * fraction.clamp(0.0, 1.0)) as u64;
        let text = format!("{} {percent} % of this one", self.figure.borrow());
        self.bar.set_message(text.trim_start().to_string());
        self.progressed(text.trim_start());
    }

    fn cancelled(&self) -> bool {
        !self.finishes_steps.get() && self.stop_if_asked().is_err()
    }
}
