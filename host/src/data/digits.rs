//! The built-in data: 1,797 handwritten digits of 8×8 pixels in 10 classes.
//!
//! "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, CC BY 4.0, in
//! the form scikit-learn ships; `digits/digits.rst` is its description. Intensities 0–16 become pixels in [0,1]. The file
//! is ordered by writer: the first 1,437 are the training split and the last 360 the test split, so that most test digits
//! come from writers that were not trained on.

use super::{DataInfo, Dataset, Split};
use flate2::read::GzDecoder;
use guard_sdk::{Device, Error, Result, Tensor};
use std::io::Read;

pub(super) const NAME: &str = "digits";
const FILE: &[u8] = include_bytes!("digits/digits.csv.gz");
const SIDE: i64 = 8;
const PIXELS: usize = 64;
const COUNT: usize = 1797;
const TRAIN: i64 = 1437;
const BRIGHTEST: f32 = 16.0;

pub(super) fn info() -> DataInfo {
    DataInfo {
        name: NAME,
        classes: (0..10).map(|digit| digit.to_string()).collect(),
        image: [1, SIDE, SIDE],
        mean: vec![0.305_386],
        std: vec![0.375_507],
    }
}

pub(super) fn load(device: Device) -> Result<Dataset> {
    let (pixels, labels) = read()?;
    let images = Tensor::f_from_slice(&pixels)?.f_reshape([COUNT as i64, 1, SIDE, SIDE])?.to_device(device);
    let labels = Tensor::f_from_slice(&labels)?.to_device(device);
    let split = |first: i64, count: i64| Split {
        images: images.narrow(0, first, count),
        labels: labels.narrow(0, first, count),
    };
    Ok(Dataset { train: split(0, TRAIN), test: split(TRAIN, COUNT as i64 - TRAIN) })
}

fn read() -> Result<(Vec<f32>, Vec<i64>)> {
    let damaged = |why: String| Error::with_code("data", format!("the built-in digits are damaged: {why}"));
    let mut text = String::new();
    GzDecoder::new(FILE).read_to_string(&mut text).map_err(|error| damaged(error.to_string()))?;
    let (mut pixels, mut labels) = (Vec::with_capacity(COUNT * PIXELS), Vec::with_capacity(COUNT));
    for line in text.lines() {
        let values: Vec<f32> = line.split(',').map_while(|value| value.parse().ok()).collect();
        match values.as_slice() {
            [image @ .., label] if image.len() == PIXELS => {
                pixels.extend(image.iter().map(|value| value / BRIGHTEST));
                labels.push(*label as i64);
            }
            _ => return Err(damaged(format!("line {} has {} numbers", labels.len() + 1, values.len()))),
        }
    }
    if labels.len() != COUNT {
        return Err(damaged(format!("{} images", labels.len())));
    }
    Ok((pixels, labels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use guard_sdk::Kind;

    #[test]
    fn there_are_1797_digits_in_two_splits_of_all_classes() {
        let data = load(Device::Cpu).unwrap();
        assert_eq!((data.train.len(), data.test.len()), (1437, 360));
        let counts = [data.train.class_counts(10), data.test.class_counts(10)];
        assert!(counts[1].iter().all(|&count| count >= 30), "{counts:?}");
        let totals: Vec<u64> = counts[0].iter().zip(&counts[1]).map(|(a, b)| a + b).collect();
        assert_eq!(totals, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
        assert_eq!(data.train.images.max().double_value(&[]), 1.0);
        assert_eq!(data.train.images.min().double_value(&[]), 0.0);
    }

    #[test]
    fn the_constants_are_those_of_the_training_split() {
        let images = load(Device::Cpu).unwrap().train.images.to_kind(Kind::Double);
        assert!((images.mean(Kind::Double).double_value(&[]) - info().mean[0]).abs() < 1e-6);
        assert!((images.std(false).double_value(&[]) - info().std[0]).abs() < 1e-6);
    }
}
