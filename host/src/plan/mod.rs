//! The plan: a recipe resolved and validated against the plugins it names. It is what `--dry-run` prints and what the engine
//! runs; everything that can be known to be wrong is found here, in one pass, before anything runs. It needs no data.

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
    methods::MethodTable,
    needs::{check_needs, optimizer_of, unknown_layer},
    problems::{in_data, placed},
    surrogates::Promised,
};
use crate::{
    data::{DataInfo, Dataset, Prepared},
    engine::PROBE_ATTACKS,
    network::{Architecture, NetworkSpec, Whitening},
    plugin::{Context, Plugins, Silent},
    random::Streams,
    recipe::{
        AttackUse, FirstImages, Labels, Loaded, Mark, Optimizer, Problem, Problems, Recipe, RegularizerUse,
        Relabel, Schedule, TEACHER, Variant, child,
    },
    run::LabelCode,
};
use guard_sdk::{
    Budget, Device, Error, Norm,
    abi::shim::cpu_capability,
    manifest::Kind,
    objective::{Needs, Networks, interpolated},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
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
            }),
            _ => Err(Problems::new(problems)),
        }
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

/// Looks at one variant.
struct Checker<'a> {
    variant: &'a Variant,
    data: &'a DataInfo,
    plugins: &'a mut Plugins,
    /// What attacks may ask for.
    networks: Promised,
    problems: &'a mut Vec<Problem>,
}

impl Checker<'_> {
    fn plan(&mut self) -> Option<VariantPlan> {
        let found = self.problems.len();
        let Variant { name, baseline, recipe, .. } = self.variant;
        let network = self.spec(&recipe.network, "/network");
        if recipe.data.zca.is_some()
            && let Err(error) = Whitening::values_of(self.data.image)
        {
            self.refuse("/data/zca", error);
        }
        let students = self.students(network.as_ref());
        self.stored_labels();
        self.regularizers("/training/regularizers", &recipe.training.regularizers);
        self.regularizers("/student/regularizers", &recipe.student.regularizers);
        if recipe.training.cross_entropy_weight == 0.0
            && recipe.training.regularizers.iter().all(|each| each.weight == 0.0)
        {
            let problem = self.variant.document.problem(
                "/training/cross_entropy_weight",
                Mark::Value,
                "the training loss has no terms",
            );
            self.problems.push(problem.help("give the cross-entropy or a regularizer a weight above 0"));
        }
        let distillation = self.distillation(network.as_ref());
        let labelled = recipe.distill.is_none() || recipe.relabel.labels != Labels::Hard;
        let needed = distillation
            .as_ref()
            .is_some_and(|distillation| distillation.needs.networks == Networks::Teacher);
        let trains_teacher = labelled || needed;
        let surrogates = self.surrogates();
        let promised = surrogates.iter().map(|each| (each.name.clone(), each.network.clone()));
        let teacher = network.clone().filter(|_| trains_teacher).map(|spec| (TEACHER.to_string(), spec));
        self.networks = Promised(promised.chain(teacher).collect());
        let budgets = self.budgets();
        for (index, attack) in recipe.evaluate.attacks.iter().enumerate() {
            self.attack(index, attack, &budgets);
        }
        if recipe.evaluate.probe_images > 0 && !recipe.evaluate.attacks.is_empty() {
            // Loaded now, so that the run records them; a probe that nobody offers is left out.
            for attack in PROBE_ATTACKS {
                let _ = self.plugins.require(Kind::Attack, attack);
            }
        }
        if self.problems.len() > found {
            return None;
        }
        Some(VariantPlan {
            name: name.clone(),
            baseline: *baseline,
            recipe: recipe.clone(),
            network: network?,
            students,
            trains_teacher,
            distillation,
            surrogates,
            budgets,
        })
    }

    fn refuse(&mut self, pointer: &str, error: Error) {
        let problem = placed(&self.variant.document, pointer, error);
        self.problems.push(problem);
    }

    fn spec(&mut self, architecture: &Architecture, pointer: &str) -> Option<NetworkSpec> {
        let spec = NetworkSpec {
            architecture: architecture.clone(),
            input: self.data.image,
            classes: self.data.classes.len() as i64,
            mean: self.data.mean.clone(),
            std: self.data.std.clone(),
            whitening: self.variant.recipe.data.zca.as_ref().map(|zca| Whitening::with_epsilon(zca.epsilon)),
        };
        match spec.program() {
            Ok(_) => Some(spec),
            Err(error) => {
                self.refuse(pointer, error);
                None
            }
        }
    }

    /// The networks that the recipe names for attacks, with their weights looked at.
    fn surrogates(&mut self) -> Vec<SurrogatePlan> {
        let Variant { recipe, .. } = self.variant;
        let mut plans = Vec::new();
        for (name, given) in &recipe.evaluate.networks {
            let at = child("/evaluate/networks", name);
            let place = if given.network.is_some() { child(&at, "network") } else { at.clone() };
            let Some(spec) = self.spec(given.network.as_ref().unwrap_or(&recipe.network), &place) else {
                continue;
            };
            let own = given.mean.clone().zip(given.std.clone());
            let from_data = own.is_none();
            let (mean, std) = own.unwrap_or((spec.mean.clone(), spec.std.clone()));
            // Their files say whether they whiten.
            let spec = NetworkSpec { mean, std, whitening: None, ..spec };
            if let Err(error) = spec.program() {
                self.refuse(&at, error);
                continue;
            }
            match SurrogatePlan::new(name, &given.weights, spec, from_data) {
                Ok(plan) => plans.push(plan),
                Err(error) => self.refuse(&child(&at, "weights"), error),
            }
        }
        plans
    }

    fn students(&mut self, network: Option<&NetworkSpec>) -> Vec<StudentPlan> {
        let recipe = &self.variant.recipe;
        if recipe.students.is_empty() {
            let network = match &recipe.student.network {
                Some(student) => self.spec(student, "/student/network"),
                None => network.cloned(),
            };
            return network.into_iter().map(|network| StudentPlan { label: None, network }).collect();
        }
        let labels = recipe.students.labels();
        let mut students = Vec::new();
        for (index, (architecture, label)) in recipe.students.iter().zip(labels).enumerate() {
            let network = self.spec(architecture, &format!("/students/{index}"));
            students.extend(network.map(|network| StudentPlan { label: Some(label), network }));
        }
        students
    }

    /// Refuses a way of storing labels that does not fit the classes.
    fn stored_labels(&mut self) {
        let Relabel { labels, top_k: Some(top_k), .. } = self.variant.recipe.relabel else { return };
        let classes = self.data.classes.len();
        if labels != Labels::Stored {
            return;
        }
        let message = if top_k > classes {
            format!("`relabel.top_k` is {top_k}, but there are {classes} classes")
        } else if classes > LabelCode::MOST_CLASSES {
            let most = LabelCode::MOST_CLASSES;
            format!("`relabel.top_k` numbers at most {most} classes, and there are {classes}")
        } else {
            return;
        };
        self.refuse("/relabel/top_k", Error::unsupported(message).help("leave it out"));
    }

    fn regularizers(&mut self, list: &str, uses: &[RegularizerUse]) {
        for index in 0..uses.len() {
            self.method(
                MethodTable::element(Kind::Regularizer, list, index),
                |plugins, context, name, options| {
                    plugins.regularizer(context, name, name, options).map(|_| ())
                },
            );
        }
    }

    fn attack(&mut self, index: usize, attack: &AttackUse, budgets: &[Budget]) {
        let at = MethodTable::element(Kind::Attack, "/evaluate/attacks", index);
        let place = at.name();
        let info = self.method(at, |plugins, context, name, options| {
            plugins.attack(context, name, name, options)?.info(context)
        });
        if let (Some(info), Some(budget)) = (info, budgets.first())
            && !info.norms.contains(&budget.norm)
        {
            let name = |norm: &Norm| format!("`{}`", format!("{norm:?}").to_lowercase());
            let (wanted, defined): (_, Vec<String>) =
                (name(&budget.norm), info.norms.iter().map(name).collect());
            let error = Error::unsupported(format!(
                "attack `{}` is not defined for the norm {wanted}",
                attack.method
            ));
            self.refuse(&place, error.help(format!("it is defined for {}", defined.join(" and "))));
        }
    }

    fn distillation(&mut self, network: Option<&NetworkSpec>) -> Option<Distillation> {
        let distill = self.variant.recipe.distill.as_ref()?;
        let name = &distill.objective;
        self.regularizers("/distill/regularizers", &distill.regularizers);
        let needs = self.method(MethodTable::objective(), |plugins, context, name, options| {
            plugins.objective(context, name, name, options)?.needs(context)
        })?;
        if let Err(error) = check_needs(&needs, &self.variant.recipe.experts) {
            self.refuse("/distill/objective", error.context(format!("objective `{name}`")));
        }
        if let (true, Some(network)) = (needs.batch_norm, network)
            && network.program().is_ok_and(|program| program.batch_norm().is_empty())
        {
            let error = Error::unsupported(format!(
                "objective `{name}` needs the running statistics of BatchNorm layers; this network has none"
            ));
            let help = "networks that have them: `convnet` with `norm = \"batch\"`, the ResNets, `wrn-16-2`, `mobilenet_v2`, `shufflenet_v2`";
            self.refuse("/distill/objective", error.help(help));
        } else if let Some(error) = network.and_then(|network| unknown_layer(&needs, network)) {
            self.refuse("/distill/options", error.context(format!("objective `{name}`")));
        }
        let start = distill.start.clone().unwrap_or(FirstImages::Made(needs.start));
        let given = match &start {
            FirstImages::Made(_) if needs.given_set => {
                let message =
                    format!("objective `{name}` takes a set that is there already, and none is named");
                let help = "name its folder: `distill.start = \"runs/NAME/distilled\"`; `guard-host distilled import` makes one of sets that others released";
                self.refuse("/distill/objective", Error::new(message).help(help));
                None
            }
            FirstImages::Made(_) => None,
            FirstImages::Given(path) => {
                let given = match needs.given_set {
                    true => GivenSet::whole(path, self.data),
                    false => GivenSet::start(path),
                };
                let named = |error: Error| error.context(format!("first images `{}`", path.display()));
                given.map_err(|error| self.refuse("/distill/start", named(error))).ok()
            }
        };
        let (optimizer, schedule) = optimizer_of(&needs);
        // An objective that optimises nothing stays so, whatever a recipe says for the variants beside it.
        let iterations = distill.iterations.filter(|_| needs.iterations > 0);
        Some(Distillation {
            steps_per_iteration: interpolated(&needs.steps_per_iteration, distill.images_per_class as u64),
            start,
            given,
            iterations: iterations.map_or(needs.iterations, |iterations| iterations as u64),
            optimizer: distill.optimizer.clone().unwrap_or(optimizer),
            schedule,
            needs,
        })
    }

    /// None without attacks: what nobody attacked is not robust within any.
    fn budgets(&self) -> Vec<Budget> {
        let evaluate = &self.variant.recipe.evaluate;
        let threat = evaluate.threat.as_ref().filter(|_| !evaluate.attacks.is_empty());
        threat.map_or(Vec::new(), |threat| {
            threat
                .epsilon
                .0
                .iter()
                .map(|epsilon| Budget { norm: threat.norm, epsilon: epsilon.pixels() })
                .collect()
        })
    }

    /// Finds a method, holds its options against its schema, and makes one to hear what it says of them.
    fn method<T>(
        &mut self,
        at: MethodTable,
        make: impl FnOnce(&Plugins, &Context, &str, &Value) -> guard_sdk::Result<T>,
    ) -> Option<T> {
        let document = &self.variant.document;
        let (name, options) = match at.read(document, self.plugins) {
            Ok(read) => read,
            Err(found) => {
                self.problems.extend(found);
                return None;
            }
        };
        let streams = Streams::new(0);
        let context = Context {
            stage: "plan",
            iteration: 0,
            iterations: 0,
            random: &streams,
            recorder: &Silent,
            plugins: self.plugins,
            networks: &self.networks,
            device: Device::Cpu,
        };
        match make(self.plugins, &context, name, &options) {
            Ok(made) => Some(made),
            Err(error) => {
                let inside = error.option_path.as_ref().map(|path| format!("{}{path}", at.options()));
                // An option that was left out has no place; the method's name has.
                let place = inside.filter(|place| document.get(place).is_some()).unwrap_or(at.name());
                self.problems.push(placed(document, &place, error));
                None
            }
        }
    }
}
