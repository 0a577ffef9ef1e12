//! A synthetic set as others released it → pixels, labels, and a manifest that says what it was.

use super::{
    labels::{self, SoftLabels},
    real_set::RealSet,
    source::{self, Found, FoundLabels},
    space::{Space, to_pixels},
};
use crate::{
    data::readers::{Known, known},
    recipe::Statistics,
    run::{DistilledManifest, Imported, LEARNED_RATE, Origin, blake3_of, counts},
};
use guard_sdk::{Device, Error, Kind, Result, Tensor};
use std::{collections::BTreeMap, path::PathBuf};

/// What is imported, and what the user knows of it.
#[derive(Debug, Clone)]
pub struct Request {
    /// The file or folder.
    pub source: PathBuf,
    /// The data set that was distilled, by name.
    pub dataset: String,
    /// Where its files are: they tell the names of the classes, and whitening is fitted to them.
    pub root: Option<PathBuf>,
    /// What the values are.
    pub space: Option<Space>,
    /// Which constants the images are normalised with.
    pub statistics: Option<Statistics>,
    /// The mean of each channel, in place of constants.
    pub mean: Option<Vec<f64>>,
    /// The standard deviation.
    pub std: Option<Vec<f64>>,
    /// ε of the whitening.
    pub zca_epsilon: f64,
    /// The number of classes, where the name of the data set does not tell it.
    pub classes: Option<usize>,
    /// What numbers for each class are.
    pub soft_labels: Option<SoftLabels>,
    /// What students learn with, where that was learned and no file tells it.
    pub learning_rate: Option<f64>,
}

/// A set that was read.
pub struct Import {
    /// float32 `[N,C,H,W]`, pixels.
    pub images: Tensor,
    /// int64 `[N]`.
    pub labels: Tensor,
    /// Class probabilities float32 `[N,K]`, where they were learned.
    pub soft_labels: Option<Tensor>,
    /// What belongs to them.
    pub manifest: DistilledManifest,
    /// The least and the greatest value of the images.
    pub range: [f64; 2],
    /// How many values lie outside of [0,1].
    pub outside: u64,
}

/// Reads a set.
///
/// # Errors
/// If it cannot be read, does not fit the data set, or something must be known that neither it nor the user tells.
pub fn import(request: &Request) -> Result<Import> {
    let known = known(&request.dataset)?;
    let found = source::read(&request.source, known.image.map_or(3, |image| image[0]))?;
    let named = |error: Error| match error.message.contains(&*request.source.to_string_lossy()) {
        true => error,
        false => error.context(format!("`{}`", request.source.display())),
    };
    Reading { request, known, found }.import().map_err(named)
}

struct Reading<'a> {
    request: &'a Request,
    /// Of the data set.
    known: &'static Known,
    found: Found,
}

impl Reading<'_> {
    fn import(self) -> Result<Import> {
        let (image, space) = (self.image()?, self.space()?);
        let RealSet { mean, std, classes, whitening } =
            RealSet::of(self.request, self.known, self.found.form, space, image)?;
        let (labels, soft_labels) = self.labels(classes.as_deref())?;
        let classes = self.classes(classes, &labels, soft_labels.as_ref())?;
        let per_class = counts(&labels, classes.len()).map_err(|error| {
            error.help("`--dataset` names the data set that was distilled, `--classes N` tells how many classes it has")
        })?;
        let inverse =
            whitening.as_ref().map(|whitening| whitening.map(image, &double())?.inverse()).transpose()?;
        let (images, outside) = to_pixels(&self.found.images, (&mean, &std), space, inverse.as_ref())?;
        let range = [images.min(), images.max()].map(|value| value.double_value(&[]));
        let learned = self.learned()?;
        let imported = Imported {
            source: self.request.source.display().to_string(),
            form: self.found.form.name().into(),
            space: space.name().into(),
            outside,
            blake3: self.sums()?,
        };
        let manifest = DistilledManifest {
            dataset: self.known.name.into(),
            classes,
            image,
            space: Space::Pixels.name().into(),
            mean,
            std,
            whitening,
            origin: Origin::Import { imported },
            images_per_class: per_class.into_iter().max().unwrap_or_default(),
            labels: if soft_labels.is_some() { "learned" } else { "hard" }.into(),
            learned,
        };
        Ok(Import { images, labels, soft_labels, manifest, range, outside })
    }

    /// The images' shape, if they are images.
    fn image(&self) -> Result<[i64; 3]> {
        let images = &self.found.images;
        let (size, kind) = (images.size(), images.kind());
        let numbers = matches!(kind, Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16 | Kind::Uint8);
        let &[count, channels, height, width] = size.as_slice() else {
            return Err(Error::new(format!("images are {size:?}, not [N,C,H,W]")));
        };
        if !numbers || count * height * width == 0 || !matches!(channels, 1 | 3) {
            let error = Error::new(format!("images are {kind:?} {size:?}"));
            return Err(error.help("images are floating-point numbers or bytes [N,C,H,W] of 1 or 3 channels"));
        }
        let finite = images.isfinite().f_flatten(1, -1)?.f_all_dim(1, false)?;
        if finite.all().f_int64_value(&[])? == 0 {
            let first = finite.to_kind(Kind::Int64).f_argmin(0, false)?.f_int64_value(&[])?;
            return Err(Error::new(format!("image {first} holds a value that is not finite")));
        }
        let image = [channels, height, width];
        match self.known.image {
            Some(expected) if expected != image => Err(Error::new(format!(
                "images are {}, those of `{}` are {}",
                shape(image),
                self.request.dataset,
                shape(expected)
            ))
            .help("`--dataset` names the data set that was distilled")),
            _ => Ok(image),
        }
    }

    /// What the values are, as the file or the user tells.
    fn space(&self) -> Result<Space> {
        match (self.request.space, self.found.certain_space()) {
            (Some(asked), Some(certain)) if asked != certain => {
                Err(Error::new(format!("the set holds bytes, which are pixels and not `{}`", asked.name()))
                    .help("leave `--space` out"))
            }
            (_, Some(certain)) => Ok(certain),
            (Some(asked), None) => Ok(asked),
            (None, None) => self.found.form.usual_space().ok_or_else(|| {
                Error::new("nothing tells whether the values are pixels or normalised").help(
                    "say `--space pixels`, `--space normalised`, or `--space whitened` for MTT's with ZCA; \
                     a set that is taken for something else scores at chance",
                )
            }),
        }
    }

    /// What the set says of the images' classes.
    fn labels(&self, classes: Option<&[String]>) -> Result<(Tensor, Option<Tensor>)> {
        let Found { images, labels, soft_labels, .. } = &self.found;
        let count = images.size()[0];
        let soft = self.request.soft_labels;
        let (numbers, learned) = match labels {
            FoundLabels::Numbers(labels) => labels::read(labels, count, soft)?,
            FoundLabels::Names(positions, names) => {
                let numbered = self.numbered();
                (by_name(positions, names, classes.or(numbered.as_deref()))?, None)
            }
        };
        let beside = soft_labels.as_ref().map(|numbers| match numbers.size().as_slice() {
            [of, _] if *of == count => labels::probabilities(numbers, soft),
            other => Err(Error::new(format!("`soft_labels` is {other:?} for {count} images"))),
        });
        Ok((numbers, beside.transpose()?.or(learned)))
    }

    /// Numbers as names, where the number of classes is known beforehand.
    fn numbered(&self) -> Option<Vec<String>> {
        let classes = self.known.classes.or(self.request.classes)?;
        Some((0..classes).map(|label| label.to_string()).collect())
    }

    /// The names of the classes: the data set's, the folders', or numbers.
    fn classes(
        &self,
        named: Option<Vec<String>>,
        labels: &Tensor,
        soft: Option<&Tensor>,
    ) -> Result<Vec<String>> {
        let columns = soft.map(|soft| soft.size()[1]);
        let classes = match (named, &self.found.labels, self.numbered()) {
            (Some(classes), ..) => classes,
            (None, FoundLabels::Names(_, names), numbers)
                if numbers.as_ref().is_none_or(|numbers| numbers.len() == names.len()) =>
            {
                names.clone()
            }
            (None, _, Some(numbers)) => numbers,
            (None, ..) => {
                let (most, images) = (labels.max().f_int64_value(&[])?.saturating_add(1), labels.size()[0]);
                let count = columns.unwrap_or(most);
                if count > images.max(columns.unwrap_or(0)) {
                    let message = format!("labels go up to {}, and there are {images} images", most - 1);
                    return Err(Error::new(message).help("`--classes N` tells the number of classes"));
                }
                (0..count).map(|label| label.to_string()).collect()
            }
        };
        match columns.filter(|&columns| columns != classes.len() as i64) {
            None => Ok(classes),
            Some(columns) => Err(Error::new(format!(
                "soft labels are of {columns} classes, and there are {}",
                classes.len()
            ))),
        }
    }

    /// What was learned besides the images.
    fn learned(&self) -> Result<Vec<(String, f64)>> {
        let Some(rate) = self.request.learning_rate.or(self.found.learning_rate) else {
            return Ok(Vec::new());
        };
        match rate.is_finite() && rate > 0.0 {
            true => Ok(vec![(LEARNED_RATE.to_string(), rate)]),
            false => Err(Error::new(format!("the learning rate is {rate}, which is not above 0"))),
        }
    }

    /// BLAKE3 sums of the files, of pictures of all together.
    fn sums(&self) -> Result<BTreeMap<String, String>> {
        let files = &self.found.files;
        let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if self.found.certain_space().is_some() && files.len() > 1 {
            return Ok(BTreeMap::from([(name(&self.request.source), blake3_of(files)?)]));
        }
        files.iter().map(|file| Ok((name(file), blake3_of(std::slice::from_ref(file))?))).collect()
    }
}

/// Labels of positions in `names`: those of the same names in `order`, where it has all of them; else the positions.
fn by_name(positions: &[i64], names: &[String], order: Option<&[String]>) -> Result<Tensor> {
    let place = |name: &String| order?.iter().position(|other| other == name);
    let places: Option<Vec<i64>> = names.iter().map(|name| place(name).map(|place| place as i64)).collect();
    let places = match (places, order) {
        (Some(places), _) => places,
        (None, Some(order)) if order.len() != names.len() => {
            let unknown: Vec<&str> =
                names.iter().filter(|name| place(name).is_none()).map(String::as_str).take(8).collect();
            return Err(Error::new(format!(
                "there are {} folders for {} classes, and some have no class's name: `{}`",
                names.len(),
                order.len(),
                unknown.join("`, `")
            ))
            .help("the data set's `--root` tells the names of its classes"));
        }
        (None, _) => (0..names.len() as i64).collect(),
    };
    let labels: Vec<i64> = positions.iter().map(|&position| places[position as usize]).collect();
    Ok(Tensor::f_from_slice(&labels)?)
}

/// What whitening is undone in.
fn double() -> Tensor {
    Tensor::zeros([1], (Kind::Double, Device::Cpu))
}

fn shape(image: [i64; 3]) -> String {
    image.map(|side| side.to_string()).join("x")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_found_by_name_where_all_are_known_and_by_order_where_none_is() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_string()).collect::<Vec<_>>();
        let labels = |folders: &[&str], order: Option<&[&str]>| {
            let order = order.map(names);
            by_name(&[0, 1, 1], &names(folders), order.as_deref())
                .map(|labels| Vec::<i64>::try_from(labels).unwrap())
        };
        // As text, 10 comes before 9.
        assert_eq!(labels(&["10", "9"], Some(&["9", "10"])).unwrap(), [1, 0, 0]);
        assert_eq!(labels(&["a", "b"], Some(&["0", "1"])).unwrap(), [0, 1, 1]);
        assert_eq!(labels(&["a", "b"], None).unwrap(), [0, 1, 1]);
        let error = labels(&["a", "b"], Some(&["a", "c", "d"])).unwrap_err();
        assert!(
            error.message.contains("2 folders for 3 classes") && error.message.contains("`b`"),
            "{error}"
        );
    }
}
