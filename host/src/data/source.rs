//! What a reader finds.
use guard_sdk::Result;
use std::{borrow::Cow, sync::Arc};
/// What a reader finds.
pub struct Source {
    /// Names of the classes, in order of their labels.
    pub classes: Vec<String>,
    /// The training split.
    pub train: Part,
    /// None where the set has no test split of its own.
    pub test: Option<Part>,
    /// Left out.
    pub skipped: Vec<Skipped>,
}
/// Left out.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Skipped {
    /// Path.
    pub file: String,
    /// Reason.
    pub why: String,
}
/// One split.
pub struct Part {
    /// Images.
    pub images: Images,
    /// Labels.
    pub labels: Vec<i64>,
}
/// Images.
pub enum Images {
    /// Bytes.
    Bytes {
        /// v
        values: Vec<u8>,
        /// s
        shape: [usize; 3],
        /// b
        brightest: u8,
    },
    /// Floats.
    Floats {
        /// v
        values: Vec<f32>,
        /// s
        shape: [usize; 3],
    },
    /// Encoded.
    Encoded(Arc<dyn EncodedImages>),
}
/// Encoded images.
pub trait EncodedImages: Send + Sync {
    /// Number.
    fn len(&self) -> usize;
    /// Name.
    fn name(&self, index: usize) -> String;
    /// The encoded image.
    fn bytes(&self, index: usize) -> Result<Cow<'_, [u8]>>;
}
/// What to do with an image that cannot be used.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    /// Stop.
    #[default]
    Stop,
    /// Skip.
    Skip,
}
/// Limits.
#[derive(Debug, Clone, Default)]
pub struct Limits {}
