//! `robust_dist`: which of 64 images each of torchattacks' attacks leaves right, over five seeds where it draws.

use crate::{
    attacks::{right, settle_ties},
    checks::{Checks, Examples, Precision::Exact},
    host::Host,
    replay::Replay,
};
use guard_host::network::Model;
use guard_sdk::{Budget, Kind, Network, Norm, Result, Space, Tensor};
use serde_json::{Value, json};

/// The radius of the attacks that look for the smallest perturbation: any counts here.
const ANY: f64 = 1e9;

/// An attack as the case's keys name it.
struct Entry {
    key: &'static str,
    method: &'static str,
    options: Value,
    norm: Norm,
    /// In units of 1/255.
    radius: f64,
    seeds: u64,
}

fn entries() -> Vec<Entry> {
    let linf =
        |key, method, options, radius, seeds| Entry { key, method, options, norm: Norm::Linf, radius, seeds };
    let l2 = |key, method, options| Entry { key, method, options, norm: Norm::L2, radius: ANY, seeds: 1 };
    let pgd = |steps, radius: f64, random_start| {
        let step_size = if radius == 1.0 { 0.25 } else { 2.0 / radius };
        json!({ "steps": steps, "relative_step_size": step_size, "random_start": random_start })
    };
    let mim = || json!({ "relative_step_size": 0.25 });
    let apgd = || json!({ "steps": 10, "compat": "torchattacks" });
    let cw = |constant| json!({ "constant": constant, "compat": "torchattacks" });
    let torchattacks = || json!({ "compat": "torchattacks" });
    vec![
        linf("pgd10_rs_e8", "pgd", pgd(10, 8.0, true), 8.0, 5),
        linf("apgd_ce_e8", "apgd", apgd(), 8.0, 5),
        linf("square1000_e8", "square", json!({ "queries": 1000, "compat": "torchattacks" }), 8.0, 5),
        linf("fgsm_e8", "fgsm", json!({}), 8.0, 1),
        linf("pgd100_e8", "pgd", pgd(100, 8.0, false), 8.0, 1),
        linf("mifgsm_e8", "mim", mim(), 8.0, 1),
        linf("pgd10_rs_e1", "pgd", pgd(10, 1.0, true), 1.0, 5),
        linf("apgd_ce_e1", "apgd", apgd(), 1.0, 5),
        linf("fgsm_e1", "fgsm", json!({}), 1.0, 1),
        linf("pgd100_e1", "pgd", pgd(100, 1.0, false), 1.0, 1),
        linf("mifgsm_e1", "mim", mim(), 1.0, 1),
        linf("autoattack_e16", "autoattack", torchattacks(), 16.0, 5),
        l2("cw_c1e-4", "cw", cw(1e-4)),
        l2("cw_c1", "cw", cw(1.0)),
        l2("deepfool", "deepfool", torchattacks()),
    ]
}

/// The case: flags are compared one by one, for the draws are torchattacks' own.
pub fn check(checks: &mut Checks) -> Result<()> {
    let (model, images) = (checks.model()?, checks.input("images_u8")?.to_kind(Kind::Float) / 255.0);
    let examples = Examples::new(images, checks.input("labels")?, Space::Pixels);
    let clean = right(&model.eval_logits(&examples.images)?, &examples);
    checks.compare("clean_correct", &clean, Exact);
    for entry in entries() {
        let key = format!("{}.correct", entry.key);
        if checks.has(&key) {
            let recorded = checks.table(&key)?.shallow_clone();
            let row = |seed: u64| {
                let recorded = recorded.get(seed as i64);
                correct(&model, &examples, &entry, seed, &recorded)
            };
            let rows: Result<Vec<_>> = (0..entry.seeds).map(row).collect();
            checks.compare(&key, &Tensor::stack(&rows?, 0), Exact);
        }
    }
    Ok(())
}

/// Which examples are right after the attack with one seed. DeepFool ends at the decision boundary, where ties are as
/// `recorded`.
fn correct(
    model: &Model,
    examples: &Examples,
    entry: &Entry,
    seed: u64,
    recorded: &Tensor,
) -> Result<Tensor> {
    let budget = Budget { norm: entry.norm, epsilon: entry.radius / 255.0 };
    let host = Host::new(&["guard_attacks"], Replay::seeded(seed))?;
    let context = host.context("evaluate");
    let mut attack = host.plugins.attack(&context, entry.method, entry.method, &entry.options)?;
    let adversarial =
        attack.perturb(&context, &Network::lend(&model.frozen()), &examples.batch(), &budget)?;
    let logits = model.eval_logits(&adversarial)?;
    let flags = right(&logits, examples);
    Ok(if entry.method == "deepfool" { settle_ties(&flags, &logits, recorded) } else { flags })
}
