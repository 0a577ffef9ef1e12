//! PyTorch's zip format (1.6 and later): `<name>/data.pkl`, one entry `<name>/data/<key>` for each storage, and notes.

use super::{
    element, failure, file_error,
    pickle::{self, Pickle, unpickle},
    storages::Place,
};
use guard_sdk::{Error, Result, Tensor};
use std::{
    collections::HashMap,
    fs::File,
    io::{BufReader, Write},
    path::Path,
};
use zip::{
    CompressionMethod, ZipArchive, ZipWriter,
    result::ZipError,
    write::{FileOptions, SimpleFileOptions},
};

/// PyTorch's alignment of storages, in bytes.
const ALIGNMENT: u16 = 64;

/// Reads the pickle of a file and finds its storages.
///
/// # Errors
/// If the archive is damaged or not of a kind that holds plain tensors.
pub(super) fn open(file: &mut File) -> Result<(Pickle, HashMap<String, Place>)> {
    let mut archive = ZipArchive::new(BufReader::new(&*file)).map_err(damaged)?;
    // As in a zip bomb. Without it all entries lie in the file, and together are not larger.
    if archive.has_overlapping_files().map_err(damaged)? {
        return Err(failure("the archive's entries overlap"));
    }
    let names: Vec<String> =
        archive.file_names().map(|name| Ok(name?.into_owned())).collect::<Result<_, _>>().map_err(damaged)?;
    let root = root(&names)?;
    let mut entries = HashMap::new();
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(damaged)?;
        let name = entry.name().map_err(damaged)?.into_owned();
        if entry.compression() != CompressionMethod::Stored || entry.encrypted() {
            return Err(failure(format!("entry `{name}` of the archive is compressed or encrypted"))
                .help("`torch.save` stores entries as they are"));
        }
        let start = entry.data_start().ok_or_else(|| failure(format!("entry `{name}` has no data")))?;
        // 0 is what `torch.serialization.set_crc32_options(False)` writes.
        let crc32 = Some(entry.crc32()).filter(|&crc32| crc32 != 0);
        entries.insert(name, Place { start, bytes: entry.compressed_size(), crc32 });
    }
    drop(archive);
    if let Some(place) = entries.get(&format!("{root}byteorder"))
        && place.read(file)? != b"little"
    {
        return Err(failure("the elements are big-endian")
            .help("save it again where `sys.byteorder` is `little`, or as safetensors"));
    }
    let place = entries.remove(&format!("{root}data.pkl"));
    let pickle = place
        .ok_or_else(|| failure("`data.pkl` is missing"))
        .and_then(|place| unpickle(&mut place.read(file)?.as_slice()))
        .map_err(|error| error.context("`data.pkl`"))?;
    let folder = format!("{root}data/");
    let places = entries
        .into_iter()
        .filter_map(|(name, place)| name.strip_prefix(&folder).map(str::to_string).map(|key| (key, place)));
    Ok((pickle, places.collect()))
}

/// What comes before `data.pkl`: the archive's name and a slash.
fn root(names: &[String]) -> Result<String> {
    let has = |end: &str| names.iter().any(|name| name.ends_with(end));
    if has("/constants.pkl") || names.iter().any(|name| name.contains("/code/")) {
        return Err(failure("the file is a TorchScript archive, whose code would have to run")
            .help("in Python: `torch.save(torch.jit.load(\"script.pt\").state_dict(), \"weights.pth\")`"));
    }
    let mut roots = names.iter().filter_map(|name| name.strip_suffix("data.pkl"));
    match (roots.next(), roots.next()) {
        (Some(root), None) if root.ends_with('/') => Ok(root.to_string()),
        _ if has(".npy") => Err(failure("the file is a zip archive of NumPy arrays")),
        _ => Err(failure("the file is a zip archive, but not one that `torch.save` wrote")),
    }
}

/// Writes a state dict that `torch.load(path, weights_only=True)` reads.
///
/// # Errors
/// If the file system refuses, or a kind of elements has no name in PyTorch's files.
pub(super) fn write(path: &Path, tensors: &[(String, Tensor)]) -> Result<()> {
    let file = File::create(path).map_err(file_error)?;
    let mut archive = ZipWriter::new(file);
    let mut entry = |name: &str, bytes: &[u8]| -> Result<()> {
        let options: SimpleFileOptions = FileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .with_alignment(ALIGNMENT)
            .large_file(u32::try_from(bytes.len()).is_err());
        archive.start_file(format!("archive/{name}"), options).map_err(unwritten)?;
        archive.write_all(bytes).map_err(file_error)
    };
    entry("data.pkl", &pickle::state_dict(tensors)?)?;
    entry("byteorder", b"little")?;
    for (position, (_, tensor)) in tensors.iter().enumerate() {
        entry(&format!("data/{position}"), &element::bytes(tensor)?)?;
    }
    entry("version", b"3\n")?;
    archive.finish().map(drop).map_err(unwritten)
}

fn damaged(error: ZipError) -> Error {
    failure(format!("the zip archive is damaged: {error}"))
        .help("it may not have been copied completely: compare its size with the original's")
}

fn unwritten(error: ZipError) -> Error {
    Error::with_code("file", error.to_string())
}
