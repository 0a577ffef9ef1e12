//! The stages in order, for every variant: train → distill → relabel → evaluate. Variants share their seeds.

use super::{
    Distiller, EvalOnly, Evaluation, Evaluator, LabelSource, Ramp, Room, Stopped, StudentTrainer, Trained,
    Trainer, TrainingLoss, Views, WeightedRegularizer, accuracy, relabel,
};
use crate::{
    data::{DataInfo, Dataset, Skipped},
    network::Model,
    plan::{Plan, PluginLock, StudentPlan, VariantPlan},
    plugin::{Context, Plugins, Recorder},
    random::Streams,
    recipe::{Distill, EvaluationSplit, Labels, RegularizerUse},
    run::{
        DistilledManifest, Journal, LabelPlan, RunDirectory, SoftLabels, StageLog, write_atomically,
        write_distilled,
    },
};
use guard_sdk::{Device, Error, Level, Result, Tensor, lab::LabInfo};
use serde_json::Value;
use std::path::Path;

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
    /// What results call its network, where there are several.
    pub network: Option<String>,
    /// The student's number among those of its network, from 0.
    pub number: u64,
    /// What it found.
    pub evaluation: Evaluation,
}

impl StudentResult {
    /// What its files are called, without extension.
    pub fn file_name(&self) -> String {
        file_name(self.network.as_deref(), self.number)
    }
}

fn file_name(network: Option<&str>, number: u64) -> String {
    format!("{}-{number}", network.unwrap_or("student"))
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

/// The file of stored labels in `distilled/`.
const SOFT_LABELS: &str = "soft-labels.safetensors";

/// What all students of a variant learn from.
enum StudentLabels {
    /// The images' classes.
    Hard,
    /// The teacher's logits of the images as they are, `[N,K]`.
    Soft(Tensor),
    /// The teacher, asked in every step.
    Online(Model),
    /// The teacher's logits of every view.
    Stored(SoftLabels),
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
            let labels = self.relabel(&folder, &set.images, teacher.as_ref())?;
            self.write_set(&folder.join("distilled"), distill, &set, &labels)?;
            for network in &self.variant.students {
                for number in 0..self.variant.recipe.student.count as u64 {
                    let stage = Self::stage(network, number);
                    let student = self.student(&folder, network, number, &set, &labels)?;
                    let evaluation = self.evaluate(&student, &format!("evaluate {stage}"))?;
                    results.students.push(StudentResult {
                        network: network.label.clone(),
                        number,
                        evaluation,
                    });
                }
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
        let loss = TrainingLoss::new(training.cross_entropy_weight, training.label_smoothing, regularizers);
        Ok(loss.ramped(training.regularizers.iter().map(Ramp::of).collect()))
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

    fn distill(
        &self,
        folder: &Path,
        distill: &Distill,
        teacher: Option<&Model>,
        loss: &TrainingLoss,
    ) -> Result<super::SyntheticSet> {
        let VariantPlan { distillation, network, .. } = self.variant;
        let distillation = distillation.as_ref().ok_or_else(|| Error::new("the plan has no distillation"))?;
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
            split,
            loss,
            streams: streams.clone(),
        };
        let distiller = Distiller {
            room: &room,
            iterations: distillation.iterations,
            optimizer: distillation.optimizer.clone(),
            schedule: distillation.schedule.clone(),
            streams: streams.clone(),
            observer: &log,
        };
        let mut regularizers = self.regularizers("distill", &distill.regularizers)?;
        let set = distiller.run(&context, &mut objective, &mut regularizers).map_err(|stopped| {
            let Stopped { failure, last_good } = *stopped;
            let Some(set) = last_good else { return failure };
            let path = folder.join("distilled-last-good.safetensors");
            let tensors = [("images", set.images.contiguous()), ("labels", set.labels.contiguous())];
            match write_atomically(&path, |aside| Ok(Tensor::write_safetensors(&tensors, aside)?)) {
                Ok(()) => failure.cause(format!("the last good state is in `{}`", path.display())),
                Err(error) => failure.cause(error),
            }
        })?;
        let loss = match distillation.iterations {
            0 => String::new(),
            _ => format!(", loss {:.4}", set.loss),
        };
        log.finish(&format!("{} images{loss}", set.labels.size()[0]))?;
        Ok(set)
    }

    /// The labels that students learn from; what takes long is computed here and kept.
    fn relabel(&self, folder: &Path, images: &Tensor, teacher: Option<&Model>) -> Result<StudentLabels> {
        let VariantPlan { recipe, network, .. } = self.variant;
        let (log, labels) = (self.log("relabel"), recipe.relabel.labels);
        let teacher = match (labels, teacher) {
            (Labels::Hard, _) => return Ok(StudentLabels::Hard),
            (_, Some(teacher)) => teacher.frozen(),
            _ => return Err(Error::new("the plan has soft labels and no teacher")),
        };
        match labels {
            Labels::Hard | Labels::Online => Ok(StudentLabels::Online(teacher)),
            Labels::Soft => {
                let logits = teacher.eval_logits(images)?;
                log.finish(&format!("{} soft labels", images.size()[0]))?;
                Ok(StudentLabels::Soft(logits))
            }
            Labels::Stored => {
                let (count, seed) = (images.size()[0], self.pipeline.plan.seed);
                let plan = LabelPlan::new(&recipe.relabel, &recipe.student, seed, count, network.classes);
                let described = plan.describe();
                log.log(Level::Information, &described);
                let views = Views { images, student: &recipe.student, streams: self.streams("relabel") };
                let path = folder.join("distilled").join(SOFT_LABELS);
                let labels = relabel(&path, plan, &views, &teacher, &log)?;
                log.finish(&described)?;
                Ok(StudentLabels::Stored(labels))
            }
        }
    }

    fn write_set(
        &self,
        folder: &Path,
        distill: &Distill,
        set: &super::SyntheticSet,
        labels: &StudentLabels,
    ) -> Result<()> {
        let Plan { data, seed, plugins, .. } = self.pipeline.plan;
        let relabel = &self.variant.recipe.relabel;
        let plugins: &[PluginLock] = plugins;
        let logits = if let StudentLabels::Soft(logits) = labels { Some(logits) } else { None };
        let labels = serde_json::to_value(relabel.labels)?.as_str().unwrap_or_default().to_string();
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
        write_distilled(folder, (&set.images, &set.labels), logits, data, &manifest)
    }

    /// What a student's stages are called.
    fn stage(network: &StudentPlan, number: u64) -> String {
        match &network.label {
            Some(label) => format!("{label} {}", number + 1),
            None => format!("student {}", number + 1),
        }
    }

    fn student(
        &self,
        folder: &Path,
        network: &StudentPlan,
        number: u64,
        set: &super::SyntheticSet,
        labels: &StudentLabels,
    ) -> Result<Model> {
        let stage = Self::stage(network, number);
        let recipe = &self.variant.recipe;
        let (log, streams) = (self.log(&stage), self.streams("student").numbered(number));
        let (source, seen) = match labels {
            StudentLabels::Hard => (LabelSource::Hard, streams.clone()),
            StudentLabels::Soft(logits) => (LabelSource::Soft(logits), streams.clone()),
            StudentLabels::Online(teacher) => (LabelSource::Online(teacher), streams.clone()),
            StudentLabels::Stored(stored) => (LabelSource::Stored(stored), self.streams("relabel")),
        };
        let trainer = StudentTrainer {
            views: Views { images: &set.images, student: &recipe.student, streams: seen },
            labels: &set.labels,
            classes: network.network.classes,
            source,
            temperature: recipe.relabel.temperature,
            streams: streams.clone(),
            observer: &log,
        };
        let fresh = Model::fresh(&network.network, &streams.named("network"), self.pipeline.device)?;
        let student = trainer.run(fresh, &self.context("student", &streams, &log));
        let name = file_name(network.label.as_deref(), number);
        keep(student, &folder.join("checkpoints"), &name, &log, recipe.student.epochs)
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
