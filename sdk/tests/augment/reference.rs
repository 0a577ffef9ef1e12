//! Recorded parameters against the images that torchvision, Pillow and a plain form of DSA made (`reference.py`).

use guard_sdk::{
    Kind, Tensor,
    augment::{ColorJitter, Dsa, Flip, PaddedCrop, ResizedCrop, Roll, center_crop, resize_shorter_side},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
};

#[derive(Deserialize)]
struct Case {
    transform: String,
    parameters: Value,
    input: String,
    output: String,
    tolerance: f64,
}

fn read<T: DeserializeOwned>(parameters: &Value) -> T {
    serde_json::from_value(parameters.clone()).expect("parameters as they are recorded")
}

fn apply(case: &Case, images: &Tensor) -> guard_sdk::Result<Tensor> {
    let parameters = &case.parameters;
    match case.transform.as_str() {
        "resized-crop" => read::<ResizedCrop>(parameters).apply(images),
        "padded-crop" => read::<PaddedCrop>(parameters).apply(images),
        "flip" => read::<Flip>(parameters).apply(images),
        "roll" => read::<Roll>(parameters).apply(images),
        "color-jitter" => read::<ColorJitter>(parameters).apply(images),
        "dsa" => read::<Dsa>(parameters).apply(images),
        "resize-shorter-side" => resize_shorter_side(images, read(&parameters["side"])),
        "center-crop" => center_crop(images, read(&parameters["size"])),
        other => panic!("no transform `{other}`"),
    }
}

#[test]
fn the_reference_implementations_give_the_same_images() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/augment");
    let tensors = Tensor::read_safetensors(folder.join("reference.safetensors")).expect("the file is there");
    let tensors: HashMap<String, Tensor> = tensors.into_iter().collect();
    let cases = std::fs::read(folder.join("reference.json")).expect("the file is there");
    let cases: Vec<Case> = serde_json::from_slice(&cases).expect("a list of cases");
    let mut open: BTreeSet<&String> = tensors.keys().collect();
    for case in &cases {
        open.remove(&case.input);
        open.remove(&case.output);
        let expected = tensors[&case.output].to_kind(Kind::Double);
        let images = tensors[&case.input].to_kind(Kind::Double);
        for (kind, tolerance) in [(Kind::Double, case.tolerance), (Kind::Float, case.tolerance.max(2e-6))] {
            let found =
                apply(case, &images.to_kind(kind)).unwrap_or_else(|error| panic!("{}: {error}", case.output));
            assert_eq!((found.size(), found.kind()), (expected.size(), kind), "{}", case.output);
            let off = (found.to_kind(Kind::Double) - &expected).abs().max().double_value(&[]);
            assert!(off <= tolerance, "{} is off by {off} in {kind:?}", case.output);
        }
    }
    assert!(open.is_empty(), "no case uses {open:?}");
}
