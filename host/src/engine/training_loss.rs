//! The loss on real data: `cross_entropy_weight · cross-entropy + Σ weight · regularizer`. Teachers, experts and the real
//! side of gradient matching all use this one, so that any regularizer works with any objective.

use crate::{
    network::Model,
    plugin::{Context, Hosted},
};
use guard_sdk::{
    Batch, Error, Kind, Network, Result, Tensor, abi::calls::RegularizerInstance, autograd::no_grad,
};
use std::cell::RefCell;

/// A regularizer and its weight.
pub struct WeightedRegularizer {
    /// The weight.
    pub weight: f64,
    /// The regularizer.
    pub regularizer: Hosted<RegularizerInstance>,
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
}

impl TrainingLoss {
    /// The loss of the given terms.
    pub fn new(
        cross_entropy_weight: f64,
        label_smoothing: f64,
        regularizers: Vec<WeightedRegularizer>,
    ) -> Self {
        Self { cross_entropy_weight, label_smoothing, regularizers: RefCell::new(regularizers) }
    }

    /// One training step's loss, a scalar with graph to the model's parameters.
    ///
    /// The train-mode forward comes first and commits the running statistics; regularizers then see the network in eval mode
    /// with the updated statistics. Terms are recorded as `loss/<term>` and `loss/<term>/weighted`.
    ///
    /// # Errors
    /// Those of the regularizers; code `non-finite` if a term is not finite, which names it.
    pub fn step(&self, context: &Context, model: &Model, batch: &Batch) -> Result<Tensor> {
        let logits = model.train_logits(batch.images, batch.space)?;
        self.total(context, &Network::lend(model), batch, &logits)
    }

    /// The loss of a network at the present statistics, in eval mode throughout: the real side of gradient matching.
    ///
    /// # Errors
    /// As [`TrainingLoss::step`].
    pub fn at(&self, context: &Context, network: &Network, batch: &Batch) -> Result<Tensor> {
        let logits = network.logits_in(batch.space, batch.images)?;
        self.total(context, network, batch, &logits)
    }

    fn total(&self, context: &Context, network: &Network, batch: &Batch, logits: &Tensor) -> Result<Tensor> {
        let terms = self.terms(context, network, batch, logits)?;
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
        logits: &Tensor,
    ) -> Result<Vec<Term>> {
        let mut terms = Vec::new();
        if self.cross_entropy_weight > 0.0 {
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
        for WeightedRegularizer { weight, regularizer } in regularizers.iter_mut() {
            let value = regularizer.penalty(context, network, batch)?;
            let (name, who) = (regularizer.label().to_string(), Some(regularizer.who().to_string()));
            terms.push(Term { name, who, value, weight: *weight });
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
    let value = no_grad(|| value.f_double_value(&[]))?;
    if value.is_finite() {
        Ok(())
    } else {
        Err(non_finite(&format!("`{term}`"), who, context, &value.to_string()))
    }
}

/// The same for gradients, before they touch anything.
pub(super) fn finite_gradients(
    of: &str,
    who: Option<&str>,
    context: &Context,
    gradients: &[Tensor],
) -> Result<()> {
    let sum = no_grad(|| -> Result<f64> {
        // Anything that is not finite makes the sum not finite; one number is fetched.
        let sums: Vec<Tensor> = gradients.iter().map(|each| each.sum(Kind::Double)).collect();
        Ok(Tensor::f_stack(&sums, 0)?.f_sum(Kind::Double)?.f_double_value(&[])?)
    })?;
    if sum.is_finite() {
        Ok(())
    } else {
        Err(non_finite(&format!("the gradient of `{of}`"), who, context, "not finite"))
    }
}

fn non_finite(what: &str, who: Option<&str>, context: &Context, value: &str) -> Error {
    let (stage, iteration) = (context.stage, context.iteration);
    let who = who.map_or(String::new(), |who| format!(" ({who})"));
    Error::with_code(
        "non-finite",
        format!("{what}{who} is {value} at iteration {iteration} of stage `{stage}`"),
    )
    .help("lower the learning rate or the term's weight")
}
