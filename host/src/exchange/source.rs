//! Which way of keeping synthetic sets a file or folder follows, and what it holds.

use super::{pictures, space::Space, torch};
use crate::data::{
    readers::{RawSet, read_raw},
    source::Limits,
};
use guard_sdk::{Error, Kind, Result, Tensor};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

/// A set as its files hold it.
pub(super) struct Found {
    /// Whose way of keeping sets it is.
    pub form: Form,
    /// `[N,C,H,W]`, in any space.
    pub images: Tensor,
    /// Which classes they are of.
    pub labels: FoundLabels,
    /// Probabilities or logits `[N,K]` beside the labels.
    pub soft_labels: Option<Tensor>,
    /// What students shall learn with.
    pub learning_rate: Option<f64>,
    /// The files that were read.
    pub files: Vec<PathBuf>,
}

/// Which classes images are of.
pub(super) enum FoundLabels {
    /// Numbers.
    Numbers(Tensor),
    /// Positions in a list of names.
    Names(Vec<i64>, Vec<String>),
}

/// Ways of keeping synthetic sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `{'data': [[images, labels], ...]}`: DC, DSA, DM.
    Dc,
    /// `images_best.pt`, `labels_best.pt`: MTT and those after it.
    Mtt,
    /// The same, with ZCA whitening undone: `images_zca_500.pt`.
    MttUnwhitened,
    /// `[images, labels]`: IDC and others.
    Pair,
    /// Tensors or arrays `images` and `labels` by name.
    Named,
    /// `new003/class003_id007.jpg`: SRe2L, CDA, GUARD.
    Sre2l,
    /// A folder for each class.
    ImageFolder,
}

impl Form {
    /// As manifests have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dc => "dc",
            Self::Mtt | Self::MttUnwhitened => "mtt",
            Self::Pair => "pair",
            Self::Named => "arrays",
            Self::Sre2l => "sre2l",
            Self::ImageFolder => "imagefolder",
        }
    }

    /// What the values are by the code that writes such files; nothing where that has several ways.
    pub fn usual_space(self) -> Option<Space> {
        match self {
            Self::Dc => Some(Space::Normalised),
            Self::MttUnwhitened | Self::Sre2l | Self::ImageFolder => Some(Space::Pixels),
            Self::Mtt | Self::Pair | Self::Named => None,
        }
    }

    /// Whether the code that writes such files normalises with DC's constants.
    pub fn has_dc_constants(self) -> bool {
        matches!(self, Self::Dc | Self::Mtt | Self::MttUnwhitened)
    }
}

impl Found {
    /// What the values are, where there is no doubt.
    pub fn certain_space(&self) -> Option<Space> {
        let bytes = self.images.kind() == Kind::Uint8;
        (bytes || matches!(self.form, Form::Sre2l | Form::ImageFolder)).then_some(Space::Pixels)
    }
}

/// Reads a set; pictures get `channels`.
///
/// # Errors
/// If there is none, or it is damaged.
pub(super) fn read(source: &Path, channels: i64) -> Result<Found> {
    let limits = Limits::default();
    if source.is_dir() {
        if source.join("distilled.safetensors").is_file() {
            let message = format!("`{}` is a distilled set of this host already", source.display());
            return Err(Error::new(message).help("recipes name it as it is: `distill.start = \"DIR\"`"));
        }
        let best = source.join("images_best.pt");
        return match best.is_file() {
            true => torch::read(&best),
            false => pictures::read(source, channels, &limits),
        };
    }
    if !source.exists() {
        return Err(Error::with_code("file", format!("`{}` does not exist", source.display())));
    }
    match source.extension().and_then(|extension| extension.to_str()) {
        Some("pt" | "pth") => torch::read(source),
        Some("npz" | "safetensors") => {
            let RawSet { images, labels, others } = read_raw(source, &limits)?;
            let mut others: HashMap<String, Tensor> = others.into_iter().collect();
            let soft_labels = others.remove("soft_labels");
            let learning_rate = others.remove("learning_rate").map(|rate| scalar(&rate)).transpose()?;
            let (form, files) = (Form::Named, vec![source.to_path_buf()]);
            let labels = FoundLabels::Numbers(labels);
            Ok(Found { form, images, labels, soft_labels, learning_rate, files })
        }
        _ => Err(Error::new(format!("`{}` is no set that can be read", source.display())).help(
            "sets are a `.pt` or `.pth` of DC, DSA, DM or MTT, an `.npz` or `.safetensors` with `images` and `labels`, \
             or a folder of pictures, SRe2L's or one for each class",
        )),
    }
}

/// A learning rate.
///
/// # Errors
/// If it is more than one number.
pub(super) fn scalar(tensor: &Tensor) -> Result<f64> {
    match tensor.numel() {
        1 => Ok(tensor.to_kind(Kind::Double).f_reshape([-1])?.f_double_value(&[0])?),
        _ => Err(Error::new(format!("the learning rate is {:?}, not a single number", tensor.size()))),
    }
}
