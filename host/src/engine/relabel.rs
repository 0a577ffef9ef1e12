//! The teacher's word on what students will see: soft labels of every view, written down before the first student begins.
//!
//! All students of a run share the views that the labels were made of, as in FKD and SRe2L: their seeds differ in the
//! network's first weights and in dropout. With on-line labels each student has views of its own.

use super::views::Views;
use crate::{
    network::Model,
    run::{LabelPlan, Observer, SoftLabelsWriter, write_atomically},
};
use guard_sdk::{Device, Kind, Result, Tensor};
use std::path::Path;

/// Writes the labels that `teacher` gives to all `views` to `path`, whole or not at all, and opens them.
///
/// # Errors
/// If the teacher's logits do not fit into the format, or the file system refuses.
pub fn relabel(
    path: &Path,
    plan: &LabelPlan,
    views: &Views,
    teacher: &Model,
    observer: &dyn Observer,
) -> Result<()> {
    let (per_epoch, epochs) = (views.per_epoch(), plan.epochs as u64);
    write_atomically(path, |aside| {
        let mut writer = SoftLabelsWriter::create(aside, plan)?;
        for epoch in 0..epochs {
            let rows = Tensor::f_zeros([plan.images, plan.classes], (Kind::Float, Device::Cpu))?;
            for (iteration, positions) in (epoch * per_epoch..).zip(views.order(epoch)) {
                observer.iteration(iteration, per_epoch * epochs);
                observer.stop_if_asked()?;
                let view = views.batch(epoch, iteration, &positions)?;
                let logits = teacher.eval_logits(&view.images)?.f_to_device(Device::Cpu)?;
                let positions = Tensor::from_slice(&positions);
                let _ = rows.shallow_clone().f_index_copy_(0, &positions, &logits.f_to_kind(Kind::Float)?)?;
            }
            writer.epoch(epoch as i64, &rows)?;
        }
        Ok(())
    })
}
