//! What holds for every transform: it can be recorded and replayed, and leaves what it was given alone.

use crate::samples::{numbers, samples};
use guard_sdk::{
    Device, Kind, Tensor,
    augment::{ColorJitter, ColorJitterOptions, Flip},
};

#[test]
fn what_was_recorded_gives_the_same_bits_and_the_images_stay_as_they_were() {
    for (count, channels, image) in [(7, 3, [9, 12]), (1, 1, [11, 6]), (4, 1, [8, 8]), (1, 3, [6, 7])] {
        for kind in [Kind::Float, Kind::Double] {
            for entries in [1, count as u64] {
                let images = Tensor::rand([count, channels, image[0], image[1]], (kind, Device::Cpu));
                let before = images.copy();
                for sample in samples(entries, count, image) {
                    let name = &sample.name;
                    let after = (sample.apply)(&images).unwrap_or_else(|error| panic!("{name}: {error}"));
                    assert_eq!(after.size(), [count, channels, sample.size[0], sample.size[1]], "{name}");
                    assert_eq!(after.kind(), kind, "{name}");
                    assert_eq!(images, before, "{name} changed its input");
                    assert_eq!((sample.from_json)(&images).unwrap(), after, "{name} from JSON");
                    assert_eq!((sample.from_toml)(&images).unwrap(), after, "{name} from TOML");
                }
            }
        }
    }
}

#[test]
fn parameters_of_another_number_of_examples_are_refused() {
    let images = Tensor::zeros([3, 3, 8, 8], (Kind::Float, Device::Cpu));
    for sample in samples(2, 2, [8, 8]).iter().filter(|sample| sample.name != "no DSA") {
        let error = (sample.apply)(&images).expect_err("two entries for three images");
        let message = &error.message;
        assert!(message.contains('2') && message.contains('3'), "{}: {message}", sample.name);
    }
    let error = Flip { flipped: Vec::new() }.apply(&images).unwrap_err();
    assert_eq!(error.message, "flip has parameters of 0 examples, but there are 3 images");
}

#[test]
fn images_without_a_batch_are_refused() {
    let image = Tensor::zeros([3, 8, 8], (Kind::Float, Device::Cpu));
    for sample in samples(1, 3, [8, 8]).iter().filter(|sample| !matches!(&*sample.name, "no DSA" | "Mixup")) {
        assert!((sample.apply)(&image).is_err(), "{}", sample.name);
    }
}

#[test]
fn every_number_survives_json() {
    let options = ColorJitterOptions { brightness: 0.7, contrast: 0.3, saturation: 0.9, hue: 0.5 };
    let rows: Vec<_> = (0..5000).map(numbers).collect();
    let jitter = ColorJitter::draw(&rows, &options);
    let json = serde_json::to_string(&jitter).unwrap();
    assert_eq!(serde_json::from_str::<ColorJitter>(&json).unwrap(), jitter);
}
