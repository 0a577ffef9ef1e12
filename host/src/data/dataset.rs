//! A recipe's `[data]` as splits that can be trained and evaluated on.

use super::{
    check::readable,
    readers::{self, Constants, Known},
    source::{EncodedImages, Images, Limits, OnError, Part, Skipped, Source},
    split::Split,
    statistics::mean_and_std,
    store::{Size, Store},
    subset::stratified,
};
use crate::{random::Streams, recipe};
use guard_sdk::{Error, Result};
use std::{borrow::Cow, sync::Arc};

/// The side of images that come in any size, unless the recipe says another.
const SIDE: i64 = 224;

/// What is known of a data set.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DataInfo {
    /// The name in recipes.
    pub name: String,
    /// Names of the classes, in order of their labels; numbers as long as the files were not looked at.
    pub classes: Vec<String>,
    /// Channels, height and width.
    pub image: [i64; 3],
    /// The mean that networks subtract, per channel over pixels in [0,1]; empty as long as it was not computed.
    pub mean: Vec<f64>,
    /// The standard deviation that they divide by.
    pub std: Vec<f64>,
}

/// A data set that is ready for use.
pub struct Dataset {
    /// What is known of it: everything.
    pub info: DataInfo,
    /// Training images.
    pub train: Split,
    /// Test images.
    pub test: Split,
    /// Files that were left out because they cannot be used.
    pub skipped: Vec<Skipped>,
}

/// A data set that is planned with: its files were looked at only where its name does not tell enough.
pub struct Prepared {
    data: recipe::Data,
    known: &'static Known,
    info: DataInfo,
    source: Option<Source>,
}

/// What is known of a recipe's data set.
///
/// # Errors
/// If there is no such set, or what must be known of it cannot be read; `option_path` points into `[data]`.
pub fn prepare(data: &recipe::Data) -> Result<Prepared> {
    let known = readers::known(&data.dataset).map_err(|error| at("/dataset", error))?;
    if known.needs_root && data.root.is_none() {
        let error = Error::option("/dataset", format!("data set `{}` needs a `root`", known.name));
        return Err(error.help(
            "`root` in `[data]`, or `--root` on the command line, names the folder or file that holds it",
        ));
    }
    let classes = data.classes.or(known.classes);
    let shape = known.image.map(|[channels, height, width]| match data.image_size {
        Some(side) => [channels, side as i64, side as i64],
        None => [channels, height, width],
    });
    let (classes, image, source) = match (classes, shape) {
        (Some(classes), Some(image)) => ((0..classes).map(|class| class.to_string()).collect(), image, None),
        (classes, _) => match (classes, known.pictures) {
            (Some(classes), true) => {
                ((0..classes).map(|class| class.to_string()).collect(), any_size(data), None)
            }
            _ => {
                let source = read(data, known)?;
                let image = match &source.train.images {
                    Images::Bytes { shape, .. } | Images::Floats { shape, .. } => {
                        let [channels, height, width] = shape.map(|side| side as i64);
                        data.image_size
                            .map_or([channels, height, width], |side| [channels, side as i64, side as i64])
                    }
                    Images::Encoded(_) => any_size(data),
                };
                (source.classes.clone(), image, Some(source))
            }
        },
    };
    let (mean, std) = constants(data, image[0])?;
    let info = DataInfo { name: known.name.to_string(), classes, image, mean, std };
    Ok(Prepared { data: data.clone(), known, info, source })
}

fn any_size(data: &recipe::Data) -> [i64; 3] {
    let side = data.image_size.map_or(SIDE, |side| side as i64);
    [3, side, side]
}

fn read(data: &recipe::Data, known: &Known) -> Result<Source> {
    readers::read(known.name, data.root.as_deref(), data.on_error, &limits(data))
        .map_err(|error| at("/root", error))
}

fn limits(_: &recipe::Data) -> Limits {
    Limits::default()
}

/// Mean and standard deviation of each channel, as far as `[data]` and its set's name tell them; empty if they are to be
/// computed.
///
/// # Errors
/// If there is no such set, or it has no such constants; `option_path` points into `[data]`.
pub fn constants(data: &recipe::Data, channels: i64) -> Result<(Vec<f64>, Vec<f64>)> {
    let known = readers::known(&data.dataset).map_err(|error| at("/dataset", error))?;
    if let (Some(mean), Some(std)) = (&data.mean, &data.std) {
        if mean.len() as i64 != channels {
            return Err(Error::option(
                "/mean",
                format!(
                    "data set `{}` has {channels} channels, but `mean` has {} values",
                    known.name,
                    mean.len()
                ),
            ));
        }
        return Ok((mean.clone(), std.clone()));
    }
    let none = |what: &str| {
        let error = Error::option("/statistics", format!("data set `{}` has no {what}", known.name));
        Err(error.help("give `mean` and `std`, or set `statistics = \"computed\"`"))
    };
    let constants = match data.statistics {
        None => known.constants,
        Some(recipe::Statistics::Computed) => None,
        Some(recipe::Statistics::Own) => match known.constants {
            None => return none("constants of its own"),
            own => own,
        },
        Some(recipe::Statistics::Dc) => match known.dc_constants {
            None => return none("constants in DC's convention"),
            dc => dc,
        },
        Some(recipe::Statistics::Imagenet) if channels != 3 => {
            return none("three channels, as ImageNet's constants have");
        }
        Some(recipe::Statistics::Imagenet) => Some(readers::IMAGENET),
    };
    Ok(constants.map_or_else(Default::default, |Constants { mean, std }| (mean.to_vec(), std.to_vec())))
}

impl Prepared {
    /// What is known so far.
    pub fn info(&self) -> &DataInfo {
        &self.info
    }

    /// How many images there are to train and to evaluate on, where that is known without reading them.
    pub fn image_counts(&self) -> Option<[usize; 2]> {
        let Self { data, known, .. } = self;
        let most = |count: usize, limit: Option<usize>| limit.map_or(count, |limit| limit.min(count));
        known.images.map(|[train, test]| [most(train, data.train_images), most(test, data.test_images)])
    }

    /// Reads the set.
    ///
    /// # Errors
    /// If files are missing or damaged, or do not hold what was planned with.
    pub fn open(self) -> Result<Dataset> {
        let Self { data, known, mut info, source } = self;
        let source = source.map_or_else(|| read(&data, known), Ok)?;
        if source.classes.len() != info.classes.len() {
            let (found, planned) = (source.classes.len(), info.classes.len());
            let message = format!("data set `{}` has {found} classes, not {planned}", known.name);
            return Err(Error::option("/classes", message));
        }
        info.classes = source.classes;
        let streams = Streams::new(data.split_seed).named("data");
        let opener = Opener { data: &data, image: info.image, limits: limits(&data) };
        let mut skipped = source.skipped;
        let mut train = opener.split(source.train, &mut skipped)?;
        let test = source.test.map(|part| opener.split(part, &mut skipped)).transpose()?;
        let classes = info.classes.len();
        let some = |split: &Split, count: Option<usize>, name: &str| match count {
            Some(count) => split.part(&stratified(split.labels(), classes, count, &streams.named(name))),
            None => split.clone(),
        };
        let test = match test {
            Some(test) => test,
            None => {
                let count = (train.len() as f64 * data.test_share).round() as usize;
                let held_out = stratified(train.labels(), classes, count, &streams.named("test"));
                let rest: Vec<i64> = (0..train.len() as i64)
                    .filter(|position| held_out.binary_search(position).is_err())
                    .collect();
                let test = train.part(&held_out);
                train = train.part(&rest);
                test
            }
        };
        let train = some(&train, data.train_images, "train-images");
        let test = some(&test, data.test_images, "test-images");
        for (split, name) in [(&train, "training"), (&test, "test")] {
            if split.is_empty() {
                return Err(Error::new(format!("data set `{}` has no {name} images", known.name)));
            }
        }
        if info.mean.is_empty() {
            (info.mean, info.std) = mean_and_std(&train)?;
            if let Some(channel) = info.std.iter().position(|&std| std == 0.0) {
                return Err(Error::new(format!("channel {channel} is the same in all training images"))
                    .help("give `mean` and `std`"));
            }
        }
        Ok(Dataset { info, train, test, skipped })
    }
}

/// Makes splits of what a reader found.
struct Opener<'a> {
    data: &'a recipe::Data,
    image: [i64; 3],
    limits: Limits,
}

impl Opener<'_> {
    fn split(&self, part: Part, skipped: &mut Vec<Skipped>) -> Result<Split> {
        let Part { images, labels } = match (part.images, self.data.on_error) {
            (Images::Encoded(images), OnError::Skip) => self.usable(images, part.labels, skipped),
            (images, _) => Part { images, labels: part.labels },
        };
        let side = self.image[1] as usize;
        let size = Size { side, shorter: self.data.resize.unwrap_or(side * 256 / 224) };
        let memory = (self.data.memory * f64::from(1u32 << 30)) as u64;
        let advise = |error: Error| match error.help {
            None => error.help("`on_error = \"skip\"` leaves such images out and lists them"),
            Some(_) => error,
        };
        let store = Store::new(images, size, memory, &self.limits).map_err(advise)?;
        let store = store.resized(self.image.map(|side| side as usize))?;
        Ok(Split::new(store, labels))
    }

    /// Without the images that cannot be decoded.
    fn usable(&self, images: Arc<dyn EncodedImages>, labels: Vec<i64>, skipped: &mut Vec<Skipped>) -> Part {
        let broken = readable(images.as_ref(), &self.limits);
        let good: Vec<usize> = (0..labels.len())
            .filter(|index| broken.binary_search_by_key(index, |(index, _)| *index).is_err())
            .collect();
        let labels = good.iter().map(|&index| labels[index]).collect();
        skipped.extend(broken.into_iter().map(|(index, why)| Skipped { file: images.name(index), why }));
        Part { images: Images::Encoded(Arc::new(Usable { images, good })), labels }
    }
}

/// Encoded images without some.
struct Usable {
    images: Arc<dyn EncodedImages>,
    /// Which of them are left.
    good: Vec<usize>,
}

impl EncodedImages for Usable {
    fn len(&self) -> usize {
        self.good.len()
    }

    fn name(&self, index: usize) -> String {
        self.images.name(self.good[index])
    }

    fn bytes(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        self.images.bytes(self.good[index])
    }
}

impl Dataset {
    /// The training split without a fifth of its images, which take the place of the test split.
    pub fn with_validation(self, streams: &Streams) -> Self {
        let order = streams.named("validation").permutation(self.train.len());
        let (held_out, kept) = order.split_at(order.len() / 5);
        let part = |positions: &[i64]| {
            let mut positions = positions.to_vec();
            positions.sort_unstable();
            self.train.part(&positions)
        };
        Self { train: part(kept), test: part(held_out), ..self }
    }
}

/// The error with the place in `[data]` that it is about, unless it has one.
fn at(path: &str, mut error: Error) -> Error {
    error.option_path.get_or_insert_with(|| path.to_string());
    error
}
