//! Arrays of images and labels: npz and safetensors.

use super::{bytes, read, refusal};
use guard_host::data::source::Images;
use guard_tests::data_files::{Folder, noise, npy, npz, safetensors};

fn le(labels: &[i64]) -> Vec<u8> {
    labels.iter().flat_map(|label| label.to_le_bytes()).collect()
}

#[test]
fn arrays_are_read_by_the_names_of_the_field_in_every_layout() {
    let pixels = noise(2 * 4 * 5 * 3, 1);
    let labels = npy("<i8", &[2], &le(&[1, 0]));
    let image = |shape: &[usize]| npy("|u1", shape, &pixels[..shape.iter().product()]);
    let layouts: [(&[usize], [usize; 3]); 3] =
        [(&[2, 4, 5], [1, 4, 5]), (&[2, 3, 4, 5], [3, 4, 5]), (&[2, 4, 5, 3], [3, 4, 5])];
    for (shape, expected) in layouts {
        for [images, classes] in
            [["images", "labels"], ["x_train", "y_train"], ["train_images", "train_labels"]]
        {
            let folder = Folder::with(&vec![(
                "x.npz".into(),
                npz(&[(images, image(shape)), (classes, labels.clone())]),
            )]);
            let source = read("npz", &folder.path("x.npz")).unwrap();
            let (values, found) = bytes(&source.train);
            assert_eq!((found, source.train.labels.as_slice()), (expected, [1, 0].as_slice()));
            match shape.last() {
                // Channels first: the second image's green at row 0, column 1.
                Some(3) => assert_eq!(values[60 + 20 + 1], pixels[60 + 3 + 1]),
                _ => assert_eq!(values, &pixels[..values.len()]),
            }
            assert!(source.test.is_none());
        }
    }
}

#[test]
fn arrays_of_the_test_split_and_big_endian_floats_are_read() {
    let pixels: Vec<u8> = (0..8).flat_map(|value| (f64::from(value) / 8.0).to_be_bytes()).collect();
    let arrays = [
        ("x_train", npy(">f8", &[2, 2, 2], &pixels)),
        ("y_train", npy("|u1", &[2, 1], &[1, 0])),
        ("x_test", npy(">f8", &[1, 2, 2], &pixels[..32])),
        ("y_test", npy(">i4", &[1], &1i32.to_be_bytes())),
    ];
    let folder = Folder::with(&vec![("x.npz".into(), npz(&arrays))]);
    let source = read("npz", &folder.path("x.npz")).unwrap();
    assert_eq!(source.test.unwrap().labels, [1]);
    let Images::Floats { values, shape: [1, 2, 2] } = &source.train.images else { panic!("not floats") };
    assert_eq!(values, &[0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875]);
}

#[test]
fn arrays_that_are_wrong_are_named() {
    let with = |images: Vec<u8>, labels: Vec<u8>| {
        let folder = Folder::with(&vec![("x.npz".into(), npz(&[("images", images), ("labels", labels)]))]);
        refusal("npz", &folder.path("x.npz"), &folder)
    };
    let images = || npy("|u1", &[2, 4, 4], &noise(32, 1));
    let labels = || npy("<i8", &[2], &le(&[0, 1]));
    assert_eq!(
        with(images(), npy("|O", &[2], b"cos\nsystem\n")),
        "`x.npz/labels` is an object array, which is a pickle and could run code"
    );
    assert_eq!(
        with(images(), npy("<i8", &[3], &le(&[0, 1, 2]))),
        "`x.npz/images` has shape [2, 4, 4], but there are 3 labels"
    );
    assert_eq!(
        with(images(), npy("<i8", &[2], &le(&[0, 7]))),
        "`x.npz/images` has 2 images, but their labels go up to 7"
    );
    assert_eq!(
        with(images(), npy("<f4", &[2], &[0; 8])),
        "`x.npz/labels` holds floating-point numbers; labels are integers"
    );
    assert_eq!(
        with(images(), npy("<i8", &[2], &le(&[-1, 0]))),
        "`x.npz/images, image 0` has label -1, but the labels of 1 classes end at 0"
    );
    assert_eq!(
        with(npy("|u1", &[2, 3, 4, 3], &noise(72, 1)), labels()),
        "`x.npz/images` has shape [2, 3, 4, 3], whose channels could be the second axis or the last"
    );
    assert_eq!(
        with(npy("|u1", &[2, 2, 4, 2], &noise(32, 1)), labels()),
        "`x.npz/images` has shape [2, 2, 4, 2]; neither its second axis nor its last is 1 or 3 channels"
    );
    assert_eq!(
        with(npy("<f4", &[2, 1, 1], &[0.5f32, 200.0].map(f32::to_le_bytes).concat()), labels()),
        "`x.npz/images, image 1` has a pixel of 200; pixels are in [0,1]"
    );
    assert_eq!(
        with(npy("|u1", &[2, 4, 4], &noise(31, 1)), labels()),
        "`x.npz/images` has 31 bytes of numbers, which is not what shape [2, 4, 4] takes"
    );
    let folder = Folder::with(&vec![("x.npz".into(), npz(&[("../images", images()), ("labels", labels())]))]);
    assert_eq!(
        refusal("npz", &folder.path("x.npz"), &folder),
        "`x.npz/../images.npy` has a name that leads out of the archive"
    );
    let folder = Folder::with(&vec![("x.npz".into(), npz(&[("pictures", images())]))]);
    assert_eq!(
        refusal("npz", &folder.path("x.npz"), &folder),
        "`x.npz` has no array `images`, `train_images` or `x_train`"
    );
}

#[test]
fn tensors_are_read_like_arrays() {
    use ::safetensors::Dtype::{F32, I64, U8};
    let pixels = noise(2 * 3 * 4 * 5, 1);
    let floats: Vec<u8> = pixels.iter().flat_map(|&value| (f32::from(value) / 255.0).to_le_bytes()).collect();
    let file = safetensors(&[
        ("images", F32, vec![2, 3, 4, 5], floats),
        ("labels", I64, vec![2], le(&[1, 0])),
        ("test_images", U8, vec![1, 3, 4, 5], pixels[..60].to_vec()),
        ("test_labels", I64, vec![1], le(&[1])),
    ]);
    let folder = Folder::with(&vec![("x.safetensors".into(), file.clone())]);
    let source = read("safetensors", &folder.path("x.safetensors")).unwrap();
    let Images::Floats { values, shape: [3, 4, 5] } = &source.train.images else { panic!("not floats") };
    assert_eq!(
        (values[7], source.train.labels.as_slice()),
        (f32::from(pixels[7]) / 255.0, [1, 0].as_slice())
    );
    assert_eq!(bytes(&source.test.unwrap()).0, &pixels[..60]);
    folder.write("cut.safetensors", &file[..file.len() - 1]);
    let message = refusal("safetensors", &folder.path("cut.safetensors"), &folder);
    assert!(message.starts_with("`cut.safetensors` is not a safetensors file"), "{message}");
}
