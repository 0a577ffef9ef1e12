//! One variant held against the data and the plugins: everything that is wrong with it, or its plan.

use super::{
    Distillation, GivenSet, StudentPlan, SurrogatePlan, VariantPlan,
    methods::MethodTable,
    needs::{check_needs, optimizer_of, unknown_layer},
    problems::placed,
    surrogates::Promised,
};
use crate::{
    data::DataInfo,
    engine::PROBE_ATTACKS,
    network::{Architecture, NetworkSpec, Precision, Whitening},
    plugin::{Context, Plugins, Silent},
    random::Streams,
    recipe::{
        AttackUse, FirstImages, Labels, Mark, Problem, RegularizerUse, Relabel, TEACHER, Variant, child,
    },
    run::LabelCode,
};
use guard_sdk::{
    Budget, Device, Error, Norm,
    manifest::Kind,
    objective::{Networks, interpolated},
};
use serde_json::Value;

/// Looks at one variant.
pub(super) struct Checker<'a> {
    pub variant: &'a Variant,
    pub data: &'a DataInfo,
    pub plugins: &'a mut Plugins,
    /// What attacks may ask for.
    pub networks: Promised,
    pub problems: &'a mut Vec<Problem>,
}

impl Checker<'_> {
    /// The plan, unless something is wrong.
    pub fn plan(&mut self) -> Option<VariantPlan> {
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
            precision: self.variant.recipe.precision,
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
            let spec = NetworkSpec { mean, std, whitening: None, precision: Precision::Fp32, ..spec };
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
            let name = |norm: &Norm| format!("`{}`", norm.name());
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
