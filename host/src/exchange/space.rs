//! What the values of a synthetic set mean, and the way to pixels.
//!
//! A set that is taken for pixels and holds normalised values scores at chance, and nothing tells why. So where a file does
//! not say what it holds, the user must.

use crate::network::Inverse;
use clap::ValueEnum;
use guard_sdk::{Kind, Result, Tensor, network::channel_values};
use serde::Serialize;

/// What the values of images mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Space {
    /// 0 is black, 1 is white.
    Pixels,
    /// Pixels less the mean, divided by the standard deviation.
    #[value(alias = "normalized")]
    Normalised,
    /// Those after ZCA whitening, as MTT has it with `--zca`.
    Whitened,
}

impl Space {
    /// As the command line and manifests have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pixels => "pixels",
            Self::Normalised => "normalised",
            Self::Whitened => "whitened",
        }
    }
}

/// Pixels within so much of black and white are black and white: float32 loses it on the way there and back.
const ROUNDING: f64 = 1e-6;

/// Images at a time: float64 takes twice the memory of what comes out.
const CHUNK: i64 = 1024;

/// Images `[N,C,H,W]`, bytes or numbers of any kind, as pixels, float32; and how many values lie outside of [0,1].
///
/// # Errors
/// If libtorch refuses.
pub(super) fn to_pixels(
    images: &Tensor,
    (mean, std): (&[f64], &[f64]),
    space: Space,
    whitening: Option<&Inverse>,
) -> Result<(Tensor, u64)> {
    let brightest = if images.kind() == Kind::Uint8 { 255.0 } else { 1.0 };
    let (mut all, mut outside) = (Vec::new(), 0);
    for images in images.f_split(CHUNK, 0)? {
        let images = images.to_kind(Kind::Double) / brightest;
        let normalised = match whitening {
            Some(whitening) => whitening.unwhiten(&images)?,
            None => images,
        };
        let pixels = match space {
            Space::Pixels => normalised,
            Space::Normalised | Space::Whitened => {
                let (mean, std) = (channel_values(mean, &normalised), channel_values(std, &normalised));
                normalised * std + mean
            }
        };
        let near = |border: f64| (&pixels - border).abs().le(ROUNDING);
        let pixels = pixels.f_masked_fill(&near(0.0), 0.0)?.f_masked_fill(&near(1.0), 1.0)?;
        let beyond = pixels.lt(0.0).f_logical_or(&pixels.gt(1.0))?.sum(Kind::Int64).f_int64_value(&[])?;
        outside += beyond.unsigned_abs();
        all.push(pixels.to_kind(Kind::Float));
    }
    Ok((Tensor::f_cat(&all, 0)?, outside))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalised_values_come_back_as_pixels_and_those_outside_are_counted_and_kept() {
        let pixels = Tensor::from_slice(&[0.0f32, 1.0, 0.3, 1.5, -0.25, 0.5, 0.9, 0.0]).reshape([1, 2, 2, 2]);
        let (mean, std) = ([0.4914, 0.5], [0.2023, 0.25]);
        let normalised = (&pixels - channel_values(&mean, &pixels)) / channel_values(&std, &pixels);
        let (found, outside) = to_pixels(&normalised, (&mean, &std), Space::Normalised, None).unwrap();
        assert_eq!((found.kind(), outside), (Kind::Float, 2));
        assert!((&found - &pixels).abs().max().double_value(&[]) < 1e-6);
        assert_eq!(found.double_value(&[0, 0, 0, 0]), 0.0);
        let (same, outside) = to_pixels(&pixels, (&[], &[]), Space::Pixels, None).unwrap();
        assert!(same.equal(&pixels) && outside == 2);
    }
}
