//! A network on synthetic images, and the labels it learns from.

use super::{
    optimizer::OptimizerState,
    parts::Parts,
    progress::{load_network, with_network},
    student_loss::{Target, student_terms},
    train::{Trained, descend, seed_dropout, undone_on_failure},
    training_loss::{TrainingLoss, finite},
    views::{BatchView, Views},
};
use crate::{
    network::Model,
    plugin::Context,
    random::Streams,
    recipe::Student,
    run::{Checkpoint, Observer, SoftLabels},
};
use guard_sdk::{Batch, Kind, Result, Space, Tensor, sent};

/// What a student learns from.
pub enum LabelSource<'a> {
    /// The images' classes.
    Hard,
    /// Class probabilities `[N,K]` that the objective learned with the images.
    Learned(&'a Tensor),
    /// The teacher's logits of the images as they are, `[N,K]`, mixed as the images are.
    Soft(&'a Tensor),
    /// The teacher's logits of each batch as the student sees it.
    Online(Model),
    /// The same, computed beforehand. The views are then those that the labels were made of, the same for all students.
    Stored(SoftLabels),
}

/// What training a student takes besides the network.
pub struct StudentTrainer<'a> {
    /// What it sees; its settings are in there.
    pub views: Views<'a>,
    /// int64 `[N]`.
    pub labels: &'a Tensor,
    /// Number of classes, K.
    pub classes: i64,
    /// What it learns from.
    pub source: &'a LabelSource<'a>,
    /// T of the softmax on both sides, where labels are soft.
    pub temperature: f64,
    /// What is added to the loss, by its regularizers.
    pub penalties: &'a TrainingLoss,
    /// Dropout.
    pub streams: Streams,
    /// Watches.
    pub observer: &'a dyn Observer,
}

impl StudentTrainer<'_> {
    /// Trains `model`. A failure leaves it as it was before the failing step.
    pub fn run(&self, model: Model, context: &Context) -> Trained {
        let failure = self.epochs(&model, context).err();
        Trained { model, failure }
    }

    fn epochs(&self, model: &Model, context: &Context) -> Result<()> {
        let student = self.views.student;
        let mut optimizer = OptimizerState::new(&student.optimizer);
        let begin = match self.observer.resumed() {
            Some(Checkpoint { iteration, state }) => {
                let mut parts = Parts::try_from(state)?;
                load_network(&mut parts, model, &mut optimizer)?;
                self.penalties.load(context, parts.take("penalties")?)?;
                iteration
            }
            None => 0,
        };
        let per_epoch = self.views.per_epoch();
        let iterations = per_epoch * student.epochs as u64;
        for epoch in begin.checked_div(per_epoch).unwrap_or(0)..student.epochs as u64 {
            let order = (epoch * per_epoch..).zip(self.views.order(epoch));
            for (iteration, positions) in order.skip_while(|(iteration, _)| *iteration < begin) {
                self.observer.iteration(iteration, iterations);
                let context = context.at(iteration, iterations);
                self.observer.checkpoint(iteration, &mut || {
                    let parts = with_network(model, &optimizer);
                    Ok(parts.with("penalties", self.penalties.save(&context)?).into())
                })?;
                let step = || self.step(model, &mut optimizer, &positions, epoch, &context);
                undone_on_failure(model, step)?;
            }
        }
        self.observer.settled()
    }

    fn step(
        &self,
        model: &Model,
        optimizer: &mut OptimizerState,
        positions: &[i64],
        epoch: u64,
        context: &Context,
    ) -> Result<Option<Tensor>> {
        seed_dropout(&self.streams, context);
        let view = self.views.batch(epoch, context.iteration, positions)?;
        let logits = model.train_logits(&view.images, Space::Pixels)?;
        let student: &Student = self.views.student;
        let target = self.target(&view, positions, epoch, logits.kind())?;
        let terms = student_terms(student, &logits, &target)?;
        let mut total: Option<Tensor> = None;
        for (name, value, weight) in &terms {
            if terms.len() > 1 {
                context.recorder.metric(&format!("loss/student/{name}"), value);
            }
            let weighted = if *weight == 1.0 { value.shallow_clone() } else { value * *weight };
            total = Some(match total {
                None => weighted,
                Some(total) => total + weighted,
            });
        }
        let mut loss = total.ok_or_else(|| guard_sdk::Error::new("the students' loss has no terms"))?;
        finite("loss/student", None, context, &loss)?;
        context.recorder.metric("loss/student", &loss);
        let ids: Vec<u64> = positions.iter().map(|&position| position as u64).collect();
        let classes = self.labels.f_index_select(0, &view.positions)?;
        let batch = Batch { soft_labels: Some(&target.hard), ..Batch::pixels(&view.images, &classes, &ids) };
        if let Some(penalties) = self.penalties.penalties(context, model, &batch)? {
            loss = loss.f_add(&penalties)?;
        }
        let rate = student.schedule.rate(context.iteration, context.iterations);
        descend(model, "loss/student", &loss, optimizer, rate, context)
    }

    fn target(&self, view: &BatchView, in_order: &[i64], epoch: u64, kind: Kind) -> Result<Target> {
        let BatchView { positions, images, mix } = view;
        let probabilities = |logits: Tensor| (logits / self.temperature).softmax(-1, None::<Kind>);
        let soft = match self.source {
            LabelSource::Hard | LabelSource::Learned(_) => None,
            LabelSource::Soft(logits) => {
                Some(mix.labels(&probabilities(logits.f_index_select(0, positions)?))?)
            }
            LabelSource::Online(teacher) => Some(probabilities(teacher.eval_logits(images)?)),
            LabelSource::Stored(labels) => {
                // They lie on the CPU.
                let logits = labels.logits(epoch as i64, &Tensor::from_slice(in_order))?;
                Some(probabilities(sent(&logits.f_to_kind(kind)?, images.device())?))
            }
        };
        let classes = match self.source {
            LabelSource::Learned(probabilities) => probabilities.f_index_select(0, positions)?,
            _ => self.labels.f_index_select(0, positions)?.f_one_hot(self.classes)?.f_to_kind(kind)?,
        };
        Ok(Target { soft: soft.map(|soft| (soft, self.temperature)), hard: mix.labels(&classes)? })
    }
}
