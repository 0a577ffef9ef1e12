//! The host's services for a test.

use super::{SmallNetwork, normal, number, uniform};
use crate::{
    Attack, Batch, Budget, Error, Level, Method, Network, OwnedNetwork, Regularizer, Result, Services, Step,
    services::{Distribution, Draw, ServicesBackend},
};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
};
use tch::{Device, Tensor};

type Perturb = Box<dyn FnMut(&Step, &Network, &Batch, &Budget) -> Result<Tensor>>;
type Penalty = Box<dyn FnMut(&Step, &Network, &Batch) -> Result<Tensor>>;

/// Does what the host does for a method, and keeps what the method reports.
///
/// Random numbers depend on seed, iteration, stream, draw and id as they do in the host, but are others.
#[derive(Default)]
pub struct FakeHost {
    seed: u64,
    iteration: u64,
    iterations: u64,
    cancelled: Cell<bool>,
    lines: RefCell<Vec<(Level, String)>>,
    metrics: RefCell<Vec<(String, Tensor)>>,
    attacks: Vec<(String, RefCell<Perturb>)>,
    regularizers: Vec<(String, RefCell<Penalty>)>,
    networks: BTreeMap<String, SmallNetwork>,
}

impl FakeHost {
    /// A host with no methods and no networks, at iteration 0 of 10.
    pub fn new(seed: u64) -> Self {
        Self { seed, iterations: 10, ..Self::default() }
    }

    /// The same with an attack that methods can ask for by `name`, whatever the options.
    pub fn with_attack(mut self, name: &str, mut attack: impl Attack) -> Self {
        let perturb: Perturb =
            Box::new(move |step, network, batch, budget| attack.perturb(step, network, batch, budget));
        self.attacks.push((name.into(), RefCell::new(perturb)));
        self
    }

    /// The same with a regularizer that methods can ask for by `name`, whatever the options.
    pub fn with_regularizer(mut self, name: &str, mut regularizer: impl Regularizer) -> Self {
        let penalty: Penalty =
            Box::new(move |step, network, batch| regularizer.penalty(step, network, batch));
        self.regularizers.push((name.into(), RefCell::new(penalty)));
        self
    }

    /// The same with a network that methods can ask for by `name`.
    pub fn with_network(mut self, name: &str, network: SmallNetwork) -> Self {
        self.networks.insert(name.into(), network);
        self
    }

    /// The same at another iteration.
    pub fn at(mut self, iteration: u64, iterations: u64) -> Self {
        (self.iteration, self.iterations) = (iteration, iterations);
        self
    }

    /// The services.
    pub fn services(&self) -> Services<'_> {
        Services::lend(self)
    }

    /// A step of the stage `train`.
    pub fn step(&self) -> Step<'_> {
        Step {
            stage: "train",
            iteration: self.iteration,
            iterations: self.iterations,
            services: self.services(),
        }
    }

    /// A method from its options, as a host makes it.
    ///
    /// # Errors
    /// Those of [`Method::new`]; code `options` if the options cannot be read.
    pub fn make<M: Method>(&self, options: serde_json::Value) -> Result<M> {
        crate::abi::export::new(options, &self.services())
    }

    /// Asks methods to stop.
    pub fn cancel(&self) {
        self.cancelled.set(true);
    }

    /// The lines of the log.
    pub fn lines(&self) -> Vec<(Level, String)> {
        self.lines.borrow().clone()
    }

    /// The value recorded last under `name`.
    pub fn metric(&self, name: &str) -> Option<Tensor> {
        let metrics = self.metrics.borrow();
        metrics.iter().rev().find(|(recorded, _)| recorded == name).map(|(_, value)| value.shallow_clone())
    }
}

/// The place of `name` among what there is.
fn place<T>(kind: &str, name: &str, there: &[(String, T)]) -> Result<u64> {
    let found = there.iter().position(|(known, _)| known == name);
    found.map(|place| place as u64).ok_or_else(|| {
        Error::with_code("unknown-method", format!("the test's host has no {kind} `{name}`"))
            .help(format!("give it one: `FakeHost::with_{kind}(\"{name}\", ...)`"))
    })
}

fn at<T>(key: u64, there: &[(String, RefCell<T>)]) -> Result<std::cell::RefMut<'_, T>> {
    let (name, method) = usize::try_from(key)
        .ok()
        .and_then(|key| there.get(key))
        .ok_or_else(|| Error::with_code("interface", format!("there is no method with handle {key}")))?;
    method.try_borrow_mut().map_err(|_| Error::with_code("busy", format!("`{name}` is running already")))
}

impl ServicesBackend for FakeHost {
    fn log(&self, level: Level, message: &str) {
        self.lines.borrow_mut().push((level, message.to_string()));
    }

    fn metric(&self, name: &str, value: &Tensor) -> Result<()> {
        self.metrics.borrow_mut().push((name.to_string(), value.detach().copy()));
        Ok(())
    }

    fn cancelled(&self) -> bool {
        self.cancelled.get()
    }

    fn progress(&self, _: f64) {}

    fn device(&self) -> Device {
        super::device()
    }

    fn random(&self, draw: &Draw) -> Result<Tensor> {
        let numbers = match draw.distribution {
            Distribution::Uniform => uniform,
            Distribution::Normal => normal,
        };
        let row =
            |id: &u64| numbers(number((self.seed, self.iteration, draw.stream, draw.draw, id)), draw.shape);
        let rows = draw.ids.iter().map(row).collect::<Result<Vec<_>>>()?;
        let numbers = Tensor::f_stack(&rows, 0)?.f_to_kind(draw.kind)?;
        // Rounded to float32, a number just below 1 would be 1.
        Ok(match draw.distribution {
            Distribution::Uniform => numbers.clamp_max(1.0 - f64::from(f32::EPSILON)),
            Distribution::Normal => numbers,
        })
    }

    fn attack(&self, name: &str, _: &serde_json::Value) -> Result<u64> {
        place("attack", name, &self.attacks)
    }

    fn regularizer(&self, name: &str, _: &serde_json::Value) -> Result<u64> {
        place("regularizer", name, &self.regularizers)
    }

    fn perturb(
        &self,
        key: u64,
        step: &Step,
        network: &Network,
        batch: &Batch,
        budget: &Budget,
    ) -> Result<Tensor> {
        at(key, &self.attacks)?(step, network, batch, budget)
    }

    fn penalty(&self, key: u64, step: &Step, network: &Network, batch: &Batch) -> Result<Tensor> {
        at(key, &self.regularizers)?(step, network, batch)
    }

    fn network(&self, name: &str) -> Result<OwnedNetwork> {
        let network = self.networks.get(name).ok_or_else(|| {
            Error::with_code("unknown-network", format!("the test's host has no network `{name}`"))
        })?;
        Ok(network.copy(false).owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    fn draw<'a>(stream: &'a str, ids: &'a [u64]) -> Draw<'a> {
        Draw { stream, draw: 0, ids, shape: &[3], distribution: Distribution::Normal, kind: Kind::Double }
    }

    #[test]
    fn a_row_depends_on_its_id_and_stream_and_not_on_its_neighbours() {
        let host = FakeHost::new(3);
        let both = host.services().random(&draw("a", &[7, 9])).unwrap();
        let second = host.services().random(&draw("a", &[9])).unwrap();
        assert_eq!(both.get(1), second.get(0));
        let numbers = host.services().numbers(&draw("a", &[7, 9])).unwrap();
        assert_eq!(Tensor::from_slice(&numbers).reshape([2, 3]), both);
        assert_ne!(host.services().random(&draw("b", &[9])).unwrap(), second);
        assert_ne!(FakeHost::new(4).services().random(&draw("a", &[9])).unwrap(), second);
    }

    #[test]
    fn a_method_that_is_not_there_is_named() {
        let error = FakeHost::new(1).services().attack("pgd", &serde_json::json!({})).unwrap_err();
        assert_eq!(error.message, "the test's host has no attack `pgd`");
    }
}
