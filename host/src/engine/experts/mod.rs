//! Expert trajectories: networks trained on real data, with a snapshot after every epoch.
//!
//! | file | what |
//! |---|---|
//! | `manifest` | what experts of a folder have in common, so that those of another recipe are not taken for them |
//! | `mapped` | a safetensors file of which only what is asked for is read |
//! | `folder` | the trajectories' files |
//! | `training` | one that is missing |

mod folder;
#[cfg(test)]
mod mangled;
mod manifest;
mod mapped;
mod training;

pub use folder::ExpertFolder;
pub use manifest::ExpertManifest;
pub use training::{ExpertTrainer, Trajectory};
