//! What was computed against what was recorded, within the tolerances of the folder's README.

use crate::{
    index::{Case, Dtype, Golden},
    network,
};
use guard_host::network::Model;
use guard_sdk::{Batch, Device, Error, Kind, Result, Space, Tensor};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};

/// The share of pixels that may differ between two float32 runs of an attack that steps along signs.
const DIFFERING_PIXELS: f64 = 0.01;

/// How closely a key is compared.
#[derive(Clone, Copy, PartialEq)]
pub enum Precision {
    /// A smooth function of the inputs.
    Smooth,
    /// Along the path of an attack that steps along signs.
    Path,
    /// Flags and counts.
    Exact,
}

/// The checks of one case.
pub struct Checks<'a> {
    golden: &'a Golden,
    pub case: &'a Case,
    own: HashMap<String, Tensor>,
    /// The float64 case beside a float32 one, for what the latter dropped.
    twin: Option<(&'a Case, HashMap<String, Tensor>)>,
    /// Keys that nothing has looked at yet.
    open: BTreeSet<String>,
    /// How many roundings darker the images are.
    roundings: i32,
    compared: usize,
    closest: Option<Deviation>,
    uncompared: Vec<(String, String)>,
    failures: Vec<String>,
}

/// How far a key is off, as a share of what is allowed.
#[derive(Clone)]
pub struct Deviation {
    pub key: String,
    pub share: f64,
}

/// What came of a case's checks.
pub struct Report {
    pub title: String,
    pub failures: Vec<String>,
    pub closest: Option<Deviation>,
    /// Keys that were not compared, and why.
    pub uncompared: Vec<(String, String)>,
}

impl Report {
    /// The keys that failed.
    pub fn keys(&self) -> impl Iterator<Item = String> {
        self.failures.iter().filter_map(|failure| Some(failure.split('`').nth(1)?.to_string()))
    }
}

impl<'a> Checks<'a> {
    /// Of a case whose images are multiplied by 1 − `roundings` · ε.
    pub fn new(golden: &'a Golden, case: &'a Case, roundings: i32) -> Result<Self> {
        let twin = golden.twin(case).filter(|_| !case.dropped.is_empty());
        Ok(Self {
            golden,
            case,
            own: golden.recorded(case)?,
            twin: twin.map(|twin| Ok::<_, Error>((twin, golden.recorded(twin)?))).transpose()?,
            open: case.keys(),
            roundings,
            compared: 0,
            closest: None,
            uncompared: Vec::new(),
            failures: Vec::new(),
        })
    }

    /// The case's network, in its dtype.
    pub fn model(&self) -> Result<Model> {
        network::load(self.golden, &self.case.model, self.case.dtype.kind())
    }

    /// An input: from the case's own file, else from its model's. Images come in the case's dtype.
    pub fn input(&mut self, key: &str) -> Result<Tensor> {
        self.open.remove(key);
        let own = self.stored(key).map(Tensor::shallow_clone);
        let found = own.or_else(|| self.golden.inputs(&self.case.model).ok()?.remove(key));
        let tensor = found.ok_or_else(|| Error::new(format!("there is no input `{key}`")))?;
        Ok(if tensor.is_floating_point() { tensor.to_kind(self.case.dtype.kind()) } else { tensor })
    }

    /// The images of the case's space, and their labels.
    pub fn examples(&mut self) -> Result<Examples> {
        let space = self.case.space()?;
        let images = self.input(if space == Space::Pixels { "images" } else { "images_norm" })?;
        let images = images * (1.0 - f64::from(self.roundings) * f64::from(f32::EPSILON));
        Ok(Examples::new(images, self.input("labels")?, space))
    }

    fn stored(&self, key: &str) -> Option<&Tensor> {
        self.own.get(key).or_else(|| self.twin.as_ref()?.1.get(key))
    }

    /// A recorded table whose columns hold arguments beside results.
    pub fn table(&self, key: &str) -> Result<&Tensor> {
        self.stored(key).ok_or_else(|| Error::new(format!("no file holds `{key}`")))
    }

    /// Images that the case's own file holds.
    pub fn own_images(&self, key: &str) -> Option<Tensor> {
        self.own.get(key).map(Tensor::shallow_clone)
    }

    /// True if the case computed `key`.
    pub fn has(&self, key: &str) -> bool {
        self.case.tensors.contains_key(key)
            || self.case.scalars.contains_key(key)
            || self.case.dropped.iter().any(|dropped| dropped == key)
    }

    /// The values recorded for `key`.
    fn recorded(&self, key: &str) -> Vec<Tensor> {
        let scalar = |case: &Case| Some(Tensor::from(case.scalars.get(key).and_then(Value::as_f64)?));
        let own: Vec<_> =
            self.own.get(key).map(Tensor::shallow_clone).into_iter().chain(scalar(self.case)).collect();
        match &self.twin {
            Some((case, tensors)) if own.is_empty() => {
                tensors.get(key).map(Tensor::shallow_clone).into_iter().chain(scalar(case)).collect()
            }
            _ => own,
        }
    }

    /// Compares what was computed for `key`; nothing happens if the case has no such key.
    pub fn compare(&mut self, key: &str, found: &Tensor, precision: Precision) {
        self.compare_with(key, found, precision, 0.0);
    }

    /// As [`Checks::compare`], with `slack` added to what is allowed.
    pub fn compare_with(&mut self, key: &str, found: &Tensor, precision: Precision, slack: f64) {
        self.open.remove(key);
        if !self.has(key) || self.depends_on_instructions(key, precision) {
            return;
        }
        let recorded = self.recorded(key);
        if recorded.is_empty() {
            self.skip(key, "no file of the folder holds it");
        }
        for recorded in recorded {
            let allowed = self.allowed(key, &recorded, precision) + slack;
            let Some(deviation) = self.deviation(key, found, &recorded) else { return };
            self.judge(key, largest(&deviation), allowed);
        }
    }

    /// Compares images of an attack that steps along signs: in float32 only the share of pixels that differ counts.
    pub fn compare_images(&mut self, key: &str, found: &Tensor) {
        if self.case.dtype == Dtype::F64 {
            return self.compare(key, found, Precision::Path);
        }
        self.open.remove(key);
        if self.depends_on_instructions(key, Precision::Path) {
            return;
        }
        let Some(recorded) = self.stored(key).map(Tensor::shallow_clone) else {
            return self.skip(key, "no file of the folder holds it");
        };
        let Some(deviation) = self.deviation(key, found, &recorded) else { return };
        let same = float32_tolerance(0.0, &recorded);
        let share =
            deviation.abs().le(same).logical_not().to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
        self.judge(key, share, DIFFERING_PIXELS);
    }

    /// Leaves `key` out where an attack's float32 path ends elsewhere because libtorch rounds with other instructions:
    /// PyTorch itself, with AVX2, moves 3.4 % of the pixels of `rnat.atk_pgd100_e8` away from where AVX-512 put them, and
    /// `linf` of `rnat.atk_cw_c1` by 1.4e-4. Decisions, their share and the loss along the path are compared everywhere.
    fn depends_on_instructions(&mut self, key: &str, precision: Precision) -> bool {
        let path = ["adv", "linf", "l2", "logits_adv"].contains(&key) && precision != Precision::Exact;
        let attack = self.case.dtype == Dtype::F32 && self.case.name.starts_with("atk_");
        let Some(instructions) = self.golden.other_instructions().filter(|_| path && attack) else {
            return false;
        };
        self.skip(
            key,
            &format!("made with {instructions} instructions, which round otherwise than those used here"),
        );
        true
    }

    /// What a float32 attack along signs may be off in the l2 norm of its perturbations: the square of each pixel's is
    /// between 0 and ε², and one pixel in a hundred may differ.
    pub fn slack_of_l2(&self, pixels: i64, epsilon: f64) -> f64 {
        match (self.case.dtype, self.stored("l2")) {
            (Dtype::F32, Some(norms)) => {
                DIFFERING_PIXELS * pixels as f64 * epsilon.powi(2) / norms.min().double_value(&[])
            }
            _ => 0.0,
        }
    }

    /// Leaves `key` out, for a reason that is printed.
    pub fn skip(&mut self, key: &str, reason: &str) {
        self.open.remove(key);
        if self.has(key) {
            self.uncompared.push((key.to_string(), reason.to_string()));
        }
    }

    /// Records a failure unless `holds`.
    pub fn require(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.failures.push(otherwise());
        }
    }

    fn allowed(&self, key: &str, recorded: &Tensor, precision: Precision) -> f64 {
        match (precision, self.case.dtype) {
            (Precision::Exact, _) => 0.0,
            (Precision::Smooth, Dtype::F64) => 1e-9 * largest(recorded) + 1e-12,
            (Precision::Path, Dtype::F64) => 1e-10 * largest(recorded) + 1e-12,
            (_, Dtype::F32) => {
                let rounding = self.case.rounding.get(key).and_then(Value::as_f64).unwrap_or(0.0);
                float32_tolerance(rounding, recorded)
            }
        }
    }

    fn deviation(&mut self, key: &str, found: &Tensor, recorded: &Tensor) -> Option<Tensor> {
        if found.size() != recorded.size() {
            let (found, recorded) = (found.size(), recorded.size());
            self.failures.push(format!("`{key}`: found shape {found:?}, golden {recorded:?}"));
            return None;
        }
        let exact = |tensor: &Tensor| tensor.detach().to_device(Device::Cpu).to_kind(Kind::Double);
        Some(exact(found) - exact(recorded))
    }

    fn judge(&mut self, key: &str, deviation: f64, allowed: f64) {
        self.compared += 1;
        // A NaN is not within anything.
        if deviation.partial_cmp(&allowed).is_none_or(std::cmp::Ordering::is_gt) {
            self.failures.push(format!("`{key}`: found deviation {deviation:.3e}, allowed {allowed:.3e}"));
        }
        let share = if deviation == 0.0 { 0.0 } else { deviation / allowed };
        if self.closest.as_ref().is_none_or(|closest| share > closest.share) {
            self.closest = Some(Deviation { key: key.to_string(), share });
        }
    }

    pub fn report(mut self) -> Report {
        for key in std::mem::take(&mut self.open) {
            self.failures.push(format!("key `{key}` is not checked"));
        }
        if self.compared == 0 {
            self.failures.push("nothing was compared".to_string());
        }
        let Self { case, failures, closest, uncompared, .. } = self;
        Report { title: case.title(), failures, closest, uncompared }
    }
}

/// Ten times `rounding` = max|f32 − f64| / max|f64|, but at least 1e-5, and 1e-6. Of the two dtypes only `recorded` may be
/// at hand: max|f64| ≥ max|recorded| / (1 + rounding).
fn float32_tolerance(rounding: f64, recorded: &Tensor) -> f64 {
    (10.0 * rounding / (1.0 + rounding)).max(1e-5) * largest(recorded) + 1e-6
}

fn largest(tensor: &Tensor) -> f64 {
    tensor.to_kind(Kind::Double).abs().flatten(0, -1).max().double_value(&[])
}

/// Images with labels and ids.
pub struct Examples {
    pub images: Tensor,
    pub labels: Tensor,
    pub ids: Vec<u64>,
    pub space: Space,
}

impl Examples {
    pub fn new(images: Tensor, labels: Tensor, space: Space) -> Self {
        let ids = (0..labels.size()[0] as u64).collect();
        Self { images, labels, ids, space }
    }

    pub fn batch(&self) -> Batch<'_> {
        Batch {
            images: &self.images,
            labels: &self.labels,
            soft_labels: None,
            ids: &self.ids,
            space: self.space,
        }
    }

    /// The example at `position` alone.
    pub fn only(&self, position: i64) -> Self {
        Self::new(self.images.narrow(0, position, 1), self.labels.narrow(0, position, 1), self.space)
    }

    pub fn len(&self) -> i64 {
        self.labels.size()[0]
    }
}
