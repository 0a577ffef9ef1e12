//! Sets in PyTorch's files, whose pickles are read as data and never executed.

use super::source::{Form, Found, FoundLabels, scalar};
use crate::network::weights::{TorchFile, Value};
use guard_sdk::{Error, Result, Tensor};
use std::path::{Path, PathBuf};

/// Reads a set.
///
/// # Errors
/// If the file is damaged, or holds something else.
pub(super) fn read(path: &Path) -> Result<Found> {
    let file = open(path)?;
    let root = file.root();
    let named = |error: Error| error.context(format!("`{}`", path.display()));
    if let Some(data) = root.get("data") {
        // One for each repetition of the experiment; the last one's is what their own code evaluates.
        let last = data.items().and_then(Iterator::last);
        let last = last.map(|last| pair(&file, last)).transpose().map_err(named)?.flatten();
        let pair =
            last.ok_or_else(|| named(Error::new("`data` is no list of pairs of images and labels")))?;
        return Ok(found(Form::Dc, pair, vec![path.to_path_buf()]));
    }
    if root.get("images").is_some() {
        return by_name(&file, path).map_err(named);
    }
    if let Some(pair) = pair(&file, root).map_err(named)? {
        return Ok(found(Form::Pair, pair, vec![path.to_path_buf()]));
    }
    match file.tensor(root).map_err(named)? {
        Some(images) => beside(path, images),
        None => {
            let what = match root.entries() {
                Some(entries) => {
                    let keys = entries.iter().filter_map(|(key, _)| key.text());
                    format!("a dictionary with the keys {}", listed(keys))
                }
                None => root.describe(),
            };
            Err(named(Error::new(format!("the file holds no synthetic set, but {what}"))).help(
                "sets are `{'data': [[images, labels], ...]}` (DC, DSA, DM), `images_best.pt` beside `labels_best.pt` (MTT), \
                 `[images, labels]`, or `{'images': ..., 'labels': ...}`",
            ))
        }
    }
}

fn open(path: &Path) -> Result<TorchFile> {
    TorchFile::open(path).map_err(|error| match &error.help {
        // Advice on networks.
        Some(help) if help.contains("state_dict") => {
            error.help("in Python: `torch.save([images, labels], \"set.pt\")`")
        }
        _ => error,
    })
}

fn listed<'a>(keys: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 12;
    let mut keys: Vec<String> = keys.take(SHOWN + 1).map(|key| format!("`{key}`")).collect();
    if keys.len() > SHOWN {
        keys[SHOWN] = "...".into();
    }
    keys.join(", ")
}

fn found(form: Form, (images, labels): (Tensor, Tensor), files: Vec<PathBuf>) -> Found {
    let labels = FoundLabels::Numbers(labels);
    Found { form, images, labels, soft_labels: None, learning_rate: None, files }
}

/// `[images, labels]`; nothing if the value is something else.
fn pair(file: &TorchFile, value: Value<'_>) -> Result<Option<(Tensor, Tensor)>> {
    let Some(mut items) = value.items().filter(|items| items.len() >= 2) else { return Ok(None) };
    let mut next = || items.next().map(|item| file.tensor(item)).transpose().map(Option::flatten);
    Ok(next()?.zip(next()?))
}

/// `{'images': ..., 'labels': ...}`, as this host exports sets.
fn by_name(file: &TorchFile, path: &Path) -> Result<Found> {
    let tensor = |name: &str| {
        let tensor = file.root().get(name).map(|value| file.tensor(value)).transpose();
        tensor.map(Option::flatten).map_err(|error| error.context(format!("`{name}`")))
    };
    let needed = |name: &str| tensor(name)?.ok_or_else(|| Error::new(format!("there is no tensor `{name}`")));
    let set = found(Form::Named, (needed("images")?, needed("labels")?), vec![path.to_path_buf()]);
    let learning_rate = tensor("learning_rate")?.map(|rate| scalar(&rate)).transpose()?;
    Ok(Found { soft_labels: tensor("soft_labels")?, learning_rate, ..set })
}

/// Images alone: their labels, and maybe a learning rate, lie in files beside theirs.
fn beside(path: &Path, images: Tensor) -> Result<Found> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let other = |part: &str| path.with_file_name(name.replacen("images", part, 1).replacen("_zca", "", 1));
    let labels = other("labels");
    if !name.contains("images") || !labels.is_file() {
        let message = format!("`{}` holds images without labels", path.display());
        let help = match name.contains("images") {
            true => format!("their labels should be in `{}`", labels.display()),
            false => "MTT's sets are `images_best.pt` and `labels_best.pt` side by side".into(),
        };
        return Err(Error::new(message).help(help));
    }
    let form = if name.contains("_zca") { Form::MttUnwhitened } else { Form::Mtt };
    let mut set = found(form, (images, single(&labels)?), vec![path.to_path_buf(), labels]);
    let rate = other("lr");
    if rate.is_file() {
        set.learning_rate = Some(number(&rate)?);
        set.files.push(rate);
    }
    Ok(set)
}

/// The tensor that a file holds.
fn single(path: &Path) -> Result<Tensor> {
    let file = open(path)?;
    let what = file.root().describe();
    file.tensor(file.root())?
        .ok_or_else(|| Error::new(format!("`{}` holds {what}, not a tensor", path.display())))
}

/// The number that a file holds, as a tensor or by itself.
fn number(path: &Path) -> Result<f64> {
    let file = open(path)?;
    match file.root().float() {
        Some(number) => Ok(number),
        None => scalar(&single(path)?).map_err(|error| error.context(format!("`{}`", path.display()))),
    }
}
