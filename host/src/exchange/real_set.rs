//! What the data set that was distilled tells of a synthetic set: constants, names of classes, whitening.

use super::{import::Request, source::Form, space::Space};
use crate::{
    data::{Dataset, constants, prepare, readers::Known},
    network::Whitening,
    recipe::{Data, Statistics},
};
use guard_sdk::{Error, Result};

/// What is known of the real data.
pub(super) struct RealSet {
    /// The mean that images are normalised with; empty where nothing tells it and nobody needs it.
    pub mean: Vec<f64>,
    /// The standard deviation.
    pub std: Vec<f64>,
    /// The names of the classes, where there are files that tell them.
    pub classes: Option<Vec<String>>,
    /// Fitted to the training images, where the set is whitened.
    pub whitening: Option<Whitening>,
}

impl RealSet {
    /// What its name and its files tell, and the user.
    ///
    /// # Errors
    /// If something must be known that nothing tells; if the files cannot be read.
    pub fn of(request: &Request, known: &Known, form: Form, space: Space, image: [i64; 3]) -> Result<Self> {
        let data = data(request, known, form, space, image)?;
        let files = match data.root.is_some() || !known.needs_root {
            true => Some(prepare(&data)?.open()?),
            false => None,
        };
        let (mean, std) = match &files {
            Some(Dataset { info, .. }) => (info.mean.clone(), info.std.clone()),
            None => constants(&data, image[0])?,
        };
        if mean.is_empty() && space != Space::Pixels {
            let message = format!("nothing tells what the images of `{}` are normalised with", known.name);
            return Err(Error::new(message)
                .help("give `--mean` and `--std`, or `--statistics computed` and the data set's `--root`"));
        }
        let whitening = match (space, &files) {
            (Space::Whitened, Some(Dataset { train, .. })) => {
                Some(Whitening::with_epsilon(request.zca_epsilon).fit(train, &mean, &std)?)
            }
            (Space::Whitened, None) => {
                return Err(Error::new(
                    "whitening is undone with what is fitted to the real training images",
                )
                .help("`--root` names the folder or file of the data set"));
            }
            _ => None,
        };
        Ok(Self { mean, std, classes: files.map(|files| files.info.classes), whitening })
    }
}

/// The data set as a recipe would have it.
fn data(request: &Request, known: &Known, form: Form, space: Space, image: [i64; 3]) -> Result<Data> {
    let Request { root, statistics, mean, std, classes, .. } = request;
    if let (Some(asked), Some(fixed)) = (classes, known.classes)
        && *asked != fixed
    {
        let message = format!("data set `{}` has {fixed} classes, not {asked}", known.name);
        return Err(Error::new(message).help("leave `--classes` out"));
    }
    for (name, values) in [("--mean", mean), ("--std", std)] {
        let bad = |values: &&Vec<f64>| {
            values.len() as i64 != image[0] || values.iter().any(|value| !value.is_finite())
        };
        if let Some(values) = values.as_ref().filter(bad) {
            let message = format!("`{name}` has {} values for {} channels", values.len(), image[0]);
            return Err(Error::new(message).help("give one finite number for each channel"));
        }
    }
    if std.iter().flatten().any(|&std| std <= 0.0) {
        return Err(Error::new("`--std` must be above 0"));
    }
    let (mean, std) = (mean.clone(), std.clone());
    let (said, statistics) = (mean.is_some() || statistics.is_some(), *statistics);
    let data = Data { root: root.clone(), statistics, mean, std, ..Data::named(known.name) };
    let data = match known.image {
        Some(_) => data,
        None => Data { image_size: Some(image[1] as usize), ..data },
    };
    if said {
        return Ok(data);
    }
    match (space, known.dc_constants) {
        // MTT whitens pixels that were not normalised before.
        (Space::Whitened, _) => {
            let [zeros, ones] = [0.0, 1.0].map(|value| Some(vec![value; image[0] as usize]));
            Ok(Data { mean: zeros, std: ones, ..data })
        }
        (_, Some(_)) if form.has_dc_constants() => Ok(Data { statistics: Some(Statistics::Dc), ..data }),
        (Space::Normalised, Some(_)) => {
            Err(Error::new(format!("images of `{}` are normalised in two ways", known.name)).help(
                "say `--statistics own`, or `--statistics dc` for the constants of DC, DSA, DM and MTT, or give `--mean` and `--std`",
            ))
        }
        _ => Ok(data),
    }
}
