//! Where the state dict is in what was saved: the object itself, or under one of the usual keys.

use super::{failure, pickle::Value, record::TensorRecord};
use guard_sdk::{Error, Result};

/// The usual keys of checkpoints; the first that holds a dictionary counts, so that averaged weights come last.
const KEYS: [&str; 15] = [
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net_state_dict",
    "net",
    "network",
    "weights",
    "params",
    "module",
    "ema_state_dict",
    "state_dict_ema",
    "model_ema",
    "ema",
    "teacher",
];

/// How deep one key lies in another.
const DEEPEST: usize = 4;

/// The most keys that an error names.
const MOST_NAMED: usize = 12;

/// Names and values of the state dict.
///
/// # Errors
/// If there is none. The message says what there is, the help how to save one.
pub(super) fn find(root: Value<'_>) -> Result<Vec<(Value<'_>, Value<'_>)>> {
    let mut found = root;
    for _ in 0..DEEPEST {
        let inner = KEYS.iter().find_map(|key| found.get(key).filter(|value| value.entries().is_some()));
        match inner {
            Some(inner) => found = inner,
            None => break,
        }
    }
    let entries = found.entries().unwrap_or_default();
    let tensor = |value: &Value<'_>| !matches!(TensorRecord::read(*value), Ok(None));
    match entries.iter().any(|(_, value)| tensor(value)) {
        true => Ok(entries),
        false => Err(none(found)),
    }
}

fn none(found: Value<'_>) -> Error {
    let module = std::iter::once(found)
        .chain(KEYS.iter().filter_map(|key| found.get(key)))
        .find(|value| is_module(*value));
    if let Some(module) = module {
        let message =
            format!("the file holds a whole module, {}, which only its code can read", module.describe());
        return failure(message)
            .help("in Python, where that code is: `torch.save(model.state_dict(), \"weights.pth\")`");
    }
    let what = match found.entries() {
        Some(entries) => {
            let names: Vec<_> = entries.iter().filter_map(|(key, _)| key.text()).collect();
            let named = names.iter().take(MOST_NAMED).map(|name| format!("`{name}`")).collect::<Vec<_>>();
            let more = if names.len() > MOST_NAMED { ", ..." } else { "" };
            format!("a dictionary with the keys {}{more}", named.join(", "))
        }
        None => found.describe(),
    };
    failure(format!("the file holds no state dict, but {what}"))
        .help("in Python: `torch.save(model.state_dict(), \"weights.pth\")`")
}

/// An `nn.Module` has its parameters in an attribute.
fn is_module(value: Value<'_>) -> bool {
    let state = value.call().and_then(|call| call.state);
    state.is_some_and(|state| state.get("_parameters").is_some() && state.get("_modules").is_some())
}
