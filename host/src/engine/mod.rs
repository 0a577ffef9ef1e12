//! The stages: train → distill → relabel → evaluate.
//!
//! | file | what |
//! |---|---|
//! | `training_loss` | cross-entropy and regularizers: the one loss on real data that every objective composes with |
//! | `optimizer`, `schedule` | SGD, Adam, AdamW; how learning rates and weights of penalties go |
//! | `train`, `average` | a network on real data (teacher), and the running average of its weights |
//! | `lab` | what objectives ask the host for |
//! | `distill` | synthetic images |
//! | `student` | a network on synthetic images, and the labels it learns from |
//! | `evaluate` | clean and robust accuracy, and what makes the numbers doubtful |
//! | `pipeline` | the stages in order, for every variant |

mod average;
mod distill;
mod evaluate;
mod lab;
mod optimizer;
mod pipeline;
mod schedule;
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
pub use schedule::Ramp;
pub use student::{LabelSource, StudentTrainer};
pub use train::{Trained, Trainer};
pub use training_loss::{Term, TrainingLoss, WeightedRegularizer};
