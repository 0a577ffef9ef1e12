//! A host to call plugins with.

use crate::{device::device, libraries::built_folder};
use guard_host::{
    plugin::{Context, Hosted, Locator, NetworkSource, NoNetworks, Plugins, Recorder},
    random::Streams,
};
use guard_sdk::{
    Batch, Budget, Device, Error, Level, Network, Result, Step, Tensor,
    abi::calls::{AttackInstance, ObjectiveInstance, RegularizerInstance},
    services::{Draw, ServicesBackend},
};
use serde_json::Value;
use std::{
    cell::RefCell,
    sync::{Mutex, MutexGuard},
};

/// Plugins and what a run calls them with. One at a time in a process: the host compares libtorch's process-wide state
/// before and after each call, and tests share a process.
pub struct Bench {
    /// The plugins.
    pub plugins: Plugins,
    /// Where random numbers come from.
    pub random: Streams,
    /// What methods reported.
    pub recording: Recording,
    /// Networks that methods may ask for.
    pub networks: Box<dyn NetworkSource>,
    _alone: MutexGuard<'static, ()>,
}

impl Bench {
    /// A host with these plugins, by name or path.
    pub fn new(plugins: &[&str]) -> Self {
        device();
        static ALONE: Mutex<()> = Mutex::new(());
        // A failed test must not fail those after it.
        let alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let bench = Self {
            plugins: Plugins::new(Locator::new(Some(built_folder().as_os_str()), None)),
            random: Streams::new(5),
            recording: Recording::default(),
            networks: Box::new(NoNetworks),
            _alone: alone,
        };
        for plugin in plugins {
            bench.plugins.load(plugin).unwrap_or_else(|error| panic!("{error}"));
        }
        bench
    }

    /// The same host in checked mode.
    pub fn checked(self) -> Self {
        Self { plugins: self.plugins.checked(true), ..self }
    }

    /// The same host with networks that methods may ask for.
    pub fn with_networks(self, networks: impl NetworkSource + 'static) -> Self {
        Self { networks: Box::new(networks), ..self }
    }

    /// Iteration 0 of 10 of a stage.
    pub fn context(&self) -> Context<'_> {
        Context {
            stage: "train",
            iteration: 0,
            iterations: 10,
            random: &self.random,
            recorder: &self.recording,
            plugins: &self.plugins,
            networks: self.networks.as_ref(),
            device: device(),
        }
    }

    /// A regularizer, labelled with its own name.
    ///
    /// # Errors
    /// Those of [`Plugins::regularizer`].
    pub fn regularizer(&self, name: &str, options: Value) -> Result<Hosted<RegularizerInstance>> {
        self.plugins.regularizer(&self.context(), name, name, &options)
    }

    /// An attack, labelled with its own name.
    ///
    /// # Errors
    /// Those of [`Plugins::attack`].
    pub fn attack(&self, name: &str, options: Value) -> Result<Hosted<AttackInstance>> {
        self.plugins.attack(&self.context(), name, name, &options)
    }

    /// An objective, labelled with its own name.
    ///
    /// # Errors
    /// Those of [`Plugins::objective`].
    pub fn objective(&self, name: &str, options: Value) -> Result<Hosted<ObjectiveInstance>> {
        self.plugins.objective(&self.context(), name, name, &options)
    }
}

/// Keeps what methods report, with its graph.
#[derive(Default)]
pub struct Recording {
    metrics: RefCell<Vec<(String, Tensor)>>,
    lines: RefCell<Vec<(Level, String)>>,
}

impl Recording {
    /// The value recorded last under `name`.
    pub fn metric(&self, name: &str) -> Tensor {
        let metrics = self.metrics.borrow();
        let found = metrics.iter().rev().find(|(recorded, _)| recorded == name);
        found.unwrap_or_else(|| panic!("no metric `{name}`")).1.shallow_clone()
    }

    /// The lines of the log.
    pub fn lines(&self) -> Vec<(Level, String)> {
        self.lines.borrow().clone()
    }
}

impl Recorder for Recording {
    fn metric(&self, name: &str, value: &Tensor) {
        self.metrics.borrow_mut().push((name.to_string(), value.shallow_clone()));
    }

    fn log(&self, level: Level, message: &str) {
        self.lines.borrow_mut().push((level, message.to_string()));
    }

    fn progress(&self, _: f64) {}

    fn cancelled(&self) -> bool {
        false
    }
}

/// Services that do nothing but call `logged` when a method writes to the log: for calls below the level of `Plugins`.
pub struct Unprepared<F: Fn()> {
    /// Called for each line of the log.
    pub logged: F,
}

fn unprepared<T>() -> Result<T> {
    Err(Error::new("the test has prepared no such service"))
}

impl<F: Fn()> ServicesBackend for Unprepared<F> {
    fn log(&self, _: Level, _: &str) {
        (self.logged)();
    }

    fn metric(&self, _: &str, _: &Tensor) -> Result<()> {
        unprepared()
    }

    fn cancelled(&self) -> bool {
        false
    }

    fn progress(&self, _: f64) {}

    fn device(&self) -> Device {
        device()
    }

    fn random(&self, _: &Draw) -> Result<Tensor> {
        unprepared()
    }

    fn attack(&self, _: &str, _: &Value) -> Result<u64> {
        unprepared()
    }

    fn regularizer(&self, _: &str, _: &Value) -> Result<u64> {
        unprepared()
    }

    fn perturb(&self, _: u64, _: &Step, _: &Network, _: &Batch, _: &Budget) -> Result<Tensor> {
        unprepared()
    }

    fn penalty(&self, _: u64, _: &Step, _: &Network, _: &Batch) -> Result<Tensor> {
        unprepared()
    }
}
