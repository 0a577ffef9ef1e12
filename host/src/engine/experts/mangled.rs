//! Mangled manifests and trajectories: an error that names the file, or experts.

use super::{ExpertFolder, ExpertManifest, Trajectory};
use crate::{
    mangle::{Dice, mangle},
    network::{Architecture, Convnet, Model, NetworkSpec, NormLayer},
    random::Streams,
    recipe::Training,
};
use guard_sdk::{Device, Result, Tensor};
use std::fs;

/// How many mangled files are read.
const CASES: usize = 400;

#[test]
fn a_mangled_manifest_or_trajectory_is_an_error_that_names_the_file_or_experts() {
    let folder = tempfile::tempdir().unwrap();
    let network = NetworkSpec {
        architecture: Architecture::Convnet(Convnet { depth: 1, width: 2, norm: NormLayer::Batch }),
        input: [1, 4, 4],
        classes: 2,
        mean: vec![0.5],
        std: vec![0.5],
        whitening: None,
        precision: Default::default(),
    };
    let fresh = Model::fresh(&network, &Streams::new(0), Device::Cpu).unwrap();
    let snapshot = || fresh.parameters().iter().chain(fresh.buffers()).map(Tensor::detach).collect();
    let training = Training { epochs: 1, ..Training::default() };
    let manifest = ExpertManifest { dataset: "digits".into(), images: 9, network, training };
    let experts = ExpertFolder::prepare(folder.path(), &manifest).unwrap();
    let trajectory = Trajectory { snapshots: vec![snapshot(), snapshot()], accuracies: vec![0.1, 0.5] };
    experts.write(0, &trajectory).unwrap();
    let files = [folder.path().join("experts.json"), experts.file(0)];
    let whole = files.clone().map(|path| fs::read(path).unwrap());
    let look = || -> Result<()> {
        // As `experts info` and objectives do.
        let experts = ExpertFolder::open(folder.path())?;
        assert!(experts.info(1).snapshots > 0);
        experts.accuracies(0)?;
        experts.network(0, 1, Device::Cpu)?;
        ExpertFolder::prepare(folder.path(), &manifest).map(drop)
    };
    look().unwrap();
    let (mut dice, mut refused) = (Dice(1), 0);
    for _ in 0..CASES {
        files.iter().zip(&whole).for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
        let which = dice.below(2);
        fs::write(&files[which], mangle(&mut dice, &whole[which])).unwrap();
        if let Err(error) = look() {
            refused += 1;
            let named = ["experts.json", "trajectory-0000.safetensors", &folder.path().display().to_string()]
                .iter()
                .any(|name| error.message.contains(name));
            assert!(named, "{error}");
        }
    }
    assert!(refused > CASES / 2, "{refused}");
}
