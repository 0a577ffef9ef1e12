//! The stages in order, for every variant: train → distill → relabel → evaluate. Variants share their seeds.

use super::{
    Distiller, EvalOnly, Evaluation, Evaluator, LabelSource, Room, Stopped, StudentTrainer, Trained, Trainer,
    TrainingLoss, WeightedRegularizer, accuracy,
    experts::{ExpertFolder, ExpertManifest, ExpertTrainer},
};
use crate::{
    data::{DataInfo, Dataset, Skipped},
    network::Model,
    plan::{Plan, PluginLock, VariantPlan},
    plugin::{Context, Plugins, Recorder},
    random::Streams,
    recipe::{Distill, EvaluationSplit, Labels, RegularizerUse, Student, Training},
    run::{DistilledManifest, Journal, RunDirectory, StageLog, write_atomically, write_distilled},
};
use guard_sdk::{Device, Error, Result, Tensor, lab::LabInfo, objective::Networks};
use serde_json::Value;
use std::path::Path;

/// The learnable that students take their learning rate from.
const LEARNED_RATE: &str = "learning-rate";

/// What a run found.
pub struct RunResults {
    /// The data set.
    pub dataset: String,
    /// Number of images that were evaluated on.
    pub images: usize,
    /// `test` or `validation`.
    pub split: &'static str,
    /// Files of the data set that were left out because they cannot be used.
    pub skipped: Vec<Skipped>,
    /// Of each variant.
    pub variants: Vec<VariantResults>,
}

/// What one variant found.
pub struct VariantResults {
    /// The variant.
    pub name: String,
    /// Of the network trained on real data.
    pub teacher: Option<Evaluation>,
    /// Of the networks trained on synthetic data.
    pub students: Vec<StudentResult>,
}

/// What one student found.
pub struct StudentResult {
    /// The student's number, from 0.
    pub number: u64,
    /// What it found.
    pub evaluation: Evaluation,
}

/// Everything a run takes.
pub struct Pipeline<'a> {
    /// What to do.
    pub plan: &'a Plan,
    /// The plugins.
    pub plugins: &'a Plugins,
    /// The data.
    pub data: &'a Dataset,
    /// Where results go.
    pub directory: &'a RunDirectory,
    /// Progress and metrics.
    pub journal: &'a Journal,
    /// BLAKE3 of the recipe as given.
    pub recipe_blake3: String,
    /// Where tensors live.
    pub device: Device,
}

impl Pipeline<'_> {
    /// Runs every variant.
    ///
    /// # Errors
    /// The first failure. What was written before stays.
    pub fn run(&self) -> Result<RunResults> {
        let variants = self.plan.variants.iter().map(|variant| VariantRun { pipeline: self, variant }.run());
        Ok(RunResults {
            dataset: self.plan.data.name.clone(),
            images: self.data.test.len(),
            split: match self.plan.variants[0].recipe.evaluate.split {
                EvaluationSplit::Test => "test",
                EvaluationSplit::Validation => "validation",
            },
            skipped: self.data.skipped.clone(),
            variants: variants.collect::<Result<_>>()?,
        })
    }
}

struct VariantRun<'a> {
    pipeline: &'a Pipeline<'a>,
    variant: &'a VariantPlan,
}

impl VariantRun<'_> {
    fn run(&self) -> Result<VariantResults> {
        let folder = self.pipeline.directory.variant(self.pipeline.plan, &self.variant.name);
        let loss = self.training_loss()?;
        let teacher = if self.variant.trains_teacher { Some(self.train(&loss, &folder)?) } else { None };
        let mut results =
            VariantResults { name: self.variant.name.clone(), teacher: None, students: Vec::new() };
        if let Some(teacher) = &teacher {
            results.teacher = Some(self.evaluate(teacher, "evaluate teacher")?);
        }
        if let Some(distill) = &self.variant.recipe.distill {
            let set = self.distill(&folder, distill, teacher.as_ref(), &loss)?;
            let logits = self.relabel(&set.images, teacher.as_ref())?;
            self.write_set(&folder.join("distilled"), distill, &set, logits.as_ref())?;
            for number in 0..self.variant.recipe.student.count as u64 {
                let student = self.student(&folder, number, &set, logits.as_ref(), teacher.as_ref())?;
                let evaluation = self.evaluate(&student, &format!("evaluate student {}", number + 1))?;
                results.students.push(StudentResult { number, evaluation });
            }
        }
        Ok(results)
    }

    fn streams(&self, stage: &str) -> Streams {
        Streams::new(self.pipeline.plan.seed).named(stage)
    }

    fn log<'b>(&'b self, stage: &'b str) -> StageLog<'b> {
        self.pipeline.journal.stage(&self.variant.name, stage)
    }

    fn context<'b>(
        &'b self,
        stage: &'b str,
        streams: &'b Streams,
        recorder: &'b dyn Recorder,
    ) -> Context<'b> {
        let (plugins, device) = (self.pipeline.plugins, self.pipeline.device);
        Context { stage, iteration: 0, iterations: 0, random: streams, recorder, plugins, device }
    }

    fn regularizers(&self, stage: &str, uses: &[RegularizerUse]) -> Result<Vec<WeightedRegularizer>> {
        let streams = self.streams(stage);
        let context = self.context(stage, &streams, &crate::plugin::Silent);
        uses.iter()
            .enumerate()
            .map(|(index, each)| {
                // Two of a kind are told apart by their place.
                let label = match uses.iter().filter(|other| other.method == each.method).count() {
                    1 => each.method.clone(),
                    _ => format!("{}-{}", each.method, index + 1),
                };
                let options = Value::Object(each.options.clone());
                let regularizer =
                    self.pipeline.plugins.regularizer(&context, &each.method, &label, &options)?;
                Ok(WeightedRegularizer { weight: each.weight, regularizer })
            })
            .collect()
    }

    fn training_loss(&self) -> Result<TrainingLoss> {
        let training = &self.variant.recipe.training;
        let regularizers = self.regularizers("train", &training.regularizers)?;
        Ok(TrainingLoss::new(training.cross_entropy_weight, training.label_smoothing, regularizers))
    }

    fn train(&self, loss: &TrainingLoss, folder: &Path) -> Result<Model> {
        let (log, streams) = (self.log("train"), self.streams("train"));
        let fresh = Model::fresh(&self.variant.network, &streams.named("network"), self.pipeline.device)?;
        let trainer = Trainer {
            split: &self.pipeline.data.train,
            training: &self.variant.recipe.training,
            loss,
            streams: streams.clone(),
            observer: &log,
        };
        let trained = trainer.run(fresh, &self.context("train", &streams, &log));
        keep(trained, &folder.join("checkpoints"), "teacher", &log, self.variant.recipe.training.epochs)
    }

    /// The expert trajectories: those of the folder, and what is missing.
    fn experts(&self, folder: &Path, loss: &TrainingLoss) -> Result<ExpertFolder> {
        let (log, streams) = (self.log("experts"), self.streams("experts"));
        let recipe = &self.variant.recipe;
        let data = self.pipeline.data;
        let manifest = ExpertManifest {
            dataset: self.pipeline.plan.data.name.clone(),
            images: data.train.len() as u64,
            network: self.variant.network.clone(),
            training: Training { epochs: recipe.experts.epochs, ..recipe.training.clone() },
        };
        let place = recipe.experts.folder.clone().unwrap_or_else(|| folder.join("experts"));
        let experts = ExpertFolder::prepare(&place, &manifest)?;
        let trainer = ExpertTrainer {
            split: &data.train,
            held_out: &data.test,
            loss,
            streams: streams.clone(),
            observer: &log,
        };
        let count = recipe.experts.count as u64;
        let trained = trainer.run(&experts, count, &self.context("experts", &streams, &log))?;
        log.finish(&format!("{count} of {} epochs, {trained} trained now", recipe.experts.epochs))?;
        Ok(experts)
    }

    fn distill(
        &self,
        folder: &Path,
        distill: &Distill,
        teacher: Option<&Model>,
        loss: &TrainingLoss,
    ) -> Result<super::SyntheticSet> {
        let VariantPlan { distillation, network, .. } = self.variant;
        let distillation = distillation.as_ref().ok_or_else(|| Error::new("the plan has no distillation"))?;
        let wanted = distillation.needs.networks == Networks::Experts;
        let experts = wanted.then(|| self.experts(folder, loss)).transpose()?;
        let (log, streams) = (self.log("distill"), self.streams("distill"));
        let context = self.context("distill", &streams, &log);
        let options = Value::Object(distill.options.clone());
        let mut objective =
            self.pipeline.plugins.objective(&context, &distill.objective, &distill.objective, &options)?;
        let DataInfo { classes, image, .. } = &self.pipeline.plan.data;
        let split = &self.pipeline.data.train;
        let room = Room {
            info: LabInfo {
                classes: classes.len() as i64,
                images_per_class: distill.images_per_class as i64,
                image: *image,
                real_images: split.class_counts(classes.len()),
            },
            needs: &distillation.needs,
            spec: network,
            teacher,
            experts: experts.as_ref().map(|experts| (experts, self.variant.recipe.experts.count as u64)),
            split,
            loss,
            streams: streams.clone(),
        };
        let distiller = Distiller {
            room: &room,
            start: distillation.start.clone(),
            iterations: distillation.iterations * distillation.steps_per_iteration,
            optimizer: distillation.optimizer.clone(),
            schedule: distillation.schedule,
            streams: streams.clone(),
            observer: &log,
        };
        let mut regularizers = self.regularizers("distill", &distill.regularizers)?;
        let set = distiller.run(&context, &mut objective, &mut regularizers).map_err(|stopped| {
            let Stopped { failure, last_good } = *stopped;
            let Some(set) = last_good else { return failure };
            let path = folder.join("distilled-last-good.safetensors");
            let mut tensors = vec![("images", set.images.contiguous()), ("labels", set.labels.contiguous())];
            tensors.extend(set.soft_labels.map(|soft| ("soft_labels", soft.contiguous())));
            let learned = set.learned.iter().map(|(name, value)| (name.as_str(), Tensor::from(*value)));
            tensors.extend(learned);
            match write_atomically(&path, |aside| Ok(Tensor::write_safetensors(&tensors, aside)?)) {
                Ok(()) => failure.cause(format!("the last good state is in `{}`", path.display())),
                Err(error) => failure.cause(error),
            }
        })?;
        log.finish(&format!("{} images, loss {:.4}", set.labels.size()[0], set.loss))?;
        Ok(set)
    }

    /// The teacher's logits of the synthetic images, where the recipe stores them.
    fn relabel(&self, images: &Tensor, teacher: Option<&Model>) -> Result<Option<Tensor>> {
        match (self.variant.recipe.relabel.labels, teacher) {
            (Labels::Soft, Some(teacher)) => {
                let log = self.log("relabel");
                let logits = teacher.frozen().eval_logits(images)?;
                log.finish(&format!("{} soft labels", images.size()[0]))?;
                Ok(Some(logits))
            }
            _ => Ok(None),
        }
    }

    fn write_set(
        &self,
        folder: &Path,
        distill: &Distill,
        set: &super::SyntheticSet,
        logits: Option<&Tensor>,
    ) -> Result<()> {
        let Plan { data, seed, plugins, .. } = self.pipeline.plan;
        let relabel = &self.variant.recipe.relabel;
        let plugins: &[PluginLock] = plugins;
        let labels = match (relabel.labels, &set.soft_labels) {
            (Labels::Hard, Some(_)) => "learned".to_string(),
            (labels, _) => serde_json::to_value(labels)?.as_str().unwrap_or_default().to_string(),
        };
        let manifest = DistilledManifest {
            dataset: &data.name,
            classes: &data.classes,
            image: data.image,
            space: "pixels",
            mean: &data.mean,
            std: &data.std,
            objective: &distill.objective,
            images_per_class: distill.images_per_class,
            labels,
            temperature: relabel.temperature,
            seed: *seed,
            recipe_blake3: self.pipeline.recipe_blake3.clone(),
            plugins,
            learned: &set.learned,
        };
        let labels = (set.soft_labels.as_ref(), logits);
        write_distilled(folder, (&set.images, &set.labels), labels, data, &manifest)
    }

    fn student(
        &self,
        folder: &Path,
        number: u64,
        set: &super::SyntheticSet,
        logits: Option<&Tensor>,
        teacher: Option<&Model>,
    ) -> Result<Model> {
        let stage = format!("student {}", number + 1);
        let (log, streams) = (self.log(&stage), self.streams("student").numbered(number));
        let temperature = self.variant.recipe.relabel.temperature;
        let frozen = teacher.map(Model::frozen);
        let source = match (self.variant.recipe.relabel.labels, logits, &frozen) {
            (Labels::Soft, Some(logits), _) => LabelSource::Soft { logits, temperature },
            (Labels::Online, _, Some(teacher)) => LabelSource::Online { teacher, temperature },
            _ => set.soft_labels.as_ref().map_or(LabelSource::Hard, LabelSource::Learned),
        };
        let settings = self.student_settings(set);
        let trainer = StudentTrainer {
            images: &set.images,
            labels: &set.labels,
            classes: self.variant.student.classes,
            source,
            student: &settings,
            streams: streams.clone(),
            observer: &log,
        };
        let fresh = Model::fresh(&self.variant.student, &streams.named("network"), self.pipeline.device)?;
        let student = trainer.run(fresh, &self.context("student", &streams, &log));
        keep(
            student,
            &folder.join("checkpoints"),
            &format!("student-{number}"),
            &log,
            self.variant.recipe.student.epochs,
        )
    }

    /// The recipe's, with the learning rate that the objective learned, if it learned one.
    fn student_settings(&self, set: &super::SyntheticSet) -> Student {
        let mut student = self.variant.recipe.student.clone();
        let learned = set.learned.iter().find(|(name, _)| name == LEARNED_RATE);
        if let Some((_, rate)) = learned.filter(|_| student.learned_rate) {
            student.optimizer.set_learning_rate(*rate);
        }
        student
    }

    fn evaluate(&self, model: &Model, stage: &str) -> Result<Evaluation> {
        // Student number and teacher share the attacks' random streams: the same images get the same starts.
        let (log, streams) = (self.log(stage), self.streams("evaluate"));
        let context = self.context("evaluate", &streams, &log);
        let evaluate = &self.variant.recipe.evaluate;
        let evaluator = Evaluator {
            network: EvalOnly::of(model)?,
            split: &self.pipeline.data.test,
            batch_size: evaluate.batch_size,
            probe_images: evaluate.probe_images,
            observer: &log,
            keep: None,
        };
        let evaluation = evaluator.run(&evaluate.attacks, &self.variant.budgets, &context)?;
        let robust: Vec<String> = evaluation
            .threats
            .iter()
            .map(|threat| format!("{:.1} %", 100.0 * accuracy(&evaluation.worst_case(threat))))
            .collect();
        let clean = 100.0 * accuracy(&evaluation.clean);
        log.finish(&format!("clean {clean:.1} %, robust [{}]", robust.join(", ")))?;
        Ok(evaluation)
    }
}

/// Saves a trained network, or the last good one of a failed training.
fn keep(trained: Trained, checkpoints: &Path, name: &str, log: &StageLog, epochs: usize) -> Result<Model> {
    let Trained { model, failure } = trained;
    if let Some(failure) = failure {
        let path = checkpoints.join(format!("{name}-last-good.safetensors"));
        model.save(&path)?;
        log.finish("stopped")?;
        return Err(failure.cause(format!("the last good state is in `{}`", path.display())));
    }
    model.save(&checkpoints.join(format!("{name}.safetensors")))?;
    log.finish(&format!("{epochs} epochs"))?;
    Ok(model)
}
