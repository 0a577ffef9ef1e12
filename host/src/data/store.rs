//! Images as they are kept, and the way out: one row of a batch at a time, in parallel.

use super::{
    cut::Cut,
    decode::{Picture, decode, dimensions},
    source::{EncodedImages, Images, Limits},
};
use guard_sdk::{
    Error, Kind, Result, Tensor,
    augment::{Region, ResizedCrop, ResizedCropOptions},
};
use rayon::prelude::*;
use std::{borrow::Cow, cell::RefCell, sync::Arc};

/// Images that are looked at together where not all can be.
const CHUNK: usize = 1024;

/// How pictures of any size become images of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    /// Height and width of an image.
    pub side: usize,
    /// The shorter side that a picture is resized to before its middle is cut out.
    pub shorter: usize,
}

/// The images of one split.
pub(super) enum Store {
    /// Bytes `[N,C,H,W]`; `brightest` is a pixel of 1.
    Bytes { values: Vec<u8>, shape: [usize; 3], brightest: u8 },
    /// Pixels in [0,1], `[N,C,H,W]`.
    Floats { values: Vec<f32>, shape: [usize; 3] },
    /// Decoded pictures of any size.
    Pictures { pictures: Vec<Picture>, size: Size },
    /// Files that are decoded every time.
    Encoded { images: Arc<dyn EncodedImages>, size: Size, limits: Limits },
}

/// One image of a batch.
pub(super) struct Row {
    /// Its place in the store.
    pub index: usize,
    /// What to keep of a picture of any size; none for its middle.
    pub crop: Option<RandomCrop>,
    /// Then.
    pub cut: Cut,
}

/// A random-resized-crop whose numbers are drawn, of a picture whose size is not yet known.
pub(super) struct RandomCrop {
    /// Uniform numbers.
    pub uniform: [f64; ResizedCrop::DRAWS],
    /// Size and aspect ratio.
    pub options: ResizedCropOptions,
}

impl RandomCrop {
    /// The part of a picture that is kept.
    fn region(&self, height: usize, width: usize) -> Region {
        let size = [height as i64, width as i64];
        let regions = ResizedCrop::draw(&[self.uniform], size, size, &self.options).regions;
        regions.first().copied().unwrap_or_else(|| Region::whole(size))
    }
}

impl Store {
    /// Keeps what a reader found; pictures are decoded now if they take at most `memory` bytes.
    ///
    /// # Errors
    /// If a picture cannot be decoded; it is named.
    pub(super) fn new(images: Images, size: Size, memory: u64, limits: &Limits) -> Result<Self> {
        match images {
            Images::Bytes { values, shape, brightest } => Ok(Self::Bytes { values, shape, brightest }),
            Images::Floats { values, shape } => Ok(Self::Floats { values, shape }),
            Images::Encoded(images) => {
                if !fits(images.as_ref(), memory, limits)? {
                    return Ok(Self::Encoded { images, size, limits: limits.clone() });
                }
                let pictures: Vec<Picture> = (0..images.len())
                    .into_par_iter()
                    .map(|index| decode(&images.bytes(index)?, &images.name(index), limits))
                    .collect::<Result<_>>()?;
                let same = |picture: &Picture| (picture.width, picture.height) == (size.side, size.side);
                if size.shorter == size.side && pictures.iter().all(same) {
                    let shape = [3, size.side, size.side];
                    let mut values = Vec::with_capacity(pictures.len() * shape.iter().product::<usize>());
                    pictures.iter().for_each(|picture| values.extend(picture.planes((0, 0), size.side)));
                    return Ok(Self::Bytes { values, shape, brightest: u8::MAX });
                }
                Ok(Self::Pictures { pictures, size })
            }
        }
    }

    /// Channels, height and width of every image that comes out.
    pub(super) fn shape(&self) -> [usize; 3] {
        match self {
            Self::Bytes { shape, .. } | Self::Floats { shape, .. } => *shape,
            Self::Pictures { size, .. } | Self::Encoded { size, .. } => [3, size.side, size.side],
        }
    }

    /// The same images at another height and width (bilinear, antialiased), where they all have one size.
    ///
    /// # Errors
    /// If their shape would change.
    pub(super) fn resized(self, shape: [usize; 3]) -> Result<Self> {
        let [channels, height, width] = self.shape();
        if [channels, height, width] == shape {
            return Ok(self);
        }
        if channels != shape[0] || height != width {
            return Err(Error::option(
                "/image_size",
                format!("images of {channels}x{height}x{width} cannot be resized to {shape:?}"),
            ));
        }
        let size = [shape[1] as i64, shape[2] as i64];
        let resize = |images: Tensor, levels: Option<f64>| -> Result<Tensor> {
            let images = images.f_reshape([-1, channels as i64, height as i64, width as i64])?;
            let large =
                images.to_kind(Kind::Float).f_internal_upsample_bilinear2d_aa(size, false, None, None)?;
            Ok(match levels {
                Some(brightest) => large.round().clamp(0.0, brightest).to_kind(Kind::Uint8),
                None => large,
            })
        };
        // In pieces, so that the float images need little room.
        let piece = CHUNK * channels * height * width;
        Ok(match self {
            Self::Bytes { values, brightest, .. } => {
                let mut large = Vec::new();
                for values in values.chunks(piece) {
                    let images = resize(Tensor::f_from_slice(values)?, Some(f64::from(brightest)))?;
                    large.extend(Vec::<u8>::try_from(images.flatten(0, -1))?);
                }
                Self::Bytes { values: large, shape, brightest }
            }
            Self::Floats { values, .. } => {
                let mut large = Vec::new();
                for values in values.chunks(piece) {
                    large.extend(Vec::<f32>::try_from(
                        resize(Tensor::f_from_slice(values)?, None)?.flatten(0, -1),
                    )?);
                }
                Self::Floats { values: large, shape }
            }
            pictures => pictures,
        })
    }

    /// Whether [`Row::crop`] means something: the stored pictures have any size.
    pub(super) fn has_pictures(&self) -> bool {
        matches!(self, Self::Pictures { .. } | Self::Encoded { .. })
    }

    /// float32 pixels in [0,1], `[rows.len(),C,H,W]`.
    ///
    /// # Errors
    /// If a picture cannot be read; it is named.
    pub(super) fn images(&self, rows: &[Row]) -> Result<Tensor> {
        let [channels, height, width] = self.shape();
        let length = channels * height * width;
        let shape = [rows.len() as i64, channels as i64, height as i64, width as i64];
        let bytes = |values: &[u8], brightest: u8| -> Result<Tensor> {
            Ok(Tensor::f_from_slice(values)?.f_reshape(shape)?.f_div_scalar(f64::from(brightest))?)
        };
        let stored = |index: usize| index * length..(index + 1) * length;
        match self {
            Self::Bytes { values, brightest, .. } => {
                let fill = |out: &mut [u8]| {
                    out.par_chunks_exact_mut(length).with_min_len(16).zip(rows).for_each(|(out, row)| {
                        row.cut.apply(&values[stored(row.index)], height, width, out);
                    });
                    Ok(())
                };
                staged(rows.len() * length, fill, |out| bytes(out, *brightest))
            }
            Self::Floats { values, .. } => {
                let mut out = vec![0.0; rows.len() * length];
                out.par_chunks_exact_mut(length).with_min_len(16).zip(rows).for_each(|(out, row)| {
                    row.cut.apply(&values[stored(row.index)], height, width, out);
                });
                Ok(Tensor::f_from_slice(&out)?.f_reshape(shape)?.to_kind(Kind::Float))
            }
            Self::Pictures { size, .. } | Self::Encoded { size, .. } => {
                let fill = |out: &mut [u8]| {
                    out.par_chunks_exact_mut(length).zip(rows).try_for_each(|(out, row)| {
                        let picture = self.picture(row.index)?;
                        let image = match &row.crop {
                            Some(crop) => {
                                picture.cropped(&crop.region(picture.height, picture.width), size.side)?
                            }
                            None => picture.centre(size.shorter, size.side)?,
                        };
                        row.cut.apply(&image, height, width, out);
                        Ok(())
                    })
                };
                staged(rows.len() * length, fill, |out| bytes(out, u8::MAX))
            }
        }
    }

    fn picture(&self, index: usize) -> Result<Cow<'_, Picture>> {
        match self {
            Self::Pictures { pictures, .. } => Ok(Cow::Borrowed(&pictures[index])),
            Self::Encoded { images, limits, .. } => {
                Ok(Cow::Owned(decode(&images.bytes(index)?, &images.name(index), limits)?))
            }
            _ => Err(Error::new("the images are not pictures")),
        }
    }
}

thread_local! {
    /// The bytes of a batch; kept, since fresh memory costs more than what is done with it.
    static STAGE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Fills `length` bytes and takes what `done` makes of them.
fn staged(
    length: usize,
    fill: impl FnOnce(&mut [u8]) -> Result<()>,
    done: impl FnOnce(&[u8]) -> Result<Tensor>,
) -> Result<Tensor> {
    // Taken out, so that a nested call finds an empty one.
    let mut stage = STAGE.take();
    stage.resize(length, 0);
    let outcome = fill(&mut stage).and_then(|()| done(&stage));
    STAGE.set(stage);
    outcome
}

/// Whether the decoded pictures take at most `memory` bytes; reads headers until that is known.
fn fits(images: &dyn EncodedImages, memory: u64, limits: &Limits) -> Result<bool> {
    let mut total = 0;
    for first in (0..images.len()).step_by(CHUNK) {
        let sizes: Vec<u64> = (first..images.len().min(first + CHUNK))
            .into_par_iter()
            .map(|index| {
                let (width, height) = dimensions(&images.bytes(index)?, &images.name(index), limits)?;
                Ok(3 * width as u64 * height as u64)
            })
            .collect::<Result<_>>()?;
        total += sizes.iter().sum::<u64>();
        if total > memory {
            return Ok(false);
        }
    }
    Ok(true)
}
