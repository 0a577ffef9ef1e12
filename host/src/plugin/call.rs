//! Every call of a plugin's method goes through here: random state seeded and put back, libtorch's state put back and
//! compared, lent tensors compared, errors named.

use super::{kept::Handles, networks::NetworkSource, registry::Plugins, services::HostServices};
use crate::random::RandomSource;
use guard_sdk::{
    AttackInfo, Batch, Budget, Device, Error, Initial, Kind, Lab, Level, Needs, Network, Result, Services,
    Space, State, Step, Synthetic, Tensor, Value,
    abi::{
        calls::{AttackInstance, ObjectiveInstance, RegularizerInstance, Stateful},
        convert::unusable,
        shim::{ProcessState, RandomState, ThreadState, equal, version},
    },
    lab::LabInfo,
};
use tracing::info_span;

/// Takes what methods report.
pub trait Recorder {
    /// A scalar tensor under a name; read later, so that the device is not waited for.
    fn metric(&self, name: &str, value: &Tensor);
    /// A scalar tensor on a GPU that must be finite. Read later, as a metric is; `otherwise` makes the error of what it is then.
    ///
    /// # Errors
    /// At once, where nothing comes later.
    fn watch(&self, value: &Tensor, otherwise: Box<dyn Fn(f64) -> Error>) -> Result<()> {
        match value.f_double_value(&[])? {
            value if value.is_finite() => Ok(()),
            value => Err(otherwise(value)),
        }
    }
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
    /// `plan`, `train`, `distill`, `relabel`, `student` or `evaluate`.
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
    /// Networks that methods may ask for by name.
    pub networks: &'a dyn NetworkSource,
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
    /// Methods that it asked for; freed after it.
    handles: Handles,
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
        let handles = Handles::new(context.plugins.kept());
        let instance = guarded(&who, &label, &handles, context, 0, &[], |step| create(&step.services))?;
        Ok(Self { who, label, instance, handles })
    }

    /// Plugin, kind and name, for messages.
    pub fn who(&self) -> &str {
        &self.who
    }

    /// Its name in logs and random streams.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// An error if libtorch's operations would not take what the method returned.
    fn usable(&self, what: &str, tensor: &Tensor) -> Result<()> {
        match unusable(tensor) {
            None => Ok(()),
            Some(problem) => {
                let message = format!("{} returned {what} that is {problem}", self.who);
                Err(Error::with_code("interface", message).help("return dense tensors on the run's device"))
            }
        }
    }

    /// `salt` tells calls of one iteration from each other for libtorch's generator.
    fn call<R>(
        &mut self,
        context: &Context,
        salt: u64,
        lent: &[(&str, &Tensor)],
        body: impl FnOnce(&mut T, &Step) -> Result<R>,
    ) -> Result<R> {
        guarded(&self.who, &self.label, &self.handles, context, salt, lent, |step| {
            body(&mut self.instance, step)
        })
    }
}

impl<T: Stateful> Hosted<T> {
    /// See [`Method::save`](guard_sdk::Method::save).
    ///
    /// # Errors
    /// Those of the method.
    pub fn save(&mut self, context: &Context) -> Result<State> {
        self.call(context, 0, &[], |instance, _| instance.save())
    }

    /// See [`Method::load`](guard_sdk::Method::load).
    ///
    /// # Errors
    /// Those of the method.
    pub fn load(&mut self, context: &Context, state: State) -> Result<()> {
        self.call(context, 0, &[], |instance, _| instance.load(state))
    }

    /// Its state, and those of the methods that it asked for, in that order; each is followed by what it asked for itself.
    ///
    /// # Errors
    /// Those of the methods.
    pub fn save_all(&mut self, context: &Context) -> Result<Vec<State>> {
        Ok([vec![self.save(context)?], self.handles.save(context)?].into_iter().flatten().collect())
    }

    /// Puts back what [`save_all`](Self::save_all) saved, which it takes from the front of `states`.
    ///
    /// # Errors
    /// Those of the methods, or if there are too few states.
    pub fn load_all(&mut self, context: &Context, states: &mut dyn Iterator<Item = State>) -> Result<()> {
        let state = states.next().ok_or_else(|| Error::new(format!("no state of {} was saved", self.who)))?;
        self.load(context, state)?;
        self.handles.load(context, states)
    }
}

/// Runs `body` with libtorch's state noted before and compared after.
fn guarded<R>(
    who: &str,
    label: &str,
    handles: &Handles,
    context: &Context,
    salt: u64,
    lent: &[(&str, &Tensor)],
    body: impl FnOnce(&Step) -> Result<R>,
) -> Result<R> {
    let _span = info_span!("plugin", who, label).entered();
    let services = HostServices { context: *context, label, handles };
    let step = Step {
        stage: context.stage,
        iteration: context.iteration,
        iterations: context.iterations,
        services: Services::lend(&services),
    };
    let before = Before::of(lent, context.plugins.checks())?;
    let result = {
        let seed = context.random.seed(label, context.iteration).wrapping_add(salt);
        let devices = || [Device::Cpu].into_iter().chain(context.device.is_cuda().then_some(context.device));
        let _random: Vec<_> =
            devices().map(|device| RandomState::seeded(device, seed)).collect::<Result<_>>()?;
        let _thread = ThreadState::save()?;
        let recording = records_graphs();
        let result = body(&step);
        if context.plugins.checks() {
            note_leaked_grad_mode(who, context.plugins, recording);
            devices().try_for_each(|device| note_draws(who, context.plugins, seed, device))?;
        }
        result
    };
    match (result, before.what_broke(who, lent)?) {
        (result, None) => result,
        (Ok(_), Some(broken)) => Err(broken),
        // The first failure comes first. Where a method that it called made the change, that one was told already.
        (Err(error), Some(broken)) if error.code == broken.code => Err(error),
        (Err(error), Some(broken)) => Err(error.cause(broken)),
    }
}

fn records_graphs() -> bool {
    (Tensor::from(1.0).set_requires_grad(true) * 1.0).requires_grad()
}

/// Notes what is put back without a word: the recording of graphs.
fn note_leaked_grad_mode(who: &str, plugins: &Plugins, recording: bool) {
    if records_graphs() != recording {
        let left = if recording { "off" } else { "on" };
        plugins.note(format!("{who} left the recording of graphs switched {left}"));
    }
}

/// Likewise the place in libtorch's stream of random numbers.
fn note_draws(who: &str, plugins: &Plugins, seed: u64, device: Device) -> Result<()> {
    let next = || Tensor::f_rand([1], (Kind::Double, device));
    let found = next()?;
    let expected = {
        let _random = RandomState::seeded(device, seed)?;
        next()?
    };
    if !equal(&found, &expected)? {
        plugins.note(format!("{who} drew from libtorch's own generator, or seeded it"));
    }
    Ok(())
}

/// What belongs to others, before a call.
struct Before {
    process: ProcessState,
    /// How often each lent tensor was written.
    versions: Vec<i64>,
    /// Whether each lent tensor requires gradients, and whether it holds one.
    gradients: Vec<(bool, bool)>,
    /// The lent tensors' values, in checked mode: a write that goes round autograd leaves the version as it is.
    values: Option<Vec<Tensor>>,
}

impl Before {
    fn of(lent: &[(&str, &Tensor)], checked: bool) -> Result<Self> {
        Ok(Self {
            process: ProcessState::now(),
            versions: lent.iter().map(|(_, tensor)| version(tensor)).collect::<Result<_>>()?,
            gradients: lent.iter().map(|(_, tensor)| gradient_state(tensor)).collect(),
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
            let (requires, holds) = self.gradients[index];
            let now = gradient_state(tensor);
            if now.0 != requires {
                let _ = tensor.set_requires_grad(requires);
                let error = Error::with_code(
                    "in-place",
                    format!("{who} changed which gradients are taken of the {name} it was lent"),
                );
                return Ok(Some(error.help("work on `tensor.detach()`")));
            }
            if now.1 && !holds {
                let error =
                    Error::with_code("in-place", format!("{who} left a gradient on the {name} it was lent"));
                return Ok(Some(
                    error.help("take gradients with `guard_sdk::autograd::grad`, not with `backward`"),
                ));
            }
        }
        Ok(None)
    }
}

fn gradient_state(tensor: &Tensor) -> (bool, bool) {
    (tensor.requires_grad(), tensor.is_leaf() && tensor.grad().defined())
}

/// Tells the batches of an iteration from each other.
fn first_id(batch: &Batch) -> u64 {
    batch.ids.first().copied().unwrap_or_default()
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
        let penalty = self.call(context, first_id(batch), &with_batch(&lent, batch), |instance, step| {
            instance.penalty(step, network, batch)
        })?;
        self.usable("a penalty", &penalty)?;
        if penalty.numel() != 1 || penalty.dim() != 0 {
            return Err(Error::new(format!(
                "{} returned a penalty of shape {:?}, not a scalar",
                self.who,
                penalty.size()
            )));
        }
        if wanted && !penalty.requires_grad() {
            return Err(Error::with_code(
                "no-graph",
                format!("{} returned a penalty without graph, which would have no effect", self.who),
            )
            .help("take gradients with `Graph::Create`, and do not detach the result"));
        }
        Ok(penalty)
    }
}

impl Hosted<AttackInstance> {
    /// See [`Attack::info`](guard_sdk::Attack::info).
    ///
    /// # Errors
    /// If the method panicked.
    pub fn info(&mut self, context: &Context) -> Result<AttackInfo> {
        self.call(context, 0, &[], |instance, _| instance.info())
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
        if batch.space != Space::Pixels {
            return Err(Error::new(format!(
                "{} attacks pixels in [0,1], and was given normalised images",
                self.who
            )));
        }
        let lent = lent_network(network)?;
        let images = self.call(context, first_id(batch), &with_batch(&lent, batch), |instance, step| {
            instance.perturb(step, network, batch, budget)
        })?;
        self.usable("a tensor of images", &images)?;
        Ok(images)
    }
}

impl Hosted<ObjectiveInstance> {
    /// See [`Objective::needs`](guard_sdk::Objective::needs).
    ///
    /// # Errors
    /// If the method panicked.
    pub fn needs(&mut self, context: &Context) -> Result<Needs> {
        self.call(context, 0, &[], |instance, _| instance.needs())
    }

    /// See [`Objective::initialise`](guard_sdk::Objective::initialise).
    ///
    /// # Errors
    /// Those of the method.
    pub fn initialise(&mut self, context: &Context, lab: &Lab) -> Result<Option<Initial>> {
        let initial = self.call(context, 0, &[], |instance, step| instance.initialise(step, lab))?;
        if let Some(Initial { images, labels }) = &initial {
            self.usable("a tensor of first images", images)?;
            self.usable("a tensor of labels", labels)?;
        }
        match initial.as_ref().and_then(|initial| wrong_initial(initial, lab.info())) {
            Some(problem) => Err(Error::new(format!("{} returned first images {problem}", self.who))),
            None => Ok(initial),
        }
    }

    /// See [`Objective::value`](guard_sdk::Objective::value).
    ///
    /// # Errors
    /// Those of the method; or if what it returned is neither a scalar with graph nor gradients of the right shapes.
    pub fn value(&mut self, context: &Context, synthetic: &Synthetic, lab: &Lab) -> Result<Value> {
        let value = self.call(context, 0, &lent_synthetic(synthetic), |instance, step| {
            instance.value(step, synthetic, lab)
        })?;
        let (Value::Loss(loss) | Value::Gradients { loss, .. }) = &value;
        self.usable("a loss", loss)?;
        if let Value::Gradients { gradients, .. } = &value {
            gradients.iter().try_for_each(|gradient| self.usable("a gradient", gradient))?;
        }
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
        self.call(context, 0, &lent_synthetic(synthetic), |instance, step| {
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

fn wrong_initial(initial: &Initial, info: &LabInfo) -> Option<String> {
    let (images, labels) = (initial.images.size(), initial.labels.size());
    if images.len() != 4 || images[1..] != info.image || labels != images[..1] || images[0] == 0 {
        return Some(format!("of shape {images:?} with labels {labels:?} for images {:?}", info.image));
    }
    if initial.labels.kind() != Kind::Int64 || !matches!(initial.images.kind(), Kind::Float | Kind::Double) {
        return Some(format!("of {:?} with labels of {:?}", initial.images.kind(), initial.labels.kind()));
    }
    let range = (initial.labels.min().int64_value(&[]), initial.labels.max().int64_value(&[]));
    if range.0 < 0 || range.1 >= info.classes {
        return Some(format!("with labels from {} to {} for {} classes", range.0, range.1, info.classes));
    }
    (initial.images.isfinite().all().int64_value(&[]) == 0).then(|| "that are not finite".to_string())
}

fn wrong_shapes(gradients: &[Tensor], synthetic: &Synthetic) -> Option<String> {
    let learnables = synthetic.learnables.iter().map(|(_, tensor)| *tensor);
    let learned = std::iter::once(synthetic.images).chain(synthetic.soft_labels).chain(learnables);
    let expected: Vec<_> = learned.map(Tensor::size).collect();
    let found: Vec<_> = gradients.iter().map(Tensor::size).collect();
    (expected != found).then(|| format!("gradients of shapes {found:?}, not {expected:?}"))
}
