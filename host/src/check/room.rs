//! Where a method is tried: a small network, images, random streams, and what it can ask a host for.

use crate::{
    plugin::{Context, NetworkSource, Plugins, Recorder, unknown_network},
    random::Streams,
};
use guard_sdk::{
    Kind, Level, OwnedNetwork, Result, Tensor,
    testing::{Examples, SmallNetwork, device},
};
use std::cell::Cell;

/// Images of the usual shape.
pub const INPUT: [i64; 3] = [3, 8, 8];

/// A place to call methods in.
pub struct Room {
    /// Network and images.
    pub examples: Examples,
    /// Shape of an image.
    pub input: [i64; 3],
    /// Dtype of everything.
    pub kind: Kind,
    stage: Option<&'static str>,
    streams: Streams,
    cancelled: Cell<bool>,
}

impl Room {
    /// The usual: four images in float64.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn usual(seed: u64) -> Result<Self> {
        Self::new(INPUT, Kind::Double, 4, seed)
    }

    /// `count` images of a shape and dtype.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn new(input: [i64; 3], kind: Kind, count: i64, seed: u64) -> Result<Self> {
        Ok(Self::with(Examples::new(input, kind, count)?, seed))
    }

    /// These examples.
    pub fn with(examples: Examples, seed: u64) -> Self {
        let (size, kind) = (examples.images.size(), examples.images.kind());
        Self {
            input: [size[1], size[2], size[3]],
            kind,
            stage: None,
            streams: Streams::new(seed),
            cancelled: Cell::new(false),
            examples,
        }
    }

    /// The same in one stage, whatever the call.
    pub fn in_stage(self, stage: &'static str) -> Self {
        Self { stage: Some(stage), ..self }
    }

    /// Asks methods to stop.
    pub fn cancel(&self) {
        self.cancelled.set(true);
    }

    /// The context of a call.
    pub fn context<'a>(&'a self, plugins: &'a Plugins, stage: &'a str) -> Context<'a> {
        Context {
            stage: self.stage.unwrap_or(stage),
            iteration: 0,
            iterations: 0,
            random: &self.streams,
            recorder: self,
            plugins,
            networks: self,
            device: device(),
        }
    }
}

impl Recorder for Room {
    fn metric(&self, _: &str, _: &Tensor) {}
    fn log(&self, _: Level, _: &str) {}
    fn progress(&self, _: f64) {}
    fn cancelled(&self) -> bool {
        self.cancelled.get()
    }
}

/// The one other network.
const TEACHER: &str = "teacher";

impl NetworkSource for Room {
    fn network(&self, name: &str) -> Result<OwnedNetwork> {
        match name {
            TEACHER => Ok(SmallNetwork::new(self.input, self.kind, 23)?.owned()),
            _ => Err(unknown_network(name, &[TEACHER])),
        }
    }
}
