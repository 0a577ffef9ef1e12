//! Total variation of images: how much neighbouring pixels differ, a prior that keeps synthetic images smooth
//! (DeepInversion, arXiv 1912.08795; optional in SRe2L).
//!
//! | released code | here |
//! |---|---|
//! | `loss_var_l1` | `form = "l1"` |
//! | `loss_var_l2` | `form = "l2"` with `compat = "deep-inversion"` |

use guard_sdk::{
    Batch, Error, Kind, Method, Network, Regularizer, Result, Services, Space, Step, Tensor, batch::norm_each,
};

/// How the differences are measured.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Variation {
    /// Σ_d mean |d|.
    L1,
    /// mean_i Σ_d ‖dᵢ‖₂.
    #[default]
    L2,
}

/// Whose numbers are reproduced.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Compat {
    /// A mean over images: nothing depends on the batch size.
    #[default]
    None,
    /// The released code: `l2` takes one norm over the whole batch, √N times as much for N images alike.
    DeepInversion,
}

/// Options of `total-variation`.
#[derive(Debug, Clone, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TotalVariationOptions {
    /// How the differences are measured.
    pub form: Variation,
    /// Where they are taken: behind the network's normalisation, as in the released code, or in pixels.
    pub space: Space,
    /// Whose numbers are reproduced.
    pub compat: Compat,
}

/// The differences d of pixels to those on the right, below, and along both diagonals.
pub struct TotalVariation {
    options: TotalVariationOptions,
}

impl Method for TotalVariation {
    type Options = TotalVariationOptions;
    const NAME: &'static str = "total-variation";
    const CAPTURABLE: bool = true;

    fn new(options: TotalVariationOptions, _: &Services) -> Result<Self> {
        Ok(Self { options })
    }
}

impl Regularizer for TotalVariation {
    fn penalty(&mut self, _: &Step, network: &Network, batch: &Batch) -> Result<Tensor> {
        let images = network.convert(batch.images, batch.space, self.options.space);
        let terms = differences(&images)?.map(|difference| match (self.options.form, self.options.compat) {
            (Variation::L1, _) => difference.abs().mean(None::<Kind>),
            (Variation::L2, Compat::None) => norm_each(&difference).mean(None::<Kind>),
            (Variation::L2, Compat::DeepInversion) => difference.norm(),
        });
        Ok(terms.into_iter().sum())
    }
}

/// To the right neighbour, to the one below, and along both diagonals.
fn differences(images: &Tensor) -> Result<[Tensor; 4]> {
    let (_, _, height, width) = images.size4()?;
    if height < 2 || width < 2 {
        return Err(Error::unsupported(format!("images of {height}×{width} pixels have no total variation")));
    }
    let part =
        |top: i64, left: i64, rows: i64, columns: i64| images.narrow(2, top, rows).narrow(3, left, columns);
    let (rows, columns) = (height - 1, width - 1);
    Ok([
        part(0, 0, height, columns) - part(0, 1, height, columns),
        part(0, 0, rows, width) - part(1, 0, rows, width),
        part(0, 1, rows, columns) - part(1, 0, rows, columns),
        part(0, 0, rows, columns) - part(1, 1, rows, columns),
    ])
}
