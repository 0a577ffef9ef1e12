//! Networks as functions of (parameters, buffers, input).
//!
//! A [`Program`] is an architecture for a given input: a list of operations over named tensors, with torchvision's names.
//! A [`Model`] is a program with tensors. Normalisation is part of it: outside, everything is pixels in [0,1].

mod architecture;
mod convnet;
mod model;
mod program;
mod resnet;
pub mod weights;

pub use architecture::{Architecture, Convnet, NetworkSpec, NormLayer, Resnet, Stem};
pub use model::Model;
pub use program::{Buffer, Initial, Operation, Parameter, Program};
