//! What torchattacks drew, drawn again: the host seeds libtorch's generator before it calls a method, and here the draws
//! come from it in the order in which torchattacks asks for them.

use guard_host::random::RandomSource;
use guard_sdk::{
    Device, Error, Result, Tensor,
    services::{Distribution, Draw},
};
use std::{cell::RefCell, rc::Rc};

/// Draws from libtorch's generator, and what was drawn so far, in order and flat.
#[derive(Default)]
pub struct Replay {
    seed: u64,
    /// The part of AutoAttack that drew last: each part of torchattacks' seeds the generator again.
    part: RefCell<String>,
    drawn: Rc<RefCell<Vec<Tensor>>>,
}

impl Replay {
    pub fn seeded(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// What will have been drawn.
    pub fn drawn(&self) -> Rc<RefCell<Vec<Tensor>>> {
        self.drawn.clone()
    }

    fn take(&self, shape: &[i64], draw: &Draw) -> Tensor {
        let options = (draw.kind, Device::Cpu);
        let drawn = match draw.distribution {
            Distribution::Uniform => Tensor::rand(shape, options),
            Distribution::Normal => Tensor::randn(shape, options),
        };
        self.drawn.borrow_mut().push(drawn.flatten(0, -1));
        drawn
    }
}

impl RandomSource for Replay {
    fn random(&self, _: &str, _: u64, draw: &Draw) -> Result<Tensor> {
        let (part, stream) = match draw.stream.split_once('.') {
            Some((part, stream)) if part.parse::<u64>().is_ok() => (part, stream),
            _ => ("", draw.stream),
        };
        if self.part.replace(part.to_string()) != part {
            tch::manual_seed(self.seed as i64);
        }
        let rows = draw.ids.len() as i64;
        let shape: Vec<i64> = std::iter::once(rows).chain(draw.shape.iter().copied()).collect();
        match stream {
            // Row, column and colours are one for the whole batch there.
            "square" => {
                let numbers =
                    [self.take(&[1], draw), self.take(&[1], draw), self.take(&[draw.shape[0] - 2], draw)];
                Ok(Tensor::cat(&numbers, 0).unsqueeze(0).repeat([rows, 1]))
            }
            "start" | "square.stripes" | "apgd.ce" | "apgd.dlr" | "apgd.targeted" => {
                Ok(self.take(&shape, draw))
            }
            other => Err(Error::new(format!("torchattacks has no draw `{other}`"))),
        }
    }

    fn seed(&self, _: &str, _: u64) -> u64 {
        self.seed
    }
}
