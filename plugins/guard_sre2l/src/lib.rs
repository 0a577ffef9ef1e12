//! SRe2L (Yin et al., "Squeeze, Recover and Relabel", NeurIPS 2023, arXiv 2306.13092).
#![forbid(unsafe_code)]

mod recover;

pub use recover::{Augment, Sre2l, Sre2lOptions};

guard_sdk::plugin! {
    id: "guard.sre2l",
    objectives: [Sre2l],
}
