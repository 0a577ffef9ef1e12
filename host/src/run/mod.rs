//! The run directory: what a run leaves behind, never half-written; and what a run shows while it goes.

mod atomic;
mod checkpoints;
mod directory;
mod distilled;
mod failpoint;
mod interruption;
mod journal;
#[cfg(test)]
mod mangled;
mod png;
mod read;
mod soft_labels;
mod stage;
mod stages;

pub use atomic::{remove, write_atomically, write_text};
pub use checkpoints::{CHECKPOINT, Checkpoint};
pub use directory::{Begun, RunDirectory, Typed};
pub use distilled::{Distilled, DistilledManifest, write_distilled};
pub use interruption::{CANCELLED, Interruption};
pub use journal::{Display, Journal};
pub use png::{sheet, write_png};
pub use read::{read_json, unreadable};
pub use soft_labels::{LabelCode, LabelPlan, SoftLabels, SoftLabelsWriter};
pub use stage::{Observer, StageLog};
pub use stages::{Stage, Stages, key};
