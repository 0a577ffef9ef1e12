//! The loss on real data: `cross_entropy_weight · cross-entropy + Σ weight · regularizer`. Teachers, experts and the real
//! side of gradient matching all use this one, so that any regularizer works with any objective.

use super::{
    parts::{Parts, load_method, save_method},
    schedule::Ramp,
};
use crate::{
    network::Model,
    plugin::{Context, Hosted, SharedPasses},
};
use guard_sdk::{
    Batch, Clean, Error, Kind, Mode, Network, Result, State, Tensor, abi::calls::RegularizerInstance,
    autograd::no_grad,
};
use std::cell::RefCell;
use tracing::info_span;

/// A regularizer and its weight.
pub struct WeightedRegularizer {
    /// The weight.
    pub weight: f64,
    /// The regularizer.
    pub regularizer: Hosted<RegularizerInstance>,
}

/// What the regularizers' methods remember.
///
/// # Errors
/// Those of the methods.
pub(super) fn save(regularizers: &mut [WeightedRegularizer], context: &Context) -> Result<State> {
    let mut parts = Parts::default();
    for (index, WeightedRegularizer { regularizer, .. }) in regularizers.iter_mut().enumerate() {
        parts = parts.with(index, save_method(regularizer, context)?);
    }
    Ok(parts.into())
}

/// Puts back what [`save`] saved.
///
/// # Errors
/// Those of the methods, or if the state is that of other regularizers.
pub(super) fn load(regularizers: &mut [WeightedRegularizer], context: &Context, state: State) -> Result<()> {
    let mut parts = Parts::try_from(state)?;
    for (index, WeightedRegularizer { regularizer, .. }) in regularizers.iter_mut().enumerate() {
        load_method(regularizer, context, parts.take(index)?)?;
    }
    Ok(())
}

/// One term of the loss.
pub struct Term {
    /// `cross-entropy`, or the regularizer's label.
    pub name: String,
    /// The plugin and method that made it.
    pub who: Option<String>,
    /// The bare value, a scalar.
    pub value: Tensor,
    /// What it is multiplied with.
    pub weight: f64,
}

/// The loss on real data.
pub struct TrainingLoss {
    cross_entropy_weight: f64,
    label_smoothing: f64,
    regularizers: RefCell<Vec<WeightedRegularizer>>,
    /// How each regularizer's weight goes; those that the list does not reach stay.
    ramps: Vec<Ramp>,
}

impl TrainingLoss {
    /// The loss of the given terms.
    pub fn new(
        cross_entropy_weight: f64,
        label_smoothing: f64,
        regularizers: Vec<WeightedRegularizer>,
    ) -> Self {
        Self {
            cross_entropy_weight,
            label_smoothing,
            regularizers: RefCell::new(regularizers),
            ramps: Vec::new(),
        }
    }

    /// The same with weights that change at the start, in the order of the regularizers.
    pub fn ramped(self, ramps: Vec<Ramp>) -> Self {
        Self { ramps, ..self }
    }

    /// One training step's loss, a scalar with graph to the model's parameters.
    ///
    /// The train-mode forward comes first and commits the running statistics; regularizers then see the network in eval mode
    /// with the updated statistics. Terms are recorded as `loss/<term>` and `loss/<term>/weighted`.
    ///
    /// # Errors
    /// Those of the regularizers; code `non-finite` if a term is not finite, which names it.
    pub fn step(&self, context: &Context, model: &Model, batch: &Batch) -> Result<Tensor> {
        let network = Network::lend(model);
        let passes = SharedPasses::new(&network, batch);
        if self.cross_entropy_weight == 0.0 {
            // For the running statistics alone.
            if !model.buffers().is_empty() {
                let _logits = no_grad(|| model.train_logits(batch.images, batch.space))?;
            }
            return self.total(context, &network, batch, None, passes);
        }
        let images = self.clean_images(batch);
        let logits = model.train_logits(&images, batch.space)?;
        let both = [Mode::Train, Mode::Eval];
        let modes = if model.program().same_in_both_modes() { &both[..] } else { &both[..1] };
        let passes = passes.with(batch, modes, &images, &logits)?;
        self.total(context, &network, batch, Some(&logits), passes)
    }

    /// The loss of a network at the present statistics, in eval mode throughout: the real side of gradient matching.
    ///
    /// # Errors
    /// As [`TrainingLoss::step`].
    pub fn at(&self, context: &Context, network: &Network, batch: &Batch) -> Result<Tensor> {
        let passes = SharedPasses::new(network, batch);
        if self.cross_entropy_weight == 0.0 {
            return self.total(context, network, batch, None, passes);
        }
        let images = self.clean_images(batch);
        let logits = network.logits_in(batch.space, &images)?;
        let passes = passes.with(batch, &[Mode::Eval], &images, &logits)?;
        self.total(context, network, batch, Some(&logits), passes)
    }

    /// The regularizers' terms alone, recorded as in [`TrainingLoss::step`]: what students add to a loss of their own.
    ///
    /// # Errors
    /// As [`TrainingLoss::step`].
    pub fn penalties(&self, context: &Context, model: &Model, batch: &Batch) -> Result<Option<Tensor>> {
        if self.regularizers.try_borrow().is_ok_and(|regularizers| regularizers.is_empty()) {
            return Ok(None);
        }
        let network = Network::lend(model);
        self.total(context, &network, batch, None, SharedPasses::new(&network, batch)).map(Some)
    }

    /// What its regularizers remember.
    ///
    /// # Errors
    /// Those of the methods.
    pub(super) fn save(&self, context: &Context) -> Result<State> {
        save(&mut self.regularizers.borrow_mut(), context)
    }

    /// Puts it back.
    ///
    /// # Errors
    /// Those of the methods, or if the state is that of another loss.
    pub(super) fn load(&self, context: &Context, state: State) -> Result<()> {
        load(&mut self.regularizers.borrow_mut(), context, state)
    }

    /// What the host's forward takes: images that regularizers can differentiate to, if there are any.
    fn clean_images(&self, batch: &Batch) -> Tensor {
        match self.regularizers.try_borrow().is_ok_and(|regularizers| regularizers.is_empty()) {
            true => batch.images.shallow_clone(),
            false => Clean::leaf(batch),
        }
    }

    /// The weighted sum of the terms; `logits` are the host's own, which the cross-entropy needs.
    fn total(
        &self,
        context: &Context,
        network: &Network,
        batch: &Batch,
        logits: Option<&Tensor>,
        passes: SharedPasses,
    ) -> Result<Tensor> {
        let sharing = context.plugins.sharing();
        let terms = sharing.during(passes, || self.terms(context, network, batch, logits))?;
        let mut total: Option<Tensor> = None;
        for Term { name, who, value, weight } in &terms {
            let weighted = value * *weight;
            finite(name, who.as_deref(), context, value)?;
            context.recorder.metric(&format!("loss/{name}"), value);
            context.recorder.metric(&format!("loss/{name}/weighted"), &weighted);
            total = Some(match total {
                None => weighted,
                Some(total) => total + weighted,
            });
        }
        let total = total.ok_or_else(|| {
            Error::new("the training loss has no terms")
                .help("give the cross-entropy or a regularizer a weight above 0")
        })?;
        context.recorder.metric("loss/total", &total);
        Ok(total)
    }

    fn terms(
        &self,
        context: &Context,
        network: &Network,
        batch: &Batch,
        logits: Option<&Tensor>,
    ) -> Result<Vec<Term>> {
        let mut terms = Vec::new();
        if let Some(logits) = logits {
            let _span = info_span!("term", name = "cross-entropy").entered();
            let value = self.cross_entropy(batch, logits)?;
            terms.push(Term {
                name: "cross-entropy".into(),
                who: None,
                value,
                weight: self.cross_entropy_weight,
            });
        }
        let mut regularizers = self.regularizers.try_borrow_mut().map_err(|_| {
            Error::with_code("busy", "a regularizer asked for the training loss, which would call it again")
        })?;
        for (index, WeightedRegularizer { weight, regularizer }) in regularizers.iter_mut().enumerate() {
            let ramp = self.ramps.get(index);
            let weight =
                ramp.map_or(*weight, |ramp| ramp.weight(*weight, context.iteration, context.iterations));
            let _span = info_span!("term", name = regularizer.label()).entered();
            let value = regularizer.penalty(context, network, batch)?;
            let (name, who) = (regularizer.label().to_string(), Some(regularizer.who().to_string()));
            terms.push(Term { name, who, value, weight });
        }
        Ok(terms)
    }

    fn cross_entropy(&self, batch: &Batch, logits: &Tensor) -> Result<Tensor> {
        if self.label_smoothing == 0.0 {
            return Ok(batch.cross_entropy_each(logits)?.mean(None::<Kind>));
        }
        let target = batch.soft_labels.unwrap_or(batch.labels);
        Ok(logits.f_cross_entropy_loss(
            target,
            None::<Tensor>,
            tch::Reduction::Mean,
            -100,
            self.label_smoothing,
        )?)
    }
}

/// An error with code `non-finite` that names the term, who made it and the step, unless `value` is finite.
pub(super) fn finite(term: &str, who: Option<&str>, context: &Context, value: &Tensor) -> Result<()> {
    watch(format!("`{term}`"), who, context, value)
}

/// Gradients that may be taken a step along.
pub(super) struct Gradients {
    /// Of each tensor; 0 unless all are finite.
    pub each: Vec<Tensor>,
    /// Whether all are finite, a bool scalar on the GPU, which was not waited for; none where they are.
    pub finite: Option<Tensor>,
}

/// The same for gradients, before they touch anything.
pub(super) fn finite_gradients(
    of: &str,
    who: Option<&str>,
    context: &Context,
    gradients: Vec<Tensor>,
) -> Result<Gradients> {
    no_grad(|| {
        // Anything that is not finite makes the sum not finite; one number is fetched.
        let sums: Vec<Tensor> = gradients.iter().map(|each| each.sum(Kind::Double)).collect();
        let sum = Tensor::f_stack(&sums, 0)?.f_sum(Kind::Double)?;
        watch(format!("the gradient of `{of}`"), who, context, &sum)?;
        if !context.device.is_cuda() {
            return Ok(Gradients { each: gradients, finite: None });
        }
        let finite = sum.isfinite();
        let zeroed = |each: &Tensor| -> Result<Tensor> {
            Ok(each.f_where_self(&finite, &each.f_new_zeros([], (each.kind(), each.device()))?)?)
        };
        let each = gradients.iter().map(zeroed).collect::<Result<_>>()?;
        Ok(Gradients { each, finite: Some(finite) })
    })
}

/// An error with code `non-finite` unless `value` is finite: now, or where a GPU computes it, a step later.
fn watch(what: String, who: Option<&str>, context: &Context, value: &Tensor) -> Result<()> {
    let (stage, iteration) = (context.stage.to_string(), context.iteration);
    let who = who.map_or(String::new(), |who| format!(" ({who})"));
    let otherwise = move |value: f64| {
        let message = format!("{what}{who} is {value} at iteration {iteration} of stage `{stage}`");
        Error::with_code("non-finite", message).help("lower the learning rate or the term's weight")
    };
    if context.device.is_cuda() {
        return context.recorder.watch(&value.detach(), Box::new(otherwise));
    }
    match no_grad(|| value.f_double_value(&[]))? {
        value if value.is_finite() => Ok(()),
        value => Err(otherwise(value)),
    }
}
