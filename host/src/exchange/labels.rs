//! The labels of a set: classes, or probabilities of classes.

use clap::ValueEnum;
use guard_sdk::{Error, Kind, Result, Tensor};

/// What numbers for each class are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SoftLabels {
    /// Probabilities.
    Probabilities,
    /// What becomes probabilities by a softmax, as in TESLA and DATM.
    Logits,
}

/// How far the sum of probabilities may be from 1: float16 is kept for some.
const ROUNDING: f64 = 1e-2;

/// Classes int64 `[N]`, and probabilities float32 `[N,K]` where there are such.
pub(super) type Labels = (Tensor, Option<Tensor>);

/// Reads labels: integers `[N]` or `[N,1]`, or numbers for each class `[N,K]`, the greatest of which tells the class.
///
/// # Errors
/// If they are neither, or not one for each image, or nothing tells what numbers for each class are.
pub(super) fn read(labels: &Tensor, images: i64, soft: Option<SoftLabels>) -> Result<Labels> {
    let size = labels.size();
    let whole = matches!(labels.kind(), Kind::Int64 | Kind::Int | Kind::Int16 | Kind::Int8 | Kind::Uint8);
    match size.as_slice() {
        [count, ..] if *count != images => {
            Err(Error::new(format!("there are {count} labels of {images} images")))
        }
        [_] | [_, 1] if whole => Ok((labels.to_kind(Kind::Int64).f_reshape([-1])?, None)),
        [_, classes] if *classes > 1 && labels.is_floating_point() => {
            let probabilities = probabilities(labels, soft)?;
            Ok((probabilities.f_argmax(-1, false)?, Some(probabilities)))
        }
        _ => Err(Error::new(format!("labels are {:?} {size:?}", labels.kind()))
            .help("labels are integers [N], or floating-point numbers for each class [N,K]")),
    }
}

/// Numbers for each class as probabilities float32 `[N,K]`.
///
/// # Errors
/// If nothing tells what they are.
pub(super) fn probabilities(numbers: &Tensor, soft: Option<SoftLabels>) -> Result<Tensor> {
    let numbers = numbers.to_kind(Kind::Double);
    if numbers.isfinite().all().f_int64_value(&[])? == 0 {
        return Err(Error::new("soft labels are not all finite"));
    }
    let sums = numbers.f_sum_dim_intlist(-1, true, Kind::Double)?;
    let negative = numbers.lt(0.0).any().f_int64_value(&[])? == 1;
    let off = (&sums - 1.0).abs().max().f_double_value(&[])?;
    let are = !negative && off <= ROUNDING;
    match (soft, are) {
        (Some(SoftLabels::Logits), _) => Ok(numbers.f_softmax(-1, Kind::Float)?),
        (_, true) => Ok((numbers / sums).to_kind(Kind::Float)),
        (told, false) => {
            let why =
                if negative { "some are negative".into() } else { format!("sums are up to {off:.3} off 1") };
            let error = Error::new(format!("soft labels are no probabilities: {why}"));
            Err(match told {
                None => error.help("`--soft-labels logits` takes their softmax, as TESLA and DATM do"),
                Some(_) => error.help("`--soft-labels logits` would take their softmax"),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guard_sdk::Device;

    #[test]
    fn integers_are_classes_and_rows_of_numbers_probabilities() {
        let (classes, soft) = read(&Tensor::from_slice(&[2i32, 0]).reshape([2, 1]), 2, None).unwrap();
        assert_eq!((Vec::<i64>::try_from(classes).unwrap(), soft.is_none()), (vec![2, 0], true));
        let rows = Tensor::from_slice(&[0.25f32, 0.75, 1.0, 0.0]).reshape([2, 2]);
        let (classes, soft) = read(&rows, 2, None).unwrap();
        assert_eq!(Vec::<i64>::try_from(classes).unwrap(), [1, 0]);
        assert!(soft.unwrap().equal(&rows));
    }

    #[test]
    fn logits_must_be_told_and_labels_that_are_none_are_refused() {
        let logits = Tensor::from_slice(&[2.0f64, -1.0, 0.0, 3.0]).reshape([2, 2]);
        let error = read(&logits, 2, None).unwrap_err();
        assert!(error.message.contains("some are negative"), "{error}");
        assert!(error.help.unwrap().contains("--soft-labels logits"));
        let (classes, soft) = read(&logits, 2, Some(SoftLabels::Logits)).unwrap();
        assert_eq!(Vec::<i64>::try_from(classes).unwrap(), [0, 1]);
        let sums = soft.unwrap().sum_dim_intlist(-1, false, Kind::Double);
        assert!((sums - 1.0).abs().max().double_value(&[]) < 1e-6);
        assert!(read(&logits, 3, None).unwrap_err().message.contains("2 labels of 3 images"));
        let floats = Tensor::zeros([2], (Kind::Float, Device::Cpu));
        assert!(read(&floats, 2, None).unwrap_err().message.contains("labels are Float [2]"));
        assert!(probabilities(&(logits * f64::NAN), None).unwrap_err().message.contains("finite"));
    }
}
