//! One forward pass: the operations of a program, one after the other.

use super::{
    convolution::affine,
    model::Model,
    operation::{BatchNorm, Convolution, Operation},
};
use guard_sdk::{Device, Error, Kind, Mode, Output, Pass, Result, Statistics, Tensor};

/// BatchNorm's momentum, and the ε of BatchNorm and GroupNorm: PyTorch's own.
const MOMENTUM: f64 = 0.1;
pub(super) const EPSILON: f64 = 1e-5;

/// The state of one pass.
pub(super) struct Run<'a> {
    model: &'a Model,
    pass: Pass,
    commit: bool,
    /// Whether libtorch's autocast chooses dtypes.
    mixed: bool,
    embedding: Option<Tensor>,
    statistics: Vec<Statistics>,
    features: Vec<(String, Tensor)>,
}

impl<'a> Run<'a> {
    /// `commit` says whether a train-mode pass updates the running statistics.
    pub(super) fn new(model: &'a Model, pass: Pass, commit: bool) -> Self {
        let (statistics, features) = (Vec::new(), Vec::new());
        Self { model, pass, commit, mixed: false, embedding: None, statistics, features }
    }

    /// The whole program on normalised images.
    pub(super) fn output(mut self, images: Tensor) -> Result<Output> {
        self.mixed = images.kind() == Kind::BFloat16;
        let logits = self.all(&self.model.program().operations, images)?;
        let Self { embedding, statistics, features, .. } = self;
        Ok(Output { logits, embedding, statistics, features })
    }

    fn all(&mut self, operations: &[Operation], mut x: Tensor) -> Result<Tensor> {
        let parameters = self.model.parameters();
        let mut rest = operations;
        // Whether nobody else holds `x`, nor needs it for its gradient: then it is written in place.
        let mut own = false;
        while let [operation, after @ ..] = rest {
            rest = after;
            x = match (operation, after) {
                (Operation::Convolution(convolution), [Operation::BatchNorm(norm), after @ ..])
                    if self.folds(&x, convolution) =>
                {
                    rest = after;
                    let (weight, bias) = convolution.folded(norm, parameters, self.model.buffers())?;
                    self.convolve(convolution, &x, &weight, Some(&bias))?
                }
                (
                    Operation::GroupNorm { groups, weight },
                    [Operation::Relu, Operation::AveragePool, after @ ..],
                ) if *groups == x.size()[1] && guard_kernels::serve(&x) => {
                    rest = after;
                    let (weight, bias) = (&parameters[*weight], &parameters[*weight + 1]);
                    guard_kernels::norm_relu_pool(&x, weight, bias, EPSILON)?
                }
                (Operation::AveragePool, _)
                    if guard_kernels::serve(&x) && guard_kernels::is_channels_last(&x) =>
                {
                    guard_kernels::average_pool(&x)?
                }
                (Operation::Relu, _) if own => x.f_relu_()?,
                _ => self.one(operation, x)?,
            };
            own = operation.makes_its_own();
        }
        Ok(x)
    }

    /// Whether BatchNorm behind this convolution is better folded into it: in eval mode it is affine, and there are more
    /// activations than weights. Frozen networks are folded once instead, by [`Model::for_inference`].
    fn folds(&self, x: &Tensor, convolution: &Convolution) -> bool {
        let Pass { mode, statistics, .. } = self.pass;
        let positions = x.numel() as i64 / x.size()[1] / (convolution.stride * convolution.stride);
        let weight = &self.model.parameters()[convolution.weight];
        let weights = weight.numel() as i64 / weight.size()[0];
        weight.requires_grad() && mode == Mode::Eval && !statistics && precise(x) && positions >= weights
    }

    fn convolve(
        &self,
        convolution: &Convolution,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
    ) -> Result<Tensor> {
        match self.mixed {
            true => convolution.of_libtorch(x, weight, bias),
            false => convolution.apply(x, weight, bias),
        }
    }

    fn one(&mut self, operation: &Operation, x: Tensor) -> Result<Tensor> {
        let parameters = self.model.parameters();
        let (weight_of, bias_of) = (|at: usize| &parameters[at], |at: usize| Some(&parameters[at + 1]));
        Ok(match operation {
            Operation::Convolution(convolution) => {
                let bias = convolution.bias.map(|bias| &parameters[bias]);
                self.convolve(convolution, &x, weight_of(convolution.weight), bias)?
            }
            Operation::BatchNorm(norm) => self.batch_norm(norm, &x)?,
            Operation::GroupNorm { groups, weight } => {
                x.f_group_norm(*groups, Some(weight_of(*weight)), bias_of(*weight), EPSILON, true)?
            }
            Operation::LayerNorm { shape, weight, epsilon } => {
                x.f_layer_norm(shape, Some(weight_of(*weight)), bias_of(*weight), *epsilon, true)?
            }
            Operation::Relu => x.f_relu()?,
            Operation::Relu6 => x.f_relu6()?,
            Operation::Gelu => x.f_gelu("none")?,
            Operation::Dropout(share) => x.f_dropout(*share, self.pass.mode == Mode::Train)?,
            Operation::AveragePool => x.f_avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None)?,
            Operation::MaximumPool => x.f_max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false)?,
            Operation::GlobalPool => x.f_adaptive_avg_pool2d([1, 1])?,
            Operation::Subsample { padding } => x
                .f_slice(2, None, None, 2)?
                .f_slice(3, None, None, 2)?
                .f_constant_pad_nd([0, 0, 0, 0, *padding, *padding])?,
            Operation::Shuffle { groups } => {
                let (n, c, h, w) = x.size4()?;
                x.f_reshape([n, *groups, c / groups, h, w])?.f_transpose(1, 2)?.f_reshape([n, c, h, w])?
            }
            Operation::Flatten => x.f_flatten(1, -1)?,
            Operation::Tokens { class, position } => {
                let patches = x.f_flatten(2, -1)?.f_transpose(1, 2)?;
                let class = weight_of(*class).f_expand([x.size()[0], -1, -1], false)?;
                Tensor::f_cat(&[class, patches], 1)?.f_add(weight_of(*position))?
            }
            Operation::Attention { heads } => attention(&x, *heads)?,
            Operation::ClassToken => x.f_select(1, 0)?,
            Operation::Embedding => {
                self.embedding = self.pass.embedding.then(|| x.shallow_clone());
                x
            }
            Operation::Stage(name) => {
                if self.pass.features {
                    self.features.push((name.clone(), x.shallow_clone()));
                }
                x
            }
            Operation::Residual { main, shortcut } => {
                let short = self.all(shortcut, x.shallow_clone())?;
                let mut long = self.all(main, x)?;
                match main.last().is_some_and(Operation::makes_its_own) {
                    true => long.f_add_(&short)?,
                    false => long.f_add(&short)?,
                }
            }
            Operation::Concatenate { split, branches: [first, second] } => {
                let (left, right) = match split {
                    true => {
                        let half = x.size()[1] / 2;
                        (x.f_narrow(1, 0, half)?, x.f_narrow(1, half, half)?)
                    }
                    false => (x.shallow_clone(), x),
                };
                Tensor::f_cat(&[self.all(first, left)?, self.all(second, right)?], 1)?
            }
            Operation::Linear { weight } => x.f_linear(weight_of(*weight), bias_of(*weight))?,
        })
    }

    fn batch_norm(&mut self, norm: &BatchNorm, x: &Tensor) -> Result<Tensor> {
        let BatchNorm { name, weight, mean } = norm;
        let (parameters, buffers) = (self.model.parameters(), self.model.buffers());
        let (running_mean, running_variance) = (&buffers[*mean], &buffers[*mean + 1]);
        if self.pass.statistics {
            // A mean in half precision would be too coarse.
            let exact = if self.mixed { x.to_kind(Kind::Float) } else { x.shallow_clone() };
            let (mean, variance) = guard_kernels::batch_statistics(&exact)?;
            self.statistics.push(Statistics {
                layer: name.clone(),
                mean,
                variance,
                running_mean: running_mean.shallow_clone(),
                running_variance: running_variance.shallow_clone(),
            });
        }
        let (eval, differentiated) =
            (self.pass.mode == Mode::Eval, self.pass.statistics || parameters[*weight].requires_grad());
        if eval && differentiated && x.device() == Device::Cpu && precise(x) {
            // libtorch's own takes several times as long to differentiate.
            let (scale, shift) = affine(norm.tensors(parameters, buffers))?;
            let per_channel = |values: Tensor| values.f_reshape([1, -1, 1, 1]);
            return Ok(per_channel(shift)?.f_addcmul(x, &per_channel(scale)?)?);
        }
        let train = self.pass.mode == Mode::Train;
        if train && x.size().iter().product::<i64>() == x.size()[1] {
            let message =
                format!("BatchNorm layer `{name}` sees a single value per channel in a batch of one image");
            return Err(Error::new(message).help("choose a batch size that does not leave one image over"));
        }
        let apply = |running_mean: &Tensor, running_variance: &Tensor| {
            x.f_batch_norm(
                Some(&parameters[*weight]),
                Some(&parameters[*weight + 1]),
                Some(running_mean),
                Some(running_variance),
                train,
                MOMENTUM,
                EPSILON,
                true,
            )
        };
        if !train || self.commit {
            if train {
                let _ = buffers[*mean + 2].shallow_clone().f_add_scalar_(1)?;
            }
            return Ok(apply(running_mean, running_variance)?);
        }
        Ok(apply(&running_mean.copy(), &running_variance.copy())?)
    }
}

/// Whether BatchNorm's factors can be computed in the activations' own dtype.
fn precise(x: &Tensor) -> bool {
    matches!(x.kind(), Kind::Float | Kind::Double)
}

/// Softmax attention of each token to all: queries, keys and values `[N,T,3·C]` to `[N,T,C]`. In single operations, each of
/// which can be differentiated twice; libtorch's fused attention cannot.
fn attention(x: &Tensor, heads: i64) -> Result<Tensor> {
    let (n, tokens, width) = x.size3()?;
    let channels = width / (3 * heads);
    // [3,N,heads,T,channels]
    let split = x.f_reshape([n, tokens, 3, heads, channels])?.f_permute([2, 0, 3, 1, 4])?;
    let part = |index| split.f_select(0, index);
    let scaled = part(0)?.f_mul_scalar(1.0 / (channels as f64).sqrt())?;
    let weights = scaled.f_matmul(&part(1)?.f_transpose(-2, -1)?)?.f_softmax(-1, None)?;
    Ok(weights.f_matmul(&part(2)?)?.f_transpose(1, 2)?.f_reshape([n, tokens, width / 3])?)
}
