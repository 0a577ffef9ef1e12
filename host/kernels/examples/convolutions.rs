//! Convolutions 3×3, their input and weight gradients, beside libtorch's: milliseconds, and the deviation from float64 as a
//! share of the largest value. On two threads; the shapes are those of a ConvNet-3, a ResNet-20 and a ResNet-18.

use guard_sdk::{
    Kind, Result, Tensor,
    abi::shim::prepare_memory,
    autograd::{Graph, grad},
};
use std::time::Instant;
use tch::Device;

/// Images, channels in and out, height and width.
const SHAPES: [[i64; 4]; 8] = [
    [16, 128, 128, 16],
    [128, 128, 128, 16],
    [64, 16, 16, 32],
    [64, 32, 32, 16],
    [64, 64, 64, 8],
    [100, 64, 64, 32],
    [100, 256, 256, 8],
    [100, 512, 512, 4],
];

/// How often each is timed: the fastest counts.
const TIMES: usize = 7;

type Layer = dyn Fn(&Tensor, &Tensor) -> Result<Tensor>;

fn main() -> Result<()> {
    prepare_memory();
    tch::set_num_threads(2);
    let libtorchs =
        |x: &Tensor, weight: &Tensor| Ok(x.f_conv2d(weight, None::<&Tensor>, [1, 1], [1, 1], [1, 1], 1)?);
    let ours = |x: &Tensor, weight: &Tensor| guard_kernels::convolution(x, weight, None, 1, 1);
    println!("| images, channels, side | | ours, ms | libtorch, ms | ratio | ours off | libtorch off |");
    println!("|---|---|---|---|---|---|---|");
    for [images, from, to, side] in SHAPES {
        tch::manual_seed(0);
        let random = |shape: [i64; 4]| channels_last(&Tensor::randn(shape, (Kind::Float, Device::Cpu)));
        let (x, weight) = (random([images, from, side, side]), random([to, from, 3, 3]));
        let along = random([images, to, side, side]);
        let exact = [&x, &weight, &along].map(|tensor| tensor.to_kind(Kind::Double));
        let [wanted, found, theirs] = [
            passes(&libtorchs, [&exact[0], &exact[1], &exact[2]], 1)?,
            passes(&ours, [&x, &weight, &along], TIMES)?,
            passes(&libtorchs, [&x, &weight, &along], TIMES)?,
        ];
        for (at, what) in ["forward", "input gradient", "weight gradient"].iter().enumerate() {
            let off = |pass: &(Tensor, f64)| {
                let deviation = (pass.0.to_kind(Kind::Double) - &wanted[at].0).abs().max();
                (deviation / wanted[at].0.abs().max()).double_value(&[])
            };
            let (ours, theirs) = (&found[at], &theirs[at]);
            println!(
                "| {images}, {from}, {side} | {what} | {:.2} | {:.2} | {:.2} | {:.1e} | {:.1e} |",
                ours.1,
                theirs.1,
                theirs.1 / ours.1,
                off(ours),
                off(theirs)
            );
        }
    }
    Ok(())
}

/// The output, input gradient and weight gradient, and the fewest milliseconds that each took.
fn passes(layer: &Layer, [x, weight, along]: [&Tensor; 3], times: usize) -> Result<Vec<(Tensor, f64)>> {
    let of = |tensor: &Tensor, wanted: bool| tensor.detach().set_requires_grad(wanted);
    let mut found = vec![fastest(times, || layer(x, weight))?];
    for input in [true, false] {
        let (x, weight) = (of(x, input), of(weight, !input));
        let output = layer(&x, &weight)?;
        let product = (&output * along).sum(output.kind());
        let asked = if input { &x } else { &weight };
        // The product's own gradient, one pass over the output's memory, is in both sides' time.
        found.push(fastest(times, || Ok(grad(&product, &[asked], Graph::Keep)?.remove(0)))?);
    }
    Ok(found)
}

fn fastest(times: usize, mut pass: impl FnMut() -> Result<Tensor>) -> Result<(Tensor, f64)> {
    let mut result = (pass()?, f64::INFINITY);
    for _ in 0..times {
        let begun = Instant::now();
        let tensor = pass()?;
        result = (tensor, result.1.min(begun.elapsed().as_secs_f64() * 1e3));
    }
    Ok(result)
}

fn channels_last(x: &Tensor) -> Tensor {
    x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}
