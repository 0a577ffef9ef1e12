//! RDED (Sun et al., "On the Diversity and Realism of Distilled Dataset: An Efficient Dataset Distillation Paradigm", CVPR
//! 2024, arXiv 2312.03526): real crops that the teacher finds most like their class, stitched together. Nothing is
//! optimised; memory holds one class.
//!
//! | paper | here |
//! |---|---|
//! | 300 images of each class | `candidates` |
//! | K crops of each | `crops` |
//! | N patches in an image | `factor`² |

use guard_sdk::{
    Batch, Error, Initial, Kind, Lab, Method, Needs, Network, Objective, Result, Services, Space, Step,
    Synthetic, Tensor, Value,
    augment::{ResizedCrop, ResizedCropOptions, each_uniform},
    lab::RealBatch,
    objective::Networks,
};

/// How many crops the teacher sees at once.
const TOGETHER: i64 = 100;

/// From this side on, in pixels, an image is stitched of four crops unless the recipe says otherwise.
const LARGE: i64 = 128;

/// Options of `rded`.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RdedOptions {
    /// How many real images of each class are considered; as many as crops are needed, where those are more.
    #[schemars(range(min = 1))]
    pub candidates: u64,
    /// How many crops of each are tried; the best is kept.
    #[schemars(range(min = 1))]
    pub crops: u64,
    /// How many crops are side by side in an image, and one above the other; unless said, 2 from 128 pixels on, 1 below.
    #[schemars(range(min = 1, max = 8))]
    pub factor: Option<i64>,
    /// The smallest share of a real image's area that a crop keeps.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub smallest_crop: f64,
}

impl Default for RdedOptions {
    fn default() -> Self {
        Self { candidates: 300, crops: 5, factor: None, smallest_crop: 0.08 }
    }
}

/// The crops of each class with the lowest cross-entropy by the teacher, one of each real image.
pub struct Rded {
    options: RdedOptions,
}

impl Method for Rded {
    type Options = RdedOptions;
    const NAME: &'static str = "rded";

    fn new(options: RdedOptions, _: &Services) -> Result<Self> {
        Ok(Self { options })
    }
}

impl Objective for Rded {
    fn needs(&self) -> Needs {
        Needs {
            networks: Networks::Teacher,
            real_images: true,
            space: Space::Pixels,
            iterations: 0,
            ..Needs::default()
        }
    }

    /// Passes: `crops` forwards of each candidate.
    fn initialise(&mut self, step: &Step, lab: &Lab) -> Result<Option<Initial>> {
        let (info, teacher) = (lab.info(), lab.teacher()?);
        let [_, height, width] = info.image;
        let factor = self.options.factor.unwrap_or(if height.min(width) >= LARGE { 2 } else { 1 });
        let wanted = info.images_per_class * factor * factor;
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        for class in 0..info.classes {
            step.services.check_cancelled()?;
            step.services.progress(class as f64 / info.classes as f64);
            let there = info.real_images[class as usize];
            if there < wanted as u64 {
                return Err(Error::new(format!(
                    "class {class} has {there} training images, fewer than the {wanted} crops that its images take"
                ))
                .help("a crop is taken of each image: lower `factor` or the images per class"));
            }
            let real = lab.real(Some(class), self.options.candidates.max(wanted as u64).min(there), 0)?;
            let crops = self.best_crops(step, &teacher.lend(), &real, factor, wanted)?;
            images.push(stitch(&crops, [height, width], factor)?);
            labels.push(Tensor::f_full([info.images_per_class], class, (Kind::Int64, crops.device()))?);
        }
        Ok(Some(Initial { images: Tensor::f_cat(&images, 0)?, labels: Tensor::f_cat(&labels, 0)? }))
    }

    fn value(&mut self, _: &Step, _: &Synthetic, _: &Lab) -> Result<Value> {
        Err(Error::unsupported("there is nothing to optimise in crops of real images"))
    }
}

impl Rded {
    /// The best crop of each of the `wanted` images whose best crops are best, `[wanted,C,h,w]`, best first.
    fn best_crops(
        &self,
        step: &Step,
        teacher: &Network,
        real: &RealBatch,
        factor: i64,
        wanted: i64,
    ) -> Result<Tensor> {
        let (_, _, height, width) = real.images.size4()?;
        let size = [height, width].map(|side| (side + factor - 1) / factor);
        let options = ResizedCropOptions { scale: [self.options.smallest_crop, 1.0], ratio: [1.0, 1.0] };
        let mut best: Option<(Tensor, Tensor)> = None;
        for crop in 0..self.options.crops {
            let draws = each_uniform(&step.services, "crop", crop, &real.ids)?;
            let crops = ResizedCrop::draw(&draws, [height, width], size, &options).apply(&real.images)?;
            let losses = losses(teacher, &crops, real)?;
            best = Some(match best {
                None => (crops, losses),
                Some((before, lowest)) => {
                    let better = losses.f_lt_tensor(&lowest)?;
                    let images = crops.f_where_self(&better.f_reshape([-1, 1, 1, 1])?, &before)?;
                    (images, losses.f_where_self(&better, &lowest)?)
                }
            });
        }
        let (crops, losses) = best.ok_or_else(|| Error::option("/crops", "no crop is tried"))?;
        let order = losses.f_argsort(0, false)?.f_narrow(0, 0, wanted)?;
        Ok(crops.f_index_select(0, &order)?)
    }
}

/// The teacher's cross-entropy of each crop, `[N]`; around a crop that is smaller than its input is the data's mean.
fn losses(teacher: &Network, crops: &Tensor, real: &RealBatch) -> Result<Tensor> {
    let [_, height, width] = teacher.info().input;
    let (count, _, rows, columns) = crops.size4()?;
    let (above, left) = ((height - rows) / 2, (width - columns) / 2);
    let around = [left, width - columns - left, above, height - rows - above];
    let part = |start: i64| {
        let length = TOGETHER.min(count - start);
        // Padded as in the released code: behind the normalisation, where 0 is the mean.
        let padded = teacher.normalise(&crops.f_narrow(0, start, length)?).f_constant_pad_nd(around)?;
        let ids = &real.ids[start as usize..(start + length) as usize];
        let (images, labels) = (&padded, &real.labels.f_narrow(0, start, length)?);
        let batch = Batch { images, labels, soft_labels: None, ids, space: Space::Normalised };
        batch.cross_entropy_each(&teacher.logits_in(Space::Normalised, images)?)
    };
    let parts: Vec<Tensor> = (0..count).step_by(TOGETHER as usize).map(part).collect::<Result<_>>()?;
    Ok(Tensor::f_cat(&parts, 0)?)
}

/// Images of size `image` (height, width) of `factor`² crops each: of N images, the first takes the 1st, the (N+1)th, and so
/// on, row by row. Where a side is no multiple of `factor`, the last crops lose a border.
fn stitch(crops: &Tensor, image: [i64; 2], factor: i64) -> Result<Tensor> {
    let (count, channels, rows, columns) = crops.size4()?;
    let images = count / (factor * factor);
    let stitched = Tensor::f_zeros([images, channels, image[0], image[1]], (crops.kind(), crops.device()))?;
    for place in 0..factor * factor {
        let (top, left) = (place / factor * rows, place % factor * columns);
        let (height, width) = (rows.min(image[0] - top).max(0), columns.min(image[1] - left).max(0));
        let part = crops.f_narrow(0, place * images, images)?;
        if height > 0 && width > 0 {
            let part = part.f_narrow(2, 0, height)?.f_narrow(3, 0, width)?;
            stitched.f_narrow(2, top, height)?.f_narrow(3, left, width)?.f_copy_(&part)?;
        }
    }
    Ok(stitched)
}

#[cfg(test)]
mod tests {
    use super::*;
    use guard_sdk::Device;

    #[test]
    fn each_image_takes_every_nth_crop_row_by_row() {
        let numbers = Tensor::arange(8, (Kind::Float, Device::Cpu)).reshape([8, 1, 1, 1]);
        let images = stitch(&numbers.expand([8, 1, 2, 2], false), [4, 4], 2).unwrap();
        let corners = |image: i64| {
            let value = |row: i64, column: i64| images.double_value(&[image, 0, row, column]);
            [value(0, 1), value(1, 2), value(3, 0), value(2, 3)]
        };
        assert_eq!((corners(0), corners(1)), ([0.0, 2.0, 4.0, 6.0], [1.0, 3.0, 5.0, 7.0]));
    }

    #[test]
    fn a_side_that_is_no_multiple_of_the_factor_is_filled() {
        let ones = Tensor::ones([4, 1, 3, 3], (Kind::Float, Device::Cpu));
        assert_eq!(stitch(&ones, [5, 5], 2).unwrap(), Tensor::ones([1, 1, 5, 5], (Kind::Float, Device::Cpu)));
        assert_eq!(stitch(&ones, [6, 4], 1).unwrap().size(), [4, 1, 6, 4]);
    }
}
