//! How much of a recipe a run does: all of it, or what can be done apart, by other processes or on other machines.
//!
//! The unit of what is done apart is a group of images that are optimised together. Objectives whose images are all optimised
//! together have only one.

use serde::{Deserialize, Serialize};
use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

/// How much of a recipe a run does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// All of it.
    #[default]
    Whole,
    /// The networks trained on real data, for others to use.
    Teachers,
    /// These, and a part of the synthetic images.
    Part(Shard),
    /// All of it, the synthetic images from so many parts that others have made.
    Joined(u64),
}

/// Each `count`-th group, from `index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// From 0.
    pub index: u64,
    /// Into how many parts the groups are divided.
    pub count: u64,
}

impl Shard {
    /// All groups.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// Whether the group of images `number` is part of it.
    pub fn has(self, number: usize) -> bool {
        number as u64 % self.count == self.index
    }

    /// Its files' paths in a variant's folder.
    pub fn files(self) -> [PathBuf; 2] {
        let name = format!("part-{}-of-{}", self.index + 1, self.count);
        ["safetensors", "json"].map(|extension| Path::new("distilled").join(format!("{name}.{extension}")))
    }

    /// The part that Slurm's variables of an array job name.
    fn of_slurm() -> Result<Self, String> {
        let number = |name: &str| {
            let value =
                std::env::var(name).map_err(|_| format!("{name} is not set: this is no array job"))?;
            value.parse::<u64>().map_err(|_| format!("{name} is `{value}`, which is no number"))
        };
        let (task, first) = (number("SLURM_ARRAY_TASK_ID")?, number("SLURM_ARRAY_TASK_MIN")?);
        let count = number("SLURM_ARRAY_TASK_COUNT")?;
        match task.checked_sub(first).filter(|index| *index < count) {
            Some(index) => Ok(Self { index, count }),
            None => Err("the numbers of the array's tasks have gaps: number them `0-N`".into()),
        }
    }
}

impl FromStr for Shard {
    type Err = String;

    /// `2/4`, counted from 1; `slurm` for the part of an array job.
    fn from_str(written: &str) -> Result<Self, String> {
        if written == "slurm" {
            return Self::of_slurm();
        }
        let parts =
            written.split_once('/').and_then(|(part, count)| Some((part.parse().ok()?, count.parse().ok()?)));
        match parts {
            Some((part, count)) if (1..=count).contains(&part) => Ok(Self { index: part - 1, count }),
            _ => Err("a part and their number are needed, such as `2/4`, or `slurm`".into()),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index + 1, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_written_as_people_count() {
        assert_eq!("2/4".parse(), Ok(Shard { index: 1, count: 4 }));
        assert_eq!(Shard { index: 1, count: 4 }.to_string(), "2/4");
        for wrong in ["0/4", "5/4", "4", "a/b", "-1/2", ""] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
        let groups = |shard: &str| {
            (0..5).filter(|number| shard.parse::<Shard>().unwrap().has(*number)).collect::<Vec<_>>()
        };
        assert_eq!((groups("1/2"), groups("2/2")), (vec![0, 2, 4], vec![1, 3]));
    }
}
