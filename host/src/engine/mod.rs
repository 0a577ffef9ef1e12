//! The stages: train → distill → relabel → evaluate.
//!
//! | file | what |
//! |---|---|
//! | `training_loss` | cross-entropy and regularizers: the one loss on real data that every objective composes with |
//! | `optimizer` | SGD, Adam, AdamW and their schedules |
//! | `train` | a network on real data (teacher) |
//! | `lab` | what objectives ask the host for |
//! | `distill` | synthetic images |
//! | `student` | a network on synthetic images, and the labels it learns from |
//! | `evaluate` | clean and robust accuracy, and what makes the numbers doubtful |
//! | `pipeline` | the stages in order, for every variant |

mod distill;
mod evaluate;
mod lab;
mod optimizer;
mod pipeline;
mod student;
mod train;
mod training_loss;

pub use distill::{Distiller, ImageGroup, Stopped, SyntheticSet};
pub use evaluate::{
    AttackResult, Correct, EvalOnly, Evaluation, EvaluationAttack, Evaluator, Flag, Keep, Member,
    PROBE_ATTACKS, Surrogates, UnderThreat, accuracy, count, rounded,
};
pub use lab::{HostLab, Room};
pub use optimizer::OptimizerState;
pub use pipeline::{Pipeline, RunResults, StudentResult, VariantResults};
pub use student::{LabelSource, StudentTrainer};
pub use train::{Trained, Trainer};
pub use training_loss::{Term, TrainingLoss, WeightedRegularizer};
