//! Regularizers that train on adversarial images: `adversarial` (Madry et al., ICLR 2018, arXiv 1706.06083) and `trades`
//! (Zhang et al., ICML 2019, arXiv 1901.08573).
#![forbid(unsafe_code)]

mod adversarial;
mod trades;

pub use adversarial::{Adversarial, AdversarialOptions, InnerAttack};
pub use trades::{Maximise, Trades, TradesOptions};

guard_sdk::plugin! {
    id: "guard.adversarial",
    regularizers: [Adversarial, Trades],
}
