//! What a run will take, told before it begins: passes of each stage, times what a pass takes on this machine now.
//!
//! | stage | counted as |
//! |---|---|
//! | train | a step of each image and epoch, times what the penalties make of it |
//! | distill | a forward pass, and a backward pass to the image, of each image and iteration |
//! | relabel | a forward pass of each view of a stored label |
//! | students | a step of each view; with on-line labels a forward pass of the teacher beside it |
//! | evaluate | a forward pass of each image, and one with a backward pass to the image for each of an attack's `steps` |
//!
//! It is about right, and says what it leaves out: objectives that train networks or match something, attacks without a
//! number of steps, probes, reading the data. Penalties are measured on a small network. Sizes of files are exact but for
//! PNGs and JSON; memory is what the largest step keeps for its backward pass.

use super::calibrate::{Speed, with_penalties};
use crate::{
    network::{NetworkSpec, Summary},
    plan::{Plan, VariantPlan},
    plugin::Plugins,
    recipe::{AttackUse, Labels},
    run::LabelPlan,
};
use guard_sdk::{Result, manifest::Kind, objective::Networks};
use indicatif::HumanBytes;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// What one variant will take.
#[derive(Debug, Clone, Default)]
pub struct Estimate {
    /// Seconds of each stage.
    pub stages: Vec<(&'static str, f64)>,
    /// Bytes that the largest step needs, the network's own included.
    pub memory: u64,
    /// Bytes that the run will write.
    pub disk: u64,
    /// What is not counted.
    pub left_out: Vec<String>,
}

/// How many images there are to train on and to evaluate on, where it is known.
pub type ImageCounts = Option<[usize; 2]>;

/// The estimate of each variant of the plan.
///
/// # Errors
/// If a network cannot be made, or a penalty not be computed.
pub fn estimate(plan: &Plan, plugins: &Plugins, images: ImageCounts) -> Result<Vec<Estimate>> {
    let mut measured = Vec::new();
    plan.variants
        .iter()
        .map(|variant| Variant { plan, variant, plugins, images }.estimate(&mut measured))
        .collect()
}

/// Networks that were measured, with their batch sizes.
type Measured = Vec<((NetworkSpec, usize), (Summary, Speed))>;

/// One network's cost.
#[derive(Clone)]
struct Cost {
    speed: Speed,
    parameters: u64,
    /// Numbers of its whitening.
    whitening: u64,
    /// Numbers that a forward pass of one image keeps for its backward pass.
    kept: u64,
}

fn cost(spec: &NetworkSpec, batch_size: usize, measured: &mut Measured) -> Result<Cost> {
    let key = (spec.clone(), batch_size);
    let found = match measured.iter().find(|(known, _)| *known == key) {
        Some((_, found)) => found.clone(),
        None => {
            let summary = Summary::of(spec)?;
            let speed = Speed::measure(spec, summary.multiply_adds, batch_size)?;
            measured.push((key, (summary.clone(), speed)));
            (summary, speed)
        }
    };
    let (summary, speed) = found;
    let kept = summary.layers.iter().map(|layer| layer.output.iter().product::<i64>()).sum::<i64>();
    // What a ReLU keeps is not in the summary: as much again as the layers'.
    let values: u64 = spec.input.iter().product::<i64>() as u64;
    let whitening = spec.whitening.as_ref().map_or(0, |_| values * (values + 1));
    Ok(Cost { speed, parameters: summary.parameters as u64, whitening, kept: 2 * kept as u64 })
}

impl Cost {
    /// Bytes of the network's file.
    fn file(&self) -> u64 {
        4 * (self.parameters + self.whitening)
    }
}

struct Variant<'a> {
    plan: &'a Plan,
    variant: &'a VariantPlan,
    plugins: &'a Plugins,
    images: ImageCounts,
}

impl Variant<'_> {
    fn estimate(&self, measured: &mut Measured) -> Result<Estimate> {
        let VariantPlan { recipe, network, students, distillation, .. } = self.variant;
        let mut found = Estimate::default();
        let teacher = cost(network, recipe.training.batch_size, measured)?;
        if self.images.is_none() {
            found.left_out.push("training and evaluation, for the number of images is not known".into());
        }
        let mut evaluated = Vec::new();
        if self.variant.trains_teacher {
            let penalties = with_penalties(self.plugins, &recipe.training.regularizers)?;
            let steps = self.images.map_or(0, |[train, _]| train) * recipe.training.epochs;
            found.add("train", steps as f64 * teacher.speed.step * penalties);
            // A penalty's second derivatives keep both passes of the first.
            let passes = if penalties > 1.0 { 3 } else { 1 };
            found.step(&teacher, recipe.training.batch_size as u64 * passes);
            found.disk += teacher.file();
            evaluated.push(teacher.speed);
        }
        if let (Some(distill), Some(distillation)) = (&recipe.distill, distillation) {
            let classes = self.plan.data.classes.len();
            let given = distillation.given.as_ref().and_then(|given| given.images);
            let count = given.unwrap_or((classes * distill.images_per_class) as u64);
            let pixels = self.plan.data.image.iter().product::<i64>() as u64;
            // float32 beside PNGs, which noise does not make smaller.
            found.disk += count * (5 * pixels + 8) + 4 * teacher.whitening;
            if distillation.iterations == 0 || distillation.needs.networks != Networks::Teacher {
                if distill.objective != "random" && !distillation.needs.given_set {
                    found.left_out.push(format!("objective `{}`", distill.objective));
                }
            } else {
                let steps = count * distillation.iterations;
                found.add("distill", steps as f64 * teacher.speed.image_step());
                let together = match distillation.needs.classes_together {
                    0 => classes as u64,
                    most => most.min(classes as u64),
                };
                found.step(&teacher, together);
            }
            let views = count * recipe.student.epochs as u64;
            if recipe.relabel.labels == Labels::Stored {
                found.add("relabel", views as f64 * teacher.speed.forward);
                let labels =
                    LabelPlan::new(&recipe.relabel, &recipe.student, 0, count as i64, network.classes);
                found.disk += labels.file_bytes();
            }
            let penalties = with_penalties(self.plugins, &recipe.student.regularizers)?;
            for student in students {
                let each = cost(&student.network, recipe.student.batch_size, measured)?;
                let online =
                    if recipe.relabel.labels == Labels::Online { teacher.speed.forward } else { 0.0 };
                let trained = recipe.student.count as u64 * views;
                found.add("students", trained as f64 * (each.speed.step * penalties + online));
                found.step(&each, count.min(recipe.student.batch_size as u64));
                found.disk += recipe.student.count as u64 * each.file();
                evaluated.extend(vec![each.speed; recipe.student.count]);
            }
        }
        let steps = self.attack_steps(&mut found);
        let tested = self.images.map_or(0, |[_, test]| test) as f64;
        let each = |speed: &Speed| tested * (speed.forward + steps * speed.image_step());
        found.add("evaluate", evaluated.iter().map(each).sum());
        Ok(found)
    }

    /// Gradient steps of all attacks at all radii together.
    fn attack_steps(&self, found: &mut Estimate) -> f64 {
        let evaluate = &self.variant.recipe.evaluate;
        let mut steps = 0;
        for attack in &evaluate.attacks {
            match self.steps(attack) {
                Some(number) => steps += number * self.variant.budgets.len() as u64,
                None => found.left_out.push(format!("attack `{}`", attack.label())),
            }
        }
        steps as f64
    }

    /// The attack's option `steps`, or its default; 1 where there is none such and the attack is a single step.
    fn steps(&self, attack: &AttackUse) -> Option<u64> {
        let written = attack.options.get("steps").and_then(serde_json::Value::as_u64);
        written.or_else(|| {
            let schema = self.plugins.schema(Kind::Attack, &attack.method).ok()?;
            schema["properties"]["steps"]["default"].as_u64()
        })
    }
}

impl Estimate {
    fn add(&mut self, stage: &'static str, seconds: f64) {
        match self.stages.iter_mut().find(|(name, _)| *name == stage) {
            Some((_, sum)) => *sum += seconds,
            None => self.stages.push((stage, seconds)),
        }
    }

    /// A step of `images` images keeps their activations, and three times the network: weights, gradients, momentum.
    fn step(&mut self, network: &Cost, images: u64) {
        let network_itself = 3 * network.parameters + network.whitening;
        self.memory = self.memory.max(4 * (images * network.kept + network_itself));
    }

    /// Seconds of all stages.
    pub fn seconds(&self) -> f64 {
        self.stages.iter().map(|(_, seconds)| seconds).sum()
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({
            "seconds": self.seconds(),
            "stages": self.stages.iter().map(|(name, seconds)| ((*name).to_owned(), json!(seconds))).collect::<Map<_, _>>(),
            "memory_bytes": self.memory,
            "disk_bytes": self.disk,
            "left_out": self.left_out,
        })
    }

    /// In a line: `about 12 min (train 3 min, students 9 min), ...`.
    pub fn describe(&self) -> String {
        let stages: Vec<String> =
            self.stages.iter().map(|(name, seconds)| format!("{name} {}", time(*seconds))).collect();
        let left_out = match self.left_out.as_slice() {
            [] => String::new(),
            left_out => format!("; without {}", left_out.join(", ")),
        };
        format!(
            "about {} ({}), {} of memory beside the data, {} of disk{left_out}",
            time(self.seconds()),
            stages.join(", "),
            HumanBytes(self.memory),
            HumanBytes(self.disk),
        )
    }
}

/// Two digits at most: more would be a promise.
fn time(seconds: f64) -> String {
    let seconds = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX).as_secs();
    match seconds {
        0..100 => format!("{} s", seconds.max(1)),
        100..6_000 => format!("{} min", seconds.div_ceil(60)),
        6_000..360_000 => format!("{} h", seconds.div_ceil(3_600)),
        _ => format!("{} days", seconds.div_ceil(86_400)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_the_unit_that_fits() {
        let told = [0.2, 99.0, 100.0, 5_999.0, 6_001.0, 4e5, f64::INFINITY].map(time);
        assert_eq!(told[..5], ["1 s", "99 s", "2 min", "100 min", "2 h"]);
        assert_eq!(told[5], "5 days");
        assert!(told[6].ends_with(" days"));
    }

    #[test]
    fn stages_of_one_name_are_added_and_what_is_left_out_is_told() {
        let mut estimate = Estimate::default();
        estimate.add("students", 100.0);
        estimate.add("students", 20.0);
        estimate.left_out.push("attack `x`".into());
        estimate.disk = 2048;
        assert_eq!(
            estimate.describe(),
            "about 2 min (students 2 min), 0 B of memory beside the data, 2.00 KiB of disk; without attack `x`"
        );
    }
}
