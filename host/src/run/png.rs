//! Pictures of tensors: lossless PNGs, and many images on one sheet.

use super::atomic::write_bytes;
use guard_sdk::{Device, Error, Kind, Result, Tensor};
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use std::path::Path;

/// Images are enlarged, by a whole factor, to about so many pixels.
const SIDE: i64 = 64;

/// Bytes `[N,C,H,W]` as one picture `[C,H',W']`: `columns` images a row, small ones enlarged, each in a grey frame; what is
/// missing in the last row is grey.
///
/// # Errors
/// If libtorch refuses.
pub fn sheet(images: &Tensor, columns: i64) -> Result<Tensor> {
    let (count, channels, height, width) = images.size4()?;
    let zoom = (SIDE / height.max(width)).max(1);
    let large = images.repeat_interleave_self_int(zoom, 2, None).repeat_interleave_self_int(zoom, 3, None);
    let (height, width) = (height * zoom + 2, width * zoom + 2);
    let rows = (count + columns - 1) / columns;
    let grey = Tensor::full(
        [rows * columns - count, channels, height, width],
        128,
        (images.kind(), images.device()),
    );
    let framed = Tensor::f_cat(&[large.f_pad([1, 1, 1, 1], "constant", Some(128.0))?, grey], 0)?;
    let sheet = framed.f_reshape([rows, columns, channels, height, width])?.permute([2, 0, 3, 1, 4]);
    Ok(sheet.f_reshape([channels, rows * height, columns * width])?)
}

/// Pixels as the nearest of 256 levels, uint8.
pub fn levels(pixels: &Tensor) -> Tensor {
    (pixels * 255.0).round().clamp(0.0, 255.0).to_kind(Kind::Uint8)
}

/// The images `clean`, and for each of `attacked` what became of them and the difference, enlarged to the whole range; a row
/// each. `[N,C,H,W]` in [0,1] each.
///
/// # Errors
/// If libtorch refuses.
pub fn attacked_sheet(clean: &Tensor, attacked: &[Tensor]) -> Result<Tensor> {
    let mut rows = vec![clean.shallow_clone()];
    for images in attacked {
        let difference = images - clean;
        let largest = difference.abs().max().double_value(&[]).max(f64::MIN_POSITIVE);
        rows.extend([images.shallow_clone(), difference / (2.0 * largest) + 0.5]);
    }
    sheet(&levels(&Tensor::f_cat(&rows, 0)?.to_device(Device::Cpu)), clean.size()[0])
}

/// Writes bytes `[C,H,W]` (grey or RGB) as a lossless PNG, whole or not at all.
///
/// # Errors
/// If there are other channels, or the file system refuses.
pub fn write_png(path: &Path, pixels: &Tensor) -> Result<()> {
    write_bytes(path, &encode_png(pixels)?)
}

/// Bytes `[C,H,W]` (grey or RGB) as a lossless PNG.
///
/// # Errors
/// If there are other channels.
pub fn encode_png(pixels: &Tensor) -> Result<Vec<u8>> {
    let (channels, height, width) = pixels.size3()?;
    let (height, width) = (height as u32, width as u32);
    let bytes = Vec::<u8>::try_from(pixels.permute([1, 2, 0]).contiguous().reshape([-1]))?;
    let colour = match channels {
        1 => ExtendedColorType::L8,
        3 => ExtendedColorType::Rgb8,
        _ => return Err(Error::new(format!("an image of {channels} channels cannot be a PNG"))),
    };
    let mut png = Vec::new();
    PngEncoder::new(&mut png)
        .write_image(&bytes, width, height, colour)
        .map_err(|error| Error::new(format!("a PNG cannot be made: {error}")))?;
    Ok(png)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sheet_has_every_image_in_its_place_and_grey_where_none_is_left() {
        let images =
            Tensor::arange(3, (Kind::Uint8, Device::Cpu)).reshape([3, 1, 1, 1]).expand([3, 1, 64, 64], false);
        let sheet = sheet(&images, 2).unwrap();
        assert_eq!(sheet.size(), [1, 132, 132]);
        let at = |row: i64, column: i64| sheet.int64_value(&[0, row, column]);
        assert_eq!([at(30, 30), at(30, 100), at(100, 30), at(100, 100), at(0, 0)], [0, 1, 2, 128, 128]);
    }
}
