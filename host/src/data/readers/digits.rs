//! The built-in data: 1,797 handwritten digits of 8×8 pixels in 10 classes.
//!
//! "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, CC BY 4.0, in
//! the form scikit-learn ships; `digits/digits.rst` is its description. Intensities 0–16 become pixels in [0,1]. The file
//! is ordered by writer: the first 1,437 are the training split and the last 360 the test split, so that most test digits
//! come from writers that were not trained on.

use super::{Found, Part, numbered};
use crate::data::source::Images;
use flate2::read::GzDecoder;
use guard_sdk::{Error, Result};
use std::io::Read;

const FILE: &[u8] = include_bytes!("digits/digits.csv.gz");
const SIDE: usize = 8;
const COUNT: usize = 1797;
const TRAIN: usize = 1437;
const BRIGHTEST: u8 = 16;

pub(super) fn read() -> Result<Found> {
    let (mut values, mut labels) = parse()?;
    let test =
        Part { images: images(values.split_off(TRAIN * SIDE * SIDE)), labels: labels.split_off(TRAIN) };
    Ok(Found { classes: numbered(10), train: Part { images: images(values), labels }, test: Some(test) })
}

fn images(values: Vec<u8>) -> Images {
    Images::Bytes { values, shape: [1, SIDE, SIDE], brightest: BRIGHTEST }
}

fn parse() -> Result<(Vec<u8>, Vec<i64>)> {
    let damaged = |why: String| Error::with_code("data", format!("the built-in digits are damaged: {why}"));
    let mut text = String::new();
    GzDecoder::new(FILE).read_to_string(&mut text).map_err(|error| damaged(error.to_string()))?;
    let (mut pixels, mut labels) = (Vec::with_capacity(COUNT * SIDE * SIDE), Vec::with_capacity(COUNT));
    for line in text.lines() {
        let values: Vec<u8> = line.split(',').map_while(|value| value.parse().ok()).collect();
        match values.as_slice() {
            [image @ .., label] if image.len() == SIDE * SIDE => {
                pixels.extend_from_slice(image);
                labels.push(i64::from(*label));
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
    use crate::data::readers::known;

    fn pixels(part: &Part) -> &[u8] {
        match &part.images {
            Images::Bytes { values, shape: [1, SIDE, SIDE], brightest: BRIGHTEST } => values,
            _ => panic!("not bytes of the digits' shape"),
        }
    }

    #[test]
    fn there_are_1797_digits_in_two_splits_of_all_classes() {
        let found = read().unwrap();
        let test = found.test.unwrap();
        assert_eq!((found.train.labels.len(), test.labels.len()), (1437, 360));
        let count = |labels: &[i64], digit| labels.iter().filter(|&&label| label == digit).count();
        let counts: Vec<_> =
            (0..10).map(|digit| (count(&found.train.labels, digit), count(&test.labels, digit))).collect();
        assert!(counts.iter().all(|&(_, test)| test >= 30), "{counts:?}");
        let totals: Vec<_> = counts.iter().map(|(train, test)| train + test).collect();
        assert_eq!(totals, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
        assert_eq!(
            (pixels(&found.train).iter().max(), pixels(&found.train).iter().min()),
            (Some(&16), Some(&0))
        );
    }

    #[test]
    fn the_constants_are_those_of_the_training_split() {
        let found = read().unwrap();
        let values: Vec<f64> = pixels(&found.train).iter().map(|&value| f64::from(value) / 16.0).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
        let constants = known("digits").unwrap().constants.unwrap();
        assert!((mean - constants.mean[0]).abs() < 1e-6 && (variance.sqrt() - constants.std[0]).abs() < 1e-6);
    }
}
