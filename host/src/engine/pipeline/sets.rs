//! The synthetic set of a variant: distilled whole, in parts, or from parts; and what its labels are.

use super::VariantRun;
use crate::{
    data::DataInfo,
    engine::{
        Distiller, LabelSource, Part, Room, Stopped, SyntheticSet, Views, WeightedRegularizer, relabel,
    },
    network::Model,
    plan::{Plan, VariantPlan},
    plugin::{Context, Hosted, Recorder},
    recipe::{Distill, Labels},
    run::{
        CANCELLED, Distilled, DistilledManifest, LabelPlan, Origin, Shard, SoftLabels, StageLog, Work,
        counts, remove, write_atomically, write_distilled,
    },
};
use guard_sdk::{
    Error, Level, Result, Tensor, abi::calls::ObjectiveInstance, lab::LabInfo, objective::Networks,
};
use serde_json::Value;
use std::path::{Path, PathBuf};

impl VariantRun<'_> {
    /// The synthetic set, from `distilled/`.
    pub(super) fn distill(&self, distill: &Distill, teacher: Option<&Model>) -> Result<Distilled> {
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
    pub(super) fn part(&self, distill: &Distill, teacher: Option<&Model>, shard: Shard) -> Result<Part> {
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
    pub(super) fn relabel<'b>(&self, set: &'b Distilled, teacher: Option<&Model>) -> Result<LabelSource<'b>> {
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
}
