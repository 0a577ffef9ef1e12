//! `mtt`: a short unroll on recorded minibatches. MTT's gradients are those of the whole unroll, TESLA's those of the unroll
//! in which earlier gradients are constants: the case holds both, and how far they are apart.

use crate::{
    checks::{Checks, Precision::Smooth},
    host::Host,
    lab::RecordedLab,
};
use guard_host::{network::Model, random::RandomSource};
use guard_sdk::{
    Error, Kind, Lab, Pass, Result, Space, Synthetic, Tensor, Value,
    autograd::{Graph, grad},
    network::NetworkBackend,
    services::Draw,
};
use serde_json::json;

pub fn check(checks: &mut Checks) -> Result<()> {
    let case = Case::read(checks)?;
    let (loss, full) = case.value(checks, "mtt")?;
    checks.compare("loss", &loss, Smooth);
    checks.compare("grad_syn", &full[0], Smooth);
    checks.compare("grad_lr", &full[1], Smooth);
    let (loss, tesla) = case.value(checks, "tesla")?;
    checks.compare("loss", &loss, Smooth);
    checks.compare("tesla_grad_syn", &tesla[0], Smooth);
    checks.compare("tesla_grad_lr", &tesla[1], Smooth);

    let (reached, constant) = case.unroll_with_constant_gradients()?;
    checks.compare("theta_hat", &reached, Smooth);
    let relative = |found: &Tensor, expected: &Tensor| (found - expected).norm() / expected.norm();
    checks.compare("rel_tesla_vs_stopgrad", &relative(&tesla[0], &constant), Smooth);
    checks.compare("rel_tesla_vs_full", &relative(&tesla[0], &full[0]), Smooth);
    checks.compare("rel_lr_tesla_vs_full", &relative(&tesla[1], &full[1]), Smooth);
    let cosine = (&tesla[0] * &full[0]).sum(None::<Kind>) / (tesla[0].norm() * full[0].norm());
    checks.compare("cos_tesla_vs_full", &cosine, Smooth);
    Ok(())
}

/// The case's inputs.
struct Case {
    /// With the parameters before and after.
    start: Model,
    target: Model,
    images: Tensor,
    labels: Tensor,
    /// Positions of each step's minibatch.
    index: Vec<Vec<i64>>,
    learning_rate: f64,
}

impl Case {
    fn read(checks: &mut Checks) -> Result<Self> {
        let model = checks.model()?;
        let (start, target) =
            (bound(&model, &checks.input("theta0")?)?, bound(&model, &checks.input("theta_star")?)?);
        let index = Vec::<Vec<i64>>::try_from(checks.input("index")?)?;
        let steps = checks.case.count("K")?;
        checks.require(index.len() as u64 == steps, || format!("{steps} steps, {} minibatches", index.len()));
        Ok(Self {
            start,
            target,
            images: checks.input("syn")?.set_requires_grad(true),
            labels: checks.input("labels")?,
            index,
            learning_rate: checks.case.number("lr")?,
        })
    }

    /// The objective's loss and its gradients to images and learning rate.
    fn value(&self, checks: &Checks, name: &str) -> Result<(Tensor, Vec<Tensor>)> {
        let host = Host::new(&["guard_trajectory"], Minibatches(self.index.clone()))?;
        let mut lab = RecordedLab::new(checks.model()?, 1);
        let kind = self.images.kind();
        lab.snapshots = vec![self.start.copy(kind, true), self.target.copy(kind, true)];
        let options = json!({
            "synthetic_steps": self.index.len(),
            "expert_epochs": 1,
            "max_start_epoch": 1,
            "batch_size": self.index[0].len(),
            "minibatches": "independent",
            "augment": { "strategy": "none" },
        });
        let ids: Vec<u64> = (0..self.images.size()[0] as u64).collect();
        let rate = Tensor::from(self.learning_rate).to_kind(kind).set_requires_grad(true);
        let synthetic = Synthetic {
            images: &self.images,
            labels: &self.labels,
            soft_labels: None,
            learnables: &[("learning-rate", &rate)],
            ids: &ids,
            space: Space::Normalised,
        };
        let context = host.context("distill");
        let mut objective = host.plugins.objective(&context, name, name, &options)?;
        match objective.value(&context, &synthetic, &Lab::lend(&lab))? {
            Value::Loss(loss) => {
                let gradients = grad(&loss, &[&self.images, &rate], Graph::Free)?;
                Ok((loss.detach(), gradients))
            }
            Value::Gradients { loss, gradients } => Ok((loss, gradients)),
        }
    }

    /// θ̂ and the gradient to the images, by autograd through Σ gₙ with each gₙ at constant parameters.
    fn unroll_with_constant_gradients(&self) -> Result<(Tensor, Tensor)> {
        let flat = |tensors: &[Tensor]| {
            Tensor::cat(&tensors.iter().map(|tensor| tensor.reshape(-1)).collect::<Vec<_>>(), 0)
        };
        let (start, target) =
            (flat(self.start.parameters()).detach(), flat(self.target.parameters()).detach());
        let rate = Tensor::from(self.learning_rate).to_kind(start.kind());
        let mut parameters: Vec<Tensor> = self.start.parameters().iter().map(Tensor::detach).collect();
        let mut sum = start.zeros_like();
        for positions in &self.index {
            let rows = Tensor::from_slice(positions).to_device(start.device());
            let leaves: Vec<Tensor> =
                parameters.iter().map(|tensor| tensor.detach().set_requires_grad(true)).collect();
            let network = self.start.rebind(&leaves.iter().collect::<Vec<_>>())?;
            let images = self.images.index_select(0, &rows);
            let logits = network.pass(&images, Pass::new(Space::Normalised))?.logits;
            let labels = self.labels.index_select(0, &rows);
            let loss = logits.cross_entropy_loss(&labels, None::<Tensor>, tch::Reduction::Mean, -100, 0.0);
            let gradients = grad(&loss, &leaves.iter().collect::<Vec<_>>(), Graph::Create)?;
            sum += flat(&gradients);
            parameters = parameters
                .iter()
                .zip(&gradients)
                .map(|(parameter, gradient)| parameter - gradient.detach() * &rate)
                .collect();
        }
        let reached = &start - &sum * &rate;
        let loss =
            (&reached - &target).square().sum(None::<Kind>) / (&start - &target).square().sum(None::<Kind>);
        Ok((reached.detach(), grad(&loss, &[&self.images], Graph::Free)?.remove(0)))
    }
}

/// The network with the parameters that `flat` `[P]` holds one after the other.
fn bound(model: &Model, flat: &Tensor) -> Result<Model> {
    let mut taken = 0;
    let mut parameters = Vec::new();
    for parameter in model.parameters() {
        let count = parameter.numel() as i64;
        parameters.push(flat.f_narrow(0, taken, count)?.f_reshape(parameter.size())?);
        taken += count;
    }
    if taken != flat.numel() as i64 {
        return Err(Error::new(format!("{} values for {taken} parameters", flat.numel())));
    }
    let buffers = model.buffers().iter().map(Tensor::copy).collect();
    Model::new(model.spec(), model.spec().program()?, parameters, buffers)
}

/// Keys whose order gives the recorded minibatches; 0 for every other draw.
struct Minibatches(Vec<Vec<i64>>);

impl RandomSource for Minibatches {
    fn random(&self, _: &str, _: u64, draw: &Draw) -> Result<Tensor> {
        let shape: Vec<i64> =
            std::iter::once(draw.ids.len() as i64).chain(draw.shape.iter().copied()).collect();
        if draw.stream != "order" {
            return Ok(Tensor::zeros(&shape, (draw.kind, guard_sdk::Device::Cpu)));
        }
        let chosen = &self.0[draw.draw as usize];
        let key = |id: &u64| {
            let rank = chosen.iter().position(|&position| position as u64 == *id);
            rank.unwrap_or(chosen.len()) as f64 / 100.0
        };
        Ok(Tensor::from_slice(&draw.ids.iter().map(key).collect::<Vec<_>>()).reshape(&shape))
    }

    fn seed(&self, _: &str, _: u64) -> u64 {
        0
    }
}
