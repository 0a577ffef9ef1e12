//! Differentiable Siamese augmentation (Zhao & Bilen, ICML 2021, arXiv 2102.08259).
//!
//! Each step picks one transform of a strategy. *Siamese* means that real and synthetic images go through the same: draw
//! a [`Dsa`] from one row of numbers and apply it to both. Values are not clamped, for the images are normalised ones.

use super::{
    Border, Cutout, DsaStrategy, DsaTransform, Flip, PaddedCrop, Rotate, Scale,
    rows::{check_entries, column, each_uniform, shared_uniform, whole},
};
use crate::{Result, Services};
use tch::{Kind, Tensor};

/// Options of the family, with the published values.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DsaOptions {
    /// The transforms among which each step picks one, with `_` between them; `none` has none.
    pub strategy: DsaStrategy,
    /// Probability of a flip.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub prob_flip: f64,
    /// The largest factor of the scale; the smallest is 1 divided by it.
    #[schemars(range(min = 1.0))]
    pub ratio_scale: f64,
    /// The largest angle, in degrees.
    #[schemars(range(min = 0.0, max = 180.0))]
    pub ratio_rotate: f64,
    /// The largest shift of a crop, as a share of the image's side.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub ratio_crop_pad: f64,
    /// The cut rectangle's side, as a share of the image's.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub ratio_cutout: f64,
    /// What is added lies between minus and plus half of this.
    #[schemars(range(min = 0.0))]
    pub brightness: f64,
    /// The largest factor of the saturation; the smallest is 0.
    #[schemars(range(min = 0.0))]
    pub saturation: f64,
    /// The smallest factor of the contrast; the largest is 1 more.
    #[schemars(range(min = 0.0))]
    pub contrast: f64,
    /// Whether scale and rotate take the frame's corners for the centres of its outermost pixels: `false` in the code of
    /// DSA (PyTorch's default since 1.3), `true` in that of MTT.
    pub align_corners: bool,
}

impl Default for DsaOptions {
    fn default() -> Self {
        Self {
            strategy: DsaStrategy::default(),
            prob_flip: 0.5,
            ratio_scale: 1.2,
            ratio_rotate: 15.0,
            ratio_crop_pad: 0.125,
            ratio_cutout: 0.5,
            brightness: 1.0,
            saturation: 2.0,
            contrast: 0.5,
            align_corners: false,
        }
    }
}

/// One transform of the family, for a whole step.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "transform", rename_all = "kebab-case")]
pub enum Dsa {
    /// Nothing: the strategy is `none`.
    None,
    /// See [`DsaTransform::Color`].
    Color(DsaColor),
    /// See [`DsaTransform::Crop`].
    Crop(PaddedCrop),
    /// See [`DsaTransform::Cutout`].
    Cutout(Cutout),
    /// See [`DsaTransform::Flip`].
    Flip(Flip),
    /// See [`DsaTransform::Scale`].
    Scale(Scale),
    /// See [`DsaTransform::Rotate`].
    Rotate(Rotate),
}

impl Dsa {
    /// Numbers in a row.
    pub const DRAWS: usize = 3;

    /// The transform that the uniform number `choice` picks, for images of size `image` (height, width). One row of numbers
    /// is Siamese; with a row per example each goes its own way.
    pub fn draw(choice: f64, uniform: &[[f64; Self::DRAWS]], image: [i64; 2], options: &DsaOptions) -> Self {
        let transforms = options.strategy.transforms();
        let Some(transform) = transforms.get(whole(choice, 0, transforms.len() as i64 - 1) as usize) else {
            return Self::None;
        };
        let ones: Vec<_> = uniform.iter().map(|&[first, ..]| [first]).collect();
        let twos: Vec<_> = uniform.iter().map(|&[first, second, _]| [first, second]).collect();
        match transform {
            DsaTransform::Color => Self::Color(DsaColor::draw(uniform, options)),
            DsaTransform::Crop => {
                let largest = image.map(|side| (side as f64 * options.ratio_crop_pad + 0.5) as i64);
                let shift = |number: f64, axis: usize| whole(number, -largest[axis], largest[axis]);
                let corner = |row: &[f64; 2]| [shift(row[0], 0), shift(row[1], 1)];
                Self::Crop(PaddedCrop { corners: twos.iter().map(corner).collect(), border: Border::Zero })
            }
            DsaTransform::Cutout => Self::Cutout(Cutout::draw(&twos, image, options.ratio_cutout)),
            DsaTransform::Flip => Self::Flip(Flip::draw(&ones, options.prob_flip)),
            DsaTransform::Scale => {
                Self::Scale(Scale::draw(&twos, options.ratio_scale, options.align_corners))
            }
            DsaTransform::Rotate => {
                Self::Rotate(Rotate::draw(&ones, options.ratio_rotate, options.align_corners))
            }
        }
    }

    /// A transform with the same parameters for every image, to be applied to real and synthetic images alike. `stream` and
    /// `draw` are those of [`Services::random`].
    ///
    /// # Errors
    /// Those of [`Services::random`].
    pub fn siamese(
        services: &Services,
        stream: &str,
        draw: u64,
        image: [i64; 2],
        options: &DsaOptions,
    ) -> Result<Self> {
        let [choice, row @ ..] = shared_uniform::<{ 1 + Self::DRAWS }>(services, stream, draw)?;
        Ok(Self::draw(choice, &[row], image, options))
    }

    /// A transform with parameters of its own for each of the images `ids`, as networks are trained with.
    ///
    /// # Errors
    /// Those of [`Services::random`].
    pub fn each(
        services: &Services,
        stream: &str,
        draw: u64,
        ids: &[u64],
        image: [i64; 2],
        options: &DsaOptions,
    ) -> Result<Self> {
        let [choice] = shared_uniform::<1>(services, &format!("{stream}.choice"), draw)?;
        Ok(Self::draw(choice, &each_uniform(services, stream, draw, ids)?, image, options))
    }

    /// The images `[N,C,H,W]` after it.
    ///
    /// # Errors
    /// Those of the transform.
    pub fn apply(&self, images: &Tensor) -> Result<Tensor> {
        match self {
            Self::None => Ok(images.shallow_clone()),
            Self::Color(transform) => transform.apply(images),
            Self::Crop(transform) => transform.apply(images),
            Self::Cutout(transform) => transform.apply(images),
            Self::Flip(transform) => transform.apply(images),
            Self::Scale(transform) => transform.apply(images),
            Self::Rotate(transform) => transform.apply(images),
        }
    }
}

/// Brightness, saturation and contrast as DSA has them: other than [`ColorJitter`](super::ColorJitter)'s.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DsaColor {
    /// Brightness, which is added; then the factor of each pixel's distance from the mean of its channels; then the factor
    /// of each value's distance from the image's mean.
    pub changes: Vec<[f64; 3]>,
}

impl DsaColor {
    fn draw(uniform: &[[f64; Dsa::DRAWS]], options: &DsaOptions) -> Self {
        let change = |&[brightness, saturation, contrast]: &[f64; 3]| {
            [
                (brightness - 0.5) * options.brightness,
                saturation * options.saturation,
                contrast + options.contrast,
            ]
        };
        Self { changes: uniform.iter().map(change).collect() }
    }

    /// The images `[N,C,H,W]` after it.
    ///
    /// # Errors
    /// If the parameters are those of another number of examples.
    pub fn apply(&self, images: &Tensor) -> Result<Tensor> {
        check_entries("colour", self.changes.len(), images)?;
        let value = |index: usize| column(self.changes.iter().map(|change| change[index]), images);
        let images = images.f_add(&value(0)?)?;
        let grey = images.f_mean_dim([1].as_slice(), true, None::<Kind>)?;
        let images = grey.f_lerp_tensor(&images, &value(1)?)?;
        let mean = images.f_mean_dim([1, 2, 3].as_slice(), true, None::<Kind>)?;
        Ok(mean.f_lerp_tensor(&images, &value(2)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strategy_is_a_string_in_the_options_and_their_schema() {
        let schema = schemars::schema_for!(DsaOptions).to_value();
        let strategy = &schema["properties"]["strategy"];
        let resolved = strategy["$ref"].as_str().map_or(Some(strategy), |path| schema.pointer(&path[1..]));
        assert_eq!(resolved.map(|strategy| &strategy["type"]), Some(&"string".into()), "{schema}");
        let options: DsaOptions = toml::from_str("strategy = \"flip_scale\"\nratio_scale = 1.5").unwrap();
        let expected =
            DsaOptions { strategy: "flip_scale".parse().unwrap(), ratio_scale: 1.5, ..DsaOptions::default() };
        assert_eq!(options, expected);
        assert!(toml::from_str::<DsaOptions>("ratio_scales = 1.5").is_err());
    }

    #[test]
    fn each_transform_of_the_strategy_is_picked_equally_often() {
        let options = DsaOptions::default();
        let mut counts = [0; 6];
        for i in 0..600 {
            let dsa = Dsa::draw(f64::from(i) / 600.0, &[[0.5; 3]], [32, 32], &options);
            counts[match dsa {
                Dsa::Color(_) => 0,
                Dsa::Crop(_) => 1,
                Dsa::Cutout(_) => 2,
                Dsa::Flip(_) => 3,
                Dsa::Scale(_) => 4,
                Dsa::Rotate(_) => 5,
                Dsa::None => panic!("no strategy is `none`"),
            }] += 1;
        }
        assert_eq!(counts, [100; 6]);
        let none = DsaOptions { strategy: "none".parse().unwrap(), ..options };
        assert_eq!(Dsa::draw(0.5, &[[0.5; 3]], [32, 32], &none), Dsa::None);
    }

    #[test]
    fn the_published_ranges_are_reached_and_not_left() {
        let options = DsaOptions::default();
        let draw = |choice: usize, number| {
            Dsa::draw((choice as f64 + 0.5) / 6.0, &[[number; 3]], [32, 28], &options)
        };
        let highest = 1.0 - f64::EPSILON;
        let color = |number| match draw(0, number) {
            Dsa::Color(color) => color.changes[0],
            other => panic!("{other:?}"),
        };
        assert_eq!(color(0.0), [-0.5, 0.0, 0.5]);
        assert!(color(highest).iter().zip([0.5, 2.0, 1.5]).all(|(a, b)| (a - b).abs() < 1e-12));
        let crop = |corner| Dsa::Crop(PaddedCrop { corners: vec![corner], border: Border::Zero });
        assert_eq!((draw(1, 0.0), draw(1, highest)), (crop([-4, -4]), crop([4, 4])));
        let flip = |flipped| Dsa::Flip(Flip { flipped: vec![flipped] });
        assert_eq!((draw(3, 0.4999), draw(3, 0.5)), (flip(true), flip(false)));
        let scale = Scale { factors: vec![[1.0 / 1.2; 2]], align_corners: false };
        assert_eq!(draw(4, 0.0), Dsa::Scale(scale));
        assert_eq!(draw(5, 0.0), Dsa::Rotate(Rotate { degrees: vec![-15.0], align_corners: false }));
    }
}
