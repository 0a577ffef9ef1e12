//! `soft-labels.safetensors`: what the teacher says of every image in every epoch of the students' training.
//!
//! The file holds no coordinates of crops and no partners of mixtures, only the seed that they are drawn from: whoever has
//! the images and the seed sees what the teacher saw. It is an ordinary safetensors file, which any reader of the format
//! opens, one epoch at a time. E epochs, N images in the order of `distilled.safetensors`, K classes; row i of epoch e is of
//! the view whose first image is i:
//!
//! | tensor | dtype | shape | there | what |
//! |---|---|---|---|---|
//! | `logits` | F16 | `[E,N,K]` | always | the logits; with `top_k` only the k largest, largest first: `[E,N,k]` |
//! | `logits` | U8 | the same | `int8` | the logits in 256 steps |
//! | `range` | F16 | `[E,N,2]` | `int8` | lowest logit and length of a step: logit = lowest + step · value |
//! | `classes` | I16 | `[E,N,k]` | `top_k` | the classes of the k logits |
//! | `rest` | F16 | `[E,N]` | `top_k` | the logit of each other class: together they have the probability at temperature T that they had |
//!
//! `__metadata__` has `format` (`guard-host/soft-labels/1`), `seed`, `temperature` (T), `batch_size`, `augment`, `mixup` and
//! `cutmix` as JSON. Without `top_k`, float16 loses nothing but the rounding of float32 to float16; `int8` and `top_k` cost
//! accuracy, as measured in configs/README.md.
//!
//! Bytes of one image and epoch, exactly: 2 K as float16, K + 4 as int8, 4 k + 2 with `top_k`, 3 k + 6 with both.

mod code;
mod file;
mod writer;

pub use file::SoftLabels;
pub use writer::SoftLabelsWriter;

use crate::recipe::{LabelStorage, Relabel, Student};
use guard_sdk::Kind;
use indicatif::HumanBytes;
use serde_json::{Map, Value, json};

/// The name of the file's format, with its version.
const FORMAT: &str = "guard-host/soft-labels/1";

/// How logits are written down.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LabelCode {
    /// The type of a number.
    pub storage: LabelStorage,
    /// How many of the classes are kept; all if not said.
    pub top_k: Option<i64>,
    /// T, which `top_k` keeps the probability of the rest at.
    pub temperature: f64,
}

impl LabelCode {
    /// So many classes can be numbered in `classes`.
    pub const MOST_CLASSES: usize = i16::MAX as usize + 1;

    /// As a recipe says.
    pub fn of(relabel: &Relabel) -> Self {
        let Relabel { storage, top_k, temperature, .. } = *relabel;
        Self { storage, top_k: top_k.map(|k| k as i64), temperature }
    }

    /// How many logits are kept of each image.
    fn kept(&self, classes: i64) -> i64 {
        self.top_k.unwrap_or(classes)
    }

    /// Name, type and length of the numbers of one image in one epoch.
    fn parts(&self, classes: i64) -> Vec<Part> {
        let kept = self.kept(classes);
        let logits = match self.storage {
            LabelStorage::Float16 => Kind::Half,
            LabelStorage::Int8 => Kind::Uint8,
        };
        let mut parts = vec![Part { name: "logits", kind: logits, shape: vec![kept] }];
        if self.storage == LabelStorage::Int8 {
            parts.push(Part { name: "range", kind: Kind::Half, shape: vec![2] });
        }
        if self.top_k.is_some() {
            parts.push(Part { name: "classes", kind: Kind::Int16, shape: vec![kept] });
            parts.push(Part { name: "rest", kind: Kind::Half, shape: Vec::new() });
        }
        parts
    }

    /// Bytes of one image in one epoch.
    pub fn bytes_per_image(&self, classes: i64) -> u64 {
        self.parts(classes).iter().map(Part::bytes).sum()
    }
}

/// The numbers of one image in one epoch under one name.
struct Part {
    name: &'static str,
    kind: Kind,
    shape: Vec<i64>,
}

impl Part {
    fn bytes(&self) -> u64 {
        self.shape.iter().product::<i64>() as u64 * self.kind.elt_size_in_bytes() as u64
    }

    /// The name of the type in safetensors.
    fn dtype(&self) -> &'static str {
        match self.kind {
            Kind::Half => "F16",
            Kind::Int16 => "I16",
            _ => "U8",
        }
    }
}

/// What a file of soft labels is of, and where in it everything lies.
pub struct LabelPlan {
    /// How logits are written down.
    pub code: LabelCode,
    /// E.
    pub epochs: i64,
    /// N.
    pub images: i64,
    /// K.
    pub classes: i64,
    /// What the views are drawn from.
    pub seed: u64,
    /// What the views are, for who replays them elsewhere.
    pub views: Value,
}

impl LabelPlan {
    /// The labels of `images` images for students that are trained as `student` says.
    pub fn new(relabel: &Relabel, student: &Student, seed: u64, images: i64, classes: i64) -> Self {
        let views = json!({
            "batch_size": student.batch_size, "augment": student.augment, "mixup": student.mixup, "cutmix": student.cutmix,
        });
        Self { code: LabelCode::of(relabel), epochs: student.epochs as i64, images, classes, seed, views }
    }

    /// Length of the whole file in bytes, known before it is written.
    pub fn file_bytes(&self) -> u64 {
        self.header().len() as u64 + self.data_bytes()
    }

    /// The file in words: size, and what it is of.
    pub fn describe(&self) -> String {
        let Self { code, epochs, images, classes, .. } = self;
        let storage = match code.storage {
            LabelStorage::Float16 => "float16",
            LabelStorage::Int8 => "int8 (lossy)",
        };
        let kept = code.top_k.map_or(String::new(), |k| format!(", the {k} largest (lossy)"));
        format!(
            "soft labels of {images} images in {epochs} epochs, {classes} classes as {storage}{kept}: {} ({} bytes per \
             image and epoch)",
            HumanBytes(self.file_bytes()),
            code.bytes_per_image(*classes),
        )
    }

    fn data_bytes(&self) -> u64 {
        (self.epochs * self.images) as u64 * self.code.bytes_per_image(self.classes)
    }

    /// Each part, with the place of its first byte in the data.
    fn parts(&self) -> Vec<(Part, u64)> {
        let mut place = 0;
        let next = |part: Part| {
            let at = place;
            place += (self.epochs * self.images) as u64 * part.bytes();
            (part, at)
        };
        self.code.parts(self.classes).into_iter().map(next).collect()
    }

    /// Each part, with the place of an epoch's first byte in the file.
    fn places(&self, epoch: i64) -> Vec<(Part, u64)> {
        let begin = self.header().len() as u64;
        let of_epoch = |(part, place): (Part, u64)| {
            let at = begin + place + (epoch * self.images) as u64 * part.bytes();
            (part, at)
        };
        self.parts().into_iter().map(of_epoch).collect()
    }

    /// The length of the JSON text in 8 bytes, and the text, filled up with spaces to whole 8 bytes.
    fn header(&self) -> Vec<u8> {
        let mut metadata = Map::new();
        metadata.insert("format".into(), FORMAT.into());
        metadata.insert("seed".into(), self.seed.to_string().into());
        metadata.insert("temperature".into(), self.code.temperature.to_string().into());
        for (key, value) in self.views.as_object().into_iter().flatten() {
            metadata.insert(key.clone(), value.to_string().into());
        }
        let mut entries = Map::new();
        entries.insert("__metadata__".into(), Value::Object(metadata));
        for (part, place) in self.parts() {
            let shape: Vec<i64> = [&[self.epochs, self.images][..], &part.shape].concat();
            let end = place + (self.epochs * self.images) as u64 * part.bytes();
            let entry = json!({ "dtype": part.dtype(), "shape": shape, "data_offsets": [place, end] });
            entries.insert(part.name.into(), entry);
        }
        let mut text = Value::Object(entries).to_string().into_bytes();
        text.resize(text.len().next_multiple_of(8), b' ');
        [&(text.len() as u64).to_le_bytes()[..], &text].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guard_sdk::{Device, Tensor};

    /// Five images of four classes in three epochs.
    pub(super) fn five_images(storage: LabelStorage, top_k: Option<usize>, seed: u64) -> LabelPlan {
        let relabel = Relabel { storage, top_k, ..Relabel::default() };
        let student = Student { epochs: 3, ..Student::default() };
        LabelPlan::new(&relabel, &student, seed, 5, 4)
    }

    /// The batches of an epoch.
    pub(super) fn order(epoch: u64) -> Vec<Vec<i64>> {
        match epoch % 2 {
            0 => vec![vec![3, 0], vec![4, 1], vec![2]],
            _ => vec![vec![1, 2], vec![0, 3], vec![4]],
        }
    }

    /// Those of all epochs, from one on.
    pub(super) fn batches(from: usize) -> impl Iterator<Item = (u64, Vec<i64>)> {
        (0..3).flat_map(|epoch| order(epoch).into_iter().map(move |rows| (epoch, rows))).skip(from)
    }

    /// What is said of the images at `rows`.
    pub(super) fn logits(epoch: u64, rows: &[i64]) -> Tensor {
        let all = Tensor::arange(20, (Kind::Float, Device::Cpu)) * 0.25 + epoch as f64;
        all.reshape([5, 4]).index_select(0, &Tensor::from_slice(rows))
    }

    fn plan(storage: LabelStorage, top_k: Option<usize>, images: i64, classes: i64) -> LabelPlan {
        let relabel = Relabel { storage, top_k, ..Relabel::default() };
        LabelPlan::new(&relabel, &Student::default(), 7, images, classes)
    }

    #[test]
    fn without_loss_an_image_takes_23_bytes_of_10_classes_and_2002_of_1000_at_most() {
        for (classes, most) in [(10, 23.0), (100, 202.0), (1000, 2002.0)] {
            // As few images and epochs as would ever be used; the header counts.
            let plan = LabelPlan { epochs: 100, ..plan(LabelStorage::Float16, None, 10, classes) };
            let each = plan.file_bytes() as f64 / 1000.0;
            assert!(each <= most, "{classes} classes: {each} bytes");
        }
    }

    #[test]
    fn ten_of_a_thousand_classes_take_a_fifth_and_less() {
        let lossy = plan(LabelStorage::Float16, Some(10), 1000, 1000).file_bytes();
        assert!(5 * lossy < plan(LabelStorage::Float16, None, 1000, 1000).file_bytes());
        let bytes = |storage, top_k| plan(storage, top_k, 1, 1000).code.bytes_per_image(1000);
        assert_eq!(bytes(LabelStorage::Float16, Some(10)), 4 * 10 + 2);
        assert_eq!(bytes(LabelStorage::Int8, Some(10)), 3 * 10 + 6);
        assert_eq!(bytes(LabelStorage::Int8, None), 1004);
    }
}
