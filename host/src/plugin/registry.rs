//! The plugins of a run, and which of them offers a method.

use super::{
    call::{Context, Hosted},
    file::{inspect, refused},
    kept::Kept,
    loaded::{Loaded, prefixed},
    lock::Lock,
    schema::fits,
    shared::Sharing,
    signatures::TrustedKeys,
};
use guard_front::Locator;
use guard_sdk::{
    Error, Result, Services,
    abi::{
        calls::{AttackInstance, ObjectiveInstance, RegularizerInstance},
        library::Library,
    },
    manifest::{Kind, Manifest, MethodEntry},
};
use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    rc::Rc,
};

/// All plugins of a run, and the methods they asked the host for.
pub struct Plugins {
    locator: Locator,
    /// Leaked, as the libraries themselves are never unloaded.
    loaded: RefCell<Vec<&'static Loaded>>,
    checks: bool,
    lock: Option<Lock>,
    keys: Option<TrustedKeys>,
    traces: RefCell<Vec<String>>,
    kept: Rc<Kept>,
    sharing: Sharing,
}

impl Plugins {
    /// None yet; names are looked up with `locator`.
    pub fn new(locator: Locator) -> Self {
        Self {
            locator,
            loaded: RefCell::default(),
            checks: false,
            lock: None,
            keys: None,
            traces: RefCell::default(),
            kept: Rc::default(),
            sharing: Sharing::default(),
        }
    }

    /// The same in checked mode: values of lent tensors are compared after every call, which costs a copy of each.
    pub fn checked(self, checks: bool) -> Self {
        Self { checks, ..self }
    }

    /// The same for the files of `lock` alone.
    pub fn locked(self, lock: Lock) -> Self {
        Self { lock: Some(lock), ..self }
    }

    /// The same for files that are signed by one of `keys` alone.
    pub fn signed(self, keys: TrustedKeys) -> Self {
        Self { keys: Some(keys), ..self }
    }

    /// As it was before anything was loaded.
    pub fn afresh(&self) -> Self {
        let (locator, lock, keys) = (self.locator.clone(), self.lock.clone(), self.keys.clone());
        Self { lock, keys, checks: self.checks, ..Self::new(locator) }
    }

    /// Whether lent tensors are compared by value.
    pub(super) fn checks(&self) -> bool {
        self.checks
    }

    /// What calls left changed in libtorch's state of this thread and the host put back, noted in checked mode only.
    pub fn traces(&self) -> Vec<String> {
        self.traces.borrow().clone()
    }

    /// Adds to [`Plugins::traces`].
    pub(super) fn note(&self, trace: String) {
        self.traces.borrow_mut().push(trace);
    }

    /// Loads the plugin that `request` names: see [`Locator::find`]. Loading it twice is the same as once.
    ///
    /// # Errors
    /// If it is not found, no plugin, not one for this host, or another file with the same id is loaded.
    pub fn load(&self, request: &str) -> Result<&'static Loaded> {
        let path = self.find_file(request)?;
        if let Some(known) = self.loaded().into_iter().find(|loaded| loaded.path == path) {
            return Ok(known);
        }
        // Before any of its code runs.
        let inspection = Loaded::inspect(&path)?;
        if let Some(lock) = &self.lock {
            lock.admit(&inspection).map_err(|error| prefixed(error, &path))?;
        }
        self.admit(&path)?;
        let id = inspection.manifest.id;
        if let Some(other) = self.loaded().into_iter().find(|other| other.manifest.id == id) {
            let other = other.path.display();
            let message = format!(
                "plugin `{}` calls itself `{id}`, as does `{other}`, which is loaded already",
                path.display()
            );
            return Err(Error::with_code("duplicate", message).help("load one of them"));
        }
        let loaded: &'static Loaded = Box::leak(Box::new(Loaded::open(&path)?));
        self.loaded.borrow_mut().push(loaded);
        Ok(loaded)
    }

    /// Whether the file may be loaded, as far as signatures go.
    ///
    /// # Errors
    /// If only signed files may be, and it is none.
    pub fn admit(&self, path: &Path) -> Result<()> {
        let admitted = self.keys.as_ref().map_or(Ok(()), |keys| keys.admit(path));
        admitted.map_err(|error| prefixed(error, path))
    }

    /// The file that `request` names; see [`Locator::find`].
    ///
    /// # Errors
    /// If there is none. The message names the plugins that there are.
    pub fn find_file(&self, request: &str) -> Result<PathBuf> {
        self.locator.find(request).map_err(refused).map_err(|mut error| {
            let known: Vec<String> = self
                .locator
                .libraries()
                .iter()
                .filter(|path| inspect(path).is_ok())
                .map(|path| plain_name(path))
                .collect();
            if !request.contains('/') && !known.is_empty() {
                error.message = format!("{} (there are: {})", error.message, known.join(", "));
            }
            prefixed(error, Path::new(request))
        })
    }

    /// The loaded plugins, in the order of loading.
    pub fn loaded(&self) -> Vec<&'static Loaded> {
        self.loaded.borrow().clone()
    }

    /// Where plugins are looked for.
    pub fn locator(&self) -> &Locator {
        &self.locator
    }

    /// Makes sure that a plugin with the method is loaded: if none is, the manifests of the libraries in the locator's
    /// folders are read.
    ///
    /// # Errors
    /// If no plugin offers it. The help names the nearest method.
    pub fn require(&self, kind: Kind, name: &str) -> Result<()> {
        let (plugin, method) = split(name);
        if self.find(kind, name).is_ok() || self.offering(kind, name).len() > 1 {
            return self.find(kind, name).map(|_| ());
        }
        let offered: Vec<(PathBuf, Manifest)> = self
            .locator
            .libraries()
            .into_iter()
            .filter_map(|path| Some((path.clone(), inspect(&path).ok()?.manifest)))
            .filter(|(_, manifest)| plugin.is_none_or(|plugin| plugin == manifest.id))
            .collect();
        let fitting = offered.iter().find(|(_, manifest)| {
            manifest.methods.iter().any(|entry| entry.kind == kind && entry.name == method)
        });
        if let Some((path, _)) = fitting {
            return self.load(&path.display().to_string()).map(|_| ());
        }
        let beside = offered.iter().flat_map(|(_, manifest)| &manifest.methods);
        let known: Vec<&MethodEntry> =
            self.loaded().into_iter().flat_map(|loaded| &loaded.manifest.methods).chain(beside).collect();
        Err(self.unknown(kind, name, &known))
    }

    fn unknown(&self, kind: Kind, name: &str, known: &[&MethodEntry]) -> Error {
        let error = Error::with_code("unknown-method", format!("no plugin offers the {kind} `{name}`"));
        let mut names: Vec<&str> =
            known.iter().filter(|method| method.kind == kind).map(|method| method.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let nearest = names
            .iter()
            .map(|other| (strsim::damerau_levenshtein(split(name).1, other), other))
            .filter(|(distance, other)| *distance <= 1 + other.len() / 3)
            .min();
        match (nearest, names.is_empty()) {
            (Some((_, nearest)), _) => error.help(format!("did you mean `{nearest}`?")),
            (None, false) => error.help(format!("there are: {}", names.join(", "))),
            (None, true) => {
                error.help("load a plugin that does, with `--plugin FILE` or the recipe's `plugins`")
            }
        }
    }

    fn offering(&self, kind: Kind, name: &str) -> Vec<&'static Loaded> {
        let (plugin, method) = split(name);
        self.loaded()
            .into_iter()
            .filter(|loaded| loaded.offers(kind, method) && plugin.is_none_or(|id| id == loaded.manifest.id))
            .collect()
    }

    /// The loaded plugin that offers a method; `name` is `curvature` or, to tell two plugins apart, `guard.curv/curvature`.
    ///
    /// # Errors
    /// If none does, or several do.
    pub fn find(&self, kind: Kind, name: &str) -> Result<&'static Loaded> {
        let offering = self.offering(kind, name);
        match offering.as_slice() {
            [one] => Ok(one),
            [] => {
                let known: Vec<&MethodEntry> =
                    self.loaded().into_iter().flat_map(|loaded| &loaded.manifest.methods).collect();
                Err(self.unknown(kind, name, &known))
            }
            [first, ..] => {
                let ids: Vec<_> = offering.iter().map(|loaded| format!("`{}`", loaded.manifest.id)).collect();
                Err(Error::with_code(
                    "ambiguous-method",
                    format!("the {kind} `{name}` is offered by {}", ids.join(" and ")),
                )
                .help(format!("write `{}/{name}`", first.manifest.id)))
            }
        }
    }

    /// The JSON Schema of a method's options.
    ///
    /// # Errors
    /// If no loaded plugin offers it.
    pub fn schema(&self, kind: Kind, name: &str) -> Result<serde_json::Value> {
        self.find(kind, name)?.schema(kind, split(name).1)
    }

    /// Makes a regularizer; `label` is its name in logs and random streams.
    ///
    /// # Errors
    /// If no loaded plugin offers it, or it refuses the options.
    pub fn regularizer(
        &self,
        context: &Context,
        name: &str,
        label: &str,
        options: &serde_json::Value,
    ) -> Result<Hosted<RegularizerInstance>> {
        self.make(Kind::Regularizer, context, (name, label), options, Library::regularizer)
    }

    /// Makes an attack; see [`Plugins::regularizer`].
    ///
    /// # Errors
    /// If no loaded plugin offers it, or it refuses the options.
    pub fn attack(
        &self,
        context: &Context,
        name: &str,
        label: &str,
        options: &serde_json::Value,
    ) -> Result<Hosted<AttackInstance>> {
        self.make(Kind::Attack, context, (name, label), options, Library::attack)
    }

    /// Makes an objective; see [`Plugins::regularizer`].
    ///
    /// # Errors
    /// If no loaded plugin offers it, or it refuses the options.
    pub fn objective(
        &self,
        context: &Context,
        name: &str,
        label: &str,
        options: &serde_json::Value,
    ) -> Result<Hosted<ObjectiveInstance>> {
        self.make(Kind::Objective, context, (name, label), options, Library::objective)
    }

    fn make<T>(
        &self,
        kind: Kind,
        context: &Context,
        (name, label): (&str, &str),
        options: &serde_json::Value,
        create: fn(&Library, &Services, &str, &serde_json::Value) -> Result<T>,
    ) -> Result<Hosted<T>> {
        let loaded = self.find(kind, name)?;
        let method = split(name).1;
        let who = format!("plugin `{}`, {kind} `{method}`", loaded.manifest.id);
        // A library with another interface is told by its file.
        let schema = loaded.schema(kind, method)?;
        if !loaded.library.checks_options() {
            fits(kind, name, &schema, options)?;
        }
        Hosted::create(who, label, context, |services| create(&loaded.library, services, method, options))
    }

    /// Holds the options of a method that a plugin asks for against the method's schema, after looking for a plugin that
    /// offers it.
    pub(super) fn check_options(&self, kind: Kind, name: &str, options: &serde_json::Value) -> Result<()> {
        self.require(kind, name)?;
        fits(kind, name, &self.schema(kind, name)?, options)
    }

    /// The passes that the regularizers of a training step share.
    pub fn sharing(&self) -> &Sharing {
        &self.sharing
    }

    /// The methods that plugins asked for.
    pub(super) fn kept(&self) -> &Rc<Kept> {
        &self.kept
    }
}

/// `libguard_curv.so` as `guard_curv`.
pub fn plain_name(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    stem.strip_prefix(std::env::consts::DLL_PREFIX).unwrap_or(&stem).to_string()
}

/// `guard.curv/curvature` as plugin and method.
fn split(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((plugin, method)) => (Some(plugin), method),
        None => (None, name),
    }
}
