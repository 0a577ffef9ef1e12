//! A network whose passes are replayed from CUDA graphs: what attacks do thousands of times, on batches of a few shapes.

use super::model::Model;
use guard_device::{Graphed, records_graphs};
use guard_sdk::{
    Kind, Mode, NetworkInfo, Output, Pass, Result, Space, Tensor,
    network::{NetworkBackend, Tensors},
};
use std::{any::Any, cell::RefCell};

/// How often a shape is seen before its passes are recorded, which takes as long as several of them.
const SEEN_OFTEN: u64 = 10;

/// How many shapes are recorded at most: each keeps its activations.
const MOST: usize = 4;

/// A frozen network. Where nothing records graphs, or there is no GPU, it is the network and nothing else.
pub struct Replayed {
    model: Model,
    shapes: RefCell<Vec<Shape>>,
}

/// Images that have passed.
struct Shape {
    size: Vec<i64>,
    kind: Kind,
    space: Space,
    times: u64,
    graphed: Option<Graphed>,
}

impl Replayed {
    /// A network whose parameters need no gradients.
    pub fn new(model: Model) -> Self {
        Self { model, shapes: RefCell::default() }
    }

    /// The logits of a pass that is recorded, or has just been; none if it is to be made.
    fn replayed(&self, images: &Tensor, space: Space) -> Result<Option<Tensor>> {
        let mut shapes = self.shapes.borrow_mut();
        let recorded = shapes.iter().filter(|shape| shape.graphed.is_some()).count();
        let (size, kind) = (images.size(), images.kind());
        let known = shapes
            .iter()
            .position(|shape| shape.size == size && shape.kind == kind && shape.space == space)
            .unwrap_or_else(|| {
                shapes.push(Shape { size, kind, space, times: 0, graphed: None });
                shapes.len() - 1
            });
        let shape = &mut shapes[known];
        shape.times += 1;
        if shape.times == SEEN_OFTEN && recorded < MOST {
            let pass = |images: &Tensor| Ok(self.model.forward(images, Pass::new(space), false)?.logits);
            let graphed = Graphed::record(images, &pass);
            shape.graphed = Some(graphed.map_err(|error| {
                error.context("the network's passes cannot be recorded").help("run without `--graphs`")
            })?);
        }
        shape.graphed.as_ref().map(|graphed| graphed.apply(images)).transpose()
    }
}

impl NetworkBackend for Replayed {
    fn info(&self) -> &NetworkInfo {
        self.model.info()
    }

    fn pass(&self, images: &Tensor, pass: Pass) -> Result<Output> {
        let plain = pass.mode == Mode::Eval && !pass.embedding && !pass.statistics && !pass.features;
        if plain
            && records_graphs()
            && images.device().is_cuda()
            && let Some(logits) = self.replayed(images, pass.space)?
        {
            return Ok(Output { logits, embedding: None, statistics: Vec::new(), features: Vec::new() });
        }
        self.model.pass(images, pass)
    }

    fn tensors(&self) -> Result<Tensors> {
        self.model.tensors()
    }

    fn rebind(&self, parameters: &[&Tensor]) -> Result<Box<dyn NetworkBackend>> {
        self.model.rebind(parameters)
    }

    fn as_any(&self) -> &dyn Any {
        self.model.as_any()
    }
}
