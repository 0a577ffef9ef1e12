//! One call of a method of any kind, as a host makes it, and what came of it as tensors.

use super::{room::Room, subject::Subject};
use crate::plugin::{Context, Hosted, verify};
use guard_sdk::{
    Batch, Budget, Error, Lab, Network, Norm, Result, State, Tensor, Value,
    abi::calls::{AttackInstance, ObjectiveInstance, RegularizerInstance},
    autograd::{Graph, grad_if_used},
    manifest::Kind,
    objective::Needs,
    testing::{SmallLab, SyntheticSet},
};

/// How far attacks may go where a test does not say otherwise.
pub const EPSILON: f64 = 0.1;

/// What requires gradients when a penalty is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Regime {
    /// The network's parameters.
    Training,
    /// The images.
    Distillation,
}

/// A method that was made.
pub struct Made<'a> {
    subject: &'a Subject,
    room: &'a Room,
    method: Method,
}

enum Method {
    Objective(Hosted<ObjectiveInstance>),
    Regularizer(Hosted<RegularizerInstance>),
    Attack(Hosted<AttackInstance>),
}

impl<'a> Made<'a> {
    pub(super) fn new(subject: &'a Subject, room: &'a Room, options: &serde_json::Value) -> Result<Self> {
        let context = room.context(&subject.plugins, "plan");
        let (plugins, name, label) = (&subject.plugins, &subject.full_name, &subject.entry.name);
        let method = match subject.entry.kind {
            Kind::Objective => Method::Objective(plugins.objective(&context, name, label, options)?),
            Kind::Regularizer => Method::Regularizer(plugins.regularizer(&context, name, label, options)?),
            Kind::Attack => Method::Attack(plugins.attack(&context, name, label, options)?),
        };
        Ok(Self { subject, room, method })
    }

    /// What the method makes of the room's images in an iteration, whatever its kind: adversarial images; a penalty and its
    /// gradients; the first images, a loss and its gradients. All of it is finite.
    ///
    /// # Errors
    /// Those of the method; or if what it returned is not what its kind returns.
    pub fn call(&mut self, iteration: u64) -> Result<Vec<Tensor>> {
        let found = match self.subject.entry.kind {
            Kind::Attack => {
                let norm = self.norm()?;
                vec![self.attack(&Budget { norm, epsilon: EPSILON })?]
            }
            Kind::Objective => self.distil(iteration)?,
            Kind::Regularizer => match self.penalise(Regime::Training, iteration) {
                Err(error) if error.code == "no-graph" => self.penalise(Regime::Distillation, iteration)?,
                outcome => outcome?,
            },
        };
        match found.iter().all(|tensor| tensor.isfinite().all().int64_value(&[]) == 1) {
            true => Ok(found),
            false => Err(Error::new("returned numbers that are not finite")),
        }
    }

    /// Images within `budget` or, for an attack that promises no more, within [0,1].
    ///
    /// # Errors
    /// Those of the method; or if the host would refuse the images.
    pub fn attack(&mut self, budget: &Budget) -> Result<Tensor> {
        let context = self.context(0, 1);
        let Method::Attack(attack) = &mut self.method else { return Err(wrong_kind()) };
        let (network, batch) = (self.room.examples.network(), self.room.examples.batch());
        let images = attack.perturb(&context, &network, &batch, budget)?;
        let guarantee = attack.info(&context)?.guarantee;
        let _sizes = verify(&images, batch.images, budget, guarantee)?;
        Ok(images)
    }

    /// The norms that an attack is defined for.
    ///
    /// # Errors
    /// If it does not say.
    pub fn norms(&mut self) -> Result<Vec<Norm>> {
        let context = self.context(0, 1);
        let Method::Attack(attack) = &mut self.method else { return Err(wrong_kind()) };
        Ok(attack.info(&context)?.norms)
    }

    fn norm(&mut self) -> Result<Norm> {
        self.norms()?.first().copied().ok_or_else(|| Error::new("is defined for no norm"))
    }

    /// A regularizer's bare penalty.
    ///
    /// # Errors
    /// Those of the method.
    pub fn penalty(&mut self, network: &Network, batch: &Batch, iteration: u64) -> Result<Tensor> {
        let context = self.context(iteration, 10);
        let Method::Regularizer(regularizer) = &mut self.method else { return Err(wrong_kind()) };
        regularizer.penalty(&context, network, batch)
    }

    fn penalise(&mut self, regime: Regime, iteration: u64) -> Result<Vec<Tensor>> {
        let (examples, training) = (&self.room.examples, regime == Regime::Training);
        let model = examples.model.copy(training);
        let images = examples.images.detach().set_requires_grad(!training);
        let batch = Batch { images: &images, ..examples.batch() };
        let penalty = self.penalty(&Network::lend(&model), &batch, iteration)?;
        let learned: Vec<&Tensor> =
            if training { model.parameters().iter().collect() } else { vec![&images] };
        let gradients = grad_if_used(&penalty, &learned, Graph::Free)?;
        Ok(std::iter::once(penalty.detach()).chain(gradients.into_iter().flatten()).collect())
    }

    /// What an objective needs.
    ///
    /// # Errors
    /// If it does not say.
    pub fn needs(&mut self) -> Result<Needs> {
        let context = self.context(0, 0);
        let Method::Objective(objective) = &mut self.method else { return Err(wrong_kind()) };
        objective.needs(&context)
    }

    /// The set that an objective would be given first, and whether it made the images itself.
    ///
    /// # Errors
    /// Those of the method.
    pub fn first_set(&mut self, lab: &SmallLab, needs: &Needs) -> Result<(SyntheticSet, bool)> {
        let context = self.context(0, needs.iterations);
        let Method::Objective(objective) = &mut self.method else { return Err(wrong_kind()) };
        let initial = objective.initialise(&context, &Lab::lend(lab))?;
        let own = initial.is_some();
        Ok((SyntheticSet::new(lab, needs, initial)?, own))
    }

    /// An objective's loss or gradients.
    ///
    /// # Errors
    /// Those of the method.
    pub fn value(
        &mut self,
        lab: &SmallLab,
        set: &SyntheticSet,
        iteration: u64,
        iterations: u64,
    ) -> Result<Value> {
        let context = self.context(iteration, iterations);
        let Method::Objective(objective) = &mut self.method else { return Err(wrong_kind()) };
        set.lend(|synthetic| objective.value(&context, synthetic, &Lab::lend(lab)))
    }

    fn distil(&mut self, iteration: u64) -> Result<Vec<Tensor>> {
        let needs = self.needs()?;
        let lab = SmallLab::new(self.room.input, self.room.kind, &needs);
        let (set, own) = self.first_set(&lab, &needs)?;
        let mut found: Vec<Tensor> = own.then(|| set.images.detach()).into_iter().collect();
        if needs.iterations == 0 {
            return match own || needs.given_set {
                true => Ok(found),
                false => Err(Error::new("optimises nothing and makes no images either")),
            };
        }
        match self.value(&lab, &set, iteration, needs.iterations)? {
            Value::Loss(loss) => {
                let learned = set.learned();
                let gradients = grad_if_used(&loss, &learned.iter().collect::<Vec<_>>(), Graph::Free)?;
                found.push(loss.detach());
                found.extend(gradients.into_iter().flatten());
            }
            Value::Gradients { loss, gradients } => {
                found.push(loss.detach());
                found.extend(gradients);
            }
        }
        let context = self.context(iteration, needs.iterations);
        let Method::Objective(objective) = &mut self.method else { return Err(wrong_kind()) };
        set.lend(|synthetic| objective.after_step(&context, synthetic, &Lab::lend(&lab)))?;
        Ok(found)
    }

    /// See [`guard_sdk::Method::save`].
    ///
    /// # Errors
    /// Those of the method.
    pub fn save(&mut self) -> Result<State> {
        let context = self.context(0, 1);
        match &mut self.method {
            Method::Objective(method) => method.save(&context),
            Method::Regularizer(method) => method.save(&context),
            Method::Attack(method) => method.save(&context),
        }
    }

    /// See [`guard_sdk::Method::load`].
    ///
    /// # Errors
    /// Those of the method.
    pub fn load(&mut self, state: State) -> Result<()> {
        let context = self.context(0, 1);
        match &mut self.method {
            Method::Objective(method) => method.load(&context, state),
            Method::Regularizer(method) => method.load(&context, state),
            Method::Attack(method) => method.load(&context, state),
        }
    }

    fn context(&self, iteration: u64, iterations: u64) -> Context<'a> {
        let stage = match self.subject.entry.kind {
            Kind::Objective => "distill",
            Kind::Regularizer => "train",
            Kind::Attack => "evaluate",
        };
        self.room.context(&self.subject.plugins, stage).at(iteration, iterations)
    }
}

fn wrong_kind() -> Error {
    Error::new("the test is for another kind of method")
}
