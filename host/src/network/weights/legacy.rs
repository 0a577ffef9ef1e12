//! PyTorch's format before 1.6: five pickles (magic number, version, system, objects, keys of the storages), then the
//! storages, each as a number of elements in 8 bytes and the elements.

use super::{
    failure, file_error,
    pickle::{Pickle, Value, unpickle},
    record::StorageRecord,
    storages::Place,
};
use guard_sdk::{Error, Kind, Result};
use std::{
    collections::HashMap,
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
};

const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;
const VERSION: i128 = 1001;

/// Reads the pickle of a file and finds its storages.
///
/// # Errors
/// If the file is damaged, or another kind of pickle.
pub(super) fn open(file: &mut File) -> Result<(Pickle, HashMap<String, Place>)> {
    let mut source = BufReader::new(file);
    if unpickle(&mut source)?.root().integer() != Some(MAGIC) {
        let help = "in Python: `torch.save(model.state_dict(), \"weights.pth\")`";
        return Err(failure("the file is a pickle, but not one that `torch.save` wrote").help(help));
    }
    if unpickle(&mut source)?.root().integer() != Some(VERSION) {
        return Err(failure("the version of PyTorch's legacy format is unknown"));
    }
    let system = unpickle(&mut source)?;
    if system.root().get("little_endian").and_then(|value| value.boolean()) == Some(false) {
        return Err(failure("the elements are big-endian")
            .help("save it again where `sys.byteorder` is `little`, or as safetensors"));
    }
    let objects = unpickle(&mut source)?;
    let keys = unpickle(&mut source)?;
    let places = places(&mut source, &objects, &keys)?;
    Ok((objects, places))
}

/// Walks over the storages, whose element sizes only the objects know.
fn places(
    source: &mut BufReader<&mut File>,
    objects: &Pickle,
    keys: &Pickle,
) -> Result<HashMap<String, Place>> {
    let mut kinds: HashMap<&str, Kind> = HashMap::new();
    // The other persistent values are classes.
    for name in objects.persistent().filter(|name| name.item(0).and_then(Value::text) == Some("storage")) {
        let storage = StorageRecord::read(name)?;
        kinds.insert(storage.key, storage.kind);
    }
    let malformed = || failure("the list of storages is malformed");
    let mut position = source.stream_position().map_err(file_error)?;
    let mut places = HashMap::new();
    for key in keys.root().items().ok_or_else(malformed)? {
        let key = key.text().ok_or_else(malformed)?;
        let kind = kinds.get(key).ok_or_else(|| failure(format!("nothing refers to storage `{key}`")))?;
        let mut length = [0; 8];
        source.seek(SeekFrom::Start(position)).map_err(file_error)?;
        source.read_exact(&mut length).map_err(|error| ends(&error, key))?;
        let bytes = u64::from_le_bytes(length).checked_mul(kind.elt_size_in_bytes() as u64);
        let start = position + 8;
        position = bytes
            .and_then(|bytes| start.checked_add(bytes))
            .ok_or_else(|| failure(format!("the length of storage `{key}` is absurd")))?;
        let place = Place { start, bytes: position - start, crc32: None };
        if places.insert(key.to_string(), place).is_some() {
            return Err(failure(format!("storage `{key}` appears twice")));
        }
    }
    Ok(places)
}

fn ends(error: &std::io::Error, key: &str) -> Error {
    failure(format!("storage `{key}` cannot be read: {error}"))
        .help("the file is damaged or was not copied completely")
}
