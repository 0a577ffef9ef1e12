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
    tch::manual_seed(shape.iter().sum());
    let options = (kind, Device::Cpu);
    let scale = Tensor::rand([shape[0], shape[1], 1, 1], options) * 4.0;
    let x = Tensor::randn(shape, options) * &scale + scale;
    [x, Tensor::randn([shape[1]], options), Tensor::randn([shape[1]], options)]
        .map(|tensor| tensor.set_requires_grad(true))
}

fn off(left: &Tensor, right: &Tensor) -> f64 {
    assert_eq!(left.size(), right.size());
    ((left - right).abs().max() / (right.abs().max() + 1e-12)).double_value(&[])
}

const SHAPES: [[i64; 4]; 5] = [[3, 5, 8, 8], [2, 3, 7, 9], [1, 1, 2, 2], [4, 16, 32, 32], [2, 2, 3, 600]];

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
    assert!(!serve(&x.transpose(2, 3)) && !serve(&x.to_kind(Kind::BFloat16)));
    for other in [x.transpose(2, 3), x.to_kind(Kind::BFloat16), x.select(0, 0), Tensor::new()] {
        assert!(average_pool(&other).unwrap_err().message.contains("[N,C,H,W]"));
    }
    let error = norm_relu_pool(x, &weight.to_kind(Kind::Double), bias, EPSILON).unwrap_err();
    assert_eq!(error.message, "weight must be Float [4], found Double [4]");
}
