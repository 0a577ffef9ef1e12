//! Networks as functions of (parameters, buffers, input).
//!
//! A [`Program`] is an architecture for a given input: a list of [`Operation`]s over named tensors, with the names of the
//! definition that it follows (torchvision's, timm's, the papers' code). A [`Model`] is a program with tensors.
//! Normalisation is part of it, and [`Whitening`] where there is one: outside, everything is pixels in [0,1].
//!
//! Reading order: `architecture` is what a recipe can name; one file a family writes its program with `layers`; `forward`
//! runs it, `summary` counts what that costs.

mod architecture;
mod cifar_resnet;
mod convnet;
mod convolution;
mod forward;
mod inference;
mod layers;
mod mobilenet;
mod model;
mod operation;
mod precision;
mod program;
mod replayed;
mod resnet;
mod resnet_ap;
mod shufflenet;
mod summary;
#[cfg(test)]
mod tests;
mod vit;
pub mod weights;
mod whitening;
mod wide_resnet;

pub use architecture::{Architecture, NetworkSpec, NormLayer};
pub use cifar_resnet::CifarResnet;
pub use convnet::Convnet;
pub use mobilenet::Mobilenet;
pub use model::{Model, channels_last};
pub use operation::{BatchNorm, Convolution, Operation};
pub use precision::Precision;
pub use program::{Buffer, Initial, Parameter, Program};
pub use replayed::Replayed;
pub use resnet::{NamedResnet, Resnet, Stem};
pub use resnet_ap::ResnetAp;
pub use shufflenet::Shufflenet;
pub use summary::{Layer, Summary};
pub use vit::Vit;
pub use whitening::{Inverse, Whitening, WhiteningMap};
pub use wide_resnet::WideResnet;
