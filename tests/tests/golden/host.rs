//! What the host lends a plugin in these tests: recorded draws, a recorder that remembers, a network that is watched.

use guard_host::{
    network::Model,
    plugin::{Context, Locator, Plugins, Recorder},
    random::RandomSource,
};
use guard_sdk::{
    Device, Error, Level, NetworkInfo, Output, Pass, Result, Tensor,
    network::{NetworkBackend, Tensors},
    services::Draw,
};
use std::{any::Any, cell::RefCell, sync::Mutex};

/// A loaded plugin, and what its methods are given.
pub struct Host {
    pub plugins: Plugins,
    pub recorder: Remembered,
    pub draws: Draws,
}

impl Host {
    pub fn new(plugin: &str, draws: Draws) -> Result<Self> {
        let mut plugins = Plugins::new(Locator::from_environment());
        plugins.load(plugin)?;
        Ok(Self { plugins, recorder: Remembered::default(), draws })
    }

    pub fn context<'a>(&'a self, stage: &'a str) -> Context<'a> {
        Context {
            stage,
            iteration: 0,
            iterations: 1,
            random: &self.draws,
            recorder: &self.recorder,
            plugins: &self.plugins,
            device: Device::Cpu,
        }
    }
}

/// Draws by the name of their stream; any other is an error.
#[derive(Default)]
pub struct Draws(pub Vec<(&'static str, Tensor)>);

impl RandomSource for Draws {
    fn random(&self, method: &str, _: u64, draw: &Draw) -> Result<Tensor> {
        let found = self.0.iter().find(|(stream, _)| *stream == draw.stream);
        let (_, tensor) = found.ok_or_else(|| Error::new(format!("`{method}` asks for the draw `{}`", draw.stream)))?;
        let shape: Vec<i64> = std::iter::once(draw.ids.len() as i64).chain(draw.shape.iter().copied()).collect();
        if (tensor.size(), tensor.kind()) != (shape.clone(), draw.kind) {
            return Err(Error::new(format!("`{method}` asks for {shape:?} of {:?} in `{}`", draw.kind, draw.stream)));
        }
        Ok(tensor.copy())
    }

    fn seed(&self, _: &str, _: u64) -> u64 {
        0
    }
}

/// Every metric that was reported, with its graph.
#[derive(Default)]
pub struct Remembered(RefCell<Vec<(String, Tensor)>>);

impl Remembered {
    pub fn metric(&self, name: &str) -> Result<Tensor> {
        let metrics = self.0.borrow();
        let found = metrics.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.shallow_clone()).ok_or_else(|| Error::new(format!("no metric `{name}` was reported")))
    }

    /// The ends of the names that begin with `prefix`, in the order in which they were reported.
    pub fn below(&self, prefix: &str) -> Vec<String> {
        self.0.borrow().iter().filter_map(|(name, _)| Some(name.strip_prefix(prefix)?.to_string())).collect()
    }
}

impl Recorder for Remembered {
    fn metric(&self, name: &str, value: &Tensor) {
        self.0.borrow_mut().push((name.to_string(), value.shallow_clone()));
    }

    fn log(&self, _: Level, _: &str) {}

    fn progress(&self, _: f64) {}

    fn cancelled(&self) -> bool {
        false
    }
}

/// A network that remembers the logits of every pass.
pub struct Watched {
    model: Model,
    logits: Mutex<Vec<Tensor>>,
}

impl Watched {
    pub fn new(model: Model) -> Self {
        Self { model, logits: Mutex::default() }
    }

    pub fn logits(self) -> Vec<Tensor> {
        self.logits.into_inner().expect("no pass panics while it holds the list")
    }
}

impl NetworkBackend for Watched {
    fn info(&self) -> &NetworkInfo {
        NetworkBackend::info(&self.model)
    }

    fn pass(&self, images: &Tensor, pass: Pass) -> Result<Output> {
        let output = NetworkBackend::pass(&self.model, images, pass)?;
        self.logits.lock().expect("no pass panics while it holds the list").push(output.logits.detach());
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
