//! One step of matching objectives, as plugins called by the host: our side of `cargo xtask bench matching`. The peer's is
//! `matching.py`.
//!
//! `matching CASE DATA PEERS THREADS` makes one step to warm up and five that count, and prints one JSON line; neither folder
//! is looked into.

use guard_host::{
    data::Split,
    engine::{
        ImageGroup, Room, TrainingLoss,
        experts::{ExpertFolder, ExpertManifest, Trajectory},
    },
    network::{Architecture, Convnet, Model, NetworkSpec, NormLayer},
    plugin::{Context, Locator, NoNetworks, Plugins, Silent},
    random::Streams,
    recipe::{Optimizer, Sgd, Training},
};
use guard_sdk::{
    Device, Error, Kind, Result, Tensor, abi::shim::prepare_memory, lab::LabInfo, services::Distribution,
};
use guard_tests::{
    built_folder, device,
    measure::{now, peak_mib},
};
use serde_json::{Value, json};

const STEPS: usize = 5;

/// The objective, its options, and how many classes there are.
fn case(name: &str) -> Result<(&'static str, Value, i64)> {
    match name {
        // One class: 256 real images, 10 synthetic ones.
        "dc" => Ok(("dc", json!({ "real_images": 256, "outer_loops": 1 }), 1)),
        // The same images through an untrained network's embedding.
        "dm" => Ok(("dm", json!({ "real_images": 256, "augment": { "strategy": "none" } }), 1)),
        // So many steps on all 100 images.
        _ => {
            let unknown = || Error::new(format!("there is no case `{name}`"));
            let (objective, steps) = ["mtt", "tesla"]
                .into_iter()
                .find_map(|objective| Some((objective, name.strip_prefix(objective)?)))
                .ok_or_else(unknown)?;
            let steps: u64 = steps.parse().map_err(|_| unknown())?;
            let none = json!({ "strategy": "none" });
            let options = json!({ "synthetic_steps": steps, "expert_epochs": 1, "max_start_epoch": 1, "augment": none });
            Ok((objective, options, 10))
        }
    }
}

fn main() -> Result<()> {
    prepare_memory();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [name, _, _, threads] = arguments.as_slice() else {
        return Err(Error::new("usage: matching CASE DATA PEERS THREADS"));
    };
    tch::set_num_threads(threads.parse().map_err(|_| Error::new("THREADS is a number"))?);
    device();
    let (objective, options, used) = case(name)?;

    let plugins = Plugins::new(Locator::new(Some(built_folder().as_os_str()), None));
    let plugin = if used == 1 { "guard_matching" } else { "guard_trajectory" };
    plugins.load(plugin)?;
    let streams = Streams::new(0);
    let context = Context {
        stage: "distill",
        iteration: 0,
        iterations: 0,
        random: &streams,
        recorder: &Silent,
        plugins: &plugins,
        networks: &NoNetworks,
        device: device(),
    };
    let spec = NetworkSpec {
        architecture: Architecture::Convnet(Convnet { depth: 3, width: 128, norm: NormLayer::Instance }),
        input: [3, 32, 32],
        classes: 10,
        mean: vec![0.4914, 0.4822, 0.4465],
        std: vec![0.247, 0.2435, 0.2616],
        whitening: None,
        precision: Default::default(),
    };
    let real = streams.uniform("real", &[256, 3, 32, 32], Kind::Float)?;
    let split = Split::in_memory(&real, vec![0; 256])?;
    let loss = TrainingLoss::new(1.0, 0.0, Vec::new());
    let info = LabInfo { classes: 10, images_per_class: 10, image: spec.input, real_images: vec![256] };
    let mut method = plugins.objective(&context, objective, objective, &options)?;
    let needs = method.needs(&context)?;
    let folder = tempfile::tempdir().map_err(|error| Error::new(error.to_string()))?;
    let experts = experts(folder.path(), &spec)?;
    let (experts, split, loss) = (Some((&experts, 1)), &split, &loss);
    let room = Room {
        info,
        needs: &needs,
        spec: &spec,
        teacher: None,
        experts,
        split,
        loss,
        streams: streams.clone(),
    };

    let ids: Vec<u64> = (0..10 * used as u64).collect();
    let images = streams.rows(&ids, &[3, 32, 32], Distribution::Normal, Kind::Float)?.to_device(device());
    let labels =
        Tensor::from_slice(&ids.iter().map(|id| (id / 10) as i64).collect::<Vec<_>>()).to_device(device());
    let sgd = Sgd { learning_rate: 0.1, momentum: 0.5, weight_decay: 0.0, nesterov: false };
    let mut group = ImageGroup::new(&spec, &needs, &Optimizer::Sgd(sgd), &images, &labels, ids);
    let mut times = Vec::new();
    for run in 0..=STEPS {
        let begun = now();
        let _ = group.step(&context.at(run as u64, STEPS as u64 + 1), &mut method, &mut [], &room, 1.0)?;
        times.push((now() - begun).as_secs_f64() * 1e3);
    }
    // The first one warms up.
    times.remove(0);
    times.sort_by(f64::total_cmp);
    println!("{}", json!({ "ms": times[times.len() / 2], "ms_all": times, "peak_mib": peak_mib() }));
    Ok(())
}

/// Two snapshots a small step apart.
fn experts(folder: &std::path::Path, spec: &NetworkSpec) -> Result<ExpertFolder> {
    let training = Training { epochs: 1, ..Training::default() };
    let manifest = ExpertManifest { dataset: "none".into(), images: 0, network: spec.clone(), training };
    let experts = ExpertFolder::prepare(folder, &manifest)?;
    let first: Vec<Tensor> =
        Model::fresh(spec, &Streams::new(1), Device::Cpu)?.parameters().iter().map(Tensor::detach).collect();
    let second = first.iter().map(|tensor| tensor + tensor.randn_like() * 0.01).collect();
    experts.write(0, &Trajectory { snapshots: vec![first, second], accuracies: vec![0.0, 0.0] })?;
    Ok(experts)
}
