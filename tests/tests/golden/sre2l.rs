//! `sre2l_loss` and `sre2l_steps`: the objective `sre2l` without augmentation, and the host's steps with it.

use crate::{
    checks::{Checks, Examples, Precision::Smooth},
    host::{Draws, Host},
};
use guard_host::{
    data::Split,
    engine::{HostLab, ImageGroup, Room, TrainingLoss},
    network::Model,
    plugin::{Context, Hosted},
    random::Streams,
    recipe::{Adam, Optimizer, Schedule},
};
use guard_sdk::{
    Device, Error, Kind, Lab, Needs, Pass, Result, Synthetic, Tensor, Value,
    abi::calls::ObjectiveInstance,
    autograd::{Graph, grad},
    lab::LabInfo,
    network::NetworkBackend,
};
use serde_json::json;

/// Cross-entropy and distance of the statistics, with the gradient to the images.
pub fn loss(checks: &mut Checks) -> Result<()> {
    let recovery = Recovery::new(checks, "images")?;
    let Examples { images, labels, ids, space } = &recovery.examples;
    let context = recovery.host.context("distill");
    let mut objective = recovery.objective(&context, checks)?;
    let images = images.copy().set_requires_grad(true);
    let synthetic =
        Synthetic { images: &images, labels, soft_labels: None, learnables: &[], ids, space: *space };

    let needs = objective.needs(&context)?;
    let total = recovery.with_room(&needs, |room| {
        match objective.value(&context, &synthetic, &Lab::lend(&HostLab { room, context }))? {
            Value::Loss(loss) => Ok(loss),
            Value::Gradients { .. } => Err(Error::new("sre2l returned gradients and no loss")),
        }
    })?;
    checks.compare("total", &total, Smooth);
    checks.compare("grad_images", &grad(&total, &[&images], Graph::Free)?[0], Smooth);
    checks.compare("logits", &recovery.teacher.forward(&images, Pass::new(*space), false)?.logits, Smooth);

    let recording = &recovery.host.recording;
    checks.compare("ce", &recording.metric("sre2l/cross-entropy"), Smooth);
    checks.compare("bn_weighted", &recording.metric("sre2l/batch-norm"), Smooth);
    let layers: Vec<String> = checks.case.param("order_of_layer_losses")?;
    let each: Vec<_> =
        layers.iter().map(|layer| recording.metric(&format!("sre2l/batch-norm/{layer}"))).collect();
    checks.compare("bn_each", &Tensor::stack(&each, 0), Smooth);
    let found = &NetworkBackend::info(&recovery.teacher).batch_norm;
    checks.require(*found == layers, || format!("the layers come in the order {found:?}, golden {layers:?}"));
    Ok(())
}

/// Losses before, and images after, each of the optimiser's steps.
pub fn steps(checks: &mut Checks) -> Result<()> {
    let recovery = Recovery::new(checks, "images0")?;
    let Examples { images, labels, ids, .. } = &recovery.examples;
    let context = recovery.host.context("distill");
    let mut objective = recovery.objective(&context, checks)?;
    let needs = objective.needs(&context)?;
    let learning_rate = checks.case.number("lr")?;
    let optimizer = Optimizer::Adam(Adam {
        learning_rate,
        betas: checks.case.param("betas")?,
        epsilon: checks.case.number("eps")?,
        weight_decay: 0.0,
    });
    let mut group = ImageGroup::new(recovery.teacher.spec(), &needs, &optimizer, images, labels, ids.clone());
    let iterations = checks.case.count("steps")?;
    for iteration in 0..iterations {
        let rate = Schedule::Cosine.rate(iteration, iterations);
        let context = context.at(iteration, iterations);
        let loss =
            recovery.with_room(&needs, |room| group.step(&context, &mut objective, &mut [], room, rate))?;
        checks.compare(&format!("loss{iteration}"), &loss, Smooth);
        checks.compare(&format!("lr{iteration}"), &Tensor::from(rate * learning_rate), Smooth);
        checks.compare(&format!("images{}", iteration + 1), &group.images(), Smooth);
    }
    Ok(())
}

/// A teacher and the first images.
struct Recovery {
    host: Host,
    teacher: Model,
    examples: Examples,
}

impl Recovery {
    fn new(checks: &mut Checks, first: &str) -> Result<Self> {
        let teacher = checks.model()?;
        let examples = Examples::new(checks.input(first)?, checks.input("labels")?, checks.case.space()?);
        let first_layer: String = checks.case.param("first_bn")?;
        let found = NetworkBackend::info(&teacher).batch_norm.first().cloned();
        checks.require(found.as_ref() == Some(&first_layer), || {
            format!("the first BatchNorm layer is {found:?}, golden `{first_layer}`")
        });
        Ok(Self { host: Host::new(&["guard_sre2l"], Draws::default())?, teacher, examples })
    }

    fn objective(&self, context: &Context, checks: &Checks) -> Result<Hosted<ObjectiveInstance>> {
        let options = json!({
            "batch_norm_weight": checks.case.number("r_bn")?,
            "first_layer_weight": checks.case.number("first_bn_multiplier")?,
            "augment": "none",
        });
        self.host.plugins.objective(context, "sre2l", "sre2l", &options)
    }

    /// Calls `body` with the room of an objective that needs a teacher and no real images.
    fn with_room<T>(&self, needs: &Needs, body: impl FnOnce(&Room) -> Result<T>) -> Result<T> {
        if needs.space != self.examples.space {
            return Err(Error::new(format!(
                "sre2l works in {:?}, the case in {:?}",
                needs.space, self.examples.space
            )));
        }
        let spec = self.teacher.spec();
        let [channels, height, width] = spec.input;
        let nothing = Tensor::zeros([0, channels, height, width], (Kind::Float, Device::Cpu));
        let split = Split::in_memory(&nothing, Vec::new())?;
        let info = LabInfo {
            classes: spec.classes,
            images_per_class: 1,
            image: spec.input,
            real_images: Vec::new(),
        };
        let loss = TrainingLoss::new(1.0, 0.0, Vec::new());
        let streams = Streams::new(0);
        let (teacher, split, loss) = (Some(&self.teacher), &split, &loss);
        body(&Room { info, needs, spec, teacher, experts: None, split, loss, streams })
    }
}
