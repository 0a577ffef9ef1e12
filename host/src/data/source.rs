//! What a reader finds: images as their files hold them, labels, and the names of the classes.
//!
//! No tensors yet: how a set is kept, resized and turned into batches is the host's business, not a reader's.

use guard_sdk::{Error, Result};
use std::{borrow::Cow, sync::Arc};

/// What a reader finds.
pub struct Source {
    /// Names of the classes, in order of their labels.
    pub classes: Vec<String>,
    /// The training split.
    pub train: Part,
    /// The test split. None where the set has none of its own (one folder, one file): the host splits.
    pub test: Option<Part>,
    /// What was left out because it cannot be used. Empty with [`OnError::Stop`].
    pub skipped: Vec<Skipped>,
}

/// Something that was left out.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Skipped {
    /// The file's path, followed by the record's index where a file holds many.
    pub file: String,
    /// Why it cannot be used.
    pub why: String,
}

/// One split.
pub struct Part {
    /// As many images as there are labels.
    pub images: Images,
    /// Each below the number of classes, none negative.
    pub labels: Vec<i64>,
}

/// Images in the form that their files hold.
pub enum Images {
    /// All of one shape, as bytes.
    Bytes {
        /// `[N,C,H,W]`.
        values: Vec<u8>,
        /// Channels, height and width.
        shape: [usize; 3],
        /// The value that is a pixel of 1: 255, for the digits 16.
        brightest: u8,
    },
    /// All of one shape, as float32 pixels in [0,1].
    Floats {
        /// `[N,C,H,W]`.
        values: Vec<f32>,
        /// Channels, height and width.
        shape: [usize; 3],
    },
    /// Encoded images of any size (JPEG, PNG, WebP, BMP), decoded when asked for.
    Encoded(Arc<dyn EncodedImages>),
}

/// Encoded images, in files or in memory.
#[expect(clippy::len_without_is_empty, reason = "no reader yields an empty set")]
pub trait EncodedImages: Send + Sync {
    /// Number of images.
    fn len(&self) -> usize;

    /// Where the image at `index` comes from, for messages: the file's path, or the file and the row.
    fn name(&self, index: usize) -> String;

    /// The encoded image at `index`.
    ///
    /// # Errors
    /// If its file cannot be read.
    fn bytes(&self, index: usize) -> Result<Cow<'_, [u8]>>;
}

/// What to do with a record that cannot be used: an image that is damaged, a label that is out of range.
///
/// What concerns a whole set (a missing file, a wrong magic number, classes that differ) is an error either way.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    /// It is an error.
    #[default]
    Stop,
    /// It is left out and listed in [`Source::skipped`].
    Skip,
}

/// How much a file may ask for. They keep a small file from filling the memory (a decompression bomb).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Width times height of one encoded image.
    pub pixels: u64,
    /// Bytes of one file, or one entry of an archive, once decompressed.
    pub file: u64,
    /// Bytes of all encoded images that are kept in memory (Parquet).
    pub memory: u64,
}

impl Default for Limits {
    /// Pillow's limit for an image (178,956,970 pixels), 16 GiB for a file, 32 GiB for all images of a Parquet set.
    fn default() -> Self {
        Self { pixels: 178_956_970, file: 16 << 30, memory: 32 << 30 }
    }
}

impl Images {
    /// Number of images.
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes { values, shape, .. } => values.len() / shape.iter().product::<usize>().max(1),
            Self::Floats { values, shape } => values.len() / shape.iter().product::<usize>().max(1),
            Self::Encoded(images) => images.len(),
        }
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A file that is not what it should be. `why` continues the sentence that the file's name begins.
pub(super) fn damaged(file: impl std::fmt::Display, why: impl std::fmt::Display) -> Error {
    Error::with_code("data", format!("`{file}` {why}"))
}

/// Collects what cannot be used, or stops at the first.
pub(super) struct Records {
    on_error: OnError,
    skipped: Vec<Skipped>,
}

impl Records {
    pub(super) fn new(on_error: OnError) -> Self {
        Self { on_error, skipped: Vec::new() }
    }

    /// True if records that cannot be used are left out.
    pub(super) fn skips(&self) -> bool {
        self.on_error == OnError::Skip
    }

    /// A record that cannot be used; `file` names it.
    pub(super) fn unusable(&mut self, file: impl Into<String>, why: impl Into<String>) -> Result<()> {
        let (file, why) = (file.into(), why.into());
        match self.on_error {
            OnError::Stop => {
                Err(damaged(file, why).help("`on_error = \"skip\"` leaves such images out and lists them"))
            }
            OnError::Skip => {
                self.skipped.push(Skipped { file, why });
                Ok(())
            }
        }
    }

    pub(super) fn into_skipped(self) -> Vec<Skipped> {
        self.skipped
    }
}
