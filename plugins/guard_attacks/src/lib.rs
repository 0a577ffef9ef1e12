//! Attacks in pixel space, each example on its own.
#![forbid(unsafe_code)]

mod apgd;
mod autoattack;
mod ball;
mod compat;
mod cw;
mod deepfool;
mod ensemble;
mod examples;
mod fab;
mod fgsm;
mod goal;
mod gradient;
mod hyperplane;
mod losses;
mod margins;
mod mim;
mod noise;
mod part;
mod pgd;
mod square;
mod strongest;
mod transfer;

pub use apgd::{Apgd, ApgdOptions};
pub use autoattack::{AutoAttack, AutoAttackOptions};
pub use cw::{Cw, CwOptions};
pub use deepfool::{DeepFool, DeepFoolOptions};
pub use ensemble::{Ensemble, EnsembleOptions};
pub use fab::{Fab, FabOptions};
pub use fgsm::{Fgsm, FgsmOptions};
pub use mim::{Mim, MimOptions};
pub use noise::{Noise, NoiseOptions};
pub use pgd::{Pgd, PgdOptions};
pub use square::{Square, SquareOptions};
pub use transfer::{Transfer, TransferOptions};

guard_sdk::plugin! {
    id: "guard.attacks",
    attacks: [Apgd, AutoAttack, Cw, DeepFool, Ensemble, Fab, Fgsm, Mim, Noise, Pgd, Square, Transfer],
}
