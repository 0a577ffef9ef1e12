//! What is told beside numbers: pictures and histograms.

use super::event::{Content, Histogram, Image, Value};
use crate::run::unreadable;
use guard_sdk::Result;
use image::{ImageDecoder, codecs::png::PngDecoder};
use std::{fs, io::Cursor, path::Path};

/// Buckets of a histogram.
const BUCKETS: usize = 64;

/// The largest picture that is told, in bytes: TensorBoard holds all of them in memory.
const LARGEST: u64 = 32 << 20;

/// A PNG; nothing if it is too large for TensorBoard.
///
/// # Errors
/// If it cannot be read.
pub fn picture(tag: &str, path: &Path) -> Result<Option<Value>> {
    let refused = |error: std::io::Error| unreadable(path, error);
    if fs::metadata(path).map_err(refused)?.len() > LARGEST {
        return Ok(None);
    }
    let encoded = fs::read(path).map_err(refused)?;
    let decoder = PngDecoder::new(Cursor::new(&encoded)).map_err(|error| unreadable(path, error))?;
    let ((width, height), channels) = (decoder.dimensions(), decoder.color_type().channel_count());
    let (height, width, colorspace) = (height as i32, width as i32, i32::from(channels));
    let image = Image { height, width, colorspace, encoded };
    Ok(Some(Value { tag: tag.into(), content: Some(Content::Image(image)) }))
}

/// How often the finite ones of `numbers` are of which size; nothing if there are none.
pub fn histogram(tag: &str, numbers: &[f32]) -> Option<Value> {
    let numbers: Vec<f64> =
        numbers.iter().map(|&number| f64::from(number)).filter(|n| n.is_finite()).collect();
    let (min, max) = numbers.iter().fold((f64::MAX, f64::MIN), |(min, max), &n| (min.min(n), max.max(n)));
    if numbers.is_empty() {
        return None;
    }
    // One bucket is enough for numbers that are all the same.
    let count = if min < max { BUCKETS } else { 1 };
    let width = (max - min) / count as f64;
    let mut bucket = vec![0.0; count];
    for number in &numbers {
        let place = if width > 0.0 { ((number - min) / width) as usize } else { 0 };
        bucket[place.min(count - 1)] += 1.0;
    }
    let ends = (1..count).map(|place| min + width * place as f64);
    let histogram = Histogram {
        min,
        max,
        num: numbers.len() as f64,
        sum: numbers.iter().sum(),
        sum_squares: numbers.iter().map(|number| number * number).sum(),
        bucket_limit: ends.chain([max]).collect(),
        bucket,
    };
    Some(Value { tag: tag.into(), content: Some(Content::Histogram(histogram)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(numbers: &[f32]) -> Option<Histogram> {
        match histogram("x", numbers)?.content {
            Some(Content::Histogram(histogram)) => Some(histogram),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_number_lies_in_one_bucket_and_the_greatest_in_the_last() {
        let found = counted(&[0.0, 0.5, 1.0, 1.0, f32::NAN]).unwrap();
        assert_eq!((found.min, found.max, found.num), (0.0, 1.0, 4.0));
        assert_eq!((found.sum, found.sum_squares), (2.5, 2.25));
        assert_eq!((found.bucket_limit.len(), found.bucket.len()), (BUCKETS, BUCKETS));
        assert_eq!((found.bucket[0], found.bucket[BUCKETS / 2], found.bucket[BUCKETS - 1]), (1.0, 1.0, 2.0));
        assert_eq!(found.bucket_limit.last(), Some(&1.0));
        assert!(found.bucket_limit.is_sorted());
    }

    #[test]
    fn numbers_that_are_all_the_same_have_one_bucket_and_no_numbers_none() {
        let found = counted(&[0.25; 3]).unwrap();
        assert_eq!((found.bucket_limit, found.bucket), (vec![0.25], vec![3.0]));
        assert!(counted(&[]).is_none() && counted(&[f32::NAN]).is_none());
    }

    #[test]
    fn a_picture_that_is_none_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sheet.png");
        assert!(picture("x", &path).unwrap_err().message.contains("sheet.png` cannot be read"));
        fs::write(&path, "no picture").unwrap();
        assert!(picture("x", &path).unwrap_err().message.contains("sheet.png` cannot be read"));
    }
}
