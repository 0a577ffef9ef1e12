//! AutoAttack (Croce & Hein, ICML 2020, arXiv 2003.01690): a fixed set of attacks one after the other, each on what the
//! ones before it left.

use crate::{
    apgd::{Apgd, ApgdLoss, ApgdOptions},
    compat::Compat,
    fab::{Fab, FabOptions},
    part::Part,
    square::{Square, SquareOptions},
    strongest::Strongest,
};
use guard_sdk::{Attack, AttackInfo, Batch, Budget, Error, Method, Network, Result, Services, Step, Tensor};

/// What a network can be attacked with that has too few classes for DLR.
const FEW_CLASSES: &str =
    "set `version = \"custom\"` and `attacks = [\"apgd-ce\", \"fab-t\", \"square\"]`, which need two classes";

/// Which attacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Version {
    /// `apgd-ce`, `apgd-t`, `fab-t`, `square`.
    #[default]
    Standard,
    /// `apgd-ce`, `apgd-dlr`, `fab`, `square`, `apgd-t`, `fab-t`; five restarts of all but the last two.
    Plus,
    /// `apgd-ce`, `apgd-dlr`, with 20 passes a step: for networks that draw random numbers.
    Rand,
    /// Those of `attacks`.
    Custom,
}

/// A part of AutoAttack, with its official options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Member {
    /// `apgd` on cross-entropy.
    ApgdCe,
    /// `apgd` on DLR; three classes at least.
    ApgdDlr,
    /// `apgd` on targeted DLR, 9 target classes; four classes at least.
    ApgdT,
    /// `fab` towards the nearest class.
    Fab,
    /// `fab`, 9 target classes.
    FabT,
    /// `square`, 5000 queries.
    Square,
}

impl Member {
    fn name(self) -> &'static str {
        match self {
            Self::ApgdCe => "apgd-ce",
            Self::ApgdDlr => "apgd-dlr",
            Self::ApgdT => "apgd-t",
            Self::Fab => "fab",
            Self::FabT => "fab-t",
            Self::Square => "square",
        }
    }
}

/// Options of `autoattack`.
#[derive(Debug, Clone, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("examples" = [{ "version": "custom", "attacks": ["apgd-ce"] }]))]
pub struct AutoAttackOptions {
    /// Which attacks.
    pub version: Version,
    /// For the custom version: the attacks, in this order.
    pub attacks: Vec<Member>,
    /// Computes what released code computes: 10 steps rather than 100, a rescaled schedule of the squares.
    pub compat: Option<Compat>,
}

/// The worst case per example over the parts. Where all fail, returns the image with the highest cross-entropy.
pub struct AutoAttack {
    members: Vec<(Member, Parts)>,
    compat: Option<Compat>,
}

/// A part, ready to run.
enum Parts {
    Apgd(Apgd),
    Fab(Fab),
    Square(Square),
}

impl Method for AutoAttack {
    type Options = AutoAttackOptions;
    const NAME: &'static str = "autoattack";

    fn new(options: AutoAttackOptions, services: &Services) -> Result<Self> {
        use Member::*;
        let custom = options.version == Version::Custom;
        if custom == options.attacks.is_empty() {
            let error = Error::option("/attacks", "the version `custom`, and no other, says which attacks");
            return Err(error.help("write `version = \"custom\"` and `attacks = [\"apgd-ce\", \"square\"]`"));
        }
        let members = match options.version {
            Version::Standard => vec![ApgdCe, ApgdT, FabT, Square],
            Version::Plus => vec![ApgdCe, ApgdDlr, Fab, Square, ApgdT, FabT],
            Version::Rand => vec![ApgdCe, ApgdDlr],
            Version::Custom => options.attacks.clone(),
        };
        let make = |member| Ok((member, Parts::new(member, &options, services)?));
        Ok(Self { members: members.into_iter().map(make).collect::<Result<_>>()?, compat: options.compat })
    }
}

impl Attack for AutoAttack {
    fn info(&self) -> AttackInfo {
        AttackInfo {
            caveat: Compat::caveat(
                self.compat,
                "runs 10 steps where the official AutoAttack runs 100: accuracy is overestimated",
            ),
            ..AttackInfo::default()
        }
    }

    /// Passes: those of the parts on the survivors; one forward for each of them and one for the clean images.
    fn perturb(&mut self, step: &Step, network: &Network, batch: &Batch, budget: &Budget) -> Result<Tensor> {
        let mut strongest = Strongest::clean(network, batch)?;
        let parts = self.members.len();
        for (number, (member, attack)) in self.members.iter_mut().enumerate() {
            let survivors = strongest.survivors()?;
            if !survivors.is_empty() {
                let part = Part::new(step, number, parts);
                let found = attack.within(batch.len(), &part.step(), network, &survivors.batch(), budget);
                let candidates = found.map_err(|error| match error.code.as_str() {
                    "unsupported" => error.help(FEW_CLASSES),
                    _ => error,
                })?;
                strongest.offer(network, &survivors, &candidates, budget)?;
            }
            strongest.report(step, member.name())?;
        }
        step.services.progress(1.0);
        Ok(strongest.images)
    }
}

impl Parts {
    fn new(member: Member, options: &AutoAttackOptions, services: &Services) -> Result<Self> {
        let compat = options.compat;
        let steps = if compat.is_some() { 10 } else { 100 };
        let restarts = if options.version == Version::Plus { 5 } else { 1 };
        let eot = if options.version == Version::Rand { 20 } else { 1 };
        let apgd = |loss, restarts| {
            Apgd::new(ApgdOptions { loss, steps, restarts, eot, compat, ..ApgdOptions::default() }, services)
        };
        let fab = |targeted, restarts| {
            let options = FabOptions { targeted, steps, restarts, early_stop: true, ..FabOptions::default() };
            Fab::new(options, services)
        };
        Ok(match member {
            Member::ApgdCe => Self::Apgd(apgd(ApgdLoss::Ce, restarts)?),
            Member::ApgdDlr => Self::Apgd(apgd(ApgdLoss::Dlr, restarts)?),
            Member::ApgdT => Self::Apgd(apgd(ApgdLoss::TargetedDlr, 1)?),
            Member::Fab => Self::Fab(fab(false, restarts)?),
            Member::FabT => Self::Fab(fab(true, 1)?),
            Member::Square => {
                let options = SquareOptions { restarts, compat, ..SquareOptions::default() };
                Self::Square(Square::new(options, services)?)
            }
        })
    }

    fn within(
        &self,
        room: usize,
        step: &Step,
        network: &Network,
        batch: &Batch,
        budget: &Budget,
    ) -> Result<Tensor> {
        match self {
            Self::Apgd(apgd) => apgd.within(room, step, network, batch, budget),
            Self::Fab(fab) => fab.within(room, step, network, batch, budget),
            Self::Square(square) => square.within(room, step, network, batch, budget),
        }
    }
}
