//! The host's network for a model of the index. Its size is read off the names and shapes of its parameters.

use crate::index::{Golden, ModelEntry};
use guard_host::network::{Architecture, Convnet, Model, NetworkSpec, NormLayer, Resnet, Stem};
use guard_sdk::{Error, Kind, Result};
use guard_tests::device;

/// A network of its own with the model's tensors, its parameters requiring gradients.
pub fn load(golden: &Golden, tag: &str, kind: Kind) -> Result<Model> {
    let entry =
        golden.index.models.get(tag).ok_or_else(|| Error::new(format!("the index has no model `{tag}`")))?;
    Ok(Model::load(&spec(entry)?, &golden.path(&entry.file), device())?.copy(kind, true))
}

fn spec(entry: &ModelEntry) -> Result<NetworkSpec> {
    let architecture = match entry.arch.as_str() {
        "convnet" => Architecture::Convnet(convnet(entry)?),
        "resnet" => Architecture::Resnet(resnet(entry)?),
        other => return Err(Error::new(format!("the host has no architecture `{other}`"))),
    };
    Ok(NetworkSpec {
        architecture,
        input: [entry.channels, entry.im, entry.im],
        classes: entry.classes,
        mean: entry.mean.clone(),
        std: entry.std.clone(),
        whitening: None,
        precision: Default::default(),
    })
}

fn convnet(entry: &ModelEntry) -> Result<Convnet> {
    let convolutions: Vec<_> = entry.tensors.values().filter(|tensor| tensor.shape.len() == 4).collect();
    let first = convolutions.first().ok_or_else(|| Error::new("the ConvNet has no convolution"))?;
    let norm = match &entry.norm {
        Some(norm) => serde_json::from_value(norm.as_str().into())?,
        None => NormLayer::Instance,
    };
    Ok(Convnet { depth: convolutions.len() as i64, width: first.shape[0], norm })
}

fn resnet(entry: &ModelEntry) -> Result<Resnet> {
    let stem =
        entry.tensors.get("conv1.weight").ok_or_else(|| Error::new("the ResNet has no `conv1.weight`"))?;
    let blocks_of = |stage: usize| {
        let blocks = (0..)
            .take_while(|block| entry.tensors.contains_key(&format!("layer{stage}.{block}.conv1.weight")));
        blocks.count() as i64
    };
    Ok(Resnet {
        stem: if stem.shape[2] == 3 { Stem::Cifar } else { Stem::Imagenet },
        width: stem.shape[0],
        blocks: (1..).map(blocks_of).take_while(|&blocks| blocks > 0).collect(),
        bottleneck: false,
    })
}
