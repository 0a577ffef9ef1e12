//! Mangled sets of others: whatever their bytes, what comes of them is a set or an error that names the file.

use super::{Request, Space, import};
use crate::mangle::{Dice, mangle};
use guard_sdk::{Kind, Tensor};
use std::{
    fs,
    path::{Path, PathBuf},
};

const CASES: usize = 300;

fn request(source: &Path) -> Request {
    Request {
        source: source.to_path_buf(),
        dataset: "digits".into(),
        root: None,
        space: Some(Space::Pixels),
        statistics: None,
        mean: None,
        std: None,
        zca_epsilon: 0.1,
        classes: None,
        soft_labels: None,
        learning_rate: None,
    }
}

#[test]
fn mangled_sets_of_others_are_sets_or_errors_that_name_them() {
    let folder = tempfile::tempdir().unwrap();
    let fixtures = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/sets"));
    let tensors = folder.path().join("whole.safetensors");
    let images = Tensor::rand([10, 1, 8, 8], (Kind::Float, guard_sdk::Device::Cpu));
    let labels = Tensor::arange(10, (Kind::Int64, guard_sdk::Device::Cpu));
    Tensor::write_safetensors(&[("images", images), ("labels", labels)], &tensors).unwrap();
    for whole in [fixtures.join("dc.pt"), fixtures.join("pair.pt"), fixtures.join("plain.pt"), tensors] {
        let bytes = fs::read(&whole).unwrap();
        let name = format!("mangled.{}", whole.extension().unwrap().to_str().unwrap());
        let path = folder.path().join(&name);
        let (mut dice, mut refused) = (Dice(7), 0);
        for _ in 0..CASES {
            fs::write(&path, mangle(&mut dice, &bytes)).unwrap();
            match import(&request(&path)) {
                Ok(set) => assert_eq!(set.images.size()[0], set.labels.size()[0]),
                Err(error) => {
                    refused += 1;
                    assert!(error.message.contains(&name), "{error}");
                }
            }
        }
        assert!(refused > CASES / 4, "{}: {refused}", whole.display());
    }
}
