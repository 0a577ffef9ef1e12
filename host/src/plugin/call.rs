//! Every call of a plugin's method goes through here: random state seeded and put back, libtorch's state put back and
//! compared, lent tensors compared, errors named.

use super::{registry::Plugins, services::HostServices};
use crate::random::RandomSource;
use guard_sdk::{
    AttackInfo, Batch, Budget, Device, Error, Initial, Lab, Level, Needs, Network, Result, Services, State,
    Step, Synthetic, Tensor, Value,
    abi::{
        calls::{AttackInstance, ObjectiveInstance, RegularizerInstance},
        shim::{ProcessState, RandomState, ThreadState, equal, version},
    },
};

/// Takes what methods report.
pub trait Recorder {
    /// A scalar tensor under a name; read later, so that the device is not waited for.
    fn metric(&self, name: &str, value: &Tensor);
    /// A line for the log.
    fn log(&self, level: Level, message: &str);
    /// How much of a long call is done.
    fn progress(&self, fraction: f64);
    /// True once the user asked the run to stop.
    fn cancelled(&self) -> bool;
}

/// Drops what methods report.
pub struct Silent;

impl Recorder for Silent {
    fn metric(&self, _: &str, _: &Tensor) {}
    fn log(&self, _: Level, _: &str) {}
    fn progress(&self, _: f64) {}
    fn cancelled(&self) -> bool {
        false
    }
}

/// Where the run stands, and what methods may use.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// `train`, `distill`, `relabel` or `evaluate`.
    pub stage: &'a str,
    /// The current iteration, from 0.
    pub iteration: u64,
    /// How many iterations the stage has; 0 where that is not known.
    pub iterations: u64,
    /// Random numbers; the path has run seed and stage already.
    pub random: &'a dyn RandomSource,
    /// Takes what methods report.
    pub recorder: &'a dyn Recorder,
    /// The run's plugins.
    pub plugins: &'a Plugins,
    /// The run's device.
    pub device: Device,
}

impl Context<'_> {
    /// The same at another iteration.
    pub fn at(self, iteration: u64, iterations: u64) -> Self {
        Self { iteration, iterations, ..self }
    }
}

/// A plugin's method, called under guard.
pub struct Hosted<T> {
    /// For messages, e.g. ``plugin `guard.curv`, regularizer `curvature` ``.
    who: String,
    /// Its name in logs and random streams.
    label: String,
    instance: T,
}

impl<T> Hosted<T> {
    /// Makes the instance under guard.
    pub(super) fn create(
        who: String,
        label: &str,
        context: &Context,
        create: impl FnOnce(&Services) -> Result<T>,
    ) -> Result<Self> {
        let label = label.to_string();
        let instance = guarded(&who, &label, context, &[], |step| create(&step.services))?;
        Ok(Self { who, label, instance })
    }

    /// Its name in logs and random streams.
    pub fn label(&self) -> &str {
        &self.label
    }

    fn call<R>(
        &mut self,
        context: &Context,
        lent: &[(&str, &Tensor)],
        body: impl FnOnce(&mut T, &Step) -> Result<R>,
    ) -> Result<R> {
        guarded(&self.who, &self.label, context, lent, |step| body(&mut self.instance, step))
    }
}

/// Runs `body` with libtorch's state noted before and compared after.
fn guarded<R>(
    who: &str,
    label: &str,
    context: &Context,
    lent: &[(&str, &Tensor)],
    body: impl FnOnce(&Step) -> Result<R>,
) -> Result<R> {
    let services = HostServices { context: *context, label };
    let step = Step {
        stage: context.stage,
        iteration: context.iteration,
        iterations: context.iterations,
        services: Services::lend(&services),
    };
    let before = Before::of(lent, context.plugins.checks())?;
    let result = {
        let _random = RandomState::seeded(context.random.seed(label, context.iteration))?;
        let _thread = ThreadState::save()?;
        body(&step)
    };
    match (result, before.what_broke(who, lent)?) {
        (result, None) => result,
        (Ok(_), Some(broken)) => Err(broken),
        // The first failure comes first. Where a method that it called made the change, that one was told already.
        (Err(error), Some(broken)) if error.code == broken.code => Err(error),
        (Err(error), Some(broken)) => Err(error.cause(broken)),
    }
}

/// What belongs to others, before a call.
struct Before {
    process: ProcessState,
    /// How often each lent tensor was written.
    versions: Vec<i64>,
    /// The lent tensors' values, in checked mode: a write that goes round autograd leaves the version as it is.
    values: Option<Vec<Tensor>>,
}

impl Before {
    fn of(lent: &[(&str, &Tensor)], checked: bool) -> Result<Self> {
        Ok(Self {
            process: ProcessState::now(),
            versions: lent.iter().map(|(_, tensor)| version(tensor)).collect::<Result<_>>()?,
            values: checked.then(|| lent.iter().map(|(_, tensor)| tensor.detach().copy()).collect()),
        })
    }

    /// What the call left changed; libtorch's state is put back.
    fn what_broke(&self, who: &str, lent: &[(&str, &Tensor)]) -> Result<Option<Error>> {
        let changed = ProcessState::now().changes_since(self.process);
        if !changed.is_empty() {
            self.process.set();
            let error = Error::with_code(
                "state",
                format!("{who} changed {} of the whole process", changed.join(" and ")),
            );
            return Ok(Some(error.help("a method leaves libtorch's global state alone")));
        }
        for (index, (name, tensor)) in lent.iter().enumerate() {
            let value_differs = match &self.values {
                Some(values) => !equal(&tensor.detach(), &values[index])?,
                None => false,
            };
            if value_differs || version(tensor)? != self.versions[index] {
                let error =
                    Error::with_code("in-place", format!("{who} changed the {name} it was lent, in place"));
                return Ok(Some(error.help("work on a copy: `tensor.copy()`")));
            }
        }
        Ok(None)
    }
}

/// Parameters and buffers of a network, to be compared after a call.
fn lent_network(network: &Network) -> Result<Vec<(String, Tensor)>> {
    let tensors = network.tensors()?;
    let parameters =
        tensors.parameters.into_iter().map(|(name, tensor)| (format!("parameter `{name}`"), tensor));
    let buffers = tensors.buffers.into_iter().map(|(name, tensor)| (format!("buffer `{name}`"), tensor));
    Ok(parameters.chain(buffers).collect())
}

fn with_batch<'a>(network: &'a [(String, Tensor)], batch: &'a Batch) -> Vec<(&'a str, &'a Tensor)> {
    let mut lent: Vec<(&str, &Tensor)> =
        network.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    lent.extend([("images", batch.images), ("labels", batch.labels)]);
    lent.extend(batch.soft_labels.map(|soft| ("soft labels", soft)));
    lent
}

impl Hosted<RegularizerInstance> {
    /// See [`Regularizer::penalty`](guard_sdk::Regularizer::penalty).
    ///
    /// # Errors
    /// Those of the method; or if the penalty is no scalar, or has no graph although something requires gradients.
    pub fn penalty(&mut self, context: &Context, network: &Network, batch: &Batch) -> Result<Tensor> {
        let lent = lent_network(network)?;
        let wanted = batch.images.requires_grad() || lent.iter().any(|(_, tensor)| tensor.requires_grad());
        let penalty = self.call(context, &with_batch(&lent, batch), |instance, step| {
            instance.penalty(step, network, batch)
        })?;
        if penalty.numel() != 1 || penalty.dim() != 0 {
            return Err(Error::new(format!(
                "{} returned a penalty of shape {:?}, not a scalar",
                self.who,
                penalty.size()
            )));
        }
        if wanted && !penalty.requires_grad() {
            return Err(Error::new(format!(
                "{} returned a penalty without graph, which would have no effect",
                self.who
            ))
            .help("take gradients with `Graph::Create`, and do not detach the result"));
        }
        Ok(penalty)
    }

    /// See [`Method::save`](guard_sdk::Method::save).
    ///
    /// # Errors
    /// Those of the method.
    pub fn save(&mut self, context: &Context) -> Result<State> {
        self.call(context, &[], |instance, _| instance.save())
    }

    /// See [`Method::load`](guard_sdk::Method::load).
    ///
    /// # Errors
    /// Those of the method.
    pub fn load(&mut self, context: &Context, state: State) -> Result<()> {
        self.call(context, &[], |instance, _| instance.load(state))
    }
}

impl Hosted<AttackInstance> {
    /// See [`Attack::info`](guard_sdk::Attack::info).
    ///
    /// # Errors
    /// If the method panicked.
    pub fn info(&mut self, context: &Context) -> Result<AttackInfo> {
        self.call(context, &[], |instance, _| instance.info())
    }

    /// See [`Attack::perturb`](guard_sdk::Attack::perturb).
    ///
    /// # Errors
    /// Those of the method.
    pub fn perturb(
        &mut self,
        context: &Context,
        network: &Network,
        batch: &Batch,
        budget: &Budget,
    ) -> Result<Tensor> {
        let lent = lent_network(network)?;
        self.call(context, &with_batch(&lent, batch), |instance, step| {
            instance.perturb(step, network, batch, budget)
        })
    }
}

impl Hosted<ObjectiveInstance> {
    /// See [`Objective::needs`](guard_sdk::Objective::needs).
    ///
    /// # Errors
    /// If the method panicked.
    pub fn needs(&mut self, context: &Context) -> Result<Needs> {
        self.call(context, &[], |instance, _| instance.needs())
    }

    /// See [`Objective::initialise`](guard_sdk::Objective::initialise).
    ///
    /// # Errors
    /// Those of the method.
    pub fn initialise(&mut self, context: &Context, lab: &Lab) -> Result<Option<Initial>> {
        self.call(context, &[], |instance, step| instance.initialise(step, lab))
    }

    /// See [`Objective::value`](guard_sdk::Objective::value).
    ///
    /// # Errors
    /// Those of the method; or if what it returned is neither a scalar with graph nor gradients of the right shapes.
    pub fn value(&mut self, context: &Context, synthetic: &Synthetic, lab: &Lab) -> Result<Value> {
        let value = self.call(context, &lent_synthetic(synthetic), |instance, step| {
            instance.value(step, synthetic, lab)
        })?;
        let (loss, problem) = match &value {
            Value::Loss(loss) => {
                (loss, (!loss.requires_grad()).then(|| "a loss without graph to the images".to_string()))
            }
            Value::Gradients { loss, gradients } => (loss, wrong_shapes(gradients, synthetic)),
        };
        let problem =
            if loss.numel() == 1 { problem } else { Some(format!("a loss of shape {:?}", loss.size())) };
        match problem {
            Some(problem) => Err(Error::new(format!("{} returned {problem}", self.who))),
            None => Ok(value),
        }
    }

    /// See [`Objective::after_step`](guard_sdk::Objective::after_step).
    ///
    /// # Errors
    /// Those of the method.
    pub fn after_step(&mut self, context: &Context, synthetic: &Synthetic, lab: &Lab) -> Result<()> {
        self.call(context, &lent_synthetic(synthetic), |instance, step| {
            instance.after_step(step, synthetic, lab)
        })
    }
}

fn lent_synthetic<'a>(synthetic: &'a Synthetic) -> Vec<(&'a str, &'a Tensor)> {
    let mut lent = vec![("images", synthetic.images), ("labels", synthetic.labels)];
    lent.extend(synthetic.soft_labels.map(|soft| ("soft labels", soft)));
    lent.extend(synthetic.learnables.iter().copied());
    lent
}

fn wrong_shapes(gradients: &[Tensor], synthetic: &Synthetic) -> Option<String> {
    let learned =
        std::iter::once(synthetic.images).chain(synthetic.learnables.iter().map(|(_, tensor)| *tensor));
    let expected: Vec<_> = learned.map(Tensor::size).collect();
    let found: Vec<_> = gradients.iter().map(Tensor::size).collect();
    (expected != found).then(|| format!("gradients of shapes {found:?}, not {expected:?}"))
}
