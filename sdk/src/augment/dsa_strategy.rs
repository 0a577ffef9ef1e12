//! The transforms among which a step of DSA picks one, as the field writes them: `color_crop_cutout_flip_scale_rotate`.

use crate::{Error, Result};
use std::{fmt, str::FromStr};

/// A transform of the family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DsaTransform {
    /// Brightness, then saturation, then contrast.
    Color,
    /// A window of the image with a border of zeros.
    Crop,
    /// A rectangle of zeros.
    Cutout,
    /// Left to right.
    Flip,
    /// Stretched by a factor in each direction.
    Scale,
    /// Turned.
    Rotate,
}

impl DsaTransform {
    const NAMES: [(&'static str, Self); 6] = [
        ("color", Self::Color),
        ("crop", Self::Crop),
        ("cutout", Self::Cutout),
        ("flip", Self::Flip),
        ("scale", Self::Scale),
        ("rotate", Self::Rotate),
    ];

    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, transform)| *transform == self).map_or("", |(name, _)| name)
    }
}

/// The transforms among which each step picks one, written with `_` between them; `none` has none.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct DsaStrategy(Vec<DsaTransform>);

impl DsaStrategy {
    const NONE: &str = "none";

    /// The transforms, all equally likely.
    pub fn transforms(&self) -> &[DsaTransform] {
        &self.0
    }
}

impl Default for DsaStrategy {
    fn default() -> Self {
        use DsaTransform::{Color, Crop, Cutout, Flip, Rotate, Scale};
        Self(vec![Color, Crop, Cutout, Flip, Scale, Rotate])
    }
}

impl FromStr for DsaStrategy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == Self::NONE {
            return Ok(Self(Vec::new()));
        }
        let transform = |word: &str| {
            let known = DsaTransform::NAMES.iter().find(|(name, _)| *name == word);
            known.map(|(_, transform)| *transform).ok_or_else(|| {
                let names: Vec<String> =
                    DsaTransform::NAMES.iter().map(|(name, _)| format!("`{name}`")).collect();
                Error::with_code("options", format!("the strategy `{text}` has no transform `{word}`"))
                    .help(format!("write {} with `_` between them, or `{}`", names.join(", "), Self::NONE))
            })
        };
        Ok(Self(text.split('_').map(transform).collect::<Result<_>>()?))
    }
}

impl TryFrom<String> for DsaStrategy {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // serde carries one sentence: the advice goes into it.
        text.parse().map_err(|error: Error| match &error.help {
            Some(help) => format!("{error}; {help}"),
            None => error.to_string(),
        })
    }
}

impl From<DsaStrategy> for String {
    fn from(strategy: DsaStrategy) -> Self {
        strategy.to_string()
    }
}

impl fmt::Display for DsaStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|transform| transform.name()).collect();
        f.write_str(if names.is_empty() { Self::NONE.to_string() } else { names.join("_") }.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strategy_is_written_as_it_is_read() {
        for text in ["color_crop_cutout_flip_scale_rotate", "flip", "none", "crop_flip_flip"] {
            let strategy: DsaStrategy = text.parse().unwrap();
            assert_eq!(strategy.to_string(), text);
            let json = serde_json::to_string(&strategy).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<DsaStrategy>(&json).unwrap(), strategy);
        }
        assert_eq!(DsaStrategy::default().to_string(), "color_crop_cutout_flip_scale_rotate");
    }

    #[test]
    fn an_unknown_transform_is_named_with_those_that_are_known() {
        let error = "color_shear".parse::<DsaStrategy>().unwrap_err();
        assert_eq!(error.message, "the strategy `color_shear` has no transform `shear`");
        let help =
            "write `color`, `crop`, `cutout`, `flip`, `scale`, `rotate` with `_` between them, or `none`";
        assert_eq!(error.help.as_deref(), Some(help));
        assert_eq!("".parse::<DsaStrategy>().unwrap_err().message, "the strategy `` has no transform ``");
        let error = serde_json::from_str::<DsaStrategy>("\"flip_\"").unwrap_err().to_string();
        assert!(error.contains("has no transform ``; write `color`"), "{error}");
    }
}
