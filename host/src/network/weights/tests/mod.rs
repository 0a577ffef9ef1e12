//! Files that PyTorch wrote (`tests/weights/make.py`), and files that it would not write.

mod crafted;
mod files;
mod network;

use super::{Error, TorchFile, read_tensors};
use crate::network::{Architecture, Model, NetworkSpec, Resnet, Stem};
use guard_sdk::{Device, Kind, Tensor};
use std::{fs, path::PathBuf};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/weights")).join(name)
}

/// The network of `make.py`: one stage of one block, two channels.
fn tiny(classes: i64) -> NetworkSpec {
    NetworkSpec {
        architecture: Architecture::Resnet(Resnet {
            stem: Stem::Cifar,
            width: 2,
            blocks: vec![1],
            bottleneck: false,
        }),
        input: [3, 4, 4],
        classes,
        mean: vec![0.5; 3],
        std: vec![0.5; 3],
        whitening: None,
        precision: Default::default(),
    }
}

/// The names of its state dict, in PyTorch's order.
fn names() -> Vec<String> {
    let norm = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"];
    let layers = ["conv1", "bn1", "layer1.0.conv1", "layer1.0.bn1", "layer1.0.conv2", "layer1.0.bn2", "fc"];
    let of = |layer: &str| -> Vec<String> {
        let parts: &[&str] = match layer {
            "fc" => &["weight", "bias"],
            layer if layer.contains("bn") => &norm,
            _ => &["weight"],
        };
        parts.iter().map(|part| format!("{layer}.{part}")).collect()
    };
    layers.iter().flat_map(|layer| of(layer)).collect()
}

/// What `make.py` wrote into tensor `t`.
fn values(t: i64, shape: &[i64], kind: Kind) -> Tensor {
    let index = Tensor::arange(shape.iter().product::<i64>(), (Kind::Int64, Device::Cpu));
    let value: Tensor = (index * 7 + 3 * t).remainder(31) - 15;
    (value.to_kind(Kind::Double) / 8.0).to_kind(kind).reshape(shape)
}

fn expected(name: &str, shape: &[i64], kind: Kind) -> Tensor {
    let t = names().iter().position(|each| each == name).unwrap();
    match name.ends_with("num_batches_tracked") {
        true => Tensor::from(5i64),
        false => values(t as i64, shape, kind),
    }
}

fn same(found: &Tensor, expected: &Tensor, what: &str) {
    assert_eq!(found.kind(), expected.kind(), "{what}");
    assert_eq!(found.size(), expected.size(), "{what}");
    assert!(found.equal(expected), "{what}: {found:?} instead of {expected:?}");
}

fn load(name: &str, classes: i64) -> Result<Model, Error> {
    Model::load(&tiny(classes), &fixture(name), Device::Cpu)
}

/// The tensors of a model by name.
fn named(model: &Model) -> Vec<(String, Tensor)> {
    let names = model.program().parameters.iter().map(|p| p.name.clone());
    let names = names.chain(model.program().buffers.iter().map(|b| b.name.clone()));
    let tensors = model.parameters().iter().chain(model.buffers());
    names.zip(tensors.map(Tensor::detach)).collect()
}

fn refused(name: &str) -> Error {
    let error = read_tensors(&fixture(name)).unwrap_err();
    assert_eq!(error.code, "weights", "{error}");
    assert!(error.message.contains(name), "{error}");
    error
}

/// Writes bytes to a file and reads it as a PyTorch file or safetensors.
fn read_bytes(bytes: &[u8]) -> Result<Vec<(String, Tensor)>, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.pth");
    fs::write(&path, bytes).unwrap();
    read_tensors(&path)
}
