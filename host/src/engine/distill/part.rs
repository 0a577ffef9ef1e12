//! Parts of a distillation as files, and how they are joined to the bits of the whole.

use super::{SyntheticSet, state::Done};
use crate::run::{Shard, read_json, unreadable, write_atomically, write_text};
use guard_sdk::{Device, Error, Result, Tensor};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

/// The groups of a part, by number.
pub struct Part(pub(super) Vec<(usize, Done)>);

/// What is not a tensor.
#[derive(Serialize, Deserialize)]
struct Group {
    number: usize,
    ids: Vec<u64>,
    loss: f64,
    learned: Vec<(String, f64)>,
}

impl Part {
    /// The number of its images.
    pub fn images(&self) -> usize {
        self.0.iter().map(|(_, (ids, _))| ids.len()).sum()
    }

    /// Writes the files of `shard` below `folder`, and tells their paths relative to it.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn write(&self, folder: &Path, shard: Shard) -> Result<Vec<PathBuf>> {
        let [tensors, record] = shard.files();
        let (mut named, mut groups) = (Vec::new(), Vec::new());
        for (number, (ids, set)) in &self.0 {
            let mut put = |name: &str, tensor: &Tensor| {
                named.push((format!("{number}/{name}"), tensor.to_device(Device::Cpu).contiguous()));
            };
            put("images", &set.images);
            put("labels", &set.labels);
            if let Some(soft) = &set.soft_labels {
                put("soft-labels", soft);
            }
            groups.push(Group {
                number: *number,
                ids: ids.clone(),
                loss: set.loss,
                learned: set.learned.clone(),
            });
        }
        write_atomically(&folder.join(&tensors), |aside| Ok(Tensor::write_safetensors(&named, aside)?))?;
        write_text(&folder.join(&record), &(serde_json::to_string_pretty(&groups)? + "\n"))?;
        Ok(vec![tensors, record])
    }

    /// Reads what [`write`](Self::write) wrote.
    ///
    /// # Errors
    /// If a file cannot be read or is not whole.
    pub fn read(folder: &Path, shard: Shard, device: Device) -> Result<Self> {
        let [tensors, record] = shard.files().map(|file| folder.join(file));
        let groups: Vec<Group> = read_json(&record)?;
        let found = Tensor::read_safetensors(&tensors).map_err(|error| unreadable(&tensors, error))?;
        let found: HashMap<String, Tensor> = found.into_iter().collect();
        let done = groups.into_iter().map(|Group { number, ids, loss, learned }| {
            let find =
                |name: &str| found.get(&format!("{number}/{name}")).map(|tensor| tensor.to_device(device));
            let needed = |name: &str| {
                find(name).ok_or_else(|| unreadable(&tensors, format!("it has no `{number}/{name}`")))
            };
            let (images, labels) = (needed("images")?, needed("labels")?);
            Ok((
                number,
                (ids, SyntheticSet { images, labels, soft_labels: find("soft-labels"), loss, learned }),
            ))
        });
        Ok(Self(done.collect::<Result<_>>()?))
    }

    /// All groups of all parts.
    ///
    /// # Errors
    /// If a group is missing.
    pub fn join(parts: Vec<Self>) -> Result<SyntheticSet> {
        let mut groups: Vec<(usize, Done)> = parts.into_iter().flat_map(|part| part.0).collect();
        groups.sort_by_key(|(number, _)| *number);
        if groups.iter().enumerate().any(|(place, (number, _))| place != *number) || groups.is_empty() {
            return Err(Error::new("the parts do not make a whole"));
        }
        Ok(super::in_order_of_ids(groups.into_iter().map(|(_, done)| done).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guard_sdk::Kind;

    #[test]
    fn parts_that_are_written_read_and_joined_are_the_whole() {
        let group = |number: usize| {
            let id = [4u64, 0, 2][number];
            let set = SyntheticSet {
                images: Tensor::full([1, 1, 2, 2], 0.1 * id as f64, (Kind::Float, Device::Cpu)),
                labels: Tensor::from_slice(&[id as i64]),
                soft_labels: Some(Tensor::full([1, 3], id as f64, (Kind::Float, Device::Cpu))),
                loss: 0.1 * number as f64,
                learned: vec![("rate".into(), 0.1 + number as f64)],
            };
            (number, (vec![id], set))
        };
        let folder = tempfile::tempdir().unwrap();
        let shards = ["1/2", "2/2"].map(|shard| shard.parse::<Shard>().unwrap());
        let written = [Part(vec![group(0), group(2)]), Part(vec![group(1)])];
        for (shard, part) in shards.iter().zip(&written) {
            part.write(folder.path(), *shard).unwrap();
        }
        let read = |shard: Shard| Part::read(folder.path(), shard, Device::Cpu);
        let whole = Part::join(shards.into_iter().rev().map(|shard| read(shard).unwrap()).collect()).unwrap();
        assert_eq!(Vec::<i64>::try_from(&whole.labels).unwrap(), [0, 2, 4]);
        assert_eq!(whole.learned, [("rate".to_string(), 2.1)]);
        assert!(Part::join(vec![read(shards[0]).unwrap()]).is_err());
        assert!(read("1/3".parse().unwrap()).is_err());
    }
}
