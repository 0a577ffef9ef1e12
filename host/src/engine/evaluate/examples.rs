//! Some images before and after the attacks, to be looked at.

use super::{Attacked, Classes, Evaluation, Evaluator};
use crate::{
    data::View,
    plugin::Context,
    recipe::AttackUse,
    run::{attacked_sheet, read_json, write_png, write_text},
};
use guard_sdk::{Norm, Result, Tensor};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What a picture of attacked images shows: a column an image, the clean ones in the first row, then two rows for each attack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Examples {
    /// The norm of the perturbations.
    pub norm: Norm,
    /// Their largest size, in pixels.
    pub epsilon: f64,
    /// Of each image, what it is.
    pub labels: Classes,
    /// Of each attack, what the network takes them for.
    pub attacks: Vec<(String, Classes)>,
}

impl Evaluator<'_> {
    /// Attacks the first image of each class that is right without attack, `count` at most, within the largest budget, and
    /// draws them: `NAME-examples.png` and `.json` in `folder`, whose paths relative to it are told. Nothing where there is
    /// nothing to attack.
    ///
    /// # Errors
    /// Those of the attacks, and of the file system.
    pub fn examples(
        &self,
        (evaluation, count): (&Evaluation, usize),
        attacks: &[AttackUse],
        context: &Context,
        (folder, name): (&Path, &str),
    ) -> Result<Vec<PathBuf>> {
        let budgets = evaluation.threats.iter().map(|threat| threat.budget);
        let largest = budgets.max_by(|one, other| one.epsilon.total_cmp(&other.epsilon));
        let positions = first_of_each(evaluation, self.classes(), count);
        let (Some(budget), false) = (largest, positions.is_empty()) else { return Ok(Vec::new()) };
        let sample = self.split.batch(&positions, &View::plain())?.to_device(context.device)?;
        let (mut adversarial, mut predictions) = (Vec::new(), Vec::new());
        for mut attack in self.attacks(attacks, context)? {
            let Attacked { images, predicted, .. } = self.attacked(&mut attack, &sample, &budget, context)?;
            adversarial.push(images);
            predictions.push((attack.name, predicted));
        }
        let labels = positions.iter().map(|&position| evaluation.labels[position as usize]).collect();
        let examples = Examples { norm: budget.norm, epsilon: budget.epsilon, labels, attacks: predictions };
        examples.write(folder, name, &sample.images, &adversarial)
    }
}

impl Examples {
    fn write(&self, folder: &Path, name: &str, clean: &Tensor, attacked: &[Tensor]) -> Result<Vec<PathBuf>> {
        let [picture, record] = files(name);
        write_png(&folder.join(&picture), &attacked_sheet(clean, attacked)?)?;
        write_text(&folder.join(&record), &(serde_json::to_string_pretty(self)? + "\n"))?;
        Ok(vec![picture, record])
    }

    /// What [`Evaluator::examples`] wrote, and its picture; nothing where it wrote nothing.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(folder: &Path, name: &str) -> Result<Option<(Self, PathBuf)>> {
        let [picture, record] = files(name).map(|file| folder.join(file));
        if !record.is_file() {
            return Ok(None);
        }
        Ok(Some((read_json(&record)?, picture)))
    }
}

fn files(name: &str) -> [PathBuf; 2] {
    ["png", "json"].map(|extension| format!("{name}-examples.{extension}").into())
}

/// The first image of each class that is right without attack, in the order of the classes.
fn first_of_each(evaluation: &Evaluation, classes: i64, count: usize) -> Vec<i64> {
    let first = |class: i64| {
        let of_class = |place: &usize| evaluation.clean[*place] && evaluation.labels[*place] == class;
        (0..evaluation.clean.len()).find(of_class)
    };
    (0..classes).filter_map(first).map(|place| place as i64).take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_image_of_each_class_is_shown_that_is_right_without_attack() {
        let evaluation = Evaluation {
            labels: vec![2, 0, 0, 1, 2],
            clean: vec![true, false, true, false, true],
            ..Evaluation::default()
        };
        assert_eq!(first_of_each(&evaluation, 3, 8), [2, 0]);
        assert_eq!(first_of_each(&evaluation, 3, 1), [2]);
    }
}
