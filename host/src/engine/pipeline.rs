//! The stages in order, for every variant: train → distill → relabel → evaluate. Variants share their seeds.

mod experts;
mod sets;

use super::{
    EvalOnly, Evaluation, Evaluator, LabelSource, Ramp, StudentTrainer, Surrogates, Trained, Trainer,
    TrainingLoss, Views, WeightedRegularizer, accuracy,
    keys::StageKeys,
    results::{EVALUATIONS, RunResults, StudentResult, VariantResults, split_name},
};
use crate::{
    data::Dataset,
    network::{Model, Precision, Replayed},
    plan::{Plan, StudentPlan, VariantPlan},
    plugin::{Context, NoNetworks, Plugins, Recorder},
    random::Streams,
    recipe::{RegularizerUse, Student, TEACHER},
    run::{CANCELLED, Distilled, Journal, LEARNED_RATE, RunDirectory, Stage, StageLog, Stages, Work, remove},
};
use guard_device::Arithmetic;
use guard_sdk::{Device, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};

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
    /// What was finished before.
    pub stages: &'a Stages,
    /// How much is done.
    pub work: Work,
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
        let variants = self.plan.variants.iter().map(|variant| {
            let folder = self.directory.variant(self.plan, &variant.name);
            VariantRun { pipeline: self, variant, folder }.run()
        });
        Ok(RunResults {
            dataset: self.plan.data.name.clone(),
            images: self.data.test.len(),
            split: split_name(self.plan),
            skipped: self.data.skipped.clone(),
            variants: variants.collect::<Result<_>>()?,
        })
    }
}

struct VariantRun<'a> {
    pipeline: &'a Pipeline<'a>,
    variant: &'a VariantPlan,
    /// Its own, in the run directory.
    folder: PathBuf,
}

/// A network that is evaluated.
struct Judged<'a> {
    model: &'a Model,
    /// What determines it.
    key: String,
    /// What its stages are called.
    stage: &'a str,
    /// What its files are called, without extension.
    file: &'a str,
}

impl VariantRun<'_> {
    fn run(&self) -> Result<VariantResults> {
        let keys = self.keys();
        self.compute_in(self.variant.recipe.precision)?;
        let teacher = if self.variant.trains_teacher { Some(self.train()?) } else { None };
        let mut results = VariantResults::nothing(self.variant);
        match (self.pipeline.work, &self.variant.recipe.distill) {
            (Work::Teachers, _) | (Work::Part(_), None) => return Ok(results),
            (Work::Part(shard), Some(distill)) => {
                self.part(distill, teacher.as_ref(), shard)?;
                return Ok(results);
            }
            (Work::Whole | Work::Joined(_), _) => {}
        }
        if let Some(model) = &teacher {
            let judged = Judged { model, key: keys.teacher(), stage: TEACHER, file: TEACHER };
            results.teacher = Some(self.evaluate(&judged, teacher.as_ref())?);
        }
        if let Some(distill) = &self.variant.recipe.distill {
            let set = self.distill(distill, teacher.as_ref())?;
            let labels = self.relabel(&set, teacher.as_ref())?;
            for network in &self.variant.students {
                for number in 0..self.variant.recipe.student.count as u64 {
                    let model = &self.student(network, number, &set, &labels)?;
                    let file = &network.file(number);
                    let (stage, key) = (&Self::stage(network, number), keys.student(network, number, file));
                    let evaluation = self.evaluate(&Judged { model, key, stage, file }, teacher.as_ref())?;
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

    /// How GPUs compute from here on.
    fn compute_in(&self, precision: Precision) -> Result<()> {
        let deterministic = self.pipeline.plan.deterministic;
        Arithmetic { tf32: precision == Precision::Tf32, deterministic }.set()
    }

    fn keys(&self) -> StageKeys<'_> {
        let Pipeline { plan, data, .. } = self.pipeline;
        StageKeys { plan, variant: self.variant, images: [data.train.len(), data.test.len()] }
    }

    /// What `load` reads of a stage, which `make` writes unless it is there.
    fn outcome<T>(
        &self,
        stage: &str,
        key: &str,
        make: impl FnOnce(&StageLog) -> Result<Vec<PathBuf>>,
        load: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let stage = Stage { variant: &self.variant.name, name: stage, folder: &self.folder, key };
        self.pipeline.stages.outcome(&stage, self.pipeline.journal, make, load)
    }

    fn streams(&self, stage: &str) -> Streams {
        Streams::new(self.pipeline.plan.seed).named(stage)
    }

    fn context<'b>(
        &'b self,
        stage: &'b str,
        streams: &'b Streams,
        recorder: &'b dyn Recorder,
    ) -> Context<'b> {
        let (plugins, device) = (self.pipeline.plugins, self.pipeline.device);
        let networks = &NoNetworks;
        Context { stage, iteration: 0, iterations: 0, random: streams, recorder, plugins, networks, device }
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

    /// Of each stage its own: what regularizers remember of one has no part in another.
    fn training_loss(&self) -> Result<TrainingLoss> {
        let training = &self.variant.recipe.training;
        let regularizers = self.regularizers("train", &training.regularizers)?;
        let loss = TrainingLoss::new(training.cross_entropy_weight, training.label_smoothing, regularizers);
        Ok(loss.ramped(training.regularizers.iter().map(Ramp::of).collect()))
    }

    fn train(&self) -> Result<Model> {
        let (Pipeline { data, device, .. }, recipe) = (self.pipeline, &self.variant.recipe);
        let make = |log: &StageLog| {
            let (loss, streams) = (self.training_loss()?, self.streams("train"));
            let fresh = Model::fresh(&self.variant.network, &streams.named("network"), *device)?;
            let trainer = Trainer {
                split: &data.train,
                training: &recipe.training,
                loss: &loss,
                streams: streams.clone(),
                observer: log,
            };
            let trained = trainer.run(fresh, &self.context("train", &streams, log));
            self.keep(trained, TEACHER, log, recipe.training.epochs)
        };
        let load = || Model::load(&self.variant.network, &self.folder.join(checkpoint(TEACHER)), *device);
        self.outcome("train", &self.keys().teacher(), make, load)
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
        network: &StudentPlan,
        number: u64,
        set: &Distilled,
        labels: &LabelSource,
    ) -> Result<Model> {
        let (stage, file) = (Self::stage(network, number), network.file(number));
        let (device, spec, recipe) = (self.pipeline.device, &network.network, &self.variant.recipe);
        let make = |log: &StageLog| {
            let streams = self.streams("student").numbered(number);
            // Of stored labels the views are given.
            let seen = match labels {
                LabelSource::Stored(_) => self.streams("relabel"),
                _ => streams.clone(),
            };
            let settings = self.student_settings(set);
            let penalties =
                TrainingLoss::new(0.0, 0.0, self.regularizers("student", &settings.regularizers)?)
                    .ramped(settings.regularizers.iter().map(Ramp::of).collect());
            let trainer = StudentTrainer {
                views: Views { images: &set.images, student: &settings, streams: seen },
                labels: &set.labels,
                classes: spec.classes,
                source: labels,
                temperature: recipe.relabel.temperature,
                penalties: &penalties,
                streams: streams.clone(),
                observer: log,
            };
            let fresh = Model::fresh(spec, &streams.named("network"), device)?;
            let student = trainer.run(fresh, &self.context("student", &streams, log));
            self.keep(student, &file, log, recipe.student.epochs)
        };
        let load = || Model::load(spec, &self.folder.join(checkpoint(&file)), device);
        self.outcome(&stage, &self.keys().student(network, number, &file), make, load)
    }

    /// The recipe's, with the learning rate that the objective learned, if it learned one.
    fn student_settings(&self, set: &Distilled) -> Student {
        let mut student = self.variant.recipe.student.clone();
        let learned = set.manifest.learned.iter().find(|(name, _)| name == LEARNED_RATE);
        if let Some((_, rate)) = learned.filter(|_| student.learned_rate) {
            student.optimizer.set_learning_rate(*rate);
        }
        student
    }

    /// Judges a network; attacks may ask for the teacher, where there is one.
    fn evaluate(&self, judged: &Judged, teacher: Option<&Model>) -> Result<Evaluation> {
        let Judged { model, key, stage, file } = judged;
        let (stage, folder) = (format!("evaluate {stage}"), self.folder.join(EVALUATIONS));
        let make = |log: &StageLog| {
            log.stop_within_steps();
            // Student number and teacher share the attacks' random streams: the same images get the same starts.
            let streams = self.streams("evaluate");
            let given = Surrogates::load(&self.variant.surrogates, self.pipeline.device)?;
            let networks = match teacher {
                Some(teacher) => given.with(TEACHER, teacher),
                None => given,
            };
            let context = Context { networks: &networks, ..self.context("evaluate", &streams, log) };
            let evaluate = &self.variant.recipe.evaluate;
            let evaluator = Evaluator {
                network: EvalOnly::new(Replayed::new(model.for_inference()?.exact())),
                called: teacher.filter(|teacher| std::ptr::eq(*teacher, *model)).map(|_| TEACHER),
                split: &self.pipeline.data.test,
                batch_size: evaluate.batch_size,
                probe_images: evaluate.probe_images,
                curvature_images: evaluate.curvature_images,
                observer: log,
                keep: None,
            };
            let evaluation = evaluator.run(&evaluate.attacks, &self.variant.budgets, &context)?;
            let mut files = evaluation.write(&folder, file)?.to_vec();
            let shown = (&evaluation, evaluate.example_images);
            files.extend(evaluator.examples(shown, &evaluate.attacks, &context, (&folder, file))?);
            log.write(evaluation.accuracies());
            let robust: Vec<String> = evaluation
                .threats
                .iter()
                .map(|threat| format!("{:.1} %", 100.0 * accuracy(&evaluation.worst_case(threat))))
                .collect();
            let clean = 100.0 * accuracy(&evaluation.clean);
            log.finish(&format!("clean {clean:.1} %, robust [{}]", robust.join(", ")))?;
            Ok(files.into_iter().map(|file| Path::new(EVALUATIONS).join(file)).collect())
        };
        let load = || Evaluation::read(&folder, file);
        self.compute_in(Precision::Fp32)?;
        let evaluation = self.outcome(&stage, &self.keys().evaluation(key, file), make, load)?;
        self.compute_in(self.variant.recipe.precision)?;
        let perturbations: Vec<(String, Vec<f32>)> = evaluation
            .perturbations()
            .into_iter()
            .map(|(name, sizes)| (format!("{stage}/{name}"), sizes))
            .collect();
        self.pipeline.journal.histograms(&self.variant.name, &perturbations)?;
        Ok(evaluation)
    }

    /// Saves a trained network, or the last good one of a failed training; tells the file.
    fn keep(&self, trained: Trained, name: &str, log: &StageLog, epochs: usize) -> Result<Vec<PathBuf>> {
        let Trained { model, failure } = trained;
        let path = self.folder.join(checkpoint(&format!("{name}-last-good")));
        if let Some(failure) = failure {
            if failure.code == CANCELLED {
                return Err(failure);
            }
            if let Err(error) = model.save(&path) {
                return Err(failure.cause(error));
            }
            let failure = match log.finish("stopped") {
                Ok(()) => failure,
                Err(more) => failure.cause(more),
            };
            return Err(failure.cause(format!("the last good state is in `{}`", path.display())));
        }
        // It failed before, and did not this time.
        remove(&path)?;
        let file = checkpoint(name);
        model.save(&self.folder.join(&file))?;
        log.finish(&format!("{epochs} epochs"))?;
        Ok(vec![file])
    }
}

/// The file of a network, relative to the variant's folder.
fn checkpoint(name: &str) -> PathBuf {
    Path::new("checkpoints").join(format!("{name}.safetensors"))
}
