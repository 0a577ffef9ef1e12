//! Synthetic sets of others, and ours for others.
//!
//! | file | what |
//! |---|---|
//! | `import` | a set as others released it → pixels, labels and a manifest |
//! | `real_set` | what the data set that was distilled tells |
//! | `source` | which way of keeping sets a file or folder follows |
//! | `torch`, `pictures` | those ways: PyTorch's files; folders of pictures |
//! | `labels` | classes, and probabilities of classes |
//! | `space` | what the values mean, and the way to pixels |
//! | `export`, `parquet`, `npz` | a set of this host → one file that other tools open |

mod export;
mod import;
mod labels;
#[cfg(test)]
mod mangled;
mod npz;
mod parquet;
mod pictures;
mod real_set;
mod source;
mod space;
mod torch;

pub use export::{Exported, export};
pub use import::{Import, Request, import};
pub use labels::SoftLabels;
pub use space::Space;
