//! Attacks in pixel space, each example on its own.
#![forbid(unsafe_code)]

mod apgd;
mod ball;
mod compat;
mod examples;
mod fgsm;
mod goal;
mod gradient;
mod losses;
mod mim;
mod noise;
mod pgd;
mod strongest;

pub use apgd::{Apgd, ApgdOptions};
pub use fgsm::{Fgsm, FgsmOptions};
pub use mim::{Mim, MimOptions};
pub use noise::{Noise, NoiseOptions};
pub use pgd::{Pgd, PgdOptions};

guard_sdk::plugin! {
    id: "guard.attacks",
    attacks: [Apgd, Fgsm, Mim, Noise, Pgd],
}
