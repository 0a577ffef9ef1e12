//! The host's services for one call of one method.

use super::{call::Context, kept::Handles, verify::verify};
use guard_sdk::{
    Batch, Budget, Clean, CleanRequest, Device, Error, Level, Network, OwnedNetwork, Result, Step, Tensor,
    manifest, sent,
    services::{Draw, ServicesBackend, on_cpu},
};

pub(super) struct HostServices<'a> {
    pub context: Context<'a>,
    /// The calling method's name in logs and random streams.
    pub label: &'a str,
    /// The handles that it was given.
    pub handles: &'a Handles,
}

impl HostServices<'_> {
    /// On the CPU, but for a recording, which may lie elsewhere.
    fn drawn(&self, draw: &Draw) -> Result<Tensor> {
        self.context.random.random(self.label, self.context.iteration, draw)
    }

    /// An error if methods ask for each other in a circle: a label has the names of all that asked.
    fn not_without_end(&self) -> Result<()> {
        if self.label.matches('/').count() < DEEPEST {
            return Ok(());
        }
        let circle: Vec<&str> = self.label.split('/').take(4).collect();
        let message = format!("methods ask for each other without end: {}, ...", circle.join(" asks for "));
        Err(Error::with_code("options", message))
    }

    /// The label of a method that this one asked for.
    fn inner(&self, name: &str) -> String {
        format!("{}/{name}", self.label)
    }
}

impl ServicesBackend for HostServices<'_> {
    fn log(&self, level: Level, message: &str) {
        self.context.recorder.log(level, &format!("{}: {message}", self.label));
    }

    fn metric(&self, name: &str, value: &Tensor) -> Result<()> {
        // The SDK has looked, but a plugin may come without it; several numbers are read together later.
        if !value.defined() || value.numel() != 1 {
            return Err(Error::new(format!("metric `{name}` of `{}` is no scalar", self.label)));
        }
        self.context.recorder.metric(&format!("{}/{name}", self.label), value);
        Ok(())
    }

    fn cancelled(&self) -> bool {
        self.context.recorder.cancelled()
    }

    fn progress(&self, fraction: f64) {
        self.context.recorder.progress(fraction);
    }

    fn device(&self) -> Device {
        self.context.device
    }

    fn random(&self, draw: &Draw) -> Result<Tensor> {
        sent(&self.drawn(draw)?, self.context.device)
    }

    fn numbers(&self, draw: &Draw) -> Result<Vec<f64>> {
        on_cpu(&self.drawn(draw)?)
    }

    fn attack(&self, name: &str, options: &serde_json::Value) -> Result<u64> {
        self.not_without_end()?;
        self.context.plugins.check_options(manifest::Kind::Attack, name, options)?;
        let attack = self.context.plugins.attack(&self.context, name, &self.inner(name), options)?;
        Ok(self.handles.keep_attack(attack))
    }

    fn regularizer(&self, name: &str, options: &serde_json::Value) -> Result<u64> {
        self.not_without_end()?;
        self.context.plugins.check_options(manifest::Kind::Regularizer, name, options)?;
        let regularizer =
            self.context.plugins.regularizer(&self.context, name, &self.inner(name), options)?;
        Ok(self.handles.keep_regularizer(regularizer))
    }

    fn perturb(
        &self,
        key: u64,
        step: &Step,
        network: &Network,
        batch: &Batch,
        budget: &Budget,
    ) -> Result<Tensor> {
        let attack = self.context.plugins.kept().attack(key)?;
        let mut attack = attack.try_borrow_mut().map_err(|_| busy(self.label))?;
        let context = self.context.at(step.iteration, step.iterations);
        let adversarial = attack.perturb(&context, network, batch, budget)?;
        // Checked here as in an evaluation: training on images that leave the budget is no adversarial training.
        let guarantee = attack.info(&context)?.guarantee;
        let _sizes = verify(&adversarial, batch.images, budget, guarantee)
            .map_err(|error| error.context(attack.who()))?;
        Ok(adversarial)
    }

    fn penalty(&self, key: u64, step: &Step, network: &Network, batch: &Batch) -> Result<Tensor> {
        let regularizer = self.context.plugins.kept().regularizer(key)?;
        let mut regularizer = regularizer.try_borrow_mut().map_err(|_| busy(self.label))?;
        regularizer.penalty(&self.context.at(step.iteration, step.iterations), network, batch)
    }

    fn network(&self, name: &str) -> Result<OwnedNetwork> {
        self.context.networks.network(name)
    }

    fn clean(&self, network: &Network, batch: &Batch, request: CleanRequest) -> Result<Clean> {
        self.context.plugins.sharing().clean(network, batch, request)
    }
}

/// How deep methods may ask for methods.
const DEEPEST: usize = 16;

fn busy(label: &str) -> Error {
    Error::with_code("busy", format!("`{label}` called a method that is running already"))
}
