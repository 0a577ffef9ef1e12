use super::*;
use guard_sdk::autograd::{Graph, grad};
use tch::Device;

const EPSILON: f64 = 1e-5;

fn plain_pool(x: &Tensor) -> Tensor {
    x.avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None)
}

fn plain(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
    plain_pool(&x.group_norm(x.size()[1], Some(weight), Some(bias), EPSILON, true).relu())
}

/// Activations, weight and bias that require gradients; mean and scale differ from plane to plane.
fn inputs(shape: [i64; 4], kind: Kind) -> [Tensor; 3] {
    tch::set_num_threads(2);
    tch::manual_seed(shape.iter().sum());
    let options = (kind, Device::Cpu);
    let scale = Tensor::rand([shape[0], shape[1], 1, 1], options) * 4.0;
    let x = channels_last(&(Tensor::randn(shape, options) * &scale + scale));
    [x, Tensor::randn([shape[1]], options), Tensor::randn([shape[1]], options)]
        .map(|tensor| tensor.set_requires_grad(true))
}

fn off(left: &Tensor, right: &Tensor) -> f64 {
    assert_eq!(left.size(), right.size());
    ((left - right).abs().max() / (right.abs().max() + 1e-12)).double_value(&[])
}

/// Strips are of 16 channels: parts of one, one, several.
const SHAPES: [[i64; 4]; 6] =
    [[3, 5, 8, 8], [2, 19, 7, 9], [1, 1, 2, 2], [4, 16, 32, 32], [3, 48, 6, 6], [2, 2, 3, 600]];

#[test]
fn values_and_gradients_are_libtorchs() {
    for (kind, tolerance) in [(Kind::Double, 1e-12), (Kind::Float, 2e-5)] {
        for shape in SHAPES {
            let [x, weight, bias] = &inputs(shape, kind);
            let (ours, theirs) = (norm_relu_pool(x, weight, bias, EPSILON).unwrap(), plain(x, weight, bias));
            assert!(off(&ours, &theirs) < tolerance, "{shape:?} {kind:?}: {}", off(&ours, &theirs));
            let direction = ours.randn_like();
            let wanted = [x, weight, bias];
            let gradients =
                |y: &Tensor| grad(&(y * &direction).sum(None::<Kind>), &wanted, Graph::Free).unwrap();
            for (ours, theirs) in gradients(&ours).iter().zip(gradients(&theirs)) {
                assert!(off(ours, &theirs) < tolerance, "{shape:?} {kind:?}: {}", off(ours, &theirs));
            }
            let (ours, theirs) = (average_pool(x).unwrap(), plain_pool(x));
            assert!(off(&ours, &theirs) < tolerance);
            let first = |y: &Tensor| grad(&(y * &direction).sum(None::<Kind>), &[x], Graph::Free).unwrap();
            assert!(off(&first(&ours)[0], &first(&theirs)[0]) < tolerance);
        }
    }
}

#[test]
fn second_derivatives_are_libtorchs() {
    for shape in SHAPES {
        let [x, weight, bias] = &inputs(shape, Kind::Double);
        let second = |layer: &dyn Fn(&Tensor) -> Tensor| {
            // A cube in front, so that the pooling alone has a second derivative as well.
            let y = layer(&(x * x * x));
            let first =
                grad(&y.pow_tensor_scalar(2).sum(None::<Kind>), &[x], Graph::Create).unwrap().remove(0);
            let inputs: Vec<&Tensor> = [x, weight, bias].into_iter().collect();
            shim_grad(&first.pow_tensor_scalar(2).sum(None::<Kind>), &inputs)
        };
        let ours = second(&|x| norm_relu_pool(x, weight, bias, EPSILON).unwrap());
        for (ours, theirs) in ours.iter().zip(second(&|x| plain(x, weight, bias))) {
            match (ours, theirs) {
                (Some(ours), Some(theirs)) => assert!(off(ours, &theirs) < 1e-9, "{shape:?}"),
                (ours, theirs) => assert_eq!(ours.is_some(), theirs.is_some()),
            }
        }
        let (ours, theirs) = (second(&|x| average_pool(x).unwrap()), second(&plain_pool));
        assert!(off(ours[0].as_ref().unwrap(), theirs[0].as_ref().unwrap()) < 1e-12, "{shape:?}");
    }
}

/// Every way to ask for the second derivative: some of input, weight, bias and the output's gradient, with directions on all
/// three gradients, with a graph and without.
#[test]
fn second_derivatives_do_not_depend_on_what_else_is_asked_for() {
    let [x, weight, bias] = &inputs([3, 19, 7, 9], Kind::Double);
    let up = &Tensor::randn([3, 19, 3, 4], (Kind::Double, Device::Cpu)).set_requires_grad(true);
    let directions = [x, weight, bias].map(|tensor| tensor.randn_like());
    let second = |y: &Tensor, asked: &[&Tensor], graph: Graph| {
        let first = grad(&(y * up).sum(None::<Kind>), &[x, weight, bias], Graph::Create).unwrap();
        let products =
            first.iter().zip(&directions).map(|(gradient, along)| (gradient * along).sum(None::<Kind>));
        grad(&products.sum(), asked, graph).unwrap()
    };
    let all = [x, weight, bias, up];
    for subset in 1..1 << all.len() {
        let asked: Vec<&Tensor> =
            (0..all.len()).filter(|at| subset >> at & 1 == 1).map(|at| all[at]).collect();
        for graph in [Graph::Free, Graph::Create] {
            let ours = second(&norm_relu_pool(x, weight, bias, EPSILON).unwrap(), &asked, graph);
            let theirs = second(&plain(x, weight, bias), &asked, graph);
            for (ours, theirs) in ours.iter().zip(&theirs) {
                // The bias has none.
                let deviation = (ours - theirs).abs().max().double_value(&[]);
                let largest = theirs.abs().max().double_value(&[]);
                assert!(deviation < 1e-9 * largest + 1e-12, "{subset:04b} {graph:?}: {deviation}");
            }
        }
    }
}

#[test]
fn third_derivatives_of_the_fused_layer_are_libtorchs() {
    for shape in [[3, 5, 8, 8], [2, 19, 7, 9], [3, 48, 6, 6]] {
        let inputs = &inputs(shape, Kind::Double);
        let derivatives = |layer: &dyn Fn(&Tensor, &Tensor, &Tensor) -> Tensor| {
            let [x, weight, bias] = inputs;
            let mut value = layer(x, weight, bias).pow_tensor_scalar(3).mean(None::<Kind>);
            let mut found = Vec::new();
            for _ in 0..3 {
                let gradients = grad(&value, &[x, weight, bias], Graph::Create).unwrap();
                value = gradients.iter().map(|gradient| gradient.square().mean(None::<Kind>)).sum();
                found.extend(gradients);
            }
            found
        };
        let ours = derivatives(&|x, weight, bias| norm_relu_pool(x, weight, bias, EPSILON).unwrap());
        for (ours, theirs) in ours.iter().zip(derivatives(&plain)) {
            assert!(off(ours, &theirs) < 1e-9, "{shape:?}: {}", off(ours, &theirs));
        }
    }
}

fn shim_grad(output: &Tensor, inputs: &[&Tensor]) -> Vec<Option<Tensor>> {
    guard_sdk::autograd::grad_if_used(output, inputs, Graph::Free).unwrap()
}

#[test]
fn frozen_weights_cost_no_gradient_and_leave_second_derivatives_whole() {
    let [x, weight, bias] = &inputs([2, 4, 6, 6], Kind::Double);
    let (weight, bias) = (&weight.detach(), &bias.detach());
    let second = |layer: &dyn Fn(&Tensor) -> Tensor| {
        let y = layer(x);
        let first = grad(&y.pow_tensor_scalar(2).sum(None::<Kind>), &[x], Graph::Create).unwrap().remove(0);
        grad(&first.pow_tensor_scalar(2).sum(None::<Kind>), &[x], Graph::Free).unwrap().remove(0)
    };
    let ours = second(&|x| norm_relu_pool(x, weight, bias, EPSILON).unwrap());
    assert!(off(&ours, &second(&|x| plain(x, weight, bias))) < 1e-9);
}

#[test]
fn what_the_kernels_do_not_take_is_an_error() {
    let [x, weight, bias] = &inputs([2, 4, 6, 6], Kind::Float);
    let planes = x.contiguous();
    assert!(serve(&planes) && !is_channels_last(&planes) && !serve(&x.to_kind(Kind::BFloat16)));
    assert!(norm_relu_pool(&x.to_kind(Kind::BFloat16), weight, bias, EPSILON).is_err());
    let same = norm_relu_pool(&planes, weight, bias, EPSILON).unwrap();
    assert_eq!(same, norm_relu_pool(x, weight, bias, EPSILON).unwrap(), "copied if stored otherwise");
    for other in [x.transpose(2, 3), x.contiguous(), x.to_kind(Kind::BFloat16), x.select(0, 0), Tensor::new()]
    {
        assert!(average_pool(&other).unwrap_err().message.contains("[N,C,H,W]"));
    }
    let error = norm_relu_pool(x, &weight.to_kind(Kind::Double), bias, EPSILON).unwrap_err();
    assert_eq!(error.message, "weight must be Float [4], found Double [4]");
}

#[test]
fn loops_are_divided_among_libtorchs_threads() {
    tch::set_num_threads(2);
    assert!(parallel(), "libtorch's `parallel_for` is a plain loop where it is compiled without OpenMP");
}

fn libtorchs_convolution(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: i64,
    padding: i64,
) -> Tensor {
    x.conv2d(weight, bias, [stride; 2], [padding; 2], [1, 1], 1)
}

/// Input, weight and bias of a convolution: channels in and out, kernel, side of the images.
fn convolved([from, to, size, side]: [i64; 4], kind: Kind) -> [Tensor; 3] {
    tch::set_num_threads(2);
    tch::manual_seed(from + to + side);
    let options = (kind, Device::Cpu);
    let x = Tensor::randn([5, from, side, side], options);
    let weight = Tensor::randn([to, from, size, size], options);
    [x, weight, Tensor::randn([to], options)].map(|tensor| tensor.set_requires_grad(true))
}

fn channels_last(x: &Tensor) -> Tensor {
    x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}

fn channels_last_or_flat(x: &Tensor) -> Tensor {
    if x.dim() == 4 { channels_last(x) } else { x.copy() }
}

/// Channels in and out, kernel, side; stride, padding. Tiles are of 16 × 6 channels: whole ones, parts, none. The first three
/// go by Winograd's algorithm with tiles that the image fills, that it does not, and in more than a block; its weight's
/// gradient as well.
const CONVOLUTIONS: [([i64; 4], [i64; 2]); 11] = [
    ([32, 48, 3, 12], [1, 1]),
    ([48, 16, 3, 15], [1, 1]),
    ([16, 16, 3, 41], [1, 1]),
    ([16, 6, 3, 9], [1, 1]),
    ([32, 64, 3, 8], [1, 1]),
    ([16, 21, 3, 9], [2, 1]),
    ([48, 8, 1, 6], [2, 0]),
    ([16, 5, 5, 32], [3, 2]),
    ([64, 128, 3, 1], [1, 1]),
    ([3, 10, 3, 8], [1, 1]),
    ([8, 16, 1, 5], [2, 0]),
];

#[test]
fn convolutions_and_their_gradients_are_libtorchs_in_any_layout() {
    for (shape, [stride, padding]) in CONVOLUTIONS {
        let exact = convolved(shape, Kind::Double);
        let single = exact.each_ref().map(|t| t.detach().to_kind(Kind::Float));
        let [x, weight, bias] = single;
        let stored_otherwise = [channels_last(&x), channels_last(&weight), bias.shallow_clone()];
        let single = [x, weight, bias].map(|tensor| tensor.set_requires_grad(true));
        let stored_otherwise = stored_otherwise.map(|tensor| tensor.detach().set_requires_grad(true));
        let reference = libtorchs_convolution(&exact[0], &exact[1], Some(&exact[2]), stride, padding);
        // Stored as the activations are, as gradients in a network are.
        let direction = channels_last(&reference.randn_like());
        let gradients = |y: &Tensor, inputs: &[Tensor; 3]| {
            let weighted = y * direction.to_kind(y.kind());
            grad(&weighted.sum(None::<Kind>), &inputs.iter().collect::<Vec<_>>(), Graph::Free).unwrap()
        };
        let expected = gradients(&reference, &exact);
        for (inputs, tolerance) in [(&exact, 1e-12), (&single, 1e-5), (&stored_otherwise, 1e-5)] {
            let [x, weight, bias] = inputs;
            let y = convolution(x, weight, Some(bias), stride, padding).unwrap();
            assert!(off(&y, &reference) < tolerance, "{shape:?}: {}", off(&y, &reference));
            for (ours, theirs) in gradients(&y, inputs).iter().zip(&expected) {
                assert!(off(ours, theirs) < tolerance, "{shape:?}: {}", off(ours, theirs));
            }
        }
    }
}

#[test]
fn convolutions_have_libtorchs_second_and_third_derivatives() {
    for (shape, [stride, padding]) in CONVOLUTIONS {
        let [x, weight, bias] = &convolved(shape, Kind::Double);
        let derivatives = |layer: &dyn Fn(&Tensor) -> Tensor| {
            let inputs = [x, weight, bias];
            let mut value = layer(x).pow_tensor_scalar(4).mean(None::<Kind>);
            let mut found = Vec::new();
            for _ in 0..3 {
                let gradients = grad(&value, &inputs, Graph::Create).unwrap();
                value = gradients.iter().map(|gradient| gradient.square().mean(None::<Kind>)).sum();
                found.extend(gradients);
            }
            found
        };
        let ours = derivatives(&|x| convolution(x, weight, Some(bias), stride, padding).unwrap());
        let theirs = derivatives(&|x| libtorchs_convolution(x, weight, Some(bias), stride, padding));
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert!(off(ours, theirs) < 1e-9, "{shape:?}: {}", off(ours, theirs));
        }
    }
}

#[test]
fn second_derivatives_in_float32_are_those_in_float64() {
    for (shape, [stride, padding]) in [([32, 48, 3, 12], [1, 1]), ([16, 16, 3, 41], [1, 1])] {
        let exact = convolved(shape, Kind::Double);
        let single = exact
            .each_ref()
            .map(|t| channels_last_or_flat(&t.detach().to_kind(Kind::Float)).set_requires_grad(true));
        let second = |[x, weight, bias]: &[Tensor; 3], layer: &dyn Fn() -> Tensor| {
            let inputs = [x, weight, bias];
            let first =
                grad(&layer().pow_tensor_scalar(3).mean(None::<Kind>), &inputs, Graph::Create).unwrap();
            let value: Tensor = first.iter().map(|gradient| gradient.square().mean(None::<Kind>)).sum();
            grad(&value, &inputs, Graph::Free).unwrap()
        };
        let [x, weight, bias] = &exact;
        let theirs = second(&exact, &|| libtorchs_convolution(x, weight, Some(bias), stride, padding));
        let [x, weight, bias] = &single;
        let ours = second(&single, &|| convolution(x, weight, Some(bias), stride, padding).unwrap());
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert!(off(ours, theirs) < 2e-5, "{shape:?}: {}", off(ours, theirs));
        }
    }
}

#[test]
fn no_image_touches_its_batch_mates() {
    let [x, weight, bias] = convolved([32, 48, 3, 12], Kind::Float).map(|tensor| tensor.detach());
    let x = channels_last(&x.repeat([2, 1, 1, 1]));
    let whole = convolution(&x, &weight, Some(&bias), 1, 1).unwrap();
    let spoilt = channels_last(&x.copy());
    let _ = spoilt.select(0, 3).fill_(f64::NAN);
    let found = convolution(&spoilt, &weight, Some(&bias), 1, 1).unwrap();
    for image in 0..10 {
        let (found, whole) = (found.select(0, image), whole.select(0, image));
        assert!(if image == 3 { found.isnan().all().int64_value(&[]) == 1 } else { found == whole });
    }
    // Bitwise on the CPUs that Winograd's algorithm is for; libtorch promises less.
    let turned = convolution(&channels_last(&x.flip([0])), &weight, Some(&bias), 1, 1).unwrap();
    assert!(off(&turned.flip([0]), &whole) < 1e-6);
}

#[test]
fn an_input_gradient_is_taken_without_the_weights() {
    let [x, weight, _] = &convolved([16, 8, 3, 8], Kind::Double);
    let y = convolution(x, &weight.detach(), None, 1, 1).unwrap().square().sum(None::<Kind>);
    let theirs = libtorchs_convolution(x, &weight.detach(), None, 1, 1).square().sum(None::<Kind>);
    let [ours, theirs] = [y, theirs].map(|y| grad(&y, &[x], Graph::Free).unwrap().remove(0));
    assert!(off(&ours, &theirs) < 1e-12);
    assert!(convolution(&Tensor::new(), weight, None, 1, 1).is_err());
    let [x, weight, bias] = &convolved([32, 48, 3, 12], Kind::Float);
    let x = &channels_last(x);
    assert!(convolution(x, weight, Some(&bias.narrow(0, 0, 16)), 1, 1).is_err());
    assert!(convolution(x, weight, Some(&bias.to_kind(Kind::Double)), 1, 1).is_err());
    assert!(convolution(x, &weight.narrow(0, 0, 0), None, 1, 1).is_err());
    let [none, of_none] = [x, weight].map(|tensor| tensor.narrow(1, 0, 0));
    let theirs = libtorchs_convolution(&none, &of_none, None, 1, 1);
    assert_eq!(convolution(&none, &of_none, None, 1, 1).unwrap(), theirs, "of no channels");
    assert!(convolution(x, &weight.narrow(1, 0, 3), None, 1, 1).is_err());
}

#[test]
fn what_is_not_a_number_stays_so_and_does_not_spread_to_other_planes() {
    let [x, weight, bias] = &inputs([2, 4, 6, 6], Kind::Float);
    let spoilt = channels_last(&x.detach().copy());
    let _ = spoilt.select(0, 0).select(0, 1).fill_(f64::NAN);
    let (ours, theirs) =
        (norm_relu_pool(&spoilt, weight, bias, EPSILON).unwrap(), plain(&spoilt, weight, bias));
    assert_eq!(ours.isnan(), theirs.isnan());
    assert!(ours.isnan().any().int64_value(&[]) == 1);
}

#[test]
fn a_step_of_sgd_is_pytorchs_however_the_gradient_is_stored() {
    let make = || convolved([4, 6, 3, 5], Kind::Double).map(|tensor| tensor.detach())[1].shallow_clone();
    let (start, gradient) = (make(), make().sin());
    let step = SgdStep { learning_rate: 0.1, momentum: 0.9, weight_decay: 0.01, nesterov: false };
    for nesterov in [false, true] {
        for stored in [gradient.shallow_clone(), channels_last(&gradient)] {
            let (mut tensor, mut momentum) = (start.copy(), &start * 0.5);
            let direction = &momentum * 0.9 + &gradient + &start * 0.01;
            let moved =
                if nesterov { &direction * 0.9 + &gradient + &start * 0.01 } else { direction.copy() };
            sgd(&mut tensor, &mut momentum, &stored, SgdStep { nesterov, ..step }).unwrap();
            assert!(off(&momentum, &direction) < 1e-14);
            assert!(off(&tensor, &(&start - moved * 0.1)) < 1e-14);
        }
    }
    let (mut tensor, mut momentum) = (start.copy(), start.zeros_like());
    sgd(&mut tensor, &mut momentum, &gradient, SgdStep { momentum: 0.0, ..step }).unwrap();
    assert!(off(&tensor, &(&start - (&gradient + &start * 0.01) * 0.1)) < 1e-14);
    assert_eq!(momentum, start.zeros_like(), "without momentum nothing is kept");
    let (mut tensor, mut momentum) = (start.copy(), channels_last(&start));
    assert!(sgd(&mut tensor, &mut momentum, &gradient, step).is_err());
    assert!(sgd(&mut tensor, &mut start.copy(), &gradient.narrow(0, 0, 1), step).is_err());
    assert_eq!(tensor, start);
}

#[test]
fn statistics_per_channel_and_their_derivatives_are_libtorchs() {
    for stored in [Tensor::shallow_clone, channels_last as fn(&Tensor) -> Tensor] {
        let x = &stored(&inputs([4, 5, 6, 7], Kind::Double)[0].detach()).set_requires_grad(true);
        let derivatives = |statistics: &dyn Fn(&Tensor) -> (Tensor, Tensor)| {
            let (mean, variance) = statistics(&(x * x));
            let value = (&mean * variance.sqrt()).sum(None::<Kind>);
            let first = grad(&value, &[x], Graph::Create).unwrap().remove(0);
            let second = grad(&first.square().sum(None::<Kind>), &[x], Graph::Free).unwrap().remove(0);
            [mean, variance, first, second]
        };
        let ours = derivatives(&|x| batch_statistics(x).unwrap());
        let theirs = derivatives(&|x| {
            let (variance, mean) = x.var_mean_dim([0, 2, 3].as_slice(), false, false);
            (mean, variance)
        });
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert!(off(ours, theirs) < 1e-12, "{}", off(ours, theirs));
        }
    }
    let shifted = Tensor::randn([8, 3, 16, 16], (Kind::Float, Device::Cpu)) + 1000.0;
    let (_, variance) = batch_statistics(&shifted).unwrap();
    let exact = shifted.to_kind(Kind::Double).var_mean_dim([0, 2, 3].as_slice(), false, false).0;
    assert!(off(&variance, &exact) < 1e-4, "{}", off(&variance, &exact));
    assert!(batch_statistics(&Tensor::new()).is_err());
}
