//! The state of a stage between two iterations, put together of those of its parts and taken apart again.

use crate::{
    plugin::{Context, Hosted},
    run::CHECKPOINT,
};
use guard_sdk::{Error, Result, State, Tensor, abi::calls::Stateful, autograd::no_grad};
use serde_json::{Map, Value, json};
use std::fmt::Display;

/// States by name.
#[derive(Default)]
pub(super) struct Parts(Vec<(String, State)>);

impl Parts {
    /// With one more; its name has no `/`.
    pub fn with(mut self, name: impl Display, state: State) -> Self {
        self.0.push((name.to_string(), state));
        self
    }

    /// Takes one out.
    ///
    /// # Errors
    /// If it is not there.
    pub fn take(&mut self, name: impl Display) -> Result<State> {
        let name = name.to_string();
        self.take_if_any(&name).ok_or_else(|| misfit(format!("it has no `{name}`")))
    }

    /// Takes one out, if it is there.
    pub fn take_if_any(&mut self, name: &str) -> Option<State> {
        let index = self.0.iter().position(|(part, _)| part == name)?;
        Some(self.0.swap_remove(index).1)
    }
}

impl From<Parts> for State {
    fn from(Parts(parts): Parts) -> Self {
        let (mut json, mut all) = (Map::new(), Vec::new());
        for (part, State { version, json: inner, tensors }) in parts {
            all.extend(tensors.into_iter().map(|(name, tensor)| (format!("{part}/{name}"), tensor)));
            json.insert(part, json!({ "version": version, "json": inner }));
        }
        Self { version: 0, json: Value::Object(json), tensors: all }
    }
}

impl TryFrom<State> for Parts {
    type Error = Error;

    fn try_from(State { json, tensors, .. }: State) -> Result<Self> {
        let Value::Object(parts) = json else { return Err(misfit("it has no parts")) };
        let part = |(name, mut part): (String, Value)| {
            let version = part["version"].as_u64().and_then(|version| u32::try_from(version).ok());
            let version = version.ok_or_else(|| misfit(format!("`{name}` has no version")))?;
            Ok((name, State { version, json: part["json"].take(), tensors: Vec::new() }))
        };
        let mut parts = parts.into_iter().map(part).collect::<Result<Vec<_>>>()?;
        for (name, tensor) in tensors {
            let found = name.split_once('/').and_then(|(part, inner)| {
                Some((parts.iter_mut().find(|(known, _)| known == part)?, inner.to_string()))
            });
            let Some(((_, state), inner)) = found else {
                return Err(misfit(format!("tensor `{name}` belongs to no part")));
            };
            state.tensors.push((inner, tensor));
        }
        Ok(Self(parts))
    }
}

/// What a plugin's method remembers, and the methods that it asked for.
///
/// # Errors
/// Those of the methods.
pub(super) fn save_method<T: Stateful>(method: &mut Hosted<T>, context: &Context) -> Result<State> {
    let states = method.save_all(context)?;
    let parts = states.into_iter().enumerate();
    Ok(parts.fold(Parts::default(), |parts, (number, state)| parts.with(number, state)).into())
}

/// Puts it back.
///
/// # Errors
/// Those of the methods, or if the state is that of others.
pub(super) fn load_method<T: Stateful>(
    method: &mut Hosted<T>,
    context: &Context,
    state: State,
) -> Result<()> {
    let mut states = Parts::try_from(state)?.0.into_iter().map(|(_, state)| state);
    method.load_all(context, &mut states).map_err(misfit)?;
    match states.next() {
        None => Ok(()),
        Some(_) => Err(misfit(format!("{} asked for more methods", method.who()))),
    }
}

/// Tensors and nothing else.
pub(super) fn of_tensors(tensors: Vec<(String, Tensor)>) -> State {
    State { tensors, ..State::default() }
}

/// Puts saved tensors into those of the same names, in place; both are the same as to shape and kind.
///
/// # Errors
/// If one is missing or another.
pub(super) fn restore(tensors: &[(String, Tensor)], state: &State) -> Result<()> {
    no_grad(|| {
        for (name, tensor) in tensors {
            let saved = state.tensors.iter().find(|(saved, _)| saved == name);
            let Some((_, saved)) = saved else { return Err(misfit(format!("it has no tensor `{name}`"))) };
            if (saved.size(), saved.kind()) != (tensor.size(), tensor.kind()) {
                return Err(misfit(format!("tensor `{name}` is of another shape or kind")));
            }
            tensor.detach().f_copy_(saved)?;
        }
        Ok(())
    })
}

/// A number of a state.
///
/// # Errors
/// If it is not there.
pub(super) fn number<T: TryFrom<u64>>(state: &State, name: &str) -> Result<T> {
    let number = state.json[name].as_u64().and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| misfit(format!("it has no number `{name}`")))
}

/// The error of a checkpoint that is not one of the stage.
pub(super) fn misfit(why: impl Display) -> Error {
    Error::with_code(CHECKPOINT, format!("the checkpoint does not fit: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_within_parts_come_out_as_they_went_in() {
        let tensor = |value: f64| Tensor::from(value);
        let inner = State { version: 3, json: json!([1]), tensors: vec![("x".into(), tensor(1.0))] };
        let middle: State = Parts::default().with("inner", inner).with(1, State::default()).into();
        let outer: State = Parts::default()
            .with("middle", middle)
            .with("x", of_tensors(vec![("y".into(), tensor(2.0))]))
            .into();
        let mut outer = Parts::try_from(outer).unwrap();
        assert_eq!(outer.take("x").unwrap().tensors[0].1.double_value(&[]), 2.0);
        let mut middle = Parts::try_from(outer.take("middle").unwrap()).unwrap();
        let inner = middle.take("inner").unwrap();
        assert_eq!((inner.version, &inner.json, inner.tensors.len()), (3, &json!([1]), 1));
        assert!(middle.take(1).unwrap().is_empty());
        assert_eq!(middle.take(1).unwrap_err().code, CHECKPOINT);
    }

    #[test]
    fn tensors_of_another_shape_are_refused_and_the_rest_is_put_in_place() {
        let (saved, other) = (
            Tensor::from_slice(&[1.0f32, 2.0]),
            Tensor::zeros([2, 2], (guard_sdk::Kind::Float, guard_sdk::Device::Cpu)),
        );
        let into = Tensor::from_slice(&[0.0f32, 0.0]).set_requires_grad(true);
        restore(
            &[("a".into(), into.shallow_clone())],
            &of_tensors(vec![("a".into(), saved.shallow_clone())]),
        )
        .unwrap();
        assert_eq!(into.detach(), saved);
        let error = restore(&[("a".into(), into)], &of_tensors(vec![("a".into(), other)])).unwrap_err();
        assert!(error.message.contains("`a` is of another shape"), "{error}");
    }
}
