//! Which columns of a Parquet file hold the images and the labels, and what is in them.

use super::class_folders::listed;
use crate::data::archive::unreadable;
use ::parquet::{
    basic::Type,
    column::reader::{ColumnReader, ColumnReaderImpl},
    data_type::{ByteArray, DataType},
    errors::ParquetError,
    file::reader::{FileReader, RowGroupReader, SerializedFileReader},
    schema::types::ColumnDescriptor,
};
use guard_sdk::Result;
use std::{fs::File, path::Path};

const IMAGE_NAMES: [&str; 2] = ["image", "img"];
const LABEL_NAMES: [&str; 3] = ["label", "labels", "fine_label"];

/// Why images could not be read.
pub(super) enum Fault {
    Damaged(ParquetError),
    Memory,
}

/// Which leaf columns hold what.
pub(super) struct Columns {
    image: usize,
    label: usize,
    /// Their names, if the metadata tell them.
    pub(super) classes: Option<Vec<String>>,
}

impl Columns {
    pub(super) fn find(path: &Path, reader: &SerializedFileReader<File>) -> Result<Self> {
        let metadata = reader.metadata().file_metadata();
        let columns = metadata.schema_descr().columns();
        let features = metadata.key_value_metadata().and_then(|pairs| {
            let text = pairs.iter().find(|pair| pair.key == "huggingface")?.value.as_ref()?;
            serde_json::from_str::<serde_json::Value>(text).ok()?.pointer("/info/features").cloned()
        });
        let typed = |kind: &str| {
            let features = features.as_ref()?.as_object()?;
            features.iter().find(|(_, feature)| feature["_type"] == kind).map(|(name, _)| name.clone())
        };
        let top = |column: &ColumnDescriptor| column.path().parts().first().cloned().unwrap_or_default();
        let choose =
            |what: &str, told: Option<String>, names: &[&str], fits: &dyn Fn(&ColumnDescriptor) -> bool| {
                let fitting: Vec<usize> = (0..columns.len()).filter(|&index| fits(&columns[index])).collect();
                let called = |name: &str| fitting.iter().copied().find(|&index| top(&columns[index]) == name);
                let chosen = told.and_then(|name| called(&name)).or_else(|| match fitting.as_slice() {
                    [only] => Some(*only),
                    _ => names.iter().find_map(|name| called(name)),
                });
                chosen.ok_or_else(|| {
                    let all: Vec<_> = columns.iter().map(|column| column.path().string()).collect();
                    let all: Vec<_> = all.iter().map(String::as_str).collect();
                    unreadable(path, format!("has no column that is told to be the {what}")).help(format!(
                        "its columns: {}; the {what} is called {}",
                        listed(&all),
                        listed(names)
                    ))
                })
            };
        let image = choose("image", typed("Image"), &IMAGE_NAMES, &|column| {
            let last = column.path().parts().len() == 1 || column.name() == "bytes";
            column.physical_type() == Type::BYTE_ARRAY && column.max_rep_level() == 0 && last
        })?;
        let label = choose("label", typed("ClassLabel"), &LABEL_NAMES, &|column| {
            matches!(column.physical_type(), Type::INT32 | Type::INT64)
                && column.max_rep_level() == 0
                && column.path().parts().len() == 1
        })?;
        let names = features.as_ref().and_then(|features| features[top(&columns[label])]["names"].as_array());
        let classes = names.map(|names| {
            names.iter().map(|name| name.as_str().map_or_else(|| name.to_string(), str::to_owned)).collect()
        });
        Ok(Self { image, label, classes })
    }

    pub(super) fn labels(&self, group: &dyn RowGroupReader) -> Result<Vec<Option<i64>>, ParquetError> {
        Ok(match group.get_column_reader(self.label)? {
            ColumnReader::Int32ColumnReader(reader) => values(reader, group, self.label, |_| Ok(()))?
                .into_iter()
                .map(|label| label.map(i64::from))
                .collect(),
            ColumnReader::Int64ColumnReader(reader) => values(reader, group, self.label, |_| Ok(()))?,
            _ => return Err(ParquetError::General("the type of the label column changes".into())),
        })
    }

    pub(super) fn images(
        &self,
        group: &dyn RowGroupReader,
        left: &mut u64,
    ) -> Result<Vec<Option<ByteArray>>, Fault> {
        let ColumnReader::ByteArrayColumnReader(reader) =
            group.get_column_reader(self.image).map_err(Fault::Damaged)?
        else {
            return Err(Fault::Damaged(ParquetError::General("the type of the image column changes".into())));
        };
        let mut full = false;
        let images = values(reader, group, self.image, |image: &ByteArray| {
            let rest = left.checked_sub(image.len() as u64);
            *left = rest.unwrap_or(0);
            full |= rest.is_none();
            match full {
                true => Err(ParquetError::General("too much".into())),
                false => Ok(()),
            }
        });
        images.map_err(|error| if full { Fault::Memory } else { Fault::Damaged(error) })
    }
}

/// All values of a column that is not nested in lists; None where there is none. `accept` may refuse one.
fn values<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    group: &dyn RowGroupReader,
    column: usize,
    mut accept: impl FnMut(&T::T) -> Result<(), ParquetError>,
) -> Result<Vec<Option<T::T>>, ParquetError> {
    const AT_ONCE: usize = 256;
    let present = group.metadata().column(column).column_descr().max_def_level();
    let mut all = Vec::new();
    loop {
        let (mut levels, mut found) = (Vec::new(), Vec::new());
        let (records, ..) = reader.read_records(AT_ONCE, Some(&mut levels), None, &mut found)?;
        if records == 0 {
            return Ok(all);
        }
        for value in &found {
            accept(value)?;
        }
        let mut found = found.into_iter();
        match present {
            0 => all.extend(found.map(Some)),
            _ => all.extend(levels.iter().map(|&level| if level == present { found.next() } else { None })),
        }
    }
}
