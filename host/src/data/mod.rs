//! Image sets: pixels in [0,1] and labels, in a training and a test split.

mod archive;
mod augment;
pub mod check;
pub mod decode;
mod digits;
pub mod readers;
pub mod source;

pub use augment::augment;

use crate::random::Streams;
use guard_sdk::{Device, Error, IndexOp, Kind, Result, Tensor};

/// What is known of a data set without reading it.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct DataInfo {
    /// The name in recipes.
    pub name: &'static str,
    /// Names of the classes, in order of their labels.
    pub classes: Vec<String>,
    /// Channels, height and width.
    pub image: [i64; 3],
    /// Mean of the training split's pixels, per channel.
    pub mean: Vec<f64>,
    /// Standard deviation of the training split's pixels, per channel.
    pub std: Vec<f64>,
}

/// Images with labels.
pub struct Split {
    /// float32 `[N,C,H,W]`, pixels in [0,1].
    pub images: Tensor,
    /// int64 `[N]`.
    pub labels: Tensor,
}

/// A data set in memory.
pub struct Dataset {
    /// Training images.
    pub train: Split,
    /// Test images.
    pub test: Split,
}

/// Names of the data sets that can be read.
pub const DATASETS: [&str; 1] = [digits::NAME];

/// What is known of a data set without reading it.
///
/// # Errors
/// If there is no reader for it. The help names the nearest.
pub fn info(name: &str) -> Result<DataInfo> {
    match name {
        digits::NAME => Ok(digits::info()),
        _ => Err(Error::new(format!("there is no reader for data set `{name}`"))
            .help(format!("there are: {}", DATASETS.join(", ")))),
    }
}

/// Reads a data set onto a device.
///
/// # Errors
/// If there is no reader for it, or its files are missing or damaged.
pub fn load(name: &str, device: Device) -> Result<Dataset> {
    info(name)?;
    digits::load(device)
}

impl Dataset {
    /// The training split without a fifth of its images, which take the place of the test split.
    pub fn with_validation(self, streams: &Streams) -> Self {
        let order = streams.named("validation").permutation(self.train.len());
        let (held_out, kept) = order.split_at(order.len() / 5);
        let split = |positions: &[i64]| {
            let mut positions = positions.to_vec();
            positions.sort_unstable();
            let (images, labels) = self.train.select(&positions);
            Split { images, labels }
        };
        Self { train: split(kept), test: split(held_out) }
    }
}

impl Split {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.size()[0] as usize
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The images and labels at `positions`.
    pub fn select(&self, positions: &[i64]) -> (Tensor, Tensor) {
        let positions = Tensor::from_slice(positions).to_device(self.labels.device());
        (self.images.index_select(0, &positions), self.labels.index_select(0, &positions))
    }

    /// Positions of the images of one class.
    pub fn of_class(&self, class: i64) -> Vec<i64> {
        let positions = self.labels.eq(class).nonzero().i((.., 0)).to_device(Device::Cpu);
        Vec::<i64>::try_from(positions).unwrap_or_default()
    }

    /// Number of images of each class.
    pub fn class_counts(&self, classes: usize) -> Vec<u64> {
        let counts =
            self.labels.bincount::<Tensor>(None, classes as i64).to_kind(Kind::Int64).to_device(Device::Cpu);
        Vec::<i64>::try_from(counts).unwrap_or_default().into_iter().map(|count| count as u64).collect()
    }
}
