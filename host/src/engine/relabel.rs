//! The teacher's word on what students will see: soft labels of every view, written down before the first student begins.
//!
//! All students of a run share the views that the labels were made of, as in FKD and SRe2L: their seeds differ in the
//! network's first weights and in dropout. With on-line labels each student has views of its own.

use super::{
    parts::misfit,
    views::{BatchView, Views},
};
use crate::{
    network::Model,
    run::{Checkpoint, LabelPlan, Observer, SoftLabelsWriter},
};
use guard_sdk::{Kind, Result, State};
use serde_json::{Value, json};
use std::path::Path;

/// Writes the labels that `teacher` gives to all `views` to `path`, whole or not at all. Until then they lie in `aside`, where
/// a stage that was cut goes on.
///
/// # Errors
/// If the teacher's logits do not fit into the format, or the file system refuses.
pub fn relabel(
    [aside, path]: [&Path; 2],
    plan: &LabelPlan,
    views: &Views,
    teacher: &Model,
    observer: &dyn Observer,
) -> Result<()> {
    let (per_epoch, epochs) = (views.per_epoch(), plan.epochs as u64);
    let (mut writer, begin) = match observer.resumed() {
        None => (SoftLabelsWriter::create(aside, plan)?, 0),
        Some(cut) => resume(aside, plan, views, observer, cut)?,
    };
    for epoch in begin.checked_div(per_epoch).unwrap_or(0)..epochs {
        let order = (epoch * per_epoch..).zip(views.order(epoch));
        for (iteration, positions) in order.skip_while(|(iteration, _)| *iteration < begin) {
            observer.iteration(iteration, per_epoch * epochs);
            observer.checkpoint(iteration, &mut || {
                Ok(State { json: json!({ "sums": writer.sync()? }), ..State::default() })
            })?;
            let BatchView { images, .. } = views.batch(epoch, iteration, &positions)?;
            let logits = teacher.eval_logits(&images)?.f_to_kind(Kind::Float)?;
            writer.write(epoch, &positions, &logits)?;
        }
    }
    writer.finish(path)
}

/// The file as far as it is what was written, and the iteration to go on at.
fn resume<'a>(
    aside: &Path,
    plan: &'a LabelPlan,
    views: &Views,
    observer: &dyn Observer,
    Checkpoint { iteration, mut state }: Checkpoint,
) -> Result<(SoftLabelsWriter<'a>, u64)> {
    let sums: Vec<String> = state
        .json
        .get_mut("sums")
        .map_or(Ok(Vec::new()), |sums| serde_json::from_value(Value::take(sums)).map_err(misfit))?;
    match SoftLabelsWriter::resume(aside, plan, iteration, &sums, |epoch| views.order(epoch)) {
        Ok((writer, good)) => {
            if good < iteration {
                let damaged = format!("`{}` is not what was written", aside.display());
                observer.warn(&format!("{damaged}: labels are made again from iteration {good} on"));
            }
            Ok((writer, good))
        }
        Err(error) => {
            observer.warn(&format!("{error}: labels are made anew"));
            Ok((SoftLabelsWriter::create(aside, plan)?, 0))
        }
    }
}
