//! The stages: train → distill → relabel → evaluate.
//!
//! | file | what |
//! |---|---|
//! | `training_loss` | cross-entropy and regularizers: the one loss on real data that every objective composes with |
//! | `optimizer` | SGD, Adam, AdamW and their schedules |
//! | `train` | a network on real data (teacher) |
//! | `lab` | what objectives ask the host for |
//! | `experts` | trajectories of networks on real data |
//! | `distill` | synthetic images; `first_images`, what they start from; `soft_labels`, labels that are learned with them |
//! | `student` | a network on synthetic images, and the labels it learns from |
//! | `evaluate` | clean and robust accuracy, and what makes the numbers doubtful |
//! | `pipeline` | the stages in order, for every variant |

mod distill;
mod evaluate;
pub mod experts;
mod first_images;
mod lab;
mod optimizer;
mod pipeline;
mod soft_labels;
mod student;
mod train;
mod training_loss;

pub use distill::{Distiller, ImageGroup, Stopped, SyntheticSet};
pub use evaluate::{
    AttackResult, Correct, EvalOnly, Evaluation, EvaluationAttack, Evaluator, Flag, Keep, Member,
    PROBE_ATTACKS, UnderThreat, accuracy, count,
};
pub use lab::{HostLab, Room};
pub use optimizer::OptimizerState;
pub use pipeline::{Pipeline, RunResults, StudentResult, VariantResults};
pub use student::{LabelSource, StudentTrainer};
pub use train::{Trained, Trainer};
pub use training_loss::{Term, TrainingLoss, WeightedRegularizer};
