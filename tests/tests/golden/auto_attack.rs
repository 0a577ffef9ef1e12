//! `atk_apgd*`, `atk_square` and `atk_autoattack`: torchattacks' AutoAttack and its parts, with the numbers that it drew.
//! What they return where they fail is the clean image; see [`Attacked::clean_where_it_failed`].

use crate::{attacks::Attacked, checks::Checks, replay::Replay};
use guard_sdk::{Device, Norm, Result, Tensor};
use serde_json::{Value, json};

/// `atk_apgd_ce*`.
pub fn apgd_ce(checks: &mut Checks) -> Result<()> {
    apgd(checks, "ce")
}

/// `atk_apgd_dlr`.
pub fn apgd_dlr(checks: &mut Checks) -> Result<()> {
    apgd(checks, "dlr")
}

/// `atk_apgdt`.
pub fn apgd_targeted(checks: &mut Checks) -> Result<()> {
    apgd(checks, "targeted-dlr")
}

fn apgd(checks: &mut Checks, loss: &str) -> Result<()> {
    let steps = checks.case.count("steps")?;
    let options = json!({ "loss": loss, "steps": steps, "compat": "torchattacks" });
    let norm = if checks.case.name.ends_with("_l2") { Norm::L2 } else { Norm::Linf };
    let attacked = replay(checks, "apgd", &options, norm, "t_draw")?;
    match norm {
        Norm::Linf => attacked.compare_along_signs(checks),
        Norm::L2 => attacked.compare(checks),
    }
}

/// `atk_square`.
pub fn square(checks: &mut Checks) -> Result<()> {
    let options = json!({
        "queries": checks.case.count("n_queries")?,
        "initial_share": checks.case.number("p_init")?,
        "compat": "torchattacks",
    });
    replay(checks, "square", &options, Norm::Linf, "rand_stream")?.compare_along_signs(checks)
}

/// `atk_autoattack`: the parts return what they found first or last, so that only flags and the budget are comparable.
pub fn all(checks: &mut Checks) -> Result<()> {
    let options = json!({ "compat": "torchattacks" });
    let attacked = replay(checks, "autoattack", &options, Norm::Linf, "")?;
    attacked.measure(checks)?;
    for key in ["adv", "logits_adv", "linf", "l2"] {
        checks.skip(key, "an example leaves this AutoAttack at its first wrong decision");
    }
    Ok(())
}

/// The attack with torchattacks' draws, which `key` holds.
fn replay(checks: &mut Checks, method: &str, options: &Value, norm: Norm, key: &str) -> Result<Attacked> {
    let source = Replay::seeded(checks.case.count("seed")?);
    let drawn = source.drawn();
    let attacked = Attacked::run(checks, method, options, norm, source)?;
    if checks.own_images(key).is_some() {
        let flat = Tensor::cat(&drawn.borrow(), 0);
        let recorded = checks.input(key)?.flatten(0, -1).to_device(Device::Cpu);
        let same = flat == recorded;
        checks.require(same, || format!("`{key}`: the numbers drawn are not those recorded"));
    } else {
        checks.skip(key, "no file of the folder holds it; the generator's seed is the case's");
    }
    attacked.clean_where_it_failed()
}
