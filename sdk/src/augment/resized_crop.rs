//! Parts of images, resized.

use super::{
    Region,
    rows::{check_entries, whole},
};
use crate::{Result, sent};
use tch::{Device, Kind, Tensor};

/// Options of a random-resized-crop.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResizedCropOptions {
    /// The smallest and the largest share of the image's area that is kept.
    #[schemars(extend("items" = { "type": "number", "exclusiveMinimum": 0.0, "maximum": 1.0 }))]
    pub scale: [f64; 2],
    /// The smallest and the largest aspect ratio, width over height, of what is kept.
    #[schemars(extend("items" = { "type": "number", "exclusiveMinimum": 0.0 }))]
    pub ratio: [f64; 2],
}

impl Default for ResizedCropOptions {
    fn default() -> Self {
        Self { scale: [0.08, 1.0], ratio: [3.0 / 4.0, 4.0 / 3.0] }
    }
}

/// A part of the image, resized (bilinear, antialiased as in Pillow).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResizedCrop {
    /// What is kept.
    pub regions: Vec<Region>,
    /// Height and width after it, in pixels.
    pub size: [i64; 2],
}

impl ResizedCrop {
    /// Numbers in a row.
    pub const DRAWS: usize = 2 * Self::ATTEMPTS + 2;
    const ATTEMPTS: usize = 10;

    /// torchvision's choice in an image of size `image` (height, width): the first of ten attempts that fits, else as much
    /// of the middle as the aspect ratios allow. `size` is the size after it.
    pub fn draw(
        uniform: &[[f64; Self::DRAWS]],
        image: [i64; 2],
        size: [i64; 2],
        options: &ResizedCropOptions,
    ) -> Self {
        Self { regions: uniform.iter().map(|row| region(row, image, options)).collect(), size }
    }

    /// The images `[N,C,h,w]` after it, from `[N,C,H,W]`.
    ///
    /// Parameters of each example's own take one call of libtorch's resize per example on the CPU, and two products with
    /// matrices of weights elsewhere: a GPU is slow in small calls, and a CPU in products that are mostly zeros (6 times
    /// slower at 224 pixels).
    ///
    /// # Errors
    /// If the parameters are those of another number of examples, a region reaches outside the images, or a side is 0.
    pub fn apply(&self, images: &Tensor) -> Result<Tensor> {
        check_entries("resized crop", self.regions.len(), images)?;
        self.regions.iter().try_for_each(|region| region.check(images))?;
        match self.regions[..] {
            [region] => resized(&region.view(images)?, self.size),
            _ if images.device() == Device::Cpu => self.one_by_one(images),
            _ => self.products(images),
        }
    }

    fn one_by_one(&self, images: &Tensor) -> Result<Tensor> {
        let images = images.f_unbind(0)?;
        let parts = images.iter().zip(&self.regions);
        let parts: Vec<Tensor> = parts
            .map(|(image, region)| resized(&region.view(&image.f_unsqueeze(0)?)?, self.size))
            .collect::<Result<_>>()?;
        Ok(Tensor::f_cat(&parts, 0)?)
    }

    /// W_rows · x · W_columnsᵀ for each example and channel.
    fn products(&self, images: &Tensor) -> Result<Tensor> {
        let (_, _, height, width) = images.size4()?;
        let spans = |span: fn(&Region) -> (i64, i64)| self.regions.iter().map(span).collect::<Vec<_>>();
        let rows = weights(&spans(|region| (region.top, region.height)), height, self.size[0], images)?;
        let columns = weights(&spans(|region| (region.left, region.width)), width, self.size[1], images)?;
        Ok(rows.f_matmul(&images.f_matmul(&columns.f_transpose(-1, -2)?)?)?)
    }
}

/// `images` `[N,C,H,W]` in another size (bilinear, antialiased).
pub(super) fn resized(images: &Tensor, size: [i64; 2]) -> Result<Tensor> {
    let (_, _, height, width) = images.size4()?;
    if [height, width] == size {
        return Ok(images.shallow_clone());
    }
    Ok(images.f_internal_upsample_bilinear2d_aa(size, false, None, None)?)
}

/// How much each of `from` pixels counts for each of `to` pixels when the span (start, length) of each example is resized:
/// `[N,1,to,from]`, in the images' dtype.
///
/// A triangle of half a pixel's width in the coarser of the two grids on each side, cut off at the span's ends.
fn weights(spans: &[(i64, i64)], from: i64, to: i64, images: &Tensor) -> Result<Tensor> {
    let options = (Kind::Double, images.device());
    let column = |value: fn(&(i64, i64)) -> i64| -> Result<Tensor> {
        let values: Vec<f64> = spans.iter().map(|span| value(span) as f64).collect();
        Ok(sent(&Tensor::f_from_slice(&values)?, images.device())?.f_reshape([-1, 1, 1])?)
    };
    let (start, length) = (column(|span| span.0)?, column(|span| span.1)?);
    let step = &length / to as f64;
    let centres = &start + &step * (Tensor::f_arange(to, options)? + 0.5).unsqueeze(1);
    let pixels = Tensor::f_arange(from, options)? + 0.5;
    let weights: Tensor = 1.0 - (&pixels - centres).abs() / step.clamp_min(1.0);
    let outside = pixels.f_lt_tensor(&start)?.f_logical_or(&pixels.f_gt_tensor(&(&start + length))?)?;
    let weights = weights.clamp_min(0.0).f_masked_fill(&outside, 0.0)?;
    let sums = weights.f_sum_dim_intlist(-1, true, Kind::Double)?;
    Ok((weights / sums).f_to_kind(images.kind())?.unsqueeze(1))
}

fn region(row: &[f64; ResizedCrop::DRAWS], image: [i64; 2], options: &ResizedCropOptions) -> Region {
    let ([height, width], [smallest, largest]) = (image, options.scale);
    let area = (height * width) as f64;
    let [narrowest, widest] = options.ratio;
    let (lowest, highest) = (narrowest.ln(), widest.ln());
    let (place, attempts) = row.split_at(2);
    for attempt in attempts.as_chunks::<2>().0 {
        let target = area * (smallest + (largest - smallest) * attempt[0]);
        let ratio = (lowest + (highest - lowest) * attempt[1]).exp();
        let (w, h) = ((target * ratio).sqrt().round() as i64, (target / ratio).sqrt().round() as i64);
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            let (top, left) = (whole(place[0], 0, height - h), whole(place[1], 0, width - w));
            return Region { top, left, height: h, width: w };
        }
    }
    let ratio = width as f64 / height as f64;
    let (h, w) = if ratio < narrowest {
        ((width as f64 / narrowest).round() as i64, width)
    } else if ratio > widest {
        (height, (height as f64 * widest).round() as i64)
    } else {
        (height, width)
    };
    Region { top: (height - h) / 2, left: (width - w) / 2, height: h, width: w }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(seed: u64) -> [f64; ResizedCrop::DRAWS] {
        std::array::from_fn(|i| ((seed * 31 + i as u64 * 17 + 7) * 2654435761 % 1000) as f64 / 1000.0)
    }

    #[test]
    fn crops_stay_inside_the_image_and_keep_the_share_they_were_asked_for() {
        let options = ResizedCropOptions { scale: [0.2, 0.5], ..ResizedCropOptions::default() };
        let rows: Vec<_> = (0..200).map(row).collect();
        let crop = ResizedCrop::draw(&rows, [32, 24], [8, 8], &options);
        let images = Tensor::zeros([1, 1, 32, 24], (Kind::Float, Device::Cpu));
        for region in crop.regions {
            region.check(&images).unwrap();
            let share = (region.height * region.width) as f64 / (32.0 * 24.0);
            assert!((0.15..=0.56).contains(&share), "{share}");
        }
    }

    #[test]
    fn where_no_attempt_fits_the_middle_is_kept() {
        let whole = ResizedCropOptions { scale: [1.0, 1.0], ..ResizedCropOptions::default() };
        let kept = |image| {
            let Region { top, left, height, width } =
                ResizedCrop::draw(&[row(0)], image, [8, 8], &whole).regions[0];
            [top, left, height, width]
        };
        assert_eq!(kept([10, 100]), [0, 43, 10, 13]);
        assert_eq!(kept([100, 9]), [44, 0, 12, 9]);
        let square = ResizedCropOptions { ratio: [2.0, 2.0], scale: [1.0, 1.0] };
        assert_eq!(ResizedCrop::draw(&[row(0)], [8, 8], [8, 8], &square).regions[0].height, 4);
    }

    #[test]
    fn a_whole_crop_changes_nothing_and_a_constant_image_stays_constant() {
        let images = Tensor::rand([2, 3, 8, 8], (Kind::Double, Device::Cpu));
        let whole = ResizedCrop { regions: vec![Region::whole([8, 8])], size: [8, 8] };
        assert_eq!(whole.apply(&images).unwrap(), images);
        let regions = vec![Region { top: 1, left: 2, height: 4, width: 5 }];
        let part = ResizedCrop { regions, size: [8, 8] };
        let flat = part.apply(&Tensor::full([1, 1, 8, 8], 0.25, (Kind::Double, Device::Cpu))).unwrap();
        assert!((flat - 0.25).abs().max().double_value(&[]) < 1e-15);
    }

    #[test]
    fn products_with_weights_are_libtorchs_resize() {
        for size in [[8, 8], [20, 5], [5, 31], [40, 40], [1, 1]] {
            let rows: Vec<_> = (0..50).map(row).collect();
            let crop = ResizedCrop::draw(&rows, [23, 17], size, &ResizedCropOptions::default());
            let images = Tensor::rand([50, 3, 23, 17], (Kind::Double, Device::Cpu));
            let (one_by_one, products) = (crop.one_by_one(&images).unwrap(), crop.products(&images).unwrap());
            assert_eq!(products.size(), one_by_one.size());
            let off = (products - one_by_one).abs().max().double_value(&[]);
            assert!(off < 1e-13, "{off}");
        }
    }
}
