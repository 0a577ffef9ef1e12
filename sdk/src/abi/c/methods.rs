//! A plugin's functions as the safe traits.

use super::{
    host::{budget_of, lend_batch, lend_host, lend_step},
    network::lend_network,
    options::GivenOptions,
    state::lend_writer,
    tables,
    text::{c_text, no_error, owned, told},
};
use crate::{
    AttackInfo, Batch, Budget, Error, Network, Result, Services, State, Step,
    abi::exports::{AnyAttack, AnyMethod, AnyRegularizer},
    manifest::Kind,
};
use serde_json::Value;
use std::{
    ffi::{CString, c_char, c_void},
    ptr,
};
use tch::Tensor;

/// A plugin's table of functions.
pub struct Plugin {
    table: &'static tables::Plugin,
    schema: extern "C" fn(i32, *const c_char) -> *const c_char,
    create: tables::Create,
    release: extern "C" fn(*mut c_void),
}

/// The header's number of a kind.
fn code(kind: Kind) -> Result<i32> {
    match kind {
        Kind::Regularizer => Ok(1),
        Kind::Attack => Ok(2),
        Kind::Objective => Err(no_objectives()),
    }
}

/// That the interface has none.
pub fn no_objectives() -> Error {
    Error::with_code(
        "interface",
        format!("offers an objective, which `{}` does not have", super::C_INTERFACE),
    )
}

/// What a function returned: 0, or the error that it told.
fn done(call: impl FnOnce(*mut tables::Error) -> i32) -> Result<()> {
    let mut error = no_error();
    match call(&mut *error) {
        0 => Ok(()),
        _ => Err(told(&error)),
    }
}

/// The tensor that a function returned.
fn tensor(call: impl FnOnce(*mut *mut tables::Tensor, *mut tables::Error) -> i32) -> Result<Tensor> {
    let mut found = ptr::null_mut();
    let outcome = done(|error| call(&mut found, error));
    // SAFETY: the plugin made it with `new at::Tensor` and hands it over.
    let found = (!found.is_null()).then(|| unsafe { Tensor::from_ptr(found) });
    // None is an undefined one.
    outcome.map(|()| found.unwrap_or_default())
}

impl Plugin {
    /// The plugin of a table.
    ///
    /// # Errors
    /// If it lacks one of the functions that each must have.
    pub(super) fn of(table: &'static tables::Plugin) -> Result<Self> {
        let (Some(schema), Some(create), Some(release)) = (table.schema, table.create, table.release) else {
            return Err(lacks("schema`, `create` or `release"));
        };
        Ok(Self { table, schema, create, release })
    }

    /// The JSON Schema of a method's options.
    ///
    /// # Errors
    /// If there is no such method.
    pub fn schema(&self, kind: Kind, name: &str) -> Result<Value> {
        let kind_code = code(kind)?;
        // SAFETY: the plugin's text lives as long as the library.
        let schema = unsafe { owned((self.schema)(kind_code, c_text(name).as_ptr())) };
        let schema = schema.ok_or_else(|| Error::new(format!("this plugin has no {kind} `{name}`")))?;
        serde_json::from_str(&schema)
            .map_err(|error| Error::with_code("interface", format!("the schema of `{name}`: {error}")))
    }

    fn create(&self, kind: Kind, services: &Services, name: &str, options: &Value) -> Result<Held> {
        let (create, kind_code) = (self.create, code(kind)?);
        let options = with_defaults(options, &self.schema(kind, name)?);
        let mut method = ptr::null_mut();
        GivenOptions::lend(options, |options| {
            lend_host(services, |host| {
                let name = c_text(name);
                done(|error| create(kind_code, name.as_ptr(), options, host, &mut method, error))
            })
        })?;
        Ok(Held { table: self.table, release: self.release, method })
    }

    /// Makes a regularizer.
    ///
    /// # Errors
    /// If there is none of that name, or it refuses the options.
    pub fn regularizer(&self, services: &Services, name: &str, options: &Value) -> Result<CRegularizer> {
        let Some(penalty) = self.table.penalty else { return Err(lacks("penalty")) };
        Ok(CRegularizer { held: self.create(Kind::Regularizer, services, name, options)?, penalty })
    }

    /// Makes an attack.
    ///
    /// # Errors
    /// If there is none of that name, it refuses the options, or what it says of itself cannot be read.
    pub fn attack(&self, services: &Services, name: &str, options: &Value) -> Result<CAttack> {
        let Some(perturb) = self.table.perturb else { return Err(lacks("perturb")) };
        let held = self.create(Kind::Attack, services, name, options)?;
        // SAFETY: the plugin's text lives as long as the method.
        let info = self.table.attack_info.and_then(|info| unsafe { owned(info(held.method)) });
        let info = match info {
            Some(info) => serde_json::from_str(&info)
                .map_err(|error| Error::with_code("interface", format!("`attack_info`: {error}")))?,
            None => AttackInfo::default(),
        };
        Ok(CAttack { held, perturb, info })
    }
}

fn lacks(function: &str) -> Error {
    Error::with_code("interface", format!("has no `{function}` in its table"))
}

/// The options with the schema's defaults where they say nothing.
fn with_defaults(options: &Value, schema: &Value) -> Value {
    let mut options = options.clone();
    let properties = schema["properties"].as_object().into_iter().flatten();
    for (name, about) in properties {
        if let (Some(table), Some(default)) = (options.as_object_mut(), about.get("default")) {
            table.entry(name).or_insert_with(|| default.clone());
        }
    }
    options
}

/// A method in the plugin's memory.
struct Held {
    table: &'static tables::Plugin,
    release: extern "C" fn(*mut c_void),
    method: *mut c_void,
}

// SAFETY: the header asks for methods that any thread may call, one at a time.
unsafe impl Send for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        (self.release)(self.method);
    }
}

impl Held {
    fn save(&self) -> Result<State> {
        let Some(save) = self.table.save else { return Ok(State::default()) };
        let (saved, state) = lend_writer(|writer| done(|error| save(self.method, writer, error)));
        saved.map(|()| state)
    }

    fn load(&mut self, state: &State) -> Result<()> {
        let Some(load) = self.table.load else {
            return match state.is_empty() {
                true => Ok(()),
                false => Err(Error::new("this method has no state to load")),
            };
        };
        let json = c_text(&state.json.to_string());
        let names: Vec<CString> = state.tensors.iter().map(|(name, _)| c_text(name)).collect();
        let names: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
        let tensors: Vec<_> = state.tensors.iter().map(|(_, tensor)| tensor.as_ptr()).collect();
        let lent = tables::State {
            version: state.version,
            count: tensors.len(),
            json: json.as_ptr(),
            names: names.as_ptr(),
            tensors: tensors.as_ptr().cast(),
        };
        done(|error| load(self.method, &lent, error))
    }
}

/// A regularizer in C.
pub struct CRegularizer {
    held: Held,
    penalty: tables::Penalty,
}

/// An attack in C.
pub struct CAttack {
    held: Held,
    perturb: tables::Perturb,
    info: AttackInfo,
}

impl AnyMethod for CRegularizer {
    fn save(&self) -> Result<State> {
        self.held.save()
    }

    fn load(&mut self, state: State) -> Result<()> {
        self.held.load(&state)
    }
}

impl AnyMethod for CAttack {
    fn save(&self) -> Result<State> {
        self.held.save()
    }

    fn load(&mut self, state: State) -> Result<()> {
        self.held.load(&state)
    }
}

impl AnyRegularizer for CRegularizer {
    fn penalty(&mut self, step: &Step, network: &Network, batch: &Batch) -> Result<Tensor> {
        let Self { held, penalty } = self;
        lend_step(step, |step| {
            lend_network(network, |network| {
                lend_batch(batch, |batch| {
                    tensor(|found, error| penalty(held.method, step, network, batch, found, error))
                })
            })
        })?
    }
}

impl AnyAttack for CAttack {
    fn info(&self) -> AttackInfo {
        self.info.clone()
    }

    fn perturb(&mut self, step: &Step, network: &Network, batch: &Batch, budget: &Budget) -> Result<Tensor> {
        let Self { held, perturb, .. } = self;
        let budget = budget_of(budget);
        lend_step(step, |step| {
            lend_network(network, |network| {
                lend_batch(batch, |batch| {
                    tensor(|found, error| perturb(held.method, step, network, batch, &budget, found, error))
                })
            })
        })?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_stand_where_options_say_nothing() {
        let schema =
            json!({ "properties": { "steps": { "default": 7 }, "norm": { "default": "l2" }, "x": {} } });
        let found = with_defaults(&json!({ "norm": "linf" }), &schema);
        assert_eq!(found, json!({ "steps": 7, "norm": "linf" }));
    }
}
