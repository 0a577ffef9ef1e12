//! Tensors of a file against the tensors of a program: all that differs is listed, nothing is passed over.

use super::{Contents, failure};
use crate::network::program::Program;
use guard_sdk::{Device, Error, Kind, Result, Tensor};
use std::collections::BTreeMap;

/// What wrappers put before every name: `DataParallel`, `torch.compile`, a training class that holds the network.
const PREFIXES: [&str; 3] = ["module.", "_orig_mod.", "model."];

/// The counter of `torch.optim.swa_utils.AveragedModel`, which is no tensor of the network.
const AVERAGED: &str = "n_averaged";

/// BatchNorm's counter of batches, which PyTorch before 0.4.1 did not have.
const COUNTER: &str = "num_batches_tracked";

/// A program's tensors, in its order.
pub(super) struct Fitted {
    pub parameters: Vec<Tensor>,
    pub buffers: Vec<Tensor>,
}

/// Takes the program's tensors from a file's. They are converted to the program's kinds (parameters to float32) and are
/// copies of their own; parameters require gradients.
///
/// # Errors
/// If tensors are missing, superfluous, of another shape or no floating-point numbers: one error with all of them.
pub(super) fn fit(program: &Program, contents: Contents, device: Device) -> Result<Fitted> {
    let mut found = Found::new(program, contents);
    let fresh = program.initial_buffers(device);
    let mut parameters = Vec::new();
    let mut buffers = Vec::new();
    for parameter in &program.parameters {
        parameters.extend(found.take(&parameter.name, &parameter.shape, Kind::Float, None, device)?);
    }
    for (buffer, fresh) in program.buffers.iter().zip(&fresh) {
        let without = buffer.name.ends_with(COUNTER).then_some(fresh);
        buffers.extend(found.take(&buffer.name, &buffer.shape, fresh.kind(), without, device)?);
    }
    found.finish(program)?;
    let parameters = parameters.into_iter().map(|tensor| tensor.set_requires_grad(true)).collect();
    Ok(Fitted { parameters, buffers })
}

/// The tensors that are left, and what was wrong so far.
struct Found {
    tensors: BTreeMap<String, Tensor>,
    missing: Vec<String>,
    unexpected: Vec<String>,
    misshapen: Vec<Misshapen>,
    unusable: Vec<String>,
}

struct Misshapen {
    name: String,
    expected: Vec<i64>,
    found: Vec<i64>,
}

impl Found {
    fn new(program: &Program, contents: Contents) -> Self {
        let others = contents.others.iter().map(|(name, what)| format!("`{name}` ({what})"));
        let mut unexpected: Vec<String> = others.collect();
        let mut tensors = BTreeMap::new();
        for (full, tensor) in contents.tensors {
            let name = stripped(program, &full);
            if name == AVERAGED {
                continue;
            }
            let twice = format!("`{full}` (`{name}` a second time)");
            if tensors.insert(name.to_string(), tensor).is_some() {
                unexpected.push(twice);
            }
        }
        Self { tensors, missing: Vec::new(), unexpected, misshapen: Vec::new(), unusable: Vec::new() }
    }

    /// The tensor of a name as one of the program's, or a note of what is wrong.
    fn take(
        &mut self,
        name: &str,
        shape: &[i64],
        kind: Kind,
        without: Option<&Tensor>,
        device: Device,
    ) -> Result<Option<Tensor>> {
        let Some(tensor) = self.tensors.remove(name) else {
            if without.is_none() {
                self.missing.push(name.to_string());
            }
            return Ok(without.map(Tensor::shallow_clone));
        };
        if tensor.size() != shape {
            let (name, expected, found) = (name.to_string(), shape.to_vec(), tensor.size());
            self.misshapen.push(Misshapen { name, expected, found });
        } else if kind != Kind::Int64 && !tensor.is_floating_point() {
            self.unusable.push(format!("`{name}` ({:?})", tensor.kind()));
        } else {
            let mut own = Tensor::f_empty(shape, (kind, device))?;
            own.f_copy_(&tensor)?;
            return Ok(Some(own));
        }
        Ok(None)
    }

    fn finish(mut self, program: &Program) -> Result<()> {
        let left = self.tensors.iter().map(|(name, tensor)| format!("`{name}` {:?}", tensor.size()));
        self.unexpected.extend(left);
        self.missing.sort_unstable();
        self.unexpected.sort_unstable();
        self.misshapen.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        self.unusable.sort_unstable();
        let missing: Vec<_> = self.missing.iter().map(|name| format!("`{name}`")).collect();
        let misshapen: Vec<_> = self
            .misshapen
            .iter()
            .map(|Misshapen { name, expected, found }| {
                format!("`{name}` must be {expected:?}, found {found:?}")
            })
            .collect();
        let lists = [
            ("missing", &missing),
            ("unexpected", &self.unexpected),
            ("of another shape", &misshapen),
            ("not floating-point", &self.unusable),
        ];
        let lists = lists.iter().filter(|(_, names)| !names.is_empty());
        let counts: Vec<_> = lists.clone().map(|(what, names)| format!("{} {what}", names.len())).collect();
        if counts.is_empty() {
            return Ok(());
        }
        let error = failure(format!("the tensors do not fit the network: {}", counts.join(", ")));
        let error = lists
            .fold(error, |error: Error, (what, names)| error.cause(format!("{what}: {}", names.join(", "))));
        Err(error.help(self.advice(program)))
    }

    /// The likely cause.
    fn advice(&self, program: &Program) -> String {
        let Self { missing, unexpected, misshapen, .. } = self;
        let statistics = |name: &&String| name.contains("running_");
        let another = "the file is of another architecture or size: check `[network]`".to_string();
        match misshapen.as_slice() {
            _ if !missing.is_empty() && missing.iter().all(|name| statistics(&name)) => {
                "the file is of a network with another normalisation than BatchNorm".to_string()
            }
            _ if !missing.is_empty() || !unexpected.is_empty() => another,
            [first, rest @ ..] => match classes(program, first, rest) {
                Some((expected, found)) => {
                    format!("the file is of a network for {found} classes, here there are {expected}")
                }
                None => match (rest.is_empty(), &first.expected[..], &first.found[..]) {
                    (true, [to, from, expected @ ..], [same, others, found @ ..])
                        if expected.len() == 2 && to == same && from == others =>
                    {
                        format!(
                            "the file has another stem, whose windows are {found:?} instead of {expected:?}"
                        )
                    }
                    (true, [to, from, expected @ ..], [same, others, found @ ..])
                        if expected.len() == 2 && to == same && expected == found =>
                    {
                        format!("the file is of a network for {others} channels, here there are {from}")
                    }
                    _ => another,
                },
            },
            [] => "convert them to float32 first".to_string(),
        }
    }
}

/// The classes of the program and of the file, where only the rows of the last layer differ.
fn classes(program: &Program, first: &Misshapen, rest: &[Misshapen]) -> Option<(i64, i64)> {
    let last: Vec<_> = program.parameters.iter().rev().take(2).map(|parameter| &parameter.name).collect();
    let (expected, found) = (*first.expected.first()?, *first.found.first()?);
    let only_rows = |each: &Misshapen| {
        last.contains(&&each.name)
            && each.expected.first() == Some(&expected)
            && each.found.first() == Some(&found)
            && each.expected.get(1..) == each.found.get(1..)
    };
    (only_rows(first) && rest.iter().all(only_rows)).then_some((expected, found))
}

/// A name without what wrappers put before it, unless the program's own names begin so.
fn stripped<'a>(program: &Program, full: &'a str) -> &'a str {
    let own = |prefix: &str| {
        let names = program.parameters.iter().map(|p| &p.name).chain(program.buffers.iter().map(|b| &b.name));
        names.into_iter().any(|name| name.starts_with(prefix))
    };
    let mut name = full;
    while let Some(rest) =
        PREFIXES.iter().filter(|prefix| !own(prefix)).find_map(|prefix| name.strip_prefix(prefix))
    {
        name = rest;
    }
    name
}
