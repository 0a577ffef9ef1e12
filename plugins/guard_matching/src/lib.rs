//! Synthetic images that act on untrained networks as real ones do.
//!
//! | method | what is matched | paper |
//! |---|---|---|
//! | [`Dc`] | gradients of the training loss, class by class | Zhao et al., ICLR 2021, arXiv 2006.05929 |
//! | [`Dsa`] | the same after one augmentation, shared by real and synthetic images | Zhao & Bilen, ICML 2021, arXiv 2102.08259 |
//! | [`Dm`] | means of embeddings | Zhao & Bilen, WACV 2023, arXiv 2110.04181 |
//!
//! | file | what |
//! |---|---|
//! | `gradient` | DC and DSA: one step of the images |
//! | `distance` | how far two gradients are apart |
//! | `loops` | how many steps a network lives, and how long it learns in between |
//! | `learner` | the network that learns from the synthetic images; its state |
//! | `statistics` | BatchNorm's statistics, of real images |
//! | `distribution` | DM |
#![forbid(unsafe_code)]

mod distance;
mod distribution;
mod gradient;
mod learner;
mod loops;
mod statistics;

pub use distance::Metric;
pub use distribution::{Dm, DmOptions};
pub use gradient::{Dc, Dsa, MatchingOptions};

guard_sdk::plugin! {
    id: "guard.matching",
    objectives: [Dc, Dsa, Dm],
}
