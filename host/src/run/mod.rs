//! The run directory: what a run leaves behind, never half-written; and what a run shows while it goes.

mod atomic;
mod checkpoints;
mod directory;
mod distilled;
mod interruption;
mod journal;
mod metrics;
mod png;
mod read;
mod soft_labels;
mod stage;
mod stages;
mod work;

pub use atomic::{write_atomically, write_text};
pub use checkpoints::{CHECKPOINT, Checkpoint};
pub use directory::{Begun, RunDirectory, Typed, shell};
pub use distilled::{Distilled, DistilledManifest, write_distilled};
pub use interruption::{CANCELLED, Interruption};
pub use journal::{Display, Journal};
pub use metrics::{Measurement, measurements};
pub use png::{attacked_sheet, bytes, png, sheet, write_png};
pub use read::{read_json, unreadable};
pub use soft_labels::{LabelCode, LabelPlan, SoftLabels, SoftLabelsWriter};
pub use stage::{Observer, StageLog};
pub use stages::{Stage, Stages, key};
pub use work::{Shard, Work};
