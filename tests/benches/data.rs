//! Loading of real images, from files to normalised batches: our side of `cargo xtask bench data`. The peer's is `data.py`.
//!
//! `data CASE DIR` makes one pass to warm up and three that count, and prints one JSON line.

use guard_host::{
    data::{View, prepare},
    random::Streams,
    recipe::{Augmentation, Augmentations, Data},
};
use guard_sdk::{
    Error, Result,
    abi::shim::prepare_memory,
    augment::{PaddedCropOptions, ResizedCropOptions},
    network::channel_values,
};
use std::{path::Path, time::Instant};

const BATCH: usize = 128;
const PASSES: u64 = 3;

/// A set and what happens to its images.
struct Case {
    data: Data,
    augment: Vec<Augmentation>,
}

fn case(name: &str, folder: &Path) -> Result<Case> {
    let set = |dataset: &str, root: &str, memory: f64| Data {
        root: Some(folder.join(root)),
        memory,
        ..Data::named(dataset)
    };
    let resized = || vec![Augmentation::RandomResizedCrop(ResizedCropOptions::default()), Augmentation::Flip];
    match name {
        "cifar" => Ok(Case {
            data: set("cifar10", "cifar-10", 2.0),
            augment: vec![Augmentation::Crop(PaddedCropOptions::default()), Augmentation::Flip],
        }),
        "photos" => Ok(Case { data: set("imagenette", "caltech101-10", 0.0), augment: resized() }),
        "photos-in-memory" => Ok(Case { data: set("imagenette", "caltech101-10", 2.0), augment: resized() }),
        _ => Err(Error::new(format!("there is no case `{name}`"))),
    }
}

fn main() -> Result<()> {
    prepare_memory();
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let (Some(name), Some(folder)) = (arguments.next(), arguments.next()) else {
        return Err(Error::new("usage: data CASE DIR"));
    };
    let Case { data, augment } = case(&name, Path::new(&folder))?;
    let data = prepare(&data)?.open()?;
    let augment = Augmentations(augment);
    let (mut count, mut started) = (0, Instant::now());
    for pass in 0..=PASSES {
        if pass == 1 {
            (count, started) = (0, Instant::now());
        }
        let streams = Streams::new(0).numbered(pass);
        let order = streams.named("order").permutation(data.train.len());
        let lists = order.chunks(BATCH).map(<[i64]>::to_vec).collect();
        for batch in data.train.batches(lists, View { augment: augment.clone(), streams }) {
            let images = batch?.images;
            let (mean, std) =
                (channel_values(&data.info.mean, &images), channel_values(&data.info.std, &images));
            count += ((images - mean) / std).size()[0];
        }
    }
    let rate = count as f64 / started.elapsed().as_secs_f64();
    println!("{}", serde_json::json!({ "rate": rate, "unit": "images/s", "peak_mib": peak_mib() }));
    Ok(())
}

/// The most memory this process ever held.
fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? / 1024.0)
}
