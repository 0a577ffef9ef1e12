//! Rows of uniform numbers, and the parameters that come of them: one for the batch, or one for each example.

use crate::{
    Error, Kind, Result, Services, sent,
    services::{Distribution, Draw, on_cpu},
};
use tch::Tensor;

/// Uniform numbers on [0,1) that belong to the step as a whole and not to one of its examples.
///
/// # Errors
/// Those of [`Services::random`].
pub fn shared_uniform<const D: usize>(services: &Services, stream: &str, draw: u64) -> Result<[f64; D]> {
    let mut numbers = [0.0; D];
    numbers.copy_from_slice(each_uniform::<D>(services, stream, draw, &[0])?.as_flattened());
    Ok(numbers)
}

/// Uniform numbers on [0,1), a row for each example.
///
/// # Errors
/// Those of [`Services::random`].
pub fn each_uniform<const D: usize>(
    services: &Services,
    stream: &str,
    draw: u64,
    ids: &[u64],
) -> Result<Vec<[f64; D]>> {
    let numbers = services.numbers(&Draw {
        stream,
        draw,
        ids,
        shape: &[D as i64],
        distribution: Distribution::Uniform,
        kind: Kind::Double,
    })?;
    if numbers.len() != ids.len() * D {
        return Err(Error::new(format!(
            "asked for {} rows of {D} random numbers, got {} numbers",
            ids.len(),
            numbers.len()
        )));
    }
    Ok(numbers.as_chunks().0.to_vec())
}

/// The rows of `numbers` `[N,D]`, of any dtype and device.
///
/// # Errors
/// If the shape is another.
pub fn rows<const D: usize>(numbers: &Tensor) -> Result<Vec<[f64; D]>> {
    let size = numbers.size();
    if size.len() != 2 || size[1] != D as i64 {
        return Err(Error::new(format!("rows of {D} random numbers cannot have shape {size:?}")));
    }
    Ok(on_cpu(numbers)?.as_chunks().0.to_vec())
}

/// A whole number in `lowest..=highest` from a uniform one on [0,1).
pub(super) fn whole(uniform: f64, lowest: i64, highest: i64) -> i64 {
    let count = highest as f64 - lowest as f64 + 1.0;
    ((uniform * count) as i64).saturating_add(lowest).min(highest)
}

/// Fails unless there is one entry for all `images`, or one for each of them.
pub(super) fn check_entries(transform: &str, entries: usize, images: &Tensor) -> Result<()> {
    let (count, ..) = images.size4()?;
    if entries == 1 || entries as i64 == count {
        return Ok(());
    }
    Err(Error::new(format!("{transform} has parameters of {entries} examples, but there are {count} images"))
        .help("draw one row of numbers for the whole batch, or one row for each example"))
}

/// One number per entry, `[entries,1,1,1]`, in the images' dtype and on their device.
pub(super) fn column(numbers: impl IntoIterator<Item = f64>, images: &Tensor) -> Result<Tensor> {
    let numbers: Vec<f64> = numbers.into_iter().collect();
    let column = Tensor::f_from_slice(&numbers)?.f_to_kind(images.kind())?;
    Ok(sent(&column, images.device())?.f_reshape([-1, 1, 1, 1])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_cover_their_range_evenly() {
        let shifts: Vec<_> = (0..9000).map(|i| whole(f64::from(i) / 9000.0, -4, 4)).collect();
        for value in -4..=4 {
            assert_eq!(shifts.iter().filter(|&&shift| shift == value).count(), 1000);
        }
        assert_eq!(whole(0.999_999_999_999_999_9, -4, 4), 4);
    }

    #[test]
    fn rows_keep_every_number_and_refuse_another_width() {
        let numbers = Tensor::from_slice(&[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]).reshape([2, 3]);
        assert_eq!(rows::<3>(&numbers).unwrap(), [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]);
        let error = rows::<2>(&numbers).unwrap_err();
        assert_eq!(error.message, "rows of 2 random numbers cannot have shape [2, 3]");
        assert!(rows::<3>(&numbers.reshape([-1])).is_err());
    }
}
