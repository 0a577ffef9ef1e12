//! Robust accuracy of a network under attacks of `guard_attacks`, to be held against other implementations.
//!
//! `attack_accuracy NETWORK.json WEIGHTS.safetensors EXAMPLES.safetensors NORM EPSILON OUTPUT.safetensors ATTACK...`
//! NETWORK is a `NetworkSpec`, EXAMPLES holds `images` (float32 `[N,C,H,W]`, pixels) and `labels` (int64 `[N]`), EPSILON is
//! in units of 1/255 for linf and in pixel units for l2, and ATTACK is `name` or `name={"option":...}`. Prints a line of
//! JSON per attack; OUTPUT gets the flags of what stayed right.

use guard_host::{
    network::{Model, NetworkSpec},
    plugin::{library_name, limit, verify},
};
use guard_sdk::{Batch, Budget, Device, Kind, Network, Norm, Tensor, batch::per_image};
use guard_tests::{Bench, built_folder};
use serde_json::{Value, json};
use std::{collections::HashMap, error::Error, path::Path, time::Instant};

/// Examples in a call of an attack.
const BATCH: usize = 64;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [network, weights, examples, norm, epsilon, output, attacks @ ..] = arguments.as_slice() else {
        return Err("six arguments and attacks are needed; see the head of the source file".into());
    };
    tch::set_num_threads(1);
    let spec: NetworkSpec = serde_json::from_slice(&std::fs::read(network)?)?;
    let model = Model::load(&spec, Path::new(weights), Device::Cpu)?.frozen();
    let tensors: HashMap<String, Tensor> = Tensor::read_safetensors(examples)?.into_iter().collect();
    let (Some(images), Some(labels)) = (tensors.get("images"), tensors.get("labels")) else {
        return Err(format!("`{examples}` needs `images` and `labels`").into());
    };
    let norm: Norm = serde_json::from_value(json!(norm))?;
    let unit = if norm == Norm::Linf { 1.0 / 255.0 } else { 1.0 };
    let budget = Budget { norm, epsilon: epsilon.parse::<f64>()? * unit };

    let mut flags = vec![("clean".to_string(), right(&model, images, labels)?)];
    println!("{}", json!({ "attack": "clean", "correct": count(&flags[0].1) }));
    for attack in attacks {
        let (name, options) = attack.split_once('=').unwrap_or((attack, "{}"));
        let started = Instant::now();
        let correct = attacked(&model, images, labels, &budget, name, &serde_json::from_str(options)?)?;
        let seconds = started.elapsed().as_secs_f64();
        println!("{}", json!({ "attack": attack, "correct": count(&correct), "seconds": seconds }));
        flags.push((attack.clone(), correct));
    }
    Ok(Tensor::write_safetensors(&flags, output)?)
}

fn count(flags: &Tensor) -> i64 {
    flags.sum(Kind::Int64).int64_value(&[])
}

fn right(model: &Model, images: &Tensor, labels: &Tensor) -> Result<Tensor, Box<dyn Error>> {
    Ok(model.eval_logits(images)?.argmax(-1, false).eq_tensor(labels).to_kind(Kind::Uint8))
}

/// What stays right under the attack; a perturbation beyond the budget does not count.
fn attacked(
    model: &Model,
    images: &Tensor,
    labels: &Tensor,
    budget: &Budget,
    name: &str,
    options: &Value,
) -> Result<Tensor, Box<dyn Error>> {
    // Cargo leaves libraries in `deps`, beside the folder of the examples.
    let library = built_folder().join("../deps").join(library_name("guard_attacks"));
    let bench = Bench::new(&[library.to_str().ok_or("the path of the libraries is not UTF-8")?]);
    let mut attack = bench.attack(name, options.clone())?;
    let ids: Vec<u64> = (0..labels.size()[0] as u64).collect();
    let mut flags = Vec::new();
    for ids in ids.chunks(BATCH) {
        let (first, count) = (ids[0] as i64, ids.len() as i64);
        let (images, labels) = (images.narrow(0, first, count), labels.narrow(0, first, count));
        let batch = Batch::pixels(&images, &labels, ids);
        let found = attack.perturb(&bench.context(), &Network::lend(model), &batch, budget)?;
        let guarantee = attack.info(&bench.context())?.guarantee;
        let sizes = verify(&found, &images, budget, guarantee)?;
        let counted = found.where_self(&per_image(&sizes.le(limit(budget))), &images);
        flags.push(right(model, &counted, &labels)?);
    }
    Ok(Tensor::cat(&flags, 0))
}
