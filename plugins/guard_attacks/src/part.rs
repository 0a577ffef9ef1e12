//! A step as a part of a larger attack sees it: its progress is a share of the whole, its draws are its own.

use guard_sdk::{
    Batch, Budget, Device, Level, Network, OwnedNetwork, Result, Services, Step, Tensor,
    services::{Draw, ServicesBackend},
};

/// Part `number` of `parts`.
pub struct Part<'a> {
    step: &'a Step<'a>,
    number: usize,
    parts: usize,
}

impl<'a> Part<'a> {
    /// Of the call that `step` belongs to.
    pub fn new(step: &'a Step<'a>, number: usize, parts: usize) -> Self {
        Self { step, number, parts }
    }

    /// The step to call the part with.
    pub fn step(&self) -> Step<'_> {
        Step { services: Services::lend(self), ..*self.step }
    }

    fn whole(&self) -> &dyn ServicesBackend {
        self.step.services.backend()
    }
}

impl ServicesBackend for Part<'_> {
    fn log(&self, level: Level, message: &str) {
        self.whole().log(level, message);
    }

    fn metric(&self, name: &str, value: &Tensor) -> Result<()> {
        self.whole().metric(name, value)
    }

    fn cancelled(&self) -> bool {
        self.whole().cancelled()
    }

    fn progress(&self, fraction: f64) {
        self.whole().progress((self.number as f64 + fraction) / self.parts as f64);
    }

    fn device(&self) -> Device {
        self.whole().device()
    }

    fn random(&self, draw: &Draw) -> Result<Tensor> {
        self.whole().random(&Draw { stream: &format!("{}.{}", self.number, draw.stream), ..*draw })
    }

    fn numbers(&self, draw: &Draw) -> Result<Vec<f64>> {
        self.whole().numbers(&Draw { stream: &format!("{}.{}", self.number, draw.stream), ..*draw })
    }

    fn attack(&self, name: &str, options: &serde_json::Value) -> Result<u64> {
        self.whole().attack(name, options)
    }

    fn regularizer(&self, name: &str, options: &serde_json::Value) -> Result<u64> {
        self.whole().regularizer(name, options)
    }

    fn perturb(
        &self,
        key: u64,
        step: &Step,
        network: &Network,
        batch: &Batch,
        budget: &Budget,
    ) -> Result<Tensor> {
        self.whole().perturb(key, step, network, batch, budget)
    }

    fn penalty(&self, key: u64, step: &Step, network: &Network, batch: &Batch) -> Result<Tensor> {
        self.whole().penalty(key, step, network, batch)
    }

    fn network(&self, name: &str) -> Result<OwnedNetwork> {
        self.whole().network(name)
    }
}
