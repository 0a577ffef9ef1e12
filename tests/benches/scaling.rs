//! How cost grows: our side of `cargo xtask bench scaling`, which has no other.
//!
//! `scaling CASE THREADS`, with a size in the case's name, warms up at the smallest size and prints one JSON line: the
//! milliseconds of the whole, and the most memory held. The steps of TESLA and MTT are measured by `matching`.

use guard_host::{
    data::Split,
    engine::{Distiller, EvalOnly, Evaluator, Room, TrainingLoss},
    network::{Model, NetworkSpec},
    plugin::{Context, Silent},
    random::Streams,
    recipe::{Adam, AttackUse, FirstImages, Optimizer, Schedule},
    run::Observer,
};
use guard_sdk::{Budget, Error, Kind, Norm, Result, abi::shim::prepare_memory, lab::LabInfo};
use guard_tests::{
    Bench, device,
    measure::{now, peak_mib},
};
use serde_json::{Map, json};

const CLASSES: i64 = 10;

fn main() -> Result<()> {
    prepare_memory();
    device();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let usage = || Error::new("usage: scaling images-per-class-N|iterations-N|examples-N THREADS");
    let [case, threads] = arguments.as_slice() else { return Err(usage()) };
    tch::set_num_threads(threads.parse().map_err(|_| usage())?);
    let (name, size) = case.rsplit_once('-').ok_or_else(usage)?;
    let size: usize = size.parse().map_err(|_| usage())?;
    let measured = |size: usize| match name {
        "images-per-class" => recover(size, 20),
        "iterations" => recover(1, size as u64),
        "examples" => attack(size),
        _ => Err(usage()),
    };
    measured(1)?;
    let begun = now();
    measured(size)?;
    let milliseconds = (now() - begun).as_secs_f64() * 1e3;
    println!("{}", json!({ "ms": milliseconds, "peak_mib": peak_mib() }));
    Ok(())
}

/// A network with BatchNorm on images of CIFAR's size.
fn network() -> Result<Model> {
    let spec = NetworkSpec {
        architecture: serde_json::from_value(json!({ "architecture": "resnet20" }))?,
        input: [3, 32, 32],
        classes: CLASSES,
        mean: vec![0.5; 3],
        std: vec![0.25; 3],
        whitening: None,
        precision: Default::default(),
    };
    Model::fresh(&spec, &Streams::new(0), device())
}

/// SRe2L's synthetic images.
fn recover(images_per_class: usize, iterations: u64) -> Result<()> {
    let bench = Bench::new(&["guard_sre2l"]);
    let context = Context { stage: "distill", recorder: &Silent, ..bench.context() };
    let teacher = network()?;
    let mut objective = bench.objective("sre2l", json!({}))?;
    let needs = objective.needs(&context)?;
    let images = Streams::new(1).uniform("images", &[CLASSES, 3, 32, 32], Kind::Float)?;
    let split = Split::in_memory(&images, (0..CLASSES).collect())?;
    let loss = TrainingLoss::new(1.0, 0.0, Vec::new());
    let info = LabInfo {
        classes: CLASSES,
        images_per_class: images_per_class as i64,
        image: [3, 32, 32],
        real_images: vec![1; CLASSES as usize],
    };
    let room = Room {
        info,
        needs: &needs,
        spec: teacher.spec(),
        teacher: Some(&teacher),
        experts: None,
        split: &split,
        loss: &loss,
        streams: Streams::new(2),
    };
    let distiller = Distiller {
        room: &room,
        start: FirstImages::Made(needs.start),
        iterations,
        optimizer: Optimizer::Adam(Adam::default()),
        schedule: Schedule::Cosine,
        streams: Streams::new(3),
        observer: &Nobody,
    };
    let made = distiller.run(&context, &mut objective, &mut []).map_err(|stopped| stopped.failure)?;
    match made.labels.size()[0] == CLASSES * images_per_class as i64 {
        true => Ok(()),
        false => Err(Error::new(format!("{} images were made", made.labels.size()[0]))),
    }
}

/// PGD with 20 steps on so many images, as an evaluation attacks them.
fn attack(examples: usize) -> Result<()> {
    let bench = Bench::new(&["guard_attacks"]);
    let context = Context { stage: "evaluate", recorder: &Silent, ..bench.context() };
    let model = network()?.for_inference()?;
    let images = Streams::new(1).uniform("images", &[examples as i64, 3, 32, 32], Kind::Float)?;
    // What the network says of them is right: all are attacked.
    let labels =
        model.eval_logits(&images.to_device(device()))?.argmax(-1, false).to_device(guard_sdk::Device::Cpu);
    let split = Split::in_memory(&images, Vec::<i64>::try_from(labels)?)?;
    let evaluator = Evaluator {
        network: EvalOnly::new(model),
        called: None,
        split: &split,
        batch_size: 64,
        probe_images: 0,
        curvature_images: 0,
        observer: &Nobody,
        keep: None,
    };
    let options = Map::from_iter([("steps".to_string(), json!(20))]);
    let attacks = [AttackUse { method: "pgd".into(), name: None, options }];
    let budget = Budget { norm: Norm::Linf, epsilon: 1e-6 };
    evaluator.run(&attacks, &[budget], &context).map(drop)
}

/// Watches nothing.
struct Nobody;

impl Observer for Nobody {
    fn iteration(&self, _: u64, _: u64) {}
}
