//! Tiny data sets of every format, made on the spot.

use flate2::{Compression, write::GzEncoder};
use image::{DynamicImage, ImageFormat, RgbImage};
use parquet::{
    basic::Compression as Codec,
    data_type::{ByteArray, ByteArrayType, Int64Type},
    file::{metadata::KeyValue, properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};
use safetensors::{Dtype, tensor::TensorView};
use std::{
    fs,
    io::{Cursor, Write},
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;
use zip::{ZipWriter, write::SimpleFileOptions};

/// Files by their paths.
pub type Files = Vec<(String, Vec<u8>)>;

/// A folder with files, removed when dropped.
pub struct Folder(TempDir);

impl Folder {
    /// The folder with `files` in it.
    pub fn with(files: &Files) -> Self {
        let folder = Self(tempfile::tempdir().expect("a temporary folder"));
        files.iter().for_each(|(name, bytes)| folder.write(name, bytes));
        folder
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        self.0.path()
    }

    /// The path of one of its files.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// Writes a file, and the folders that it lies in.
    pub fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder can be made");
        fs::write(path, bytes).expect("a file can be written");
    }
}

/// Bytes that look like nothing in particular.
pub fn noise(count: usize, seed: usize) -> Vec<u8> {
    (0..count).map(|position| ((position + seed * 101).wrapping_mul(2_654_435_761) >> 7) as u8).collect()
}

/// A photo of smooth noise.
pub fn photo(format: ImageFormat, width: u32, height: u32, seed: u32) -> Vec<u8> {
    let pixel = |x: u32, y: u32| {
        image::Rgb([x * 9 + seed * 31, y * 11 + seed * 7, (x + y) * 5 + seed].map(|v| v as u8))
    };
    let mut bytes = Cursor::new(Vec::new());
    let picture = DynamicImage::ImageRgb8(RgbImage::from_fn(width, height, pixel));
    picture.write_to(&mut bytes, format).expect("the encoder takes RGB");
    bytes.into_inner()
}

/// The bytes, gzipped.
pub fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes all")
}

/// The files as a gzipped tar archive.
pub fn tar_gz(files: &Files) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes.as_slice()).expect("memory takes all");
    }
    gzipped(&builder.into_inner().expect("memory takes all"))
}

/// An IDX file.
pub fn idx(lengths: &[u32], bytes: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, lengths.len() as u8];
    lengths.iter().for_each(|length| file.extend(length.to_be_bytes()));
    file.extend(bytes);
    file
}

/// MNIST with as many images of each split as there are labels.
pub fn mnist(train: &[u8], test: &[u8]) -> Files {
    let part = |stem: &str, labels: &[u8], seed| {
        let count = labels.len() as u32;
        [
            (format!("{stem}-images-idx3-ubyte"), idx(&[count, 28, 28], &noise(labels.len() * 784, seed))),
            (format!("{stem}-labels-idx1-ubyte"), idx(&[count], labels)),
        ]
    };
    part("train", train, 1).into_iter().chain(part("t10k", test, 2)).collect()
}

/// CIFAR-10 with records of these labels in each of the six files, in a folder of the published name.
pub fn cifar10(labels: &[u8]) -> Files {
    let names = (1..=5).map(|batch| format!("data_batch_{batch}.bin")).chain(["test_batch.bin".to_owned()]);
    let record = |file: usize, index: usize, label: u8| [vec![label], noise(3072, 7 * file + index)].concat();
    let file = |file: usize| {
        labels.iter().enumerate().flat_map(|(index, &label)| record(file, index, label)).collect::<Vec<_>>()
    };
    let names = names.enumerate().map(|(index, name)| (format!("cifar-10-batches-bin/{name}"), file(index)));
    let classes = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
    names.chain([("cifar-10-batches-bin/batches.meta.txt".into(), classes.join("\n").into_bytes())]).collect()
}

/// A NumPy array; `descr` such as `|u1`.
pub fn npy(descr: &str, shape: &[usize], bytes: &[u8]) -> Vec<u8> {
    let shape: String = shape.iter().map(|length| format!("{length}, ")).collect();
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    [b"\x93NUMPY\x01\0".as_slice(), &(header.len() as u16).to_le_bytes(), header.as_bytes(), bytes].concat()
}

/// Arrays as an `.npz`.
pub fn npz(arrays: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in arrays {
        writer.start_file(format!("{name}.npy"), SimpleFileOptions::default()).expect("a new name");
        writer.write_all(bytes).expect("memory takes all");
    }
    writer.finish().expect("memory takes all").into_inner()
}

/// Tensors as a safetensors file.
pub fn safetensors(tensors: &[(&str, Dtype, Vec<usize>, Vec<u8>)]) -> Vec<u8> {
    let view =
        |dtype, shape: &Vec<usize>, bytes| TensorView::new(dtype, shape.clone(), bytes).expect("bytes fit");
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| (*name, view(*dtype, shape, bytes)));
    ::safetensors::serialize(views, None).expect("tensors can be written")
}

/// Rows of images and labels as a Parquet file, with Hugging Face's metadata if `classes` are named.
pub fn parquet(rows: &[(Option<Vec<u8>>, Option<i64>)], classes: Option<&[&str]>, codec: Codec) -> Vec<u8> {
    let schema = "message m { optional group image { optional binary bytes; optional binary path (UTF8); }
                  optional int64 label; }";
    let schema = Arc::new(parse_message_type(schema).expect("a schema"));
    let metadata = classes.map(|names| {
        let features = serde_json::json!({"info": {"features": {
            "image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}}});
        vec![KeyValue::new("huggingface".to_owned(), features.to_string())]
    });
    let properties =
        WriterProperties::builder().set_compression(codec).set_key_value_metadata(metadata).build();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).expect("a writer");
    // Two groups, so that rows are counted across them.
    for rows in rows.chunks(rows.len().div_ceil(2).max(1)) {
        let mut group = writer.next_row_group().expect("a row group");
        let mut column = group.next_column().expect("a column").expect("three columns");
        let images: Vec<ByteArray> =
            rows.iter().filter_map(|(image, _)| image.clone()).map(Into::into).collect();
        let levels: Vec<i16> = rows.iter().map(|(image, _)| if image.is_some() { 2 } else { 0 }).collect();
        column.typed::<ByteArrayType>().write_batch(&images, Some(&levels), None).expect("bytes");
        column.close().expect("a column");
        let mut column = group.next_column().expect("a column").expect("three columns");
        column.typed::<ByteArrayType>().write_batch(&[], Some(&vec![0; rows.len()]), None).expect("nulls");
        column.close().expect("a column");
        let mut column = group.next_column().expect("a column").expect("three columns");
        let labels: Vec<i64> = rows.iter().filter_map(|(_, label)| *label).collect();
        let levels: Vec<i16> = rows.iter().map(|(_, label)| i16::from(label.is_some())).collect();
        column.typed::<Int64Type>().write_batch(&labels, Some(&levels), None).expect("numbers");
        column.close().expect("a column");
        group.close().expect("a row group");
    }
    writer.into_inner().expect("memory takes all")
}
