//! State dicts against networks.

use super::*;
use crate::{
    network::{Whitening, weights::write_tensors},
    random::Streams,
};

/// The tensors of `zip.pth` after a change, in a file again, as the tiny network's weights.
fn load_changed(change: impl FnOnce(&mut Vec<(String, Tensor)>)) -> Result<Model, Error> {
    let mut tensors = read_tensors(&fixture("zip.pth")).unwrap();
    change(&mut tensors);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changed.pth");
    write_tensors(&path, &tensors).unwrap();
    Model::load(&tiny(3), &path, Device::Cpu)
}

fn tensor<'a>(tensors: &'a mut [(String, Tensor)], name: &str) -> &'a mut Tensor {
    &mut tensors.iter_mut().find(|(each, _)| each == name).unwrap().1
}

fn zeros(shape: &[i64]) -> Tensor {
    Tensor::zeros(shape, (Kind::Float, Device::Cpu))
}

#[test]
fn wrapped_nested_and_converted_weights_load_as_the_same_network() {
    for name in [
        "zip.pth",
        "legacy.pth",
        "half.pth",
        "bfloat16.pth",
        "parameters.pth",
        "compiled.pth",
        "averaged.pth",
        "checkpoint.pth",
        "legacy_checkpoint.pth",
        "malicious.pth",
    ] {
        let model = load(name, 3).unwrap();
        assert!(model.parameters().iter().all(|parameter| parameter.requires_grad() && parameter.is_leaf()));
        for (tensor, found) in named(&model) {
            let expected = expected(&tensor, &found.size(), Kind::Float);
            same(&found, &expected, &format!("{tensor} in {name}"));
        }
    }
}

#[test]
fn everything_that_does_not_fit_is_listed_in_one_error() {
    let error = load_changed(|tensors| {
        tensors.retain(|(name, _)| name != "bn1.bias" && name != "layer1.0.bn2.weight");
        tensors.push(("zeta".to_string(), zeros(&[2])));
        tensors.push(("alpha".to_string(), zeros(&[])));
        *tensor(tensors, "fc.weight") = zeros(&[3, 5]);
        *tensor(tensors, "conv1.weight") = zeros(&[2, 3, 7, 7]);
        let bias = tensor(tensors, "fc.bias");
        *bias = bias.to_kind(Kind::Int8);
    })
    .err()
    .unwrap();
    assert_eq!(error.code, "weights");
    let counts = "2 missing, 2 unexpected, 2 of another shape, 1 not floating-point";
    assert!(error.message.ends_with(counts), "{error}");
    assert_eq!(
        error.causes,
        [
            "missing: `bn1.bias`, `layer1.0.bn2.weight`",
            "unexpected: `alpha` [], `zeta` [2]",
            "of another shape: `conv1.weight` must be [2, 3, 3, 3], found [2, 3, 7, 7], \
             `fc.weight` must be [3, 2], found [3, 5]",
            "not floating-point: `fc.bias` (Int8)",
        ]
    );
}

#[test]
fn the_help_names_the_likely_cause() {
    let help = |result: Result<Model, Error>| result.err().unwrap().help.unwrap();
    assert_eq!(help(load("zip.pth", 10)), "the file is of a network for 3 classes, here there are 10");
    let stem = help(load_changed(|tensors| *tensor(tensors, "conv1.weight") = zeros(&[2, 3, 7, 7])));
    assert_eq!(stem, "the file has another stem, whose windows are [7, 7] instead of [3, 3]");
    let channels = help(load_changed(|tensors| *tensor(tensors, "conv1.weight") = zeros(&[2, 1, 3, 3])));
    assert_eq!(channels, "the file is of a network for 1 channels, here there are 3");
    let norm = help(load_changed(|tensors| tensors.retain(|(name, _)| !name.contains("running_"))));
    assert!(norm.contains("another normalisation"), "{norm}");
    assert!(help(load("dtypes.safetensors", 3)).contains("another architecture"));
    let integers = help(load_changed(|tensors| {
        let bias = tensor(tensors, "fc.bias");
        *bias = bias.to_kind(Kind::Int64);
    }));
    assert!(integers.contains("float32"), "{integers}");
}

#[test]
fn a_call_in_a_tensors_place_is_named_and_never_made() {
    let error = load("malicious_weight.pth", 3).err().unwrap();
    assert_eq!(
        error.causes,
        ["missing: `fc.weight`", "unexpected: `fc.weight` (an object of `posix.system`)"]
    );
    assert!(refused("malicious_weight.pth").causes[0].contains("an object of `posix.system`"));
}

#[test]
fn only_the_counter_of_batches_may_be_missing() {
    let model = load_changed(|tensors| tensors.retain(|(name, _)| !name.contains("num_batches"))).unwrap();
    let counters = named(&model);
    let mut counters = counters.iter().filter(|(name, _)| name.contains("num_batches"));
    assert!(counters.all(|(_, counter)| counter.equal(&Tensor::from(0i64))));
}

#[test]
fn counters_that_an_average_made_floating_point_become_integers() {
    let model = load_changed(|tensors| {
        let counter = tensor(tensors, "bn1.num_batches_tracked");
        *counter = counter.to_kind(Kind::Float);
    });
    let counter = "bn1.num_batches_tracked";
    same(tensor(&mut named(&model.unwrap()), counter), &Tensor::from(5i64), counter);
}

#[test]
fn a_name_that_appears_twice_without_its_prefix_is_listed() {
    let error = load_changed(|tensors| tensors.push(("module.fc.bias".to_string(), zeros(&[3]))));
    let error = error.err().unwrap();
    assert_eq!(error.causes, ["unexpected: `module.fc.bias` (`fc.bias` a second time)"]);
}

#[test]
fn tied_tensors_of_a_file_become_tensors_of_their_own() {
    let model = load_changed(|tensors| {
        let shared = tensor(tensors, "bn1.weight").shallow_clone();
        *tensor(tensors, "bn1.bias") = shared;
    });
    let model = model.unwrap();
    let mut addresses: Vec<_> = named(&model).iter().map(|(_, tensor)| tensor.data_ptr() as usize).collect();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), names().len());
}

#[test]
fn a_network_whitens_as_its_file_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("whitens.safetensors");
    let matrix = Tensor::eye(48, (Kind::Float, Device::Cpu)) * 2.0;
    let whitening = Whitening::of_tensors(Some(0.1), &zeros(&[48]), &matrix).unwrap();
    let spec = NetworkSpec { whitening: Some(whitening), ..tiny(3) };
    let plain = Model::fresh(&tiny(3), &Streams::new(0), Device::Cpu).unwrap();
    let tensors = |tensors: &[Tensor]| tensors.iter().map(Tensor::copy).collect();
    let program = spec.program().unwrap();
    let model = Model::new(&spec, program, tensors(plain.parameters()), tensors(plain.buffers())).unwrap();
    model.save(&path).unwrap();

    let images = zeros(&[2, 3, 4, 4]) + 0.75;
    let read = Model::load(&tiny(3), &path, Device::Cpu).unwrap();
    let logits = read.eval_logits(&images).unwrap();
    assert_eq!(logits, model.eval_logits(&images).unwrap());
    // Normalised to 0.5, doubled by the matrix.
    assert_eq!(logits, plain.eval_logits(&(zeros(&[2, 3, 4, 4]) + 1.0)).unwrap());

    let error = Model::load(&spec, &fixture("zip.pth"), Device::Cpu).err().unwrap();
    assert!(error.message.contains("needs `zca.mean` and `zca.matrix`"), "{error}");
    let larger = NetworkSpec { input: [3, 8, 8], ..tiny(3) };
    let error = Model::load(&larger, &path, Device::Cpu).err().unwrap();
    assert!(error.message.contains("whitens images of 48 values, not of 3x8x8"), "{error}");
}
