//! What the host lends a plugin in these tests: draws that were recorded, and a network that is watched.

use guard_host::{
    network::Model,
    plugin::{Context, Locator, NoNetworks, Plugins},
    random::RandomSource,
};
use guard_sdk::{
    Error, NetworkInfo, Output, Pass, Result, Tensor,
    network::{NetworkBackend, Tensors},
    services::Draw,
};
use guard_tests::{Recording, device};
use std::{any::Any, sync::Mutex};

/// Loaded plugins, and what their methods are given.
pub struct Host {
    pub plugins: Plugins,
    pub recording: Recording,
    pub random: Box<dyn RandomSource>,
}

impl Host {
    pub fn new(names: &[&str], random: impl RandomSource + 'static) -> Result<Self> {
        let plugins = Plugins::new(Locator::from_environment());
        for name in names {
            plugins.load(name)?;
        }
        Ok(Self { plugins, recording: Recording::default(), random: Box::new(random) })
    }

    pub fn context<'a>(&'a self, stage: &'a str) -> Context<'a> {
        Context {
            stage,
            iteration: 0,
            iterations: 1,
            random: self.random.as_ref(),
            recorder: &self.recording,
            plugins: &self.plugins,
            networks: &NoNetworks,
            device: device(),
        }
    }
}

/// Draws by the name of their stream; any other is an error.
#[derive(Default)]
pub struct Draws(pub Vec<(&'static str, Tensor)>);

impl RandomSource for Draws {
    fn random(&self, method: &str, _: u64, draw: &Draw) -> Result<Tensor> {
        let found = self.0.iter().find(|(stream, _)| *stream == draw.stream);
        let (_, tensor) =
            found.ok_or_else(|| Error::new(format!("`{method}` asks for the draw `{}`", draw.stream)))?;
        let shape: Vec<i64> =
            std::iter::once(draw.ids.len() as i64).chain(draw.shape.iter().copied()).collect();
        if (tensor.size(), tensor.kind()) != (shape.clone(), draw.kind) {
            return Err(Error::new(format!(
                "`{method}` asks for {shape:?} of {:?} in `{}`",
                draw.kind, draw.stream
            )));
        }
        Ok(tensor.copy())
    }

    fn seed(&self, _: &str, _: u64) -> u64 {
        0
    }
}

/// A network that remembers every pass.
pub struct Watched {
    model: Model,
    passes: Mutex<Vec<Seen>>,
}

/// What went into a pass and came out of it.
pub struct Seen {
    pub images: Tensor,
    pub logits: Tensor,
}

impl Watched {
    pub fn new(model: Model) -> Self {
        Self { model, passes: Mutex::default() }
    }

    pub fn logits(self) -> Vec<Tensor> {
        self.passes().into_iter().map(|seen| seen.logits).collect()
    }

    pub fn passes(self) -> Vec<Seen> {
        self.passes.into_inner().expect("no pass panics while it holds the list")
    }
}

impl NetworkBackend for Watched {
    fn info(&self) -> &NetworkInfo {
        NetworkBackend::info(&self.model)
    }

    fn pass(&self, images: &Tensor, pass: Pass) -> Result<Output> {
        let output = NetworkBackend::pass(&self.model, images, pass)?;
        let seen = Seen { images: images.detach(), logits: output.logits.detach() };
        self.passes.lock().expect("no pass panics while it holds the list").push(seen);
        Ok(output)
    }

    fn tensors(&self) -> Result<Tensors> {
        NetworkBackend::tensors(&self.model)
    }

    fn rebind(&self, parameters: &[&Tensor]) -> Result<Box<dyn NetworkBackend>> {
        self.model.rebind(parameters)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
