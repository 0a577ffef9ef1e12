//! What synthetic images start from: noise, real images of their class, or a set that is there already.

use super::{
    distill::SyntheticSet,
    lab::{HostLab, Room},
};
use crate::{
    network::{NetworkSpec, weights::read_tensors},
    plugin::Context,
    random::Streams,
    recipe::FirstImages,
    run::{Distilled, DistilledManifest},
};
use guard_sdk::{
    Error, Kind, Level, Result, Space, Tensor, network::channel_values, objective::Start,
    services::Distribution,
};
use std::path::Path;

/// The first images of `ids`, `[N,C,H,W]` in the space of the objective's needs, and their labels; image `index` of class
/// `class` has the id `class · images per class + index`.
///
/// # Errors
/// If a given set is not there or does not fit.
pub(super) fn first_images(
    room: &Room,
    start: &FirstImages,
    streams: &Streams,
    context: &Context,
    ids: &[u64],
) -> Result<(Tensor, Tensor)> {
    let Room { info, needs, spec, .. } = room;
    let per_class = info.images_per_class as u64;
    let classes: Vec<i64> = ids.iter().map(|id| (id / per_class) as i64).collect();
    let labels = Tensor::from_slice(&classes).to_device(context.device);
    let pixels = match start {
        FirstImages::Made(Start::Noise) => {
            let noise = streams.named("noise").rows(ids, &info.image, Distribution::Normal, Kind::Float)?;
            let noise = noise.to_device(context.device);
            // Standard normal in normalised space; around the data's mean in pixels.
            if needs.space == Space::Normalised {
                return Ok((noise, labels));
            }
            let (mean, std) = (channel_values(&spec.mean, &noise), channel_values(&spec.std, &noise));
            (noise * std + mean).clamp(0.0, 1.0)
        }
        FirstImages::Made(Start::Real) => {
            let lab = HostLab { room, context: *context };
            let batches: Vec<_> = (0..info.classes)
                .map(|class| lab.real_images(Some(class), per_class, 0))
                .collect::<Result<_>>()?;
            let images: Vec<Tensor> = ids
                .iter()
                .map(|id| batches[(id / per_class) as usize].images.get((id % per_class) as i64))
                .collect();
            Tensor::stack(&images, 0)
        }
        FirstImages::Given(path) => given(path, ids, per_class, &info.image)
            .map_err(|error| error.context(format!("first images `{}`", path.display())))?
            .to_device(context.device),
    };
    Ok(match needs.space {
        Space::Pixels => (pixels, labels),
        Space::Normalised => {
            let (mean, std) = (channel_values(&spec.mean, &pixels), channel_values(&spec.std, &pixels));
            ((pixels - mean) / std, labels)
        }
    })
}

/// A set that is there already, all of it, with what was learned besides its images.
///
/// # Errors
/// If it is no longer there: the plan has seen that it fits.
pub(super) fn given_set(room: &Room, start: &FirstImages, context: &Context) -> Result<SyntheticSet> {
    let FirstImages::Given(folder) = start else {
        return Err(Error::new("the plan names no set that is given"));
    };
    let set = Distilled::read(folder, context.device)?;
    for difference in differences(&set.manifest, room.spec) {
        context.recorder.log(Level::Warning, &difference);
    }
    let Distilled { images, labels, soft_labels, manifest, .. } = set;
    Ok(SyntheticSet { images, labels, soft_labels, loss: 0.0, learned: manifest.learned })
}

/// In what the networks of a run see images otherwise than those that a set was made for.
fn differences(set: &DistilledManifest, spec: &NetworkSpec) -> Vec<String> {
    let mut differences = Vec::new();
    if !set.mean.is_empty() && (&set.mean, &set.std) != (&spec.mean, &spec.std) {
        differences.push(format!(
            "the set was made for networks that normalise by mean {:?} and std {:?}; this recipe's have {:?} and {:?}",
            set.mean, set.std, spec.mean, spec.std
        ));
    }
    if set.whitening.is_some() != spec.whitening.is_some() {
        let (its, ours) = if set.whitening.is_some() { ("", "do not") } else { ("do not ", "do") };
        differences.push(format!(
            "the set was made for networks that {its}whiten images (`data.zca`); this recipe's {ours}"
        ));
    }
    differences
}

/// The images of a distilled set, pixels in [0,1]: the first so many of each class.
fn given(path: &Path, ids: &[u64], per_class: u64, image: &[i64; 3]) -> Result<Tensor> {
    let file = if path.is_dir() { path.join("distilled.safetensors") } else { path.to_path_buf() };
    let tensors = read_tensors(&file)?;
    let tensor = |name: &str| {
        let found = tensors.iter().find(|(found, _)| found == name);
        found.map(|(_, tensor)| tensor).ok_or_else(|| Error::new(format!("there is no tensor `{name}`")))
    };
    let (images, labels) = (tensor("images")?.to_kind(Kind::Float), Vec::<i64>::try_from(tensor("labels")?)?);
    let size = images.size();
    if size.len() != 4 || size[1..] != image[..] || size[0] as usize != labels.len() {
        return Err(Error::new(format!(
            "it holds images {size:?} with {} labels, needed are images of {image:?}",
            labels.len()
        )));
    }
    let position = |id: &u64| {
        let class = (id / per_class) as i64;
        let of_class = (0i64..).zip(&labels).filter(|(_, label)| **label == class);
        of_class.map(|(position, _)| position).nth((id % per_class) as usize).ok_or_else(|| {
            Error::new(format!("it holds fewer than {per_class} images of class {class}"))
                .help("lower `distill.images_per_class`")
        })
    };
    let positions = ids.iter().map(position).collect::<Result<Vec<_>>>()?;
    Ok(images.f_index_select(0, &Tensor::f_from_slice(&positions)?)?.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::weights::write_tensors;

    #[test]
    fn a_given_set_gives_the_first_images_of_each_class_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let images = (Tensor::arange(5, (Kind::Float, guard_sdk::Device::Cpu)) / 10.0).reshape([5, 1, 1, 1]);
        let labels = Tensor::from_slice(&[1i64, 0, 1, 0, 1]);
        let named = [("images".to_string(), images), ("labels".to_string(), labels)];
        write_tensors(&folder.path().join("distilled.safetensors"), &named).unwrap();
        let read = |ids: &[u64], per_class| given(folder.path(), ids, per_class, &[1, 1, 1]);
        let found = Vec::<f32>::try_from(read(&[0, 1, 2, 3], 2).unwrap().reshape(-1)).unwrap();
        assert_eq!(found, [0.1, 0.3, 0.0, 0.2]);
        assert!(read(&[0, 1, 2], 3).unwrap_err().message.contains("fewer than 3 images of class 0"));
        assert!(given(folder.path(), &[0], 1, &[1, 2, 2]).unwrap_err().message.contains("needed are"));
        assert!(given(Path::new("nowhere"), &[0], 1, &[1, 1, 1]).is_err());
    }
}
