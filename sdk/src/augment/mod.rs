//! Augmentations of whole batches `[N,C,H,W]`, on the device and in the dtype (float32 or float64) of the images,
//! differentiable in the pixels.
//!
//! A transform is a value that holds its *parameters*: drawn from uniform numbers by `draw`, used by `apply`. So it can be
//! written down (serde; JSON and TOML keep every bit) and replayed, or used on two batches alike. Parameters come as a list
//! with **one entry for the whole batch or one entry for each example**: draw from one row of numbers for the former, from
//! a row per example for the latter ([`rows`], [`shared_uniform`]). An example's result depends on its own parameters
//! alone; the images that were given are never changed, but may be returned as they are.
//!
//! | transform | what it does | as in |
//! |---|---|---|
//! | [`PaddedCrop`] | moves the image, borders become zero or a reflection | torchvision `RandomCrop(padding)` |
//! | [`ResizedCrop`] | keeps a part, resized (bilinear, antialiased) | torchvision `RandomResizedCrop` |
//! | [`Flip`] | left to right | torchvision `RandomHorizontalFlip` |
//! | [`Roll`] | moves the image, what leaves enters on the other side | SRe2L's jitter |
//! | [`ColorJitter`] | brightness, contrast, saturation, hue in any order | torchvision `ColorJitter` |
//! | [`Cutout`] | a rectangle of zeros | DSA |
//! | [`Scale`], [`Rotate`] | stretch, turn | DSA |
//! | [`Mixup`], [`CutMix`] | mixes pairs of images, and their labels | arXiv 1710.09412, 1905.04899 |
//! | [`Dsa`] | one of crop, cutout, flip, scale, rotate and colour | arXiv 2102.08259 |
//!
//! [`resize_shorter_side`] and [`center_crop`] prepare images for evaluation; they have nothing to draw.
//!
//! ```
//! use guard_sdk::{Device, Kind, Tensor, augment::Flip};
//!
//! let images = Tensor::rand([3, 1, 2, 2], (Kind::Float, Device::Cpu));
//! let flip = Flip::draw(&[[0.1], [0.7], [0.4]], 0.5);
//! assert_eq!(flip.flipped, [true, false, true]);
//! let recorded = serde_json::to_string(&flip)?;
//! let replayed: Flip = serde_json::from_str(&recorded)?;
//! assert_eq!(replayed.apply(&images)?, flip.apply(&images)?);
//! # Ok::<(), guard_sdk::Error>(())
//! ```

mod affine;
mod color_jitter;
mod cutmix;
mod cutout;
mod dsa;
mod dsa_strategy;
mod evaluation;
mod flip;
mod mixup;
mod padded_crop;
mod region;
mod resized_crop;
mod roll;
mod rows;
mod schedule;
mod select;

pub use affine::{Rotate, Scale};
pub use color_jitter::{Adjustment, ColorChange, ColorJitter, ColorJitterOptions};
pub use cutmix::CutMix;
pub use cutout::Cutout;
pub use dsa::{Dsa, DsaColor, DsaOptions};
pub use dsa_strategy::{DsaStrategy, DsaTransform};
pub use evaluation::{center_crop, resize_shorter_side};
pub use flip::Flip;
pub use mixup::Mixup;
pub use padded_crop::{Border, PaddedCrop, PaddedCropOptions};
pub use region::Region;
pub use resized_crop::{ResizedCrop, ResizedCropOptions};
pub use roll::Roll;
pub use rows::{each_uniform, rows, shared_uniform};
pub use schedule::CropSchedule;
