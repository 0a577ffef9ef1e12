//! The run directory: what a run leaves behind, never half-written; and what a run shows while it goes.

mod atomic;
mod directory;
mod distilled;
mod png;
mod soft_labels;
mod stage;

pub use atomic::{write_atomically, write_text};
pub use directory::RunDirectory;
pub use distilled::{DistilledManifest, write_distilled};
pub use png::{sheet, write_png};
pub use soft_labels::{LabelCode, LabelPlan, SoftLabels, SoftLabelsWriter};
pub use stage::{Display, Journal, Observer, StageLog};
