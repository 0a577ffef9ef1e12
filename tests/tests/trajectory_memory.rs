//! The memory of a step of MTT grows with the steps that it unrolls; that of TESLA does not. Each is measured in a process of
//! its own, for a process's peak never falls.

use guard_host::{
    data::Split,
    engine::{
        HostLab, Room, TrainingLoss,
        experts::{ExpertFolder, ExpertManifest, Trajectory},
    },
    network::{Architecture, Convnet, Model, NetworkSpec, NormLayer},
    plugin::Context,
    random::Streams,
    recipe::Training,
};
use guard_sdk::{
    Device, Kind, Lab, Space, Synthetic, Tensor, Value,
    autograd::{Graph, grad},
    lab::LabInfo,
};
use guard_tests::Bench;
use serde_json::json;
use std::{fs, process::Command};

/// `mtt 20`: what a child measures.
const CASE: &str = "GUARD_TRAJECTORY_MEMORY";
/// What precedes the child's answer.
const ANSWER: &str = "peak bytes: ";
const STEPS: [u64; 3] = [10, 20, 40];

#[test]
fn memory_grows_with_the_steps_of_mtt_and_not_with_those_of_tesla() {
    if let Ok(case) = std::env::var(CASE) {
        let (name, steps) = case.split_once(' ').expect("a name and a number");
        println!("\n{ANSWER}{}", measure(name, steps.parse().expect("a number")));
        return;
    }
    let mib = |name: &str| STEPS.map(|steps| child(name, steps) as f64 / f64::from(1 << 20));
    let (mtt, tesla) = (mib("mtt"), mib("tesla"));
    println!("MiB at {STEPS:?} steps: mtt {mtt:.0?}, tesla {tesla:.0?}");
    let (first, second) = (mtt[1] - mtt[0], mtt[2] - mtt[1]);
    assert!(first > 15.0 && second > 1.5 * first, "mtt {mtt:.1?} MiB at {STEPS:?} steps");
    let grown = tesla[2] - tesla[0];
    assert!(grown.abs() < 0.2 * (mtt[2] - mtt[0]), "tesla {tesla:.1?}, mtt {mtt:.1?} MiB at {STEPS:?} steps");
}

/// What the step took at its peak beyond what the process held before.
fn child(name: &str, steps: u64) -> u64 {
    let output = Command::new(std::env::current_exe().expect("a test knows its program"))
        .args(["--exact", "memory_grows_with_the_steps_of_mtt_and_not_with_those_of_tesla", "--nocapture"])
        .env(CASE, format!("{name} {steps}"))
        .output()
        .expect("a process can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    let answer = text.lines().find_map(|line| line.strip_prefix(ANSWER));
    answer.and_then(|answer| answer.parse().ok()).unwrap_or_else(|| panic!("{text}"))
}

/// A line of `/proc/self/status`, in bytes.
fn status(key: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("a Linux process can read its own size");
    let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("the kernel tells it");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

fn measure(name: &str, steps: u64) -> u64 {
    tch::set_num_threads(1);
    let bench = Bench::new(&["guard_trajectory"]);
    let spec = NetworkSpec {
        architecture: Architecture::Convnet(Convnet { depth: 2, width: 16, norm: NormLayer::Instance }),
        input: [3, 16, 16],
        classes: 4,
        mean: vec![0.5; 3],
        std: vec![0.25; 3],
        whitening: None,
        precision: Default::default(),
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let training = Training { epochs: 1, ..Training::default() };
    let manifest = ExpertManifest { dataset: "none".into(), images: 0, network: spec.clone(), training };
    let experts = ExpertFolder::prepare(folder.path(), &manifest).unwrap();
    let snapshot = |seed| {
        let model = Model::fresh(&spec, &Streams::new(seed), Device::Cpu).unwrap();
        model.parameters().iter().map(Tensor::detach).collect()
    };
    let snapshots = vec![snapshot(0), snapshot(1)];
    experts.write(0, &Trajectory { snapshots, accuracies: vec![0.0, 0.0] }).unwrap();

    let options = json!({ "synthetic_steps": steps, "expert_epochs": 1, "max_start_epoch": 1 });
    let mut objective = bench.objective(name, options).unwrap();
    let needs = objective.needs(&bench.context()).unwrap();
    let nothing =
        Split::in_memory(&Tensor::zeros([0, 3, 16, 16], (Kind::Float, Device::Cpu)), vec![]).unwrap();
    let loss = TrainingLoss::new(1.0, 0.0, Vec::new());
    let info = LabInfo { classes: 4, images_per_class: 8, image: spec.input, real_images: vec![0; 4] };
    let (split, loss, streams) = (&nothing, &loss, Streams::new(2));
    let experts = Some((&experts, 1));
    let room = Room { info, needs: &needs, spec: &spec, teacher: None, experts, split, loss, streams };
    let context = Context { stage: "distill", ..bench.context() };
    let lab = HostLab { room: &room, context };

    let images = Tensor::rand([32, 3, 16, 16], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let labels = Tensor::arange(32, (Kind::Int64, Device::Cpu)).remainder(4);
    let rate = Tensor::from(0.01f32).set_requires_grad(true);
    let ids: Vec<u64> = (0..32).collect();
    let set = Synthetic {
        images: &images,
        labels: &labels,
        soft_labels: None,
        learnables: &[("learning-rate", &rate)],
        ids: &ids,
        space: Space::Normalised,
    };
    let before = status("VmRSS:");
    match objective.value(&context, &set, &Lab::lend(&lab)).unwrap() {
        Value::Loss(loss) => drop(grad(&loss, &[&images, &rate], Graph::Free).unwrap()),
        Value::Gradients { gradients, .. } => drop(gradients),
    }
    status("VmHWM:").saturating_sub(before)
}
