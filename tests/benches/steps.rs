//! One step of training, recovering, relabelling and attacking: our side of `cargo xtask bench steps`. What runs is the
//! host's own trainer, distiller and evaluation networks, with plugins through the boundary.
//!
//! `steps CASE DATA PEERS THREADS` warms up once, and prints one JSON line: the milliseconds of each step, the processor's
//! milliseconds in all of them, the most memory held, the floor (the passes that the step cannot do without, as measured
//! one by one), and for attacks what was still right.

use guard_device::Arithmetic;
use guard_host::{
    data::{Split, View, prepare},
    engine::{Distiller, EvalOnly, Room, Trainer, TrainingLoss, WeightedRegularizer},
    network::{Model, NetworkSpec, Precision, Replayed},
    plugin::{Context, Silent},
    random::Streams,
    recipe::{Adam, Augmentations, Data, FirstImages, Optimizer, Schedule, Sgd, Training},
    run::Observer,
};
use guard_sdk::{
    Batch, Budget, Device, Error, Kind, Network, Norm, Result, Tensor,
    abi::shim::prepare_memory,
    augment::CutMix,
    autograd::{Graph, grad, no_grad},
    lab::LabInfo,
};
use guard_tests::{
    Bench, Counting, device,
    measure::{now, peak_mib},
};
use serde_json::{Value, json};
use std::{cell::RefCell, collections::HashMap, path::Path, time::Instant};

const STEPS: usize = 3;
const BATCH: i64 = 100;

/// What one case measured.
struct Measured {
    milliseconds: Vec<f64>,
    /// The processor's in all of them.
    processor: f64,
    /// Forwards, input gradients and weight gradients that a step takes at least.
    passes: [f64; 3],
    network: Model,
    batch: i64,
    /// Of attacks.
    correct: Option<i64>,
}

fn main() -> Result<()> {
    prepare_memory();
    device();
    Arithmetic { tf32: precision()? == Precision::Tf32, deterministic: false }.set()?;
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [name, data, peers, threads] = arguments.as_slice() else {
        return Err(Error::new("usage: steps CASE DATA PEERS THREADS"));
    };
    tch::set_num_threads(threads.parse().map_err(|_| Error::new("THREADS is a number"))?);
    let (data, peers) = (Path::new(data), Path::new(peers));
    let curvature = |form: &str, weight: f64| {
        Some(Penalty {
            plugins: &["guard_curv"],
            name: "curvature",
            options: json!({ "form": form, "radius": 3.0, "compat": "guard-cifar" }),
            weight,
            cross_entropy_weight: 1.0,
        })
    };
    let measured = match name.as_str() {
        "rn18_train" => train(None, [1.0, 1.0, 1.0])?,
        "rn18_cure_full" => train(curvature("norm", 100.0), [5.0, 5.0, 5.0])?,
        "rn18_cure_squared" => train(curvature("cure", 100.0), [5.0, 5.0, 5.0])?,
        "rn18_cure_simple" => train(curvature("loss-difference", 1e-4), [3.0, 4.0, 3.0])?,
        "rn18_pgd10_train" => train(Some(adversarial()), [11.0, 11.0, 1.0])?,
        "rn18_recover" => recover()?,
        "rn18_relabel" => relabel()?,
        "cn3_square" => attack(convnet(peers)?, 64, "square", &json!({ "queries": 500 }), 1)?,
        "rn20_square" => attack(resnet20(data)?, 64, "square", &json!({ "queries": 500 }), 1)?,
        "cn3_pgd100" => attack(convnet(peers)?, 128, "pgd", &pgd(), 2)?,
        "cn3_autoattack" => attack(convnet(peers)?, 16, "autoattack", &json!({}), 1)?,
        "rn20_pgd100" => attack(resnet20(data)?, 128, "pgd", &pgd(), 2)?,
        "rn20_autoattack" => attack(resnet20(data)?, 64, "autoattack", &json!({}), 1)?,
        _ => return Err(Error::new(format!("there is no case `{name}`"))),
    };
    let peak = peak_mib();
    let floor = floor(&measured)?;
    let Measured { mut milliseconds, processor, correct, .. } = measured;
    let processor = processor / milliseconds.len() as f64;
    milliseconds.sort_by(f64::total_cmp);
    let median = milliseconds[milliseconds.len() / 2];
    let result = json!({ "ms": median, "ms_all": milliseconds, "cpu_ms": processor, "peak_mib": peak, "floor_ms": floor, "correct": correct });
    println!("{result}");
    Ok(())
}

/// Passes × their measured times.
fn floor(Measured { passes, network, batch, .. }: &Measured) -> Result<f64> {
    let [channels, height, width] = network.spec().input;
    let images = Tensor::rand([*batch, channels, height, width], (Kind::Float, device()));
    let frozen = network.for_inference()?;
    let logits = |model: &Model, images: &Tensor| {
        Ok::<_, Error>(Network::lend(model).logits(images)?.sum(None::<Kind>))
    };
    let forward = least(|| no_grad(|| logits(&frozen, &images).map(drop)))?;
    let to_images = least(|| {
        let images = images.detach().set_requires_grad(true);
        grad(&logits(&frozen, &images)?, &[&images], Graph::Free).map(drop)
    })? - forward;
    let to_weights = if passes[2] > 0.0 {
        let parameters: Vec<&Tensor> = network.parameters().iter().collect();
        least(|| grad(&logits(network, &images)?, &parameters, Graph::Free).map(drop))? - forward - to_images
    } else {
        0.0
    };
    Ok(passes[0] * forward + passes[1] * to_images + passes[2] * to_weights)
}

/// Milliseconds of the fastest of three.
fn least(mut step: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..3 {
        let started = now();
        step()?;
        least = least.min((now() - started).as_secs_f64() * 1e3);
    }
    Ok(least)
}

/// Notes when each iteration starts.
#[derive(Default)]
struct Clock(RefCell<Vec<(Instant, f64)>>);

impl Observer for Clock {
    fn iteration(&self, _: u64, _: u64) {
        self.0.borrow_mut().push((now(), processor_ms()));
    }
}

impl Clock {
    /// Milliseconds of each iteration but the first, and the processor's of them all, given that the last has just ended.
    fn milliseconds(&self) -> (Vec<f64>, f64) {
        let mut starts = self.0.borrow().clone();
        starts.push((now(), processor_ms()));
        let each =
            starts.windows(2).skip(1).map(|pair| (pair[1].0 - pair[0].0).as_secs_f64() * 1e3).collect();
        (each, starts[starts.len() - 1].1 - starts[1].1)
    }
}

/// Milliseconds that this process's threads have kept processors busy, from the kernel's count of 1/100 s.
fn processor_ms() -> f64 {
    let status = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = status.rsplit(") ").next().unwrap_or_default();
    after_name.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() * 10.0
}

/// What GUARD_PRECISION says, as recipes write it; float32 if it is not set.
fn precision() -> Result<Precision> {
    let named = std::env::var("GUARD_PRECISION").unwrap_or_else(|_| "fp32".into());
    serde_json::from_value(json!(named)).map_err(|error| Error::new(format!("GUARD_PRECISION: {error}")))
}

fn spec(network: Value, classes: i64) -> Result<NetworkSpec> {
    Ok(NetworkSpec {
        architecture: serde_json::from_value(network)?,
        input: [3, 32, 32],
        classes,
        mean: vec![0.4914, 0.4822, 0.4465],
        std: vec![0.2023, 0.1994, 0.2010],
        whitening: None,
        precision: precision()?,
    })
}

fn resnet18(classes: i64) -> Result<Model> {
    Model::fresh(
        &spec(json!({ "architecture": "resnet18", "stem": "cifar" }), classes)?,
        &Streams::new(0),
        device(),
    )
}

/// What is added to the loss of a training step.
struct Penalty {
    plugins: &'static [&'static str],
    name: &'static str,
    options: Value,
    weight: f64,
    cross_entropy_weight: f64,
}

/// Adversarial training with PGD-10, ε = 8/255 and steps of 2/255.
fn adversarial() -> Penalty {
    Penalty {
        plugins: &["guard_adversarial", "guard_attacks"],
        name: "adversarial",
        options: json!({
            "attack": { "use": "pgd", "options": { "steps": 10, "relative_step_size": 0.25 } },
            "threat": { "norm": "linf", "epsilon": "8/255" },
        }),
        weight: 1.0,
        cross_entropy_weight: 0.0,
    }
}

/// SGD steps on one batch, with a penalty perhaps.
fn train(penalty: Option<Penalty>, passes: [f64; 3]) -> Result<Measured> {
    let bench = Bench::new(penalty.as_ref().map_or(&[], |penalty| penalty.plugins));
    let context = Context { recorder: &Silent, ..bench.context() };
    let cross_entropy_weight = penalty.as_ref().map_or(1.0, |penalty| penalty.cross_entropy_weight);
    let regularizers = match penalty {
        Some(Penalty { name, options, weight, .. }) => {
            vec![WeightedRegularizer { weight, regularizer: bench.regularizer(name, options)? }]
        }
        None => Vec::new(),
    };
    let optimizer =
        Optimizer::Sgd(Sgd { learning_rate: 0.001, momentum: 0.9, weight_decay: 5e-4, nesterov: false });
    let training = Training {
        epochs: STEPS + 1,
        batch_size: BATCH as usize,
        optimizer,
        augment: Augmentations(Vec::new()),
        ..Training::default()
    };
    let images = Streams::new(1).uniform("images", &[BATCH, 3, 32, 32], Kind::Float)?;
    let split = Split::in_memory(&images, (0..BATCH).map(|index| index % 10).collect())?;
    let (loss, clock) = (TrainingLoss::new(cross_entropy_weight, 0.0, regularizers), Clock::default());
    let trainer = Trainer {
        split: &split,
        training: &training,
        loss: &loss,
        streams: Streams::new(2),
        observer: &clock,
    };
    let trained = trainer.run(resnet18(10)?, &context);
    let (milliseconds, processor) = clock.milliseconds();
    if let Some(failure) = trained.failure {
        return Err(failure);
    }
    Ok(Measured { milliseconds, processor, passes, network: trained.model, batch: BATCH, correct: None })
}

/// SRe2L's iterations on one image for each of a hundred classes.
fn recover() -> Result<Measured> {
    let bench = Bench::new(&["guard_sre2l"]);
    let context = Context { stage: "distill", recorder: &Silent, ..bench.context() };
    let teacher = resnet18(BATCH)?;
    let mut objective = bench.objective("sre2l", json!({}))?;
    let needs = objective.needs(&context)?;
    let images = Streams::new(1).uniform("images", &[BATCH, 3, 32, 32], Kind::Float)?;
    let split = Split::in_memory(&images, (0..BATCH).collect())?;
    let loss = TrainingLoss::new(1.0, 0.0, Vec::new());
    let info = LabInfo {
        classes: BATCH,
        images_per_class: 1,
        image: [3, 32, 32],
        real_images: vec![1; BATCH as usize],
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
    let clock = Clock::default();
    let adam = Adam { learning_rate: 0.25, betas: [0.5, 0.9], ..Adam::default() };
    let distiller = Distiller {
        room: &room,
        start: FirstImages::Made(needs.start),
        iterations: STEPS as u64 + 1,
        optimizer: Optimizer::Adam(adam),
        schedule: Schedule::Cosine,
        streams: Streams::new(3),
        observer: &clock,
    };
    distiller.run(&context, &mut objective, &mut []).map_err(|stopped| stopped.failure)?;
    let (milliseconds, processor) = clock.milliseconds();
    Ok(Measured {
        milliseconds,
        processor,
        passes: [1.0, 1.0, 0.0],
        network: teacher,
        batch: BATCH,
        correct: None,
    })
}

/// Soft labels of images under CutMix.
fn relabel() -> Result<Measured> {
    let teacher = resnet18(10)?;
    let prepared = teacher.for_inference()?;
    let images = Streams::new(1).uniform("images", &[BATCH, 3, 32, 32], Kind::Float)?.to_device(device());
    let order = Streams::new(2).permutation(BATCH as usize);
    let mix = CutMix::draw(&[0.5, 0.5], 0.75, order, [32, 32])?;
    let clock = Clock::default();
    for step in 0..=2 * STEPS as u64 {
        clock.iteration(step, 2 * STEPS as u64);
        let logits = prepared.eval_logits(&mix.apply(&images)?)?;
        let _ = (logits / 20.0).softmax(-1, None::<Kind>);
    }
    let (milliseconds, processor) = clock.milliseconds();
    Ok(Measured {
        milliseconds,
        processor,
        passes: [1.0, 0.0, 0.0],
        network: teacher,
        batch: BATCH,
        correct: None,
    })
}

/// A network and the images that it is attacked on.
struct Target {
    network: Model,
    images: Tensor,
    labels: Tensor,
}

/// The peers' ConvNet on tinted digits.
fn convnet(peers: &Path) -> Result<Target> {
    let path = peers.join("bench_cn3.safetensors");
    let tensors: HashMap<String, Tensor> = Tensor::read_safetensors(&path)?.into_iter().collect();
    let spec = spec(json!({ "architecture": "convnet" }), 10)?;
    let program = spec.program()?;
    let tensor = |name: &str| match tensors.get(name) {
        Some(tensor) => Ok(tensor.to_device(device())),
        None => Err(Error::new(format!("`{}` has no tensor `{name}`", path.display()))),
    };
    let parameters =
        program.parameters.iter().map(|parameter| tensor(&parameter.name)).collect::<Result<_>>()?;
    let network = Model::new(&spec, program, parameters, Vec::new())?;
    Ok(Target { network, images: tensor("eval_images")?, labels: tensor("eval_labels")? })
}

/// A published ResNet-20 on the first test images of CIFAR-10.
fn resnet20(data: &Path) -> Result<Target> {
    let spec =
        NetworkSpec { std: vec![0.247, 0.2435, 0.2616], ..spec(json!({ "architecture": "resnet20" }), 10)? };
    let network = Model::load(&spec, &data.join("weights/resnet20-cifar10.safetensors"), device())?;
    let set = prepare(&Data { root: Some(data.join("cifar-10")), ..Data::named("cifar10") })?.open()?;
    let positions: Vec<i64> = (0..128).collect();
    let loaded = set.test.batch(&positions, &View::plain())?.to_device(device())?;
    Ok(Target { network, images: loaded.images, labels: loaded.labels })
}

fn pgd() -> Value {
    json!({ "steps": 100, "early_stop": true })
}

/// Attacks those of the first `count` images that are right, as an evaluation does. The floor is of as many passes as the
/// attack made of single images, each as fast as in a full batch.
fn attack(
    Target { network, images, labels }: Target,
    count: i64,
    name: &str,
    options: &Value,
    repeats: u64,
) -> Result<Measured> {
    let bench = Bench::new(&["guard_attacks"]);
    let context = Context { stage: "evaluate", recorder: &Silent, ..bench.context() };
    let lent = Counting::new(EvalOnly::new(Replayed::new(network.for_inference()?)));
    let counts = lent.counts();
    let budget = Budget { norm: Norm::Linf, epsilon: 1.0 / 255.0 };
    let right = |images: &Tensor, labels: &Tensor| -> Result<Tensor> {
        Ok(no_grad(|| Network::lend(&lent).logits(images))?.argmax(-1, false).eq_tensor(labels))
    };
    let (images, labels) = (images.narrow(0, 0, count), labels.narrow(0, 0, count));
    let (clock, mut correct) = (Clock::default(), 0);
    for repeat in 0..=repeats {
        clock.iteration(repeat, repeats);
        let kept = right(&images, &labels)?.nonzero().squeeze_dim(1);
        if repeat == 0 {
            continue;
        }
        let (images, labels) = (images.index_select(0, &kept), labels.index_select(0, &kept));
        let ids: Vec<u64> =
            Vec::<i64>::try_from(kept.to_device(Device::Cpu))?.into_iter().map(|id| id as u64).collect();
        let batch = Batch::pixels(&images, &labels, &ids);
        let mut attack = bench.attack(name, options.clone())?;
        let adversarial = attack.perturb(&context, &Network::lend(&lent), &batch, &budget)?;
        correct = right(&adversarial, &labels)?.sum(Kind::Int64).int64_value(&[]);
    }
    let (milliseconds, processor) = clock.milliseconds();
    let of_a_batch = |images: u64| images as f64 / (count as f64 * repeats as f64);
    let passes = [of_a_batch(counts.images()), of_a_batch(counts.towards_images()), 0.0];
    Ok(Measured { milliseconds, processor, passes, network, batch: count, correct: Some(correct) })
}
