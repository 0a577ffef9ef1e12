//! Brightness, contrast, saturation and hue, changed in any order, with torchvision's definitions.

use super::rows::{check_entries, column};
use crate::{Error, Result, sent};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// Options of a colour jitter: how far each property may change; 0 leaves it alone.
#[derive(
    Debug, Clone, Copy, PartialEq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(deny_unknown_fields, default)]
pub struct ColorJitterOptions {
    /// The factor lies between 1 − this (at least 0) and 1 + this.
    #[schemars(range(min = 0.0))]
    pub brightness: f64,
    /// The factor lies between 1 − this (at least 0) and 1 + this.
    #[schemars(range(min = 0.0))]
    pub contrast: f64,
    /// The factor lies between 1 − this (at least 0) and 1 + this.
    #[schemars(range(min = 0.0))]
    pub saturation: f64,
    /// The largest turn of the colour circle, in full turns.
    #[schemars(range(min = 0.0, max = 0.5))]
    pub hue: f64,
}

/// A property of colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Adjustment {
    /// A factor of all values.
    Brightness,
    /// A factor of the distance from the image's mean grey.
    Contrast,
    /// A factor of the distance from each pixel's grey.
    Saturation,
    /// A turn of the colour circle.
    Hue,
}

/// How the colours of an image change.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColorChange {
    /// What is changed first, second, third and last.
    pub order: [Adjustment; 4],
    /// A factor; 1 changes nothing.
    pub brightness: f64,
    /// A factor; 1 changes nothing.
    pub contrast: f64,
    /// A factor; 1 changes nothing.
    pub saturation: f64,
    /// In full turns of the colour circle; 0 changes nothing.
    pub hue: f64,
}

/// Changes the colours of images with values in [0,1], of three channels (red, green, blue) or of one; an image of one
/// channel has no saturation and no hue to change.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColorJitter {
    /// How the colours change.
    pub changes: Vec<ColorChange>,
}

impl ColorJitter {
    /// Numbers in a row.
    pub const DRAWS: usize = 5;

    /// Factors uniformly within the options' bounds, in any order.
    pub fn draw(uniform: &[[f64; Self::DRAWS]], options: &ColorJitterOptions) -> Self {
        let factor = |number: f64, reach: f64| {
            let lowest = (1.0 - reach).max(0.0);
            lowest + (1.0 + reach - lowest) * number
        };
        let change = |&[order, brightness, contrast, saturation, hue]: &[f64; 5]| ColorChange {
            order: permutation(order),
            brightness: factor(brightness, options.brightness),
            contrast: factor(contrast, options.contrast),
            saturation: factor(saturation, options.saturation),
            hue: (hue * 2.0 - 1.0) * options.hue,
        };
        Self { changes: uniform.iter().map(change).collect() }
    }

    /// The images `[N,C,H,W]` after it, in [0,1].
    ///
    /// # Errors
    /// If the parameters are those of another number of examples, or the images have neither one nor three channels or are
    /// not of floating point.
    pub fn apply(&self, images: &Tensor) -> Result<Tensor> {
        check_entries("colour jitter", self.changes.len(), images)?;
        let (_, channels, _, _) = images.size4()?;
        if !matches!(channels, 1 | 3) || !images.is_floating_point() {
            let kind = images.kind();
            return Err(Error::unsupported(format!(
                "colour jitter takes floating-point images of 1 or 3 channels, found {channels} channels of {kind:?}"
            )));
        }
        (0..4).try_fold(images.shallow_clone(), |images, place| self.adjusted(&images, place))
    }

    /// The images after the adjustments that come in `place` of the order.
    fn adjusted(&self, images: &Tensor, place: usize) -> Result<Tensor> {
        let mut groups: BTreeMap<Option<Adjustment>, Vec<usize>> = BTreeMap::new();
        for (example, change) in self.changes.iter().enumerate() {
            groups.entry(change.adjustment(place)).or_default().push(example);
        }
        let apply = |adjustment: Option<Adjustment>, examples: &[usize], images: &Tensor| match adjustment {
            None => Ok(images.shallow_clone()),
            Some(adjustment) => {
                let values = examples.iter().map(|&example| self.changes[example].value(adjustment));
                adjustment.apply(images, &column(values, images)?)
            }
        };
        if groups.len() == 1
            && let Some((adjustment, examples)) = groups.pop_first()
        {
            return apply(adjustment, &examples, images);
        }
        let index =
            |numbers: Vec<i64>| -> Result<Tensor> { sent(&Tensor::f_from_slice(&numbers)?, images.device()) };
        let mut parts = Vec::new();
        let mut back = vec![0; self.changes.len()];
        for (position, &example) in (0..).zip(groups.values().flatten()) {
            back[example] = position;
        }
        for (adjustment, examples) in groups {
            let positions = index(examples.iter().map(|&example| example as i64).collect())?;
            parts.push(apply(adjustment, &examples, &images.f_index_select(0, &positions)?)?);
        }
        Ok(Tensor::f_cat(&parts, 0)?.f_index_select(0, &index(back)?)?)
    }
}

impl ColorChange {
    fn value(&self, adjustment: Adjustment) -> f64 {
        match adjustment {
            Adjustment::Brightness => self.brightness,
            Adjustment::Contrast => self.contrast,
            Adjustment::Saturation => self.saturation,
            Adjustment::Hue => self.hue,
        }
    }

    /// What is done in `place`, unless it would change nothing.
    fn adjustment(&self, place: usize) -> Option<Adjustment> {
        let adjustment = self.order[place];
        let neutral = if adjustment == Adjustment::Hue { 0.0 } else { 1.0 };
        (self.value(adjustment) != neutral).then_some(adjustment)
    }
}

impl Adjustment {
    const ALL: [Self; 4] = [Self::Brightness, Self::Contrast, Self::Saturation, Self::Hue];

    /// `values` hold one number per image.
    fn apply(self, images: &Tensor, values: &Tensor) -> Result<Tensor> {
        let adjusted = match self {
            Self::Brightness => images.f_mul(values)?,
            Self::Contrast => {
                let mean = grey(images)?.f_mean_dim([1, 2, 3].as_slice(), true, None::<Kind>)?;
                mean.f_lerp_tensor(images, values)?
            }
            Self::Saturation | Self::Hue if images.size4()?.1 == 1 => return Ok(images.shallow_clone()),
            Self::Saturation => grey(images)?.f_lerp_tensor(images, values)?,
            Self::Hue => turned(images, values)?,
        };
        Ok(adjusted.f_clamp(0.0, 1.0)?)
    }
}

/// The order with number `uniform` · 24.
fn permutation(uniform: f64) -> [Adjustment; 4] {
    let mut number = ((uniform * 24.0) as usize).min(23);
    let mut left = Adjustment::ALL.to_vec();
    [6, 2, 1, 1].map(|orders_of_the_rest| {
        let next = left.remove(number / orders_of_the_rest);
        number %= orders_of_the_rest;
        next
    })
}

/// Luma, `[N,1,H,W]`.
fn grey(images: &Tensor) -> Result<Tensor> {
    if images.size4()?.1 == 1 {
        return Ok(images.shallow_clone());
    }
    let shares = Tensor::f_from_slice(&[0.2989, 0.587, 0.114])?.f_reshape([1, 3, 1, 1])?;
    let shares = sent(&shares.f_to_kind(images.kind())?, images.device())?;
    Ok(images.f_mul(&shares)?.f_sum_dim_intlist(1, true, None::<Kind>)?)
}

/// Red, green and blue with their hue turned by `turns` of the colour circle.
///
/// The hue is measured in sixths. A channel falls from the largest value by the chroma, as far as the hue is from the
/// channel's own: not at all within a sixth, fully from two sixths.
fn turned(images: &Tensor, turns: &Tensor) -> Result<Tensor> {
    let largest = images.f_amax(1, true)?;
    let chroma = &largest - images.f_amin(1, true)?;
    let channel = |index: i64| images.f_narrow(1, index, 1);
    let (red, green, blue) = (channel(0)?, channel(1)?, channel(2)?);
    // Grey has no hue; any will do, for its chroma is 0.
    let divisor = chroma.f_masked_fill(&chroma.f_eq(0.0)?, 1.0)?;
    let from_red = (&green - &blue) / &divisor;
    let from_green = (&blue - &red) / &divisor + 2.0;
    let from_blue = (&red - &green) / &divisor + 4.0;
    let not_red = from_green.f_where_self(&green.f_eq_tensor(&largest)?, &from_blue)?;
    let hue = from_red.f_where_self(&red.f_eq_tensor(&largest)?, &not_red)? + turns * 6.0;

    let own = Tensor::f_from_slice(&[5.0, 3.0, 1.0])?.f_reshape([1, 3, 1, 1])?;
    let own = sent(&own.f_to_kind(images.kind())?, images.device())?;
    let distance = (own + hue).f_remainder(6.0)?;
    let fall = distance.f_minimum(&(4.0 - &distance))?.f_clamp(0.0, 1.0)?;
    Ok(largest - chroma * fall)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use tch::Device;

    fn jitter(seed: u64, count: u64) -> ColorJitter {
        let number = |i: u64| ((seed * 31 + i * 17 + 7) * 2654435761 % 1000) as f64 / 1000.0;
        let rows: Vec<_> =
            (0..count).map(|row| std::array::from_fn(|i| number(row * 5 + i as u64))).collect();
        ColorJitter::draw(
            &rows,
            &ColorJitterOptions { brightness: 0.4, contrast: 1.5, saturation: 0.3, hue: 0.5 },
        )
    }

    #[test]
    fn all_orders_are_equally_likely() {
        let orders: BTreeSet<_> = (0..24).map(|i| permutation((f64::from(i) + 0.5) / 24.0)).collect();
        assert_eq!(orders.len(), 24);
        assert_eq!(permutation(0.0), Adjustment::ALL);
        assert_eq!(permutation(1.0 - f64::EPSILON / 2.0), permutation(23.5 / 24.0));
    }

    #[test]
    fn factors_stay_within_the_options() {
        for change in jitter(3, 500).changes {
            assert!((0.6..=1.4).contains(&change.brightness) && (0.0..=2.5).contains(&change.contrast));
            assert!((0.7..=1.3).contains(&change.saturation) && change.hue.abs() <= 0.5);
        }
    }

    #[test]
    fn an_example_is_changed_alike_whoever_its_batch_mates_are() {
        let images = Tensor::rand([40, 3, 5, 4], (Kind::Double, Device::Cpu));
        let all = jitter(1, 40);
        let together = all.apply(&images).unwrap();
        assert!(together.min().double_value(&[]) >= 0.0 && together.max().double_value(&[]) <= 1.0);
        for (index, change) in (0..).zip(&all.changes) {
            let alone = ColorJitter { changes: vec![*change] }.apply(&images.narrow(0, index, 1)).unwrap();
            assert!((alone - together.narrow(0, index, 1)).abs().max().double_value(&[]) < 1e-14);
        }
    }

    #[test]
    fn without_options_nothing_changes() {
        let images = Tensor::rand([2, 3, 4, 4], (Kind::Float, Device::Cpu)) * 3.0 - 1.0;
        let nothing = ColorJitter::draw(&[[0.9; 5], [0.3; 5]], &ColorJitterOptions::default());
        assert_eq!(nothing.apply(&images).unwrap(), images);
    }

    #[test]
    fn a_third_of_a_turn_makes_red_green_and_grey_stays_grey() {
        let colour = |red, green, blue| Tensor::from_slice(&[red, green, blue]).reshape([1, 3, 1, 1]);
        let third = Tensor::from(1.0 / 3.0);
        let off = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
        assert!(off(&turned(&colour(0.8, 0.2, 0.1), &third).unwrap(), &colour(0.1, 0.8, 0.2)) < 1e-14);
        assert_eq!(turned(&colour(0.4, 0.4, 0.4), &third).unwrap(), colour(0.4, 0.4, 0.4));
    }

    #[test]
    fn other_numbers_of_channels_and_whole_numbers_are_refused() {
        for images in [
            Tensor::zeros([1, 2, 4, 4], (Kind::Float, Device::Cpu)),
            Tensor::zeros([1, 3, 4, 4], (Kind::Uint8, Device::Cpu)),
        ] {
            assert_eq!(jitter(0, 1).apply(&images).unwrap_err().code, "unsupported");
        }
    }
}
