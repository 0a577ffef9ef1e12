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
mod manifest;
mod metrics;
mod png;
mod read;
mod soft_labels;
mod stage;
mod stages;
mod talk;
pub mod tensorboard;
mod work;

pub use atomic::{remove, write_atomically, write_text};
pub use checkpoints::{CHECKPOINT, Checkpoint};
pub use directory::{Begun, RunDirectory, Typed, shell};
pub use distilled::{Distilled, counts, folders, write_distilled};
pub use interruption::{CANCELLED, Interruption};
pub use journal::Journal;
pub use manifest::{DistilledManifest, Imported, LEARNED_RATE, Origin};
pub use metrics::{Line, read_metrics};
pub use png::{attacked_sheet, encode_png, levels, sheet, write_png};
pub use read::{blake3_of, read_json, unreadable};
pub use soft_labels::{LabelCode, LabelPlan, SoftLabels, SoftLabelsWriter};
pub use stage::{Observer, StageLog};
pub use stages::{Stage, Stages, key};
pub use talk::{Display, Event};
pub use work::{Shard, Work};
