//! The kinds of cases, and what checks each.

use crate::{
    attacks, auto_attack, basic, checks::Checks, curvature, gradient_norm, matching, minimum_norm, mix,
    robustness, schedule, sre2l, trades, trajectory,
};
use guard_sdk::Result;

/// Computes a case and compares it; deviations are in the checks, an error means that it could not be computed.
pub type Check = fn(&mut Checks) -> Result<()>;

/// The kind of a case: its name without the number of steps and the radius that an attack's name may carry.
pub fn kind(name: &str) -> String {
    let (stem, radius) = name.rsplit_once("_e").unwrap_or((name, ""));
    let stem = if radius.parse::<f64>().is_ok() { stem } else { name };
    let numbered = |method: &str| {
        stem.strip_prefix(method)
            .is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_alphabetic()))
    };
    ["atk_fgsm", "atk_pgdl2", "atk_pgd"]
        .into_iter()
        .find(|method| numbered(method))
        .unwrap_or(stem)
        .to_string()
}

/// What checks cases of `kind`, if it is known.
pub fn check(kind: &str) -> Option<Check> {
    Some(match kind {
        "basic_eval" => basic::eval,
        "basic_train" => basic::train,
        "cure_full" => curvature::full,
        "cure_simple" => curvature::simple,
        "grad_norm" => gradient_norm::check,
        "trades" => trades::check,
        "sre2l_loss" => sre2l::loss,
        "sre2l_steps" => sre2l::steps,
        "dc" => matching::gradients,
        "dm" => matching::embeddings,
        "mtt" => trajectory::check,
        "mix" => mix::check,
        "cda_schedule" => schedule::check,
        "atk_clean" => attacks::clean,
        "atk_fgsm" => attacks::fgsm,
        "atk_pgd" => attacks::pgd,
        "atk_pgdl2" => attacks::pgd_l2,
        "atk_mifgsm" => attacks::mim,
        "atk_mim_sample" => attacks::mim_per_example,
        "atk_mim_guard" => attacks::mim_of_guard,
        "atk_apgd_ce" | "atk_apgd_ce100" | "atk_apgd_ce_l2" => auto_attack::apgd_ce,
        "atk_apgd_dlr" => auto_attack::apgd_dlr,
        "atk_apgdt" => auto_attack::apgd_targeted,
        "atk_square" => auto_attack::square,
        "atk_autoattack" => auto_attack::all,
        "atk_fab" => minimum_norm::fab,
        "atk_fabt" => minimum_norm::fab_targeted,
        "atk_cw_c1" | "atk_cw_c1e-4" => minimum_norm::cw,
        "atk_deepfool" => minimum_norm::deepfool,
        "robust_dist" => robustness::check,
        _ => return None,
    })
}
