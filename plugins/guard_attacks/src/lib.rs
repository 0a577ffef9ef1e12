//! Gradient attacks in pixel space, each example on its own.
#![forbid(unsafe_code)]

mod fgsm;
mod gradient;
mod pgd;

pub use fgsm::{Fgsm, FgsmOptions};
pub use pgd::{Pgd, PgdOptions};

guard_sdk::plugin! {
    id: "guard.attacks",
    attacks: [Fgsm, Pgd],
}
