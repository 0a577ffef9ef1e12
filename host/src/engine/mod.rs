//! The stages: train → distill → relabel → evaluate.
//!
//! | file | what |
//! |---|---|
//! | `training_loss` | cross-entropy and regularizers: the one loss on real data that every objective composes with |
//! | `optimizer`, `schedule` | SGD, Adam, AdamW; how learning rates and weights of penalties go |
//! | `train`, `average`, `progress` | a network on real data (teacher), the running average of its weights, what else training remembers |
//! | `parts` | what a stage that was cut needs to go on |
//! | `lab` | what objectives ask the host for |
//! | `experts` | trajectories of networks on real data |
//! | `distill` | synthetic images; `first_images`, what they start from; `soft_labels`, labels that are learned with them |
//! | `views` | what networks see of the synthetic images: order, augmentation, Mixup and CutMix |
//! | `relabel` | the teacher's word on every view, stored |
//! | `student` | a network on synthetic images, and the labels it learns from |
//! | `student_loss` | divergence from soft labels, cross-entropy to classes |
//! | `evaluate` | clean and robust accuracy, and what makes the numbers doubtful |
//! | `estimate`, `calibrate` | what a run will take, told before it begins |
//! | `keys` | what determines the outcome of each stage |
//! | `pipeline`, `results` | the stages in order, for every variant, each run once; what they found |

mod average;
mod calibrate;
mod distill;
mod estimate;
mod evaluate;
pub mod experts;
mod first_images;
mod keys;
mod lab;
mod optimizer;
mod parts;
mod pipeline;
mod progress;
mod relabel;
mod results;
mod schedule;
mod soft_labels;
mod student;
mod student_loss;
mod train;
mod training_loss;
mod undo;
mod views;

pub use distill::{Distiller, ImageGroup, Part, Stopped, SyntheticSet, together};
pub use estimate::{Estimate, ImageCounts, estimate};
pub use evaluate::{
    AttackResult, Classes, Correct, EvalOnly, Evaluation, EvaluationAttack, Evaluator, Examples, Flag, Keep,
    Member, PROBE_ATTACKS, Surrogates, UnderThreat, accuracy, arrays, count, rounded,
};
pub use lab::{HostLab, Room};
pub use optimizer::OptimizerState;
pub use pipeline::Pipeline;
pub use relabel::relabel;
pub use results::{EVALUATIONS, NetworkResults, RunResults, StudentResult, VariantResults};
pub use schedule::Ramp;
pub use student::{LabelSource, StudentTrainer};
pub use student_loss::{Target, divergence, student_terms};
pub use train::{Trained, Trainer};
pub use training_loss::{Term, TrainingLoss, WeightedRegularizer};
pub use views::{BatchView, Mix, Views};
