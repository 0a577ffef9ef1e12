//! Every transform, drawn for images of a given shape.

use guard_sdk::{
    Result, Tensor,
    augment::{
        Border, ColorJitter, ColorJitterOptions, CutMix, Cutout, Dsa, DsaOptions, Flip, Mixup, PaddedCrop,
        PaddedCropOptions, ResizedCrop, ResizedCropOptions, Roll, Rotate, Scale,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;

type Apply = Box<dyn Fn(&Tensor) -> Result<Tensor>>;

/// A transform, and what was read back from its record.
pub struct Sample {
    pub name: String,
    pub apply: Apply,
    pub from_json: Apply,
    pub from_toml: Apply,
    /// Height and width after it.
    pub size: [i64; 2],
}

/// Numbers on [0,1) that use all bits of a float64.
pub fn numbers<const D: usize>(seed: u64) -> [f64; D] {
    std::array::from_fn(|index| number(seed << 8 | index as u64))
}

/// SplitMix64's mixing function.
fn number(seed: u64) -> f64 {
    let mut bits = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((bits ^ bits >> 31) >> 11) as f64 / (1u64 << 53) as f64
}

/// A float64 tensor of such numbers. libtorch's own generator is not for tests, which run side by side.
pub fn tensor(seed: u64, shape: &[i64]) -> Tensor {
    let count = shape.iter().product::<i64>() as u64;
    let values: Vec<f64> = (0..count).map(|index| number(seed << 32 | index)).collect();
    Tensor::from_slice(&values).reshape(shape)
}

/// Every transform with `entries` entries, for `count` images of size `image`.
pub fn samples(entries: u64, count: i64, image: [i64; 2]) -> Vec<Sample> {
    let crop = PaddedCropOptions { padding: 3, border: Border::Zero };
    let reflected = PaddedCropOptions { border: Border::Reflect, ..crop };
    let small = [image[0] / 2 + 1, image[1] / 2 + 2];
    let resized = ResizedCrop::draw(&rows(entries, 1), image, small, &ResizedCropOptions::default());
    let jitter = ColorJitterOptions { brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 };
    let order: Vec<i64> = (0..count).rev().collect();
    let cutmix = CutMix::draw(&numbers(9), 0.3172, order.clone(), image).expect("a share that fits");
    let mut all = vec![
        sample("crop", image, PaddedCrop::draw(&rows(entries, 2), &crop), PaddedCrop::apply),
        sample("crop reflected", image, PaddedCrop::draw(&rows(entries, 3), &reflected), PaddedCrop::apply),
        sample("resized crop", small, resized, ResizedCrop::apply),
        sample("flip", image, Flip::draw(&rows(entries, 4), 0.5), Flip::apply),
        sample("roll", image, Roll::draw(&rows(entries, 5), 4), Roll::apply),
        sample("colour jitter", image, ColorJitter::draw(&rows(entries, 6), &jitter), ColorJitter::apply),
        sample("cutout", image, Cutout::draw(&rows(entries, 7), image, 0.4), Cutout::apply),
        sample("scale", image, Scale::draw(&rows(entries, 8), 1.3, true), Scale::apply),
        sample("rotate", image, Rotate::draw(&rows(entries, 9), 20.0, true), Rotate::apply),
        sample("Mixup", image, Mixup { share: 0.3172, order }, Mixup::apply),
        sample("CutMix", image, cutmix, CutMix::apply),
        sample("no DSA", image, Dsa::None, Dsa::apply),
    ];
    all.extend((0..6).map(|transform| {
        let choice = (f64::from(transform) + 0.5) / 6.0;
        let dsa = Dsa::draw(choice, &rows(entries, 10), image, &DsaOptions::default());
        sample(&format!("DSA {transform}"), image, dsa, Dsa::apply)
    }));
    all
}

fn rows<const D: usize>(entries: u64, seed: u64) -> Vec<[f64; D]> {
    (0..entries).map(|row| numbers(seed * 1000 + row)).collect()
}

fn sample<T>(name: &str, size: [i64; 2], value: T, apply: fn(&T, &Tensor) -> Result<Tensor>) -> Sample
where
    T: Serialize + DeserializeOwned + PartialEq + Debug + 'static,
{
    let json = serde_json::to_string(&value).expect("parameters can be written");
    let toml = toml::to_string(&value).expect("parameters can be written");
    let from_json: T = serde_json::from_str(&json).expect("what was written can be read");
    let from_toml: T = toml::from_str(&toml).expect("what was written can be read");
    assert_eq!((&from_json, &from_toml), (&value, &value), "{json}");
    let boxed = |value: T| -> Apply { Box::new(move |images| apply(&value, images)) };
    Sample {
        name: name.to_string(),
        apply: boxed(value),
        from_json: boxed(from_json),
        from_toml: boxed(from_toml),
        size,
    }
}
