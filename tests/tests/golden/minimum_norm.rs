//! `atk_fab*`, `atk_cw*` and `atk_deepfool`: torchattacks' attacks that look for the smallest perturbation.

use crate::{attacks::Attacked, checks::Checks, host::Draws};
use guard_sdk::{Norm, Result};
use serde_json::json;

/// `atk_fab`.
pub fn fab(checks: &mut Checks) -> Result<()> {
    of_croce_and_hein(checks, false)
}

/// `atk_fabt`.
pub fn fab_targeted(checks: &mut Checks) -> Result<()> {
    of_croce_and_hein(checks, true)
}

/// torchattacks returns the clean image where what it found is beyond ε.
fn of_croce_and_hein(checks: &mut Checks, targeted: bool) -> Result<()> {
    let options = json!({ "steps": checks.case.count("steps")?, "targeted": targeted });
    let attacked = Attacked::run(checks, "fab", &options, Norm::Linf, Draws::default())?;
    attacked.clean_beyond_budget().compare(checks)
}

/// `atk_cw*`.
pub fn cw(checks: &mut Checks) -> Result<()> {
    let options = json!({
        "steps": checks.case.count("steps")?,
        "constant": checks.case.number("c")?,
        "confidence": checks.case.number("kappa")?,
        "learning_rate": checks.case.number("lr")?,
        "compat": "torchattacks",
    });
    Attacked::run(checks, "cw", &options, Norm::L2, Draws::default())?.compare(checks)
}

/// `atk_deepfool`.
pub fn deepfool(checks: &mut Checks) -> Result<()> {
    let options = json!({
        "steps": checks.case.count("steps")?,
        "overshoot": checks.case.number("overshoot")?,
        "compat": "torchattacks",
    });
    Attacked::run(checks, "deepfool", &options, Norm::L2, Draws::default())?.compare_at_the_boundary(checks)
}
