//! What a run says on stderr while it goes: lines for people, JSON objects for programs, or nothing.

use serde_json::{Value, json};
use std::io::{IsTerminal, Write};

/// How a run shows its progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Display {
    /// Bars on a terminal, lines elsewhere.
    Automatic,
    /// A JSON object a line.
    Json,
    /// Nothing but errors.
    Quiet,
}

/// Something to be said.
pub struct Event<'a> {
    /// What kind of thing: `estimate`, `stage`, `progress`, `finished`, `log`, `warning` or `done`.
    pub event: &'static str,
    /// The variant, where it is of one.
    pub variant: Option<&'a str>,
    /// Its stage.
    pub stage: Option<&'a str>,
    /// The iteration, and how many there are.
    pub iteration: Option<(u64, u64)>,
    /// How long it took.
    pub seconds: Option<f64>,
    /// In words.
    pub text: &'a str,
}

impl<'a> Event<'a> {
    /// Of the run as a whole.
    pub fn of_run(event: &'static str, text: &'a str) -> Self {
        Self { event, variant: None, stage: None, iteration: None, seconds: None, text }
    }

    /// Of a stage.
    pub fn of_stage(event: &'static str, variant: &'a str, stage: &'a str, text: &'a str) -> Self {
        Self { variant: Some(variant), stage: Some(stage), ..Self::of_run(event, text) }
    }

    /// `SRe2L: train: 3/20 loss 0.1`.
    fn line(&self) -> String {
        let mut line = if self.event == "warning" { "warning: ".to_string() } else { String::new() };
        for place in [self.variant, self.stage].into_iter().flatten() {
            line += place;
            line += ": ";
        }
        if let Some((iteration, iterations)) = self.iteration {
            line += &format!("{iteration}/{iterations} ");
        }
        line += self.text;
        if let Some(seconds) = self.seconds {
            line += &format!(" ({seconds:.1} s)");
        }
        line
    }

    fn json(&self) -> Value {
        let Self { event, variant, stage, iteration, seconds, text } = self;
        let (iteration, iterations) = iteration.unzip();
        let mut object = json!({
            "event": event, "variant": variant, "stage": stage,
            "iteration": iteration, "iterations": iterations, "seconds": seconds, "text": text,
        });
        if let Value::Object(entries) = &mut object {
            entries.retain(|_, value| !value.is_null());
        }
        object
    }
}

impl Display {
    /// Says it.
    pub fn say(self, event: &Event) {
        let line = match self {
            Self::Automatic => event.line(),
            Self::Json => event.json().to_string(),
            Self::Quiet => return,
        };
        // Nobody reads a closed stderr.
        let _ = writeln!(std::io::stderr(), "{line}");
    }

    /// Whether progress is a bar.
    pub(super) fn has_bars(self) -> bool {
        self == Self::Automatic && std::io::stderr().is_terminal()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_and_programs_are_told_the_same() {
        let event =
            Event { iteration: Some((3, 20)), ..Event::of_stage("progress", "a", "train", "loss 0.1") };
        assert_eq!(event.line(), "a: train: 3/20 loss 0.1");
        assert_eq!(
            event.json(),
            json!({ "event": "progress", "variant": "a", "stage": "train", "iteration": 3, "iterations": 20, "text": "loss 0.1" })
        );
        let event = Event { seconds: Some(1.25), ..Event::of_stage("finished", "a", "train", "20 epochs") };
        assert_eq!(event.line(), "a: train: 20 epochs (1.2 s)");
        let event = Event::of_run("warning", "something is odd");
        assert_eq!(event.line(), "warning: something is odd");
        assert_eq!(event.json(), json!({ "event": "warning", "text": "something is odd" }));
    }
}
