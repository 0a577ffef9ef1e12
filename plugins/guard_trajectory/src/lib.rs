//! Synthetic images that lead a network where real ones led it.
//!
//! | method | gradient | paper |
//! |---|---|---|
//! | [`Mtt`] | of the whole unroll; memory grows with its steps | Cazenavette et al., CVPR 2022, arXiv 2203.11932 |
//! | [`Tesla`] | of the unroll in which earlier gradients are constants; memory of one step | Cui et al., ICML 2023, arXiv 2211.10586 |
//!
//! | file | what |
//! |---|---|
//! | `options` | their options, and what they ask the host for |
//! | `unroll` | where a step starts and should end, and the steps in between |
//! | `mtt`, `tesla` | the two gradients |
#![forbid(unsafe_code)]

mod mtt;
mod options;
mod tesla;
mod unroll;

pub use mtt::Mtt;
pub use options::{Minibatches, SoftLabelOptions, TrajectoryOptions};
pub use tesla::Tesla;

guard_sdk::plugin! {
    id: "guard.trajectory",
    objectives: [Mtt, Tesla],
}
