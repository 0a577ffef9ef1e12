//! The stages in order, for every variant: train → distill → relabel → evaluate. Variants share their seeds.

mod experts;

use super::{
    Distiller, EvalOnly, Evaluation, Evaluator, LabelSource, Part, Ramp, Room, Stopped, StudentTrainer,
    Surrogates, SyntheticSet, Trained, Trainer, TrainingLoss, Views, WeightedRegularizer, accuracy,
    keys::StageKeys,
    relabel,
    results::{EVALUATIONS, RunResults, StudentResult, VariantResults, split_name},
};
use crate::{
    data::{DataInfo, Dataset},
    network::Model,
    plan::{Plan, StudentPlan, VariantPlan},
    plugin::{Context, Hosted, NoNetworks, Plugins, Recorder},
    random::Streams,
    recipe::{Distill, Labels, RegularizerUse, Student, TEACHER},
    run::{
        CANCELLED, Distilled, DistilledManifest, Journal, LEARNED_RATE, LabelPlan, Origin, RunDirectory,
        Shard, SoftLabels, Stage, StageLog, Stages, Work, counts, remove, write_atomically, write_distilled,
    },
};
use guard_sdk::{
    Device, Error, Level, Result, Tensor, abi::calls::ObjectiveInstance, lab::LabInfo, objective::Networks,
};
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

    /// The synthetic set, from `distilled/`.
    fn distill(&self, distill: &Distill, teacher: Option<&Model>) -> Result<Distilled> {
        let folder = self.folder.join("distilled");
        let make = |log: &StageLog| {
            let set = match self.pipeline.work {
                Work::Joined(count) => self.joined(count)?,
                _ => {
                    self.synthesise(distill, teacher, log, |distiller, context, objective, regularizers| {
                        distiller.run(context, objective, regularizers)
                    })?
                }
            };
            let loss = match self.variant.distillation.as_ref().map_or(0, |found| found.iterations) {
                0 => String::new(),
                _ => format!(", loss {:.4}", set.loss),
            };
            log.finish(&format!("{} images{loss}", set.labels.size()[0]))?;
            let logits = match (self.variant.recipe.relabel.labels, teacher) {
                (Labels::Soft, Some(teacher)) => Some(teacher.for_inference()?.eval_logits(&set.images)?),
                _ => None,
            };
            let files = self.write_set(&folder, distill, &set, logits.as_ref())?;
            Ok(files.into_iter().map(|file| Path::new("distilled").join(file)).collect())
        };
        let load = || Distilled::read(&folder, self.pipeline.device);
        let set = self.outcome("distill", &self.keys().distilled(), make, load)?;
        let (journal, variant) = (self.pipeline.journal, &self.variant.name);
        journal.picture(variant, "distill/contact-sheet", &folder.join("contact-sheet.png"))?;
        Ok(set)
    }

    /// A part of the synthetic set, in files of its own.
    fn part(&self, distill: &Distill, teacher: Option<&Model>, shard: Shard) -> Result<Part> {
        let make = |log: &StageLog| {
            let part =
                self.synthesise(distill, teacher, log, |distiller, context, objective, regularizers| {
                    distiller.part(context, objective, regularizers, shard)
                })?;
            log.finish(&format!("{} images", part.images()))?;
            part.write(&self.folder, shard)
        };
        self.found_part(shard, make)
    }

    fn found_part(&self, shard: Shard, make: impl FnOnce(&StageLog) -> Result<Vec<PathBuf>>) -> Result<Part> {
        let load = || Part::read(&self.folder, shard, self.pipeline.device);
        self.outcome(&format!("distill {shard}"), &self.keys().part(shard), make, load)
    }

    /// The synthetic set of parts that are there.
    fn joined(&self, count: u64) -> Result<SyntheticSet> {
        let missing = |shard: Shard| {
            let message =
                format!("part {shard} of the synthetic images of `{}` is missing", self.variant.name);
            let help = format!("give the directory of a run of the same recipe with `--shard {shard}`");
            Error::with_code("no-part", message).help(help)
        };
        let parts = (0..count).map(|index| {
            let shard = Shard { index, count };
            self.found_part(shard, |_| Err(missing(shard)))
        });
        Part::join(parts.collect::<Result<_>>()?)
    }

    /// Prepares what an objective needs, and has `body` make synthetic images.
    fn synthesise<T>(
        &self,
        distill: &Distill,
        teacher: Option<&Model>,
        log: &StageLog,
        body: impl FnOnce(
            &Distiller,
            &Context,
            &mut Hosted<ObjectiveInstance>,
            &mut [WeightedRegularizer],
        ) -> Result<T, Box<Stopped>>,
    ) -> Result<T> {
        let VariantPlan { distillation, network, .. } = self.variant;
        let distillation = distillation.as_ref().ok_or_else(|| Error::new("the plan has no distillation"))?;
        let wanted = distillation.needs.networks == Networks::Experts;
        let experts = wanted.then(|| self.experts()).transpose()?;
        let (loss, streams) = (self.training_loss()?, self.streams("distill"));
        let context = self.context("distill", &streams, log);
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
            loss: &loss,
            streams: streams.clone(),
        };
        let distiller = Distiller {
            room: &room,
            start: distillation.start.clone(),
            iterations: distillation.iterations * distillation.steps_per_iteration,
            optimizer: distillation.optimizer.clone(),
            schedule: distillation.schedule.clone(),
            streams: streams.clone(),
            observer: log,
        };
        let mut regularizers = self.regularizers("distill", &distill.regularizers)?;
        let made = body(&distiller, &context, &mut objective, &mut regularizers).map_err(|stopped| {
            let Stopped { failure, last_good } = *stopped;
            let Some(set) = last_good.filter(|_| failure.code != CANCELLED) else { return failure };
            let path = self.last_good_set();
            let mut tensors = vec![("images", set.images.contiguous()), ("labels", set.labels.contiguous())];
            tensors.extend(set.soft_labels.map(|soft| ("soft_labels", soft.contiguous())));
            let learned = set.learned.iter().map(|(name, value)| (name.as_str(), Tensor::from(*value)));
            tensors.extend(learned);
            match write_atomically(&path, |aside| Ok(Tensor::write_safetensors(&tensors, aside)?)) {
                Ok(()) => failure.cause(format!("the last good state is in `{}`", path.display())),
                Err(error) => failure.cause(error),
            }
        })?;
        // It failed before, and did not this time.
        remove(&self.last_good_set())?;
        Ok(made)
    }

    /// Where the images are kept as they were before a step that failed.
    fn last_good_set(&self) -> PathBuf {
        self.folder.join("distilled-last-good.safetensors")
    }

    /// The labels that students learn from; what takes long is computed here and kept.
    fn relabel<'b>(&self, set: &'b Distilled, teacher: Option<&Model>) -> Result<LabelSource<'b>> {
        let VariantPlan { recipe, network, .. } = self.variant;
        match (recipe.relabel.labels, teacher, &set.teacher_logits) {
            (Labels::Hard, ..) => {
                Ok(set.soft_labels.as_ref().map_or(LabelSource::Hard, LabelSource::Learned))
            }
            (Labels::Soft, _, Some(logits)) => Ok(LabelSource::Soft(logits)),
            (Labels::Online, Some(teacher), _) => Ok(LabelSource::Online(teacher.for_inference()?)),
            (Labels::Stored, Some(teacher), _) => {
                let (count, seed) = (set.images.size()[0], self.pipeline.plan.seed);
                let plan = || LabelPlan::new(&recipe.relabel, &recipe.student, seed, count, network.classes);
                let (name, key) = ("soft-labels.safetensors", &self.keys().stored_labels());
                let file = Path::new("distilled").join(name);
                let (aside, path) = (self.pipeline.stages.folder(key).join(name), self.folder.join(&file));
                let make = |log: &StageLog| {
                    let plan = plan();
                    let described = plan.describe();
                    log.log(Level::Information, &described);
                    let streams = self.streams("relabel");
                    let views = Views { images: &set.images, student: &recipe.student, streams };
                    relabel([&aside, &path], &plan, &views, &teacher.for_inference()?, log)?;
                    log.finish(&described)?;
                    Ok(vec![file.clone()])
                };
                let load = || SoftLabels::open(&path, plan());
                let stored = self.outcome("relabel", key, make, load)?;
                Ok(LabelSource::Stored(stored))
            }
            _ => Err(Error::new("the plan has soft labels and no teacher")),
        }
    }

    fn write_set(
        &self,
        folder: &Path,
        distill: &Distill,
        set: &SyntheticSet,
        logits: Option<&Tensor>,
    ) -> Result<Vec<PathBuf>> {
        let Plan { data, seed, plugins, .. } = self.pipeline.plan;
        let relabel = &self.variant.recipe.relabel;
        let labels = match (relabel.labels, &set.soft_labels) {
            (Labels::Hard, Some(_)) => "learned".to_string(),
            (labels, _) => serde_json::to_value(labels)?.as_str().unwrap_or_default().to_string(),
        };
        let most = counts(&set.labels, data.classes.len())?.into_iter().max();
        let manifest = DistilledManifest {
            dataset: data.name.clone(),
            classes: data.classes.clone(),
            image: data.image,
            space: "pixels".into(),
            mean: data.mean.clone(),
            std: data.std.clone(),
            whitening: self.variant.network.whitening.clone(),
            origin: Origin::Run {
                objective: distill.objective.clone(),
                temperature: relabel.temperature,
                seed: *seed,
                recipe_blake3: self.pipeline.recipe_blake3.clone(),
                plugins: plugins.clone(),
            },
            images_per_class: most.unwrap_or_default(),
            labels,
            learned: set.learned.clone(),
        };
        let labels = (set.soft_labels.as_ref(), logits);
        write_distilled(folder, (&set.images, &set.labels), labels, &manifest)
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
                network: EvalOnly::new(model.for_inference()?),
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
        let evaluation = self.outcome(&stage, &self.keys().evaluation(key, file), make, load)?;
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
            log.finish("stopped")?;
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
