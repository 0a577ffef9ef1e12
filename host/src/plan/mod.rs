//! The plan: a recipe resolved and validated against the plugins it names. It is what `--dry-run` prints and what the engine
//! runs; everything that can be known to be wrong is found here, in one pass, before anything runs. It needs no data.

mod checker;
mod given;
mod methods;
mod needs;
mod problems;
mod shown;
mod surrogates;

pub use given::GivenSet;
pub use methods::check_methods;
pub use problems::unplaced;
pub use shown::{Complete, complete};
pub use surrogates::SurrogatePlan;

use self::{
    checker::Checker,
    problems::{in_data, placed},
    surrogates::Promised,
};
use crate::{
    data::{DataInfo, Dataset, Prepared},
    device::Place,
    network::NetworkSpec,
    plugin::Plugins,
    recipe::{FirstImages, Loaded, Optimizer, Problems, Recipe, Schedule},
};
use guard_sdk::{Budget, Error, Norm, abi::shim::cpu_capability, objective::Needs};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::path::PathBuf;

/// What a run does.
#[derive(Serialize, Deserialize)]
pub struct Plan {
    /// The run's name.
    pub name: String,
    /// The seed that all variants share.
    pub seed: u64,
    /// Threads inside operations. Equal bits need an equal number.
    pub threads: i32,
    /// The instruction set that libtorch's kernels were chosen for. Equal bits need the same.
    pub cpu_capability: String,
    /// The GPU that computes, by its name; nothing if none does. Equal bits need the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
    /// Whether operations that cannot promise equal bits are errors; on CPUs all promise them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deterministic: bool,
    /// The data set. Without its files, classes may be numbers, and mean and std empty.
    pub data: DataInfo,
    /// What runs side by side.
    pub variants: Vec<VariantPlan>,
    /// The plugins, with their sums.
    pub plugins: Vec<PluginLock>,
}

/// A plugin as a run used it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PluginLock {
    /// The plugin's id.
    pub id: String,
    /// Its version.
    pub version: String,
    /// Where its file is.
    pub path: String,
    /// The file's BLAKE3 sum.
    pub blake3: String,
}

/// One of the recipes that run side by side.
#[derive(Serialize, Deserialize)]
pub struct VariantPlan {
    /// Its name.
    pub name: String,
    /// Whether the others are to be measured by it.
    pub baseline: bool,
    /// The recipe with the variant's keys replaced and every default filled in.
    pub recipe: Recipe,
    /// The network that is trained on real data.
    pub network: NetworkSpec,
    /// The networks that are trained on synthetic data, `student.count` of each.
    pub students: Vec<StudentPlan>,
    /// Whether a network is trained on real data.
    pub trains_teacher: bool,
    /// How the synthetic images are made; nothing if the recipe has no `[distill]`.
    pub distillation: Option<Distillation>,
    /// Networks that attacks may use beside the one under attack.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub surrogates: Vec<SurrogatePlan>,
    /// Norm and ε in pixels of each evaluation.
    #[serde(serialize_with = "write_budgets", deserialize_with = "read_budgets")]
    pub budgets: Vec<Budget>,
}

/// A network that is trained on synthetic data.
#[derive(Serialize, Deserialize)]
pub struct StudentPlan {
    /// What results call it, where there are several networks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The network.
    pub network: NetworkSpec,
}

/// How the synthetic images are made.
#[derive(Serialize, Deserialize)]
pub struct Distillation {
    /// What the objective asked for.
    pub needs: Needs,
    /// Iterations of each group of images.
    pub iterations: u64,
    /// Steps of the images in each.
    pub steps_per_iteration: u64,
    /// What the images start from.
    pub start: FirstImages,
    /// The set that they start from, where that is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub given: Option<GivenSet>,
    /// The images' optimiser.
    pub optimizer: Optimizer,
    /// Its learning rate's way.
    pub schedule: Schedule,
}

impl StudentPlan {
    /// What the files of its student `number` are called, without extension.
    pub fn file(&self, number: u64) -> String {
        student_file(self.label.as_deref(), number)
    }
}

/// What the files of the student `number` of the network that results call `label` are called, without extension.
pub fn student_file(label: Option<&str>, number: u64) -> String {
    format!("{}-{number}", label.unwrap_or("student"))
}

/// A budget, as a plan's JSON has it.
#[derive(Serialize, Deserialize)]
struct NormAndEpsilon {
    norm: Norm,
    epsilon: f64,
}

fn write_budgets<S: Serializer>(budgets: &[Budget], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(budgets.iter().map(|&Budget { norm, epsilon }| NormAndEpsilon { norm, epsilon }))
}

fn read_budgets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Budget>, D::Error> {
    let budgets = Vec::<NormAndEpsilon>::deserialize(deserializer)?;
    Ok(budgets.into_iter().map(|NormAndEpsilon { norm, epsilon }| Budget { norm, epsilon }).collect())
}

impl Plan {
    /// The folder of one variant, relative to the run's: the run's own if there is only one.
    pub fn folder(&self, variant: &str) -> PathBuf {
        if self.variants.len() == 1 { PathBuf::new() } else { variant.into() }
    }

    /// Loads the plugins that `requests` (from the command line) and the recipe name, and checks every method, its options
    /// and what belongs together.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn new(
        recipe: &Loaded,
        data: &Result<Prepared, Error>,
        requests: &[String],
        plugins: &mut Plugins,
    ) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        for request in requests {
            if let Err(error) = plugins.load(request) {
                problems.push(unplaced(error));
            }
        }
        for (index, name) in recipe.recipe.plugins.iter().enumerate() {
            if let Err(error) = plugins.load(name) {
                problems.push(placed(&recipe.document, &format!("/plugins/{index}"), error));
            }
        }
        if !problems.is_empty() {
            // Without them every method would seem unknown.
            return Err(Problems::new(problems));
        }
        let document = &recipe.document;
        let data = match data {
            Ok(prepared) => Some(prepared.info().clone()),
            Err(error) => {
                problems.push(in_data(document, error.clone()));
                None
            }
        };
        let mut variants = Vec::new();
        if let Some(data) = &data {
            for variant in &recipe.variants {
                let (plugins, networks) = (&mut *plugins, Promised::default());
                let mut checker = Checker { variant, data, plugins, networks, problems: &mut problems };
                variants.extend(checker.plan());
            }
        } else {
            // Shapes are not known, but what plugins have to say of their methods is.
            let documents: Vec<_> = recipe.variants.iter().map(|variant| variant.document.clone()).collect();
            problems.extend(check_methods(&documents, &[], plugins));
        }
        match data {
            Some(data) if problems.is_empty() => Ok(Self {
                name: recipe.name.clone(),
                seed: recipe.recipe.seed,
                data,
                variants,
                plugins: plugins.loaded().iter().map(|loaded| PluginLock::of(loaded)).collect(),
                threads: tch::get_num_threads(),
                cpu_capability: cpu_capability(),
                gpu: None,
                deterministic: false,
            }),
            _ => Err(Problems::new(problems)),
        }
    }

    /// The same where `place` computes.
    pub fn computed_at(self, place: &Place) -> Self {
        let gpu = place.device.is_cuda().then(|| place.name.clone());
        Self { gpu, deterministic: place.deterministic, ..self }
    }

    /// Takes over what became known when the data was read: names of the classes, mean, standard deviation and whitening.
    ///
    /// # Errors
    /// If the images that whitening is fitted to cannot be read, or a set that is given has other classes.
    pub fn complete(&mut self, data: &Dataset) -> Result<(), Error> {
        self.data = data.info.clone();
        let whitening = self.variants.first().and_then(|variant| variant.network.whitening.clone());
        let DataInfo { mean, std, .. } = &data.info;
        let whitening = whitening.map(|zca| zca.fit(&data.train, mean, std)).transpose()?;
        for variant in &mut self.variants {
            if let Some(given) = variant.distillation.as_ref().and_then(|each| each.given.as_ref()) {
                given.same_classes(&data.info)?;
            }
            let students = variant.students.iter_mut().map(|student| &mut student.network);
            for network in students.chain([&mut variant.network]) {
                (network.mean, network.std) = (mean.clone(), std.clone());
                network.whitening.clone_from(&whitening);
            }
            for surrogate in variant.surrogates.iter_mut().filter(|each| each.statistics_of_data) {
                (surrogate.network.mean, surrogate.network.std) = (mean.clone(), std.clone());
            }
        }
        Ok(())
    }
}

impl PluginLock {
    fn of(loaded: &crate::plugin::Loaded) -> Self {
        Self {
            id: loaded.manifest.id.clone(),
            version: loaded.manifest.version.clone(),
            path: loaded.path.display().to_string(),
            blake3: loaded.blake3.clone(),
        }
    }
}
