//! `guard-host attack`: what `evaluate` measures, and the adversarial images themselves.

use super::{Session, evaluate::EvaluateArguments};
use crate::{
    cli::Failure,
    data::Loaded,
    engine::Keep,
    run::{attacked_sheet, write_atomically, write_png},
};
use clap::Args;
use guard_sdk::{Budget, Result, Tensor};
use std::{
    cell::RefCell,
    path::{Path, PathBuf},
};

/// What `attack` takes: what `evaluate` does, and where the images go.
#[derive(Debug, Args)]
pub(super) struct AttackArguments {
    #[command(flatten)]
    evaluate: EvaluateArguments,
    /// Write the adversarial images there: one safetensors file and one picture for each attack and radius.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// How many images the picture shows: clean, adversarial, and the difference, enlarged to the whole range.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    pictures: u32,
}

pub(super) fn attack(session: Session, arguments: &AttackArguments) -> Result<(), Failure> {
    if arguments.evaluate.attacks.is_empty() {
        return Err(
            Failure::usage("no attack is named").help("name one with `--attack`, such as `--attack pgd`")
        );
    }
    let Some(folder) = &arguments.out else { return arguments.evaluate.run(session, None) };
    // Told before the attacks run, not after.
    std::fs::create_dir_all(folder).map_err(|error| {
        Failure::usage(format!("`{}` cannot be made: {error}", folder.display()))
            .help("name another folder with `--out`")
    })?;
    let keeper = Keeper::default();
    arguments.evaluate.run(session, Some(&keeper))?;
    Ok(keeper.write(folder, arguments.pictures)?)
}

/// The images of one attack within one budget.
struct Kept {
    attack: String,
    budget: Budget,
    ids: Vec<i64>,
    labels: Vec<Tensor>,
    clean: Vec<Tensor>,
    adversarial: Vec<Tensor>,
}

/// Gathers adversarial images, batch by batch.
#[derive(Default)]
struct Keeper(RefCell<Vec<Kept>>);

impl Keep for Keeper {
    fn adversarial(&self, budget: &Budget, attack: &str, clean: &Loaded, images: &Tensor) -> Result<()> {
        let mut all = self.0.borrow_mut();
        if all.last().is_none_or(|last| (last.attack.as_str(), last.budget) != (attack, *budget)) {
            let (attack, budget) = (attack.to_string(), *budget);
            let (ids, labels, clean, adversarial) = Default::default();
            all.push(Kept { attack, budget, ids, labels, clean, adversarial });
        }
        if let Some(kept) = all.last_mut() {
            kept.ids.extend(clean.ids.iter().map(|&id| id as i64));
            kept.labels.push(clean.labels.shallow_clone());
            kept.clean.push(clean.images.shallow_clone());
            kept.adversarial.push(images.shallow_clone());
        }
        Ok(())
    }
}

impl Keeper {
    /// `NAME.safetensors`: `positions` int64 `[N]` in the test split, `labels` int64 `[N]`, `clean` and `adversarial` float32
    /// `[N,C,H,W]`, of the images that were right without attack; `NAME.png`: some of them.
    fn write(self, folder: &Path, pictures: u32) -> Result<()> {
        for kept in self.0.into_inner() {
            let norm = kept.budget.norm.name();
            let name = format!("{}-{norm}-{:.6}", kept.attack.replace('/', "-"), kept.budget.epsilon);
            let (clean, adversarial) = (Tensor::f_cat(&kept.clean, 0)?, Tensor::f_cat(&kept.adversarial, 0)?);
            let tensors = [
                ("positions", Tensor::f_from_slice(&kept.ids)?),
                ("labels", Tensor::f_cat(&kept.labels, 0)?),
                ("clean", clean.shallow_clone()),
                ("adversarial", adversarial.shallow_clone()),
            ];
            write_atomically(&folder.join(format!("{name}.safetensors")), |aside| {
                Ok(Tensor::write_safetensors(&tensors, aside)?)
            })?;
            let count = i64::from(pictures).min(clean.size()[0]);
            let (clean, adversarial) = (clean.narrow(0, 0, count), adversarial.narrow(0, 0, count));
            write_png(&folder.join(format!("{name}.png")), &attacked_sheet(&clean, &[adversarial])?)?;
        }
        Ok(())
    }
}
