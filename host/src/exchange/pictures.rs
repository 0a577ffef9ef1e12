//! Sets as folders of pictures: SRe2L's `new003/class003_id007.jpg`, whose numbers are the labels, and folders of classes.

use super::source::{Form, Found, FoundLabels};
use crate::data::{
    decode::{Picture, decode_file},
    readers::image_folder,
    source::Limits,
};
use guard_sdk::{Error, Kind, Result, Tensor};
use rayon::prelude::*;
use std::path::{Path, PathBuf};

/// Reads a set; the pictures get `channels`.
///
/// # Errors
/// If a picture cannot be read, has another size than the first, or colours where grey is wanted.
pub(super) fn read(root: &Path, channels: i64, limits: &Limits) -> Result<Found> {
    let folders = image_folder(root)?;
    let numbered: Option<Vec<i64>> = folders.keys().map(|folder| number_after(folder, "new")).collect();
    let (mut files, mut labels) = (Vec::new(), Vec::new());
    for (position, pictures) in folders.values().enumerate() {
        let label = numbered.as_ref().map_or(position as i64, |numbers| numbers[position]);
        if numbered.is_some() {
            pictures.iter().try_for_each(|picture| same_class(picture, label))?;
        }
        labels.extend(pictures.iter().map(|_| label));
        files.extend(pictures.iter().cloned());
    }
    let images = images(&files, channels, limits)?;
    let (form, labels) = match numbered {
        Some(_) => (Form::Sre2l, FoundLabels::Numbers(Tensor::f_from_slice(&labels)?)),
        None => (Form::ImageFolder, FoundLabels::Names(labels, folders.into_keys().collect())),
    };
    Ok(Found { form, images, labels, soft_labels: None, learning_rate: None, files })
}

/// The number that follows `word` at the beginning of a name.
fn number_after(name: &str, word: &str) -> Option<i64> {
    let rest = name.strip_prefix(word)?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

/// The class is told twice, by the folder and by the file.
fn same_class(picture: &Path, folder: i64) -> Result<()> {
    let name = picture.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match number_after(name, "class") {
        Some(class) if class != folder => {
            let message =
                format!("`{}` is of class {class}, but in the folder of {folder}", picture.display());
            Err(Error::new(message).help("SRe2L's folders are `newXXX` with files `classXXX_idYYY.jpg`"))
        }
        _ => Ok(()),
    }
}

/// All pictures, uint8 `[N,C,H,W]`.
fn images(files: &[PathBuf], channels: i64, limits: &Limits) -> Result<Tensor> {
    let pictures: Vec<Picture> =
        files.par_iter().map(|file| decode_file(file, limits)).collect::<Result<_>>()?;
    let Some(first) = pictures.first() else { return Err(Error::new("there are no pictures")) };
    let (width, height) = (first.width, first.height);
    let mut values = Vec::with_capacity(pictures.len() * first.rgb.len());
    for (picture, file) in pictures.iter().zip(files) {
        if (picture.width, picture.height) != (width, height) {
            let message = format!(
                "`{}` has {}x{} pixels, and `{}` {width}x{height}",
                file.display(),
                picture.width,
                picture.height,
                files[0].display()
            );
            return Err(Error::new(message).help("all pictures of a set have one size"));
        }
        if channels == 1
            && picture.rgb.chunks_exact(3).any(|pixel| pixel[0] != pixel[1] || pixel[1] != pixel[2])
        {
            return Err(Error::new(format!("`{}` has colours, and the data set is grey", file.display())));
        }
        values.extend_from_slice(&picture.rgb);
    }
    let shape = [files.len() as i64, height as i64, width as i64, 3];
    let images = Tensor::f_from_slice(&values)?.f_reshape(shape)?.f_permute([0, 3, 1, 2])?;
    Ok(images.f_narrow(1, 0, channels)?.f_contiguous()?.to_kind(Kind::Uint8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_behind_their_word() {
        for (name, word, number) in [
            ("new003", "new", Some(3)),
            ("new1000", "new", Some(1000)),
            ("class012_id004.jpg", "class", Some(12)),
            ("newer", "new", None),
            ("003", "new", None),
            ("new99999999999999999999", "new", None),
        ] {
            assert_eq!(number_after(name, word), number, "{name}");
        }
    }
}
