//! An evaluation as files: what became of every example as tensors, so that anyone can check a number again, and the rest as
//! JSON.

use super::{AttackResult, Classes, Correct, Evaluation, Flag, Member, UnderThreat, accuracy};
use crate::{
    engine::parts::{misfit, of_tensors},
    run::{read_json, unreadable, write_atomically, write_text},
};
use guard_sdk::{Budget, Error, Norm, Result, State, Tensor, attack::Knowledge};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

#[derive(Serialize, Deserialize)]
struct Record {
    clean_seconds: f64,
    threats: Vec<ThreatRecord>,
    curvature: Vec<f32>,
    flags: Vec<Flag>,
}

#[derive(Serialize, Deserialize)]
struct ThreatRecord {
    norm: Norm,
    epsilon: f64,
    attacks: Vec<AttackRecord>,
}

#[derive(Serialize, Deserialize)]
struct AttackRecord {
    name: String,
    minimum_norm: bool,
    knowledge: Knowledge,
    caveat: Option<String>,
    members: Vec<Member>,
    seconds: f64,
}

/// `labels` and `predicted` int64 `[N]`, `clean` uint8 `[N]` (1 where the network is right), and for each budget and attack
/// `NORM-EPSILON/ATTACK/predicted` int64 `[N]`, `.../correct` uint8 `[N]` and `.../size` float32 `[N]`, the size of the
/// perturbation in that norm (0 where it was not attacked).
pub fn arrays(evaluation: &Evaluation) -> Vec<(String, Tensor)> {
    let flags = |correct: &[bool]| {
        Tensor::from_slice(&correct.iter().map(|&correct| u8::from(correct)).collect::<Vec<_>>())
    };
    let mut arrays = vec![
        ("labels".to_string(), Tensor::from_slice(&evaluation.labels)),
        ("predicted".to_string(), Tensor::from_slice(&evaluation.predicted)),
        ("clean".to_string(), flags(&evaluation.clean)),
    ];
    for threat in &evaluation.threats {
        for attack in &threat.attacks {
            let name = array(&threat.budget, &attack.name);
            arrays.push((format!("{name}/predicted"), Tensor::from_slice(&attack.predicted)));
            arrays.push((format!("{name}/correct"), flags(&attack.correct)));
            arrays.push((format!("{name}/size"), Tensor::from_slice(&attack.sizes)));
        }
    }
    arrays
}

impl Evaluation {
    /// Accuracies by name: `accuracy/clean`, and within each budget `accuracy/NORM-EPSILON/ATTACK` and the worst case.
    pub fn accuracies(&self) -> Map<String, Value> {
        let mut found = Map::new();
        found.insert("accuracy/clean".into(), json!(accuracy(&self.clean)));
        for threat in &self.threats {
            let mut put = |name: &str, correct: &[bool]| {
                found.insert(format!("accuracy/{}", array(&threat.budget, name)), json!(accuracy(correct)));
            };
            threat.attacks.iter().for_each(|attack| put(&attack.name, &attack.correct));
            if !threat.attacks.is_empty() {
                put("worst-case", &self.worst_case(threat));
            }
        }
        found
    }
}

/// What the arrays of an attack are called.
fn array(budget: &Budget, attack: &str) -> String {
    format!("{}-{}/{attack}", budget.norm.name(), budget.epsilon)
}

impl Evaluation {
    /// How far each attack moved the images that it was tried on, those that are right without it: `NORM-EPSILON/ATTACK/size`.
    pub fn perturbations(&self) -> Vec<(String, Vec<f32>)> {
        let of_attack = |budget: &Budget, attack: &AttackResult| {
            let attacked = attack.sizes.iter().zip(&self.clean).filter(|(_, clean)| **clean);
            (format!("{}/size", array(budget, &attack.name)), attacked.map(|(size, _)| *size).collect())
        };
        let threats = self.threats.iter();
        let attacks = threats.flat_map(|threat| threat.attacks.iter().map(|each| (&threat.budget, each)));
        attacks.map(|(budget, attack)| of_attack(budget, attack)).collect()
    }

    /// Writes `NAME.safetensors` and `NAME.json` into `folder` and tells their paths relative to it.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn write(&self, folder: &Path, name: &str) -> Result<[PathBuf; 2]> {
        let [tensors, record] = files(name);
        write_atomically(&folder.join(&tensors), |aside| {
            Ok(Tensor::write_safetensors(&arrays(self), aside)?)
        })?;
        write_text(&folder.join(&record), &(serde_json::to_string_pretty(&self.record())? + "\n"))?;
        Ok([tensors, record])
    }

    /// Reads what [`write`](Self::write) wrote; nothing if it wrote nothing.
    ///
    /// # Errors
    /// If a file cannot be read or is not whole.
    pub fn read_if_any(folder: &Path, name: &str) -> Result<Option<Self>> {
        let [_, record] = files(name);
        folder.join(record).is_file().then(|| Self::read(folder, name)).transpose()
    }

    /// Reads what [`write`](Self::write) wrote.
    ///
    /// # Errors
    /// If a file cannot be read or is not whole.
    pub fn read(folder: &Path, name: &str) -> Result<Self> {
        let [tensors, record] = files(name).map(|file| folder.join(file));
        let found = read_json(&record)?;
        let arrays = Tensor::read_safetensors(&tensors).map_err(|error| unreadable(&tensors, error))?;
        Self::of(found, arrays).map_err(|error| unreadable(&tensors, error))
    }

    /// The same as the state of an evaluation that is not yet done.
    pub(super) fn save(&self) -> Result<State> {
        Ok(State { json: serde_json::to_value(self.record())?, ..of_tensors(arrays(self)) })
    }

    /// What [`save`](Self::save) saved.
    pub(super) fn of_state(State { json, tensors, .. }: State) -> Result<Self> {
        Self::of(serde_json::from_value(json).map_err(misfit)?, tensors).map_err(misfit)
    }

    fn record(&self) -> Record {
        let attack = |attack: &AttackResult| AttackRecord {
            name: attack.name.clone(),
            minimum_norm: attack.minimum_norm,
            knowledge: attack.knowledge,
            caveat: attack.caveat.clone(),
            members: attack.members.clone(),
            seconds: attack.seconds,
        };
        let threat = |threat: &UnderThreat| ThreatRecord {
            norm: threat.budget.norm,
            epsilon: threat.budget.epsilon,
            attacks: threat.attacks.iter().map(attack).collect(),
        };
        let threats = self.threats.iter().map(threat).collect();
        Record {
            clean_seconds: self.clean_seconds,
            threats,
            curvature: self.curvature.clone(),
            flags: self.flags.clone(),
        }
    }

    fn of(record: Record, arrays: Vec<(String, Tensor)>) -> Result<Self> {
        let arrays = Arrays(arrays.into_iter().collect());
        let threat = |ThreatRecord { norm, epsilon, attacks }: ThreatRecord| {
            let budget = Budget { norm, epsilon };
            let attack = |attack: AttackRecord| {
                let name = array(&budget, &attack.name);
                Ok(AttackResult {
                    predicted: arrays.classes(&format!("{name}/predicted"))?,
                    correct: arrays.flags(&format!("{name}/correct"))?,
                    sizes: Vec::<f32>::try_from(arrays.get(&format!("{name}/size"))?)?,
                    name: attack.name,
                    minimum_norm: attack.minimum_norm,
                    knowledge: attack.knowledge,
                    caveat: attack.caveat,
                    members: attack.members,
                    seconds: attack.seconds,
                })
            };
            Ok(UnderThreat { budget, attacks: attacks.into_iter().map(attack).collect::<Result<_>>()? })
        };
        Ok(Self {
            labels: arrays.classes("labels")?,
            predicted: arrays.classes("predicted")?,
            clean: arrays.flags("clean")?,
            clean_seconds: record.clean_seconds,
            threats: record.threats.into_iter().map(threat).collect::<Result<_>>()?,
            curvature: record.curvature,
            flags: record.flags,
        })
    }
}

fn files(name: &str) -> [PathBuf; 2] {
    ["safetensors", "json"].map(|extension| format!("{name}.{extension}").into())
}

struct Arrays(HashMap<String, Tensor>);

impl Arrays {
    fn get(&self, name: &str) -> Result<&Tensor> {
        self.0.get(name).ok_or_else(|| Error::new(format!("it has no `{name}`")))
    }

    fn classes(&self, name: &str) -> Result<Classes> {
        Ok(Classes::try_from(self.get(name)?)?)
    }

    fn flags(&self, name: &str) -> Result<Correct> {
        Ok(Vec::<u8>::try_from(self.get(name)?)?.into_iter().map(|flag| flag == 1).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mangle::{Dice, mangle};

    #[test]
    fn an_evaluation_is_read_as_it_was_written_and_mangled_files_are_named() {
        let attack = AttackResult {
            name: "fab".into(),
            correct: vec![true, false, false],
            predicted: vec![4, 0, 1],
            sizes: vec![0.25, 0.1, 0.0],
            minimum_norm: true,
            knowledge: Knowledge::BlackBox,
            caveat: Some("is weak".into()),
            members: vec![Member { name: "first".into(), correct: 2 }],
            seconds: 0.1 + 0.2,
        };
        let budget = Budget { norm: Norm::L2, epsilon: 8.0 / 255.0 };
        let evaluation = Evaluation {
            labels: vec![4, 3, 2],
            predicted: vec![4, 3, 1],
            clean: vec![true, true, false],
            clean_seconds: 1.0 / 3.0,
            threats: vec![UnderThreat { budget, attacks: vec![attack] }],
            curvature: vec![0.1, 2.5],
            flags: vec![Flag { code: "zero-gradients".into(), message: "some".into() }],
        };
        let folder = tempfile::tempdir().unwrap();
        evaluation.write(folder.path(), "teacher").unwrap();
        assert_eq!(Evaluation::read(folder.path(), "teacher").unwrap(), evaluation);
        let name = format!("l2-{}/fab/size", 8.0 / 255.0);
        assert_eq!(evaluation.perturbations(), [(name, vec![0.25, 0.1])]);

        let paths = files("teacher").map(|file| folder.path().join(file));
        let whole = paths.clone().map(|path| std::fs::read(path).unwrap());
        let (mut dice, mut refused) = (Dice(1), 0);
        for _ in 0..400 {
            paths.iter().zip(&whole).for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
            let which = dice.below(2);
            std::fs::write(&paths[which], mangle(&mut dice, &whole[which])).unwrap();
            if let Err(error) = Evaluation::read(folder.path(), "teacher") {
                refused += 1;
                assert!(error.message.contains("teacher."), "{error}");
            }
        }
        assert!(refused > 200, "{refused}");
    }
}
