//! Image sets: from files to batches of pixels in [0,1].
//!
//! | module | what it does |
//! |---|---|
//! | `readers` | one file per format: files → [`Source`] |
//! | `archive`, `decode` | what readers share: compressed archives, encoded images |
//! | `dataset` | a recipe's `[data]` → [`Dataset`]: splits, subsets, constants |
//! | `store` | images as they are kept: bytes, floats, or files that are decoded when asked for |
//! | `cut` | crop, shift and mirror one image while it is copied |
//! | `view`, `split` | the images at some positions, augmented, as a batch |
//! | `loader` | batches that are prepared ahead on another thread |
//! | `check` | what is wrong with a set |

mod archive;
mod augment;
pub mod check;
mod cut;
mod dataset;
pub mod decode;
mod loader;
mod picture;
pub mod readers;
pub mod source;
mod split;
mod statistics;
mod store;
mod subset;
mod view;

pub use augment::augment;
pub use dataset::{DataInfo, Dataset, Prepared, constants, prepare};
pub use loader::Batches;
pub use readers::DATASETS;
pub use source::{OnError, Skipped};
pub use split::{Loaded, Split};
pub use view::View;
