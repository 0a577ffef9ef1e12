//! Arrays of images and labels, whatever file they come from.
//!
//! | split | names of the two arrays (the first pair that is there) |
//! |---|---|
//! | training | `images`, `labels`; `train_images`, `train_labels`; `x_train`, `y_train` |
//! | test, optional | `test_images`, `test_labels`; `x_test`, `y_test`; `val_images`, `val_labels`; `x_val`, `y_val` |
//!
//! Images are uint8 (255 is a pixel of 1) or float32/float64 pixels in [0,1], of shape `[N,H,W]` (grey), `[N,H,W,C]` or
//! `[N,C,H,W]` with 1 or 3 channels. Which of the last two it is, is told by the axis of length 1 or 3; if both could be
//! the channels, that is an error. Labels are integers of shape `[N]` or `[N,1]` from 0; the largest training label tells
//! the number of classes.

use super::{Found, label_in_range, numbered, out_of_range};
use crate::data::source::{Images, Limits, Part, Records, damaged};
use guard_sdk::{Error, Kind, Result, Tensor};
use std::borrow::Cow;

const TRAIN: [[&str; 2]; 3] =
    [["images", "labels"], ["train_images", "train_labels"], ["x_train", "y_train"]];
const TEST: [[&str; 2]; 4] =
    [["test_images", "test_labels"], ["x_test", "y_test"], ["val_images", "val_labels"], ["x_val", "y_val"]];

/// The type of an array's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    U8,
    U16,
    U32,
    U64,
    I8,
    I16,
    I32,
    I64,
    F32,
    F64,
}

impl Element {
    pub(super) fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }
}

/// An array as its file holds it.
pub(super) struct Array<'a> {
    /// The file and the array's name, for errors.
    pub(super) title: String,
    pub(super) element: Element,
    pub(super) shape: Vec<usize>,
    /// Row by row (C order).
    pub(super) bytes: Cow<'a, [u8]>,
    pub(super) big_endian: bool,
}

/// A file with named arrays.
pub(super) trait Arrays {
    /// The file's path.
    fn title(&self) -> String;

    /// Names of all arrays.
    fn names(&self) -> Vec<String>;

    /// An array that is one of the names.
    fn array(&self, name: &str, limits: &Limits) -> Result<Array<'_>>;
}

/// Finds the images and labels among a file's arrays.
pub(super) fn read(file: &impl Arrays, records: &mut Records, limits: &Limits) -> Result<Found> {
    let names = file.names();
    let there = |name: &str| names.iter().any(|other| other == name);
    let pair = |pairs: &[[&'static str; 2]]| pairs.iter().copied().find(|[images, _]| there(images));
    let Some(train) = pair(&TRAIN) else {
        let found = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        return Err(damaged(file.title(), "has no array `images`, `train_images` or `x_train`")
            .help(format!("its arrays: {found}")));
    };
    let load = |[images, labels]: [&str; 2]| {
        if !there(labels) {
            return Err(damaged(file.title(), format!("has an array `{images}`, but no `{labels}`")));
        }
        let labels = self::labels(&file.array(labels, limits)?)?;
        let images = file.array(images, limits)?;
        if images.shape.first() != Some(&labels.len()) {
            return Err(damaged(
                &images.title,
                format!("has shape {:?}, but there are {} labels", images.shape, labels.len()),
            ));
        }
        Ok((images, labels))
    };
    let (images, labels) = load(train)?;
    let classes = classes(&images.title, &labels)?;
    let train = part(&images, &labels, classes, records)?;
    drop(images);
    let test = pair(&TEST).map(|names| {
        let (images, labels) = load(names)?;
        part(&images, &labels, classes, records)
    });
    Ok(Found { classes: numbered(classes), train, test: test.transpose()? })
}

/// The arrays of a synthetic set as tensors of their own numbers, which need not be pixels.
pub struct RawSet {
    /// `[N,C,H,W]`.
    pub images: Tensor,
    /// Their labels.
    pub labels: Tensor,
    /// What lies beside them, by name.
    pub others: Vec<(String, Tensor)>,
}

/// What may lie beside the images of a synthetic set.
const OTHERS: [&str; 2] = ["soft_labels", "learning_rate"];

/// Reads a file of a synthetic set.
pub(super) fn read_raw(file: &impl Arrays, limits: &Limits) -> Result<RawSet> {
    let names = file.names();
    let there = |name: &str| names.iter().any(|other| other == name);
    let Some([images, labels]) = TRAIN.into_iter().find(|pair| pair.iter().all(|name| there(name))) else {
        let found = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        return Err(
            damaged(file.title(), "has no arrays `images` and `labels`").help(format!("its arrays: {found}"))
        );
    };
    let images = file.array(images, limits)?;
    let form = form(&images)?;
    let [channels, height, width] = [form.channels, form.height, form.width].map(|length| length as i64);
    let pixels = tensor(&images)?;
    let pixels = match form.channels_last {
        true => pixels.f_reshape([-1, height, width, channels])?.f_permute([0, 3, 1, 2])?.f_contiguous()?,
        false => pixels.f_reshape([-1, channels, height, width])?,
    };
    let other = |name: &str| Ok((name.to_string(), tensor(&file.array(name, limits)?)?));
    Ok(RawSet {
        images: pixels,
        labels: tensor(&file.array(labels, limits)?)?,
        others: OTHERS.into_iter().filter(|name| there(name)).map(other).collect::<Result<_>>()?,
    })
}

/// The array's numbers in its shape; unsigned ones of more than a byte as int64.
fn tensor(array: &Array) -> Result<Tensor> {
    let values = match array.element {
        Element::U8 => Tensor::f_from_slice(&array.bytes)?,
        Element::F32 => Tensor::f_from_slice(&numbers(array, f32::from_le_bytes))?,
        Element::F64 => Tensor::f_from_slice(&numbers(array, f64::from_le_bytes))?,
        _ => Tensor::f_from_slice(&integers(array))?.to_kind(Kind::Int64),
    };
    let shape: Vec<i64> = array.shape.iter().map(|&length| length as i64).collect();
    Ok(values.f_reshape(shape)?)
}

/// The largest label tells the number of classes. A number that no set of this size can have is an error before anything
/// of that length is made.
fn classes(title: &str, labels: &[i64]) -> Result<usize> {
    let classes = labels.iter().max().map_or(0, |&largest| largest.saturating_add(1)).max(0) as usize;
    match classes <= labels.len() {
        true => Ok(classes),
        false => Err(damaged(
            title,
            format!("has {} images, but their labels go up to {}", labels.len(), classes - 1),
        )
        .help("labels count the classes from 0")),
    }
}

fn labels(array: &Array) -> Result<Vec<i64>> {
    if !matches!(array.shape.as_slice(), [_] | [_, 1]) {
        return Err(damaged(&array.title, format!("has shape {:?}; labels are [N] or [N,1]", array.shape)));
    }
    if matches!(array.element, Element::F32 | Element::F64) {
        return Err(damaged(&array.title, "holds floating-point numbers; labels are integers"));
    }
    Ok(integers(array))
}

/// The numbers of an array of integers.
fn integers(array: &Array) -> Vec<i64> {
    match array.element {
        Element::U8 => numbers(array, |[byte]: [u8; 1]| i64::from(byte)),
        Element::I8 => numbers(array, |[byte]: [u8; 1]| i64::from(byte as i8)),
        Element::U16 => numbers(array, |bytes| i64::from(u16::from_le_bytes(bytes))),
        Element::I16 => numbers(array, |bytes| i64::from(i16::from_le_bytes(bytes))),
        Element::U32 => numbers(array, |bytes| i64::from(u32::from_le_bytes(bytes))),
        Element::I32 => numbers(array, |bytes| i64::from(i32::from_le_bytes(bytes))),
        // Beyond what a label can be, and so out of range like any negative one.
        Element::U64 => numbers(array, |bytes| i64::try_from(u64::from_le_bytes(bytes)).unwrap_or(-1)),
        _ => numbers(array, i64::from_le_bytes),
    }
}

/// The array's numbers, from their little-endian bytes.
fn numbers<const S: usize, T>(array: &Array, number: impl Fn([u8; S]) -> T) -> Vec<T> {
    let (whole, _) = array.bytes.as_chunks::<S>();
    whole
        .iter()
        .map(|&bytes| {
            let mut bytes = bytes;
            if array.big_endian {
                bytes.reverse();
            }
            number(bytes)
        })
        .collect()
}

/// Where an image's channels are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Form {
    channels: usize,
    height: usize,
    width: usize,
    channels_last: bool,
}

fn form(array: &Array) -> Result<Form> {
    let error = |why: String| damaged(&array.title, format!("has shape {:?}{why}", array.shape));
    let is_channels = |length: usize| length == 1 || length == 3;
    let (channels, height, width, channels_last) = match *array.shape.as_slice() {
        [_, height, width] => (1, height, width, false),
        [_, second, third, last] => match (is_channels(second), is_channels(last)) {
            (true, false) => (second, third, last, false),
            (false, true) => (last, second, third, true),
            (true, true) => {
                return Err(error(", whose channels could be the second axis or the last".into())
                    .help("grey images can be [N,H,W]; others need a side that is not 1 or 3"));
            }
            (false, false) => {
                return Err(error("; neither its second axis nor its last is 1 or 3 channels".into()));
            }
        },
        _ => return Err(error("; images are [N,H,W], [N,H,W,C] or [N,C,H,W]".into())),
    };
    match height * width {
        0 => Err(error("; its images have no pixels".into())),
        _ => Ok(Form { channels, height, width, channels_last }),
    }
}

fn part(images: &Array, labels: &[i64], classes: usize, records: &mut Records) -> Result<Part> {
    let form = form(images)?;
    let shape = [form.channels, form.height, form.width];
    let keep = |index: usize, records: &mut Records| match label_in_range(labels[index], classes) {
        Some(_) => Ok(true),
        None => {
            let why = out_of_range(labels[index], classes);
            records.unusable(format!("{}, image {index}", images.title), why).map(|()| false)
        }
    };
    let (images, labels) = match images.element {
        Element::U8 => {
            let (values, labels) = select(&images.bytes, form, labels, |index, _| keep(index, records))?;
            (Images::Bytes { values, shape, brightest: 255 }, labels)
        }
        Element::F32 | Element::F64 => {
            let pixels: Vec<f32> = match images.element {
                Element::F32 => numbers(images, f32::from_le_bytes),
                _ => numbers(images, |bytes| f64::from_le_bytes(bytes) as f32),
            };
            let (values, labels) = select(&pixels, form, labels, |index, image| {
                // NaN is in no range.
                match image.iter().find(|value| !(0.0..=1.0).contains(*value)) {
                    None => keep(index, records),
                    Some(value) => {
                        let why = format!("has a pixel of {value}; pixels are in [0,1]");
                        records.unusable(format!("{}, image {index}", images.title), why).map(|()| false)
                    }
                }
            })?;
            (Images::Floats { values, shape }, labels)
        }
        other => {
            return Err(damaged(&images.title, format!("holds {other:?} numbers"))
                .help("images are uint8, or float32 or float64 in [0,1]"));
        }
    };
    Ok(Part { images, labels })
}

/// The images that `keep` keeps, channels first, with their labels.
fn select<T: Copy>(
    pixels: &[T],
    form: Form,
    labels: &[i64],
    mut keep: impl FnMut(usize, &[T]) -> Result<bool>,
) -> Result<(Vec<T>, Vec<i64>), Error> {
    let length = form.channels * form.height * form.width;
    let (mut values, mut kept) = (Vec::with_capacity(pixels.len()), Vec::with_capacity(labels.len()));
    for (index, image) in pixels.chunks_exact(length).enumerate() {
        if !keep(index, image)? {
            continue;
        }
        kept.push(labels[index]);
        match form.channels_last {
            false => values.extend_from_slice(image),
            true => (0..form.channels)
                .for_each(|channel| values.extend(image.iter().skip(channel).step_by(form.channels))),
        }
    }
    Ok((values, kept))
}
