//! `atk_*`: attacks on pixels, recorded from torchattacks. What it drew is drawn again from libtorch's generator and given
//! to the plugin.

use crate::{
    checks::{
        Checks, Examples,
        Precision::{Exact, Path, Smooth},
    },
    host::{Draws, Host, Watched},
    index::Dtype,
};
use guard_host::{network::Model, plugin::verify, random::RandomSource};
use guard_sdk::{
    Budget, Device, Kind, Network, Norm, Pass, Result, Tensor,
    autograd::{Graph, grad},
    batch::{norm_each, per_image},
};
use serde_json::{Value, json};

/// `atk_clean`: logits and flags without attack.
pub fn clean(checks: &mut Checks) -> Result<()> {
    let (model, examples) = (checks.model()?, checks.examples()?);
    let logits = model.eval_logits(&examples.images)?;
    checks.compare("logits", &logits, Smooth);
    checks.compare("correct", &right(&logits, &examples), Exact);
    Ok(())
}

/// `atk_fgsm*`.
pub fn fgsm(checks: &mut Checks) -> Result<()> {
    let attacked = Attacked::run(checks, "fgsm", &json!({}), Norm::Linf, Draws::default())?;
    attacked.compare_along_signs(checks)
}

/// `atk_pgd*`: torchattacks' PGD in the linf ball.
pub fn pgd(checks: &mut Checks) -> Result<()> {
    let random_start = starts_at_random(checks)?;
    let mut draws = Draws::default();
    if random_start {
        seed(checks);
        // `empty_like(images).uniform_(-eps, eps)` takes the same numbers off the generator.
        draws.0.push(("start", like_on_cpu(&checks.examples()?.images).uniform_(0.0, 1.0)));
    }
    let options = options(checks, random_start)?;
    Attacked::run(checks, "pgd", &options, Norm::Linf, draws)?.compare_along_signs(checks)
}

/// `atk_pgdl2*`: torchattacks' PGDL2. It divides by ‖g‖₂ + 1e-10, g of the batch-mean loss, where the product divides by
/// ‖g‖₂: what that changes is added before the comparison.
pub fn pgd_l2(checks: &mut Checks) -> Result<()> {
    let random_start = starts_at_random(checks)?;
    let mut draws = Draws::default();
    let images = checks.examples()?.images;
    let mut start = images.shallow_clone();
    if random_start {
        seed(checks);
        let direction = like_on_cpu(&images).normal_(0.0, 1.0);
        let length = Tensor::zeros([images.size()[0]], (images.kind(), Device::Cpu)).uniform_(0.0, 1.0);
        let scale = &length / norm_each(&direction) * checks.case.number("eps")?;
        let moved = (&direction * per_image(&scale)).to_device(images.device());
        start = (&images + moved).clamp(0.0, 1.0);
        draws.0.extend([("start.direction", direction), ("start.length", length)]);
    }
    let options = options(checks, random_start)?;
    let mut attacked = Attacked::run(checks, "pgd", &options, Norm::L2, draws)?;
    let with_constant = attacked.released_l2(checks, &start, 1e-10)?;
    attacked.adversarial += with_constant - attacked.released_l2(checks, &start, 0.0)?;
    attacked.compare(checks)
}

/// `atk_mifgsm*`: torchattacks' MIFGSM, which is per example.
pub fn mim(checks: &mut Checks) -> Result<()> {
    let relative_step_size = checks.case.number("alpha")? / checks.case.number("eps")?;
    let (steps, decay) = (checks.case.count("steps")?, checks.case.number("decay")?);
    let options = json!({ "steps": steps, "relative_step_size": relative_step_size, "decay": decay });
    Attacked::run(checks, "mim", &options, Norm::Linf, Draws::default())?.compare_along_signs(checks)
}

/// `atk_mim_sample*`: GUARD's steps with per-example norms.
pub fn mim_per_example(checks: &mut Checks) -> Result<()> {
    mim_in_steps_of_epsilon(checks, json!(null))
}

/// `atk_mim_guard*`: GUARD's steps with the whole batch's norm.
pub fn mim_of_guard(checks: &mut Checks) -> Result<()> {
    mim_in_steps_of_epsilon(checks, json!("guard"))
}

fn mim_in_steps_of_epsilon(checks: &mut Checks, compat: Value) -> Result<()> {
    let (steps, decay) = (checks.case.count("iters")?, checks.case.number("decay")?);
    let options = json!({ "steps": steps, "relative_step_size": 1.0, "decay": decay, "compat": compat });
    Attacked::run(checks, "mim", &options, Norm::Linf, Draws::default())?.compare_along_signs(checks)
}

fn options(checks: &Checks, random_start: bool) -> Result<Value> {
    let relative_step_size = checks.case.number("alpha")? / checks.case.number("eps")?;
    let steps = checks.case.count("steps")?;
    Ok(json!({ "steps": steps, "relative_step_size": relative_step_size, "random_start": random_start }))
}

/// Draws were recorded on the CPU: a GPU's generator gives other numbers.
fn like_on_cpu(images: &Tensor) -> Tensor {
    Tensor::empty(images.size(), (images.kind(), Device::Cpu))
}

fn seed(checks: &Checks) {
    tch::manual_seed(checks.case.count("seed").unwrap_or(0) as i64);
}

/// Whether the recorded attack did not start at the images: as the case says, else by its loss path, which begins with the
/// loss at the start, else by its name.
fn starts_at_random(checks: &mut Checks) -> Result<bool> {
    if let Ok(said) = checks.case.param("random_start") {
        return Ok(said);
    }
    let (model, examples) = (checks.model()?, checks.examples()?);
    let clean = mean_loss(&model.eval_logits(&examples.images)?, &examples)?;
    Ok(match checks.table("loss_path") {
        Ok(path) => (path.double_value(&[0]) - clean).abs() > 1e-4 * clean,
        Err(_) => checks.case.name.split('_').any(|part| part == "rs"),
    })
}

fn mean_loss(logits: &Tensor, examples: &Examples) -> Result<f64> {
    Ok(examples.batch().cross_entropy_each(logits)?.mean(logits.kind()).double_value(&[]))
}

pub fn right(logits: &Tensor, examples: &Examples) -> Tensor {
    logits.argmax(-1, false).eq_tensor(&examples.labels)
}

/// The two largest logits, or pixels of two images, are equal but for rounding if they are as near as this.
const TIE: f64 = 1e-3;

/// `flags` with the recorded ones where the decision is a tie.
pub fn settle_ties(flags: &Tensor, logits: &Tensor, recorded: &Tensor) -> Tensor {
    let largest = logits.topk(2, -1, true, true).0;
    let tie = (largest.select(1, 0) - largest.select(1, 1)).le(TIE);
    recorded.to_kind(Kind::Bool).where_self(&tie, flags)
}

fn linf_each(perturbation: &Tensor) -> Tensor {
    perturbation.abs().flatten(1, -1).amax([-1].as_slice(), false)
}

/// A case's images after the attack.
pub struct Attacked {
    model: Model,
    pub examples: Examples,
    budget: Budget,
    pub adversarial: Tensor,
    /// The mean loss before each step, and after the last.
    path: Vec<f64>,
}

impl Attacked {
    pub fn run(
        checks: &mut Checks,
        method: &str,
        options: &Value,
        norm: Norm,
        random: impl RandomSource + 'static,
    ) -> Result<Self> {
        let (model, examples) = (checks.model()?, checks.examples()?);
        // Those that look for the smallest perturbation have no ε.
        let budget = Budget { norm, epsilon: checks.case.number("eps").unwrap_or(1.0) };
        let host = Host::new(&["guard_attacks"], random)?;
        let context = host.context("evaluate");
        let mut attack = host.plugins.attack(&context, method, method, options)?;
        let watched = Watched::new(model.frozen());
        let adversarial = attack.perturb(&context, &Network::lend(&watched), &examples.batch(), &budget)?;
        let _sizes = verify(&adversarial, &examples.images, &budget, attack.info(&context)?.guarantee)?;
        let mut passes = watched.logits();
        passes.push(model.eval_logits(&adversarial)?);
        // An attack that goes on with some of the examples has no path.
        let passes = passes.iter().filter(|logits| logits.size()[0] == examples.len());
        let path = passes.map(|logits| mean_loss(logits, &examples)).collect::<Result<_>>()?;
        Ok(Self { model, examples, budget, adversarial, path })
    }

    /// Puts the clean image in the place of one that is still decided rightly: torchattacks returns that, and the product
    /// the strongest image found. What the attack did there is then compared by its flag alone.
    pub fn clean_where_it_failed(mut self) -> Result<Self> {
        let right = right(&self.model.eval_logits(&self.adversarial)?, &self.examples);
        self.adversarial = self.examples.images.where_self(&per_image(&right), &self.adversarial);
        Ok(self)
    }

    /// The clean image, too, in the place of one beyond the budget.
    pub fn clean_beyond_budget(mut self) -> Self {
        let size = linf_each(&(&self.adversarial - &self.examples.images));
        let beyond = per_image(&size.gt(self.budget.epsilon));
        self.adversarial = self.examples.images.where_self(&beyond, &self.adversarial);
        self
    }

    /// torchattacks' PGDL2 from `start`, with its constant in the division.
    fn released_l2(&self, checks: &Checks, start: &Tensor, constant: f64) -> Result<Tensor> {
        let Self { model, examples, budget, .. } = self;
        let (clean, network) = (&examples.images, model.frozen());
        let mut adversarial = start.copy();
        for _ in 0..checks.case.count("steps")? {
            let leaf = adversarial.set_requires_grad(true);
            let logits = network.forward(&leaf, Pass::new(examples.space), false)?.logits;
            let loss = examples.batch().cross_entropy_each(&logits)?.mean(logits.kind());
            let gradient = grad(&loss, &[&leaf], Graph::Free)?.remove(0);
            let direction = &gradient / per_image(&(norm_each(&gradient) + constant));
            let moved = leaf.detach() + direction * checks.case.number("alpha")? - clean;
            let factor = (norm_each(&moved).reciprocal() * budget.epsilon).clamp_max(1.0);
            adversarial = (clean + moved * per_image(&factor)).clamp(0.0, 1.0);
        }
        Ok(adversarial)
    }

    /// An attack whose images are a smooth function of the network.
    pub fn compare(&self, checks: &mut Checks) -> Result<()> {
        let measured = self.measure(checks)?;
        checks.compare("adv", &self.adversarial, Smooth);
        checks.compare("logits_adv", &measured.logits, Smooth);
        checks.compare("loss_path", &Tensor::from_slice(&self.path), Smooth);
        checks.compare("linf", &measured.linf, Smooth);
        checks.compare("l2", &measured.l2, Smooth);
        Ok(())
    }

    /// An attack that ends at the decision boundary: in float32 rounding decides on which side, and whether there is one
    /// more tiny step.
    pub fn compare_at_the_boundary(&self, checks: &mut Checks) -> Result<()> {
        if checks.case.dtype == Dtype::F64 {
            return self.compare(checks);
        }
        let logits = self.model.eval_logits(&self.adversarial)?;
        let wrong = right(&logits, &self.examples).logical_not();
        let settled = settle_ties(&wrong, &logits, checks.table("success")?);
        checks.compare("success", &settled, Exact);
        let perturbation = &self.adversarial - &self.examples.images;
        checks.compare_with("adv", &self.adversarial, Smooth, TIE);
        checks.compare_with("linf", &linf_each(&perturbation), Smooth, TIE);
        checks.compare_with("l2", &norm_each(&perturbation), Smooth, TIE);
        checks.skip("robust_acc", "the mean of flags that may be ties");
        checks.skip("logits_adv", "the images are compared with a slack, and the flags");
        Ok(())
    }

    /// An attack that steps along signs.
    pub fn compare_along_signs(&self, checks: &mut Checks) -> Result<()> {
        let measured = self.measure(checks)?;
        checks.compare("loss_path", &Tensor::from_slice(&self.path), Path);
        checks.compare("linf", &measured.linf, Path);
        let pixels = self.adversarial.numel() as i64 / self.examples.len();
        let slack = checks.slack_of_l2(pixels, self.budget.epsilon);
        checks.compare_with("l2", &measured.l2, Path, slack);
        checks.compare_images("adv", &self.adversarial);
        self.compare_logits(checks, &measured.logits)
    }

    /// What is recorded of the images, with the flags compared.
    pub fn measure(&self, checks: &mut Checks) -> Result<Measured> {
        let logits = self.model.eval_logits(&self.adversarial)?;
        let right = right(&logits, &self.examples);
        checks.compare("success", &right.logical_not(), Exact);
        // Recorded as a float32 mean in both dtypes.
        let share = right.to_kind(Kind::Double).mean(Kind::Double);
        checks.compare_with("robust_acc", &share, Smooth, f32::EPSILON.into());
        let perturbation = &self.adversarial - &self.examples.images;
        let linf = linf_each(&perturbation);
        Ok(Measured { logits, linf, l2: norm_each(&perturbation) })
    }

    /// One pixel's other sign moves all logits: in float32 they are compared at the recorded images, where there are any.
    fn compare_logits(&self, checks: &mut Checks, logits: &Tensor) -> Result<()> {
        match (checks.case.dtype, checks.own_images("adv")) {
            (Dtype::F64, _) => checks.compare("logits_adv", logits, Path),
            (Dtype::F32, Some(recorded)) => {
                let logits = self.model.eval_logits(&recorded)?;
                checks.compare("logits_adv", &logits, Smooth);
            }
            (Dtype::F32, None) => checks.skip(
                "logits_adv",
                "float32 attacks along signs are compared by flags and loss path, and the images to compute logits of are not stored",
            ),
        }
        Ok(())
    }
}

pub struct Measured {
    pub logits: Tensor,
    pub linf: Tensor,
    pub l2: Tensor,
}
