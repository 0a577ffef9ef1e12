//! What is known of a set without reading it.

use guard_sdk::{Error, Result};

/// Mean and standard deviation of a training split's pixels, per channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Constants {
    /// The mean.
    pub mean: &'static [f64],
    /// The standard deviation.
    pub std: &'static [f64],
}

/// What is known of a set without reading it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Known {
    /// The name in recipes.
    pub name: &'static str,
    /// What it is, in a few words.
    pub about: &'static str,
    /// Number of classes, where it is fixed.
    pub classes: Option<usize>,
    /// Channels, height and width, where they are fixed.
    pub image: Option<[i64; 3]>,
    /// Number of training and of test images, where it is fixed.
    pub images: Option<[usize; 2]>,
    /// The constants that the field normalises with, where there are any.
    pub constants: Option<Constants>,
    /// Those of DC, DSA, DM and MTT, where they differ: for CIFAR-10 their std is the mean of the images' own stds.
    pub dc_constants: Option<Constants>,
    /// True if the images are colour pictures of any size.
    pub pictures: bool,
    /// False for what is built in.
    pub needs_root: bool,
}

/// ImageNet's.
pub const IMAGENET: Constants = Constants { mean: &[0.485, 0.456, 0.406], std: &[0.229, 0.224, 0.225] };

const UNKNOWN: Known = Known {
    name: "",
    about: "",
    classes: None,
    image: None,
    images: None,
    constants: None,
    dc_constants: None,
    pictures: false,
    needs_root: true,
};

/// All sets that can be read.
pub const DATASETS: [Known; 13] = [
    Known {
        name: "digits",
        about: "1,797 handwritten digits, built in",
        classes: Some(10),
        images: Some([1_437, 360]),
        image: Some([1, 8, 8]),
        constants: Some(Constants { mean: &[0.305_386], std: &[0.375_507] }),
        needs_root: false,
        ..UNKNOWN
    },
    Known {
        name: "mnist",
        about: "MNIST, IDX files",
        classes: Some(10),
        images: Some([60_000, 10_000]),
        image: Some([1, 28, 28]),
        constants: Some(Constants { mean: &[0.1307], std: &[0.3081] }),
        ..UNKNOWN
    },
    Known {
        name: "fashion-mnist",
        about: "Fashion-MNIST, IDX files",
        classes: Some(10),
        images: Some([60_000, 10_000]),
        image: Some([1, 28, 28]),
        constants: Some(Constants { mean: &[0.2860], std: &[0.3530] }),
        dc_constants: Some(Constants { mean: &[0.2861], std: &[0.3530] }),
        ..UNKNOWN
    },
    Known {
        name: "cifar10",
        about: "CIFAR-10, binary version",
        classes: Some(10),
        images: Some([50_000, 10_000]),
        image: Some([3, 32, 32]),
        constants: Some(Constants { mean: &[0.4914, 0.4822, 0.4465], std: &[0.2470, 0.2435, 0.2616] }),
        dc_constants: Some(Constants { mean: &[0.4914, 0.4822, 0.4465], std: &[0.2023, 0.1994, 0.2010] }),
        ..UNKNOWN
    },
    Known {
        name: "cifar100",
        about: "CIFAR-100 with its fine labels, binary version",
        classes: Some(100),
        images: Some([50_000, 10_000]),
        image: Some([3, 32, 32]),
        constants: Some(Constants { mean: &[0.5071, 0.4866, 0.4409], std: &[0.2673, 0.2564, 0.2762] }),
        ..UNKNOWN
    },
    Known {
        name: "tiny-imagenet",
        about: "Tiny-ImageNet, 200 classes",
        classes: Some(200),
        images: Some([100_000, 10_000]),
        image: Some([3, 64, 64]),
        constants: Some(IMAGENET),
        ..UNKNOWN
    },
    Known {
        name: "imagenet",
        about: "ImageNet-1K, class folders",
        classes: Some(1000),
        images: Some([1_281_167, 50_000]),
        constants: Some(IMAGENET),
        pictures: true,
        ..UNKNOWN
    },
    Known {
        name: "imagenette",
        about: "ImageNette, class folders",
        classes: Some(10),
        images: Some([9_469, 3_925]),
        constants: Some(IMAGENET),
        pictures: true,
        ..UNKNOWN
    },
    Known {
        name: "imagewoof",
        about: "ImageWoof, class folders",
        classes: Some(10),
        images: Some([9_025, 3_929]),
        constants: Some(IMAGENET),
        pictures: true,
        ..UNKNOWN
    },
    Known { name: "imagefolder", about: "a folder of images for each class", pictures: true, ..UNKNOWN },
    Known { name: "npz", about: "NumPy arrays of images and labels", ..UNKNOWN },
    Known { name: "safetensors", about: "tensors of images and labels", ..UNKNOWN },
    Known { name: "parquet", about: "Parquet files with an image column", pictures: true, ..UNKNOWN },
];

/// What is known of the set `name` without reading it.
///
/// # Errors
/// If there is no reader for it. The help names the nearest.
pub fn known(name: &str) -> Result<&'static Known> {
    static TABLE: [Known; DATASETS.len()] = DATASETS;
    if let Some(known) = TABLE.iter().find(|known| known.name == name) {
        return Ok(known);
    }
    let likeness = |known: &&Known| strsim::jaro_winkler(&name.to_lowercase(), known.name);
    let nearest =
        TABLE.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b))).filter(|known| likeness(known) > 0.7);
    let all = TABLE.map(|known| known.name).join(", ");
    let error = Error::new(format!("there is no reader for data set `{name}`"));
    Err(match nearest {
        Some(known) => error.help(format!("did you mean `{}`? There are: {all}", known.name)),
        None => error.help(format!("there are: {all}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_is_answered_with_the_nearest() {
        for (typed, meant) in
            [("cifar-10", "cifar10"), ("FashionMNIST", "fashion-mnist"), ("image-folder", "imagefolder")]
        {
            let help = known(typed).unwrap_err().help.unwrap();
            assert!(help.starts_with(&format!("did you mean `{meant}`?")), "{help}");
        }
        assert!(known("zzz").unwrap_err().help.unwrap().starts_with("there are: digits, mnist"));
    }

    #[test]
    fn constants_have_a_value_for_each_channel() {
        for set in DATASETS {
            assert_eq!(known(set.name).unwrap(), &set);
            let channels = set.image.map_or(3, |image| image[0] as usize);
            for constants in [set.constants, set.dc_constants].into_iter().flatten() {
                assert_eq!((constants.mean.len(), constants.std.len()), (channels, channels), "{}", set.name);
            }
        }
    }
}
