//! Parquet as Hugging Face's `datasets` lays out image sets: a column of structs with encoded images, one of labels, and
//! what they are in the file's metadata.

use crate::run::{Distilled, encode_png, folders, levels};
use ::parquet::{
    basic::Compression,
    data_type::{ByteArray, ByteArrayType, Int64Type},
    errors::ParquetError,
    file::{metadata::KeyValue, properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};
use guard_sdk::{Error, Result};
use std::{fs::File, path::Path, sync::Arc};

const SCHEMA: &str = "message set {
    optional group image { optional binary bytes; optional binary path (UTF8); }
    optional int64 label;
}";

/// Rows that are encoded and written together.
const GROUP: usize = 1000;

/// Writes the images of a set as PNGs, with their labels.
///
/// # Errors
/// If the file system refuses.
pub(super) fn write(path: &Path, set: &Distilled) -> Result<()> {
    let names = &set.manifest.classes;
    let features = serde_json::json!({ "info": { "features": {
        "image": { "_type": "Image" },
        "label": { "names": names, "_type": "ClassLabel" },
    } } });
    let metadata = vec![KeyValue::new("huggingface".to_string(), features.to_string())];
    // PNGs do not become smaller.
    let properties = WriterProperties::builder()
        .set_compression(Compression::UNCOMPRESSED)
        .set_key_value_metadata(Some(metadata))
        .build();
    let refused = |error: &dyn std::fmt::Display| Error::with_code("file", error.to_string());
    let schema = parse_message_type(SCHEMA).map_err(|error| refused(&error))?;
    let file = File::create(path).map_err(|error| refused(&error))?;
    let writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties));
    let mut writer = writer.map_err(|error| refused(&error))?;
    let (images, labels) = (levels(&set.images), Vec::<i64>::try_from(&set.labels)?);
    let (folders, mut counts) = (folders(names), vec![0usize; names.len()]);
    let mut paths = labels.iter().map(|&label| {
        let count = &mut counts[label as usize];
        *count += 1;
        ByteArray::from(format!("{}/{:04}.png", folders[label as usize], *count - 1).as_str())
    });
    for (number, labels) in labels.chunks(GROUP).enumerate() {
        let first = number * GROUP;
        let picture =
            |position: usize| encode_png(&images.get((first + position) as i64)).map(ByteArray::from);
        let pictures: Vec<ByteArray> = (0..labels.len()).map(picture).collect::<Result<_>>()?;
        let paths: Vec<ByteArray> = paths.by_ref().take(labels.len()).collect();
        group(&mut writer, &pictures, &paths, labels).map_err(|error| refused(&error))?;
    }
    writer.close().map(drop).map_err(|error| refused(&error))
}

/// Writes a group of rows, of which none lacks anything.
fn group(
    writer: &mut SerializedFileWriter<File>,
    pictures: &[ByteArray],
    paths: &[ByteArray],
    labels: &[i64],
) -> Result<(), ParquetError> {
    let missing = || ParquetError::General("the schema lacks a column".into());
    let mut group = writer.next_row_group()?;
    for values in [pictures, paths] {
        let mut column = group.next_column()?.ok_or_else(missing)?;
        column.typed::<ByteArrayType>().write_batch(values, Some(&vec![2; values.len()]), None)?;
        column.close()?;
    }
    let mut column = group.next_column()?.ok_or_else(missing)?;
    column.typed::<Int64Type>().write_batch(labels, Some(&vec![1; labels.len()]), None)?;
    column.close()?;
    group.close().map(drop)
}
