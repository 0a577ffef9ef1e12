//! NumPy's `.npz`: a zip archive of arrays. Object arrays are pickles, which can run code: they are refused unread.

use super::{
    Found,
    arrays::{self, Array, Arrays, Element, RawSet},
};
use crate::data::{
    archive::{check_name, read_limited, unreadable},
    source::{Limits, Records, damaged},
};
use guard_sdk::Result;
use npyz::{DType, Endianness, NpyHeader, Order, TypeChar};
use std::{
    borrow::Cow,
    cell::RefCell,
    collections::BTreeSet,
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};
use zip::ZipArchive;

pub(super) fn read(root: &Path, records: &mut Records, limits: &Limits) -> Result<Found> {
    arrays::read(&Npz::open(root)?, records, limits)
}

/// See [`arrays::read_raw`].
pub(super) fn read_raw(path: &Path, limits: &Limits) -> Result<RawSet> {
    arrays::read_raw(&Npz::open(path)?, limits)
}

struct Npz {
    path: PathBuf,
    /// Reading an entry moves the file's position.
    archive: RefCell<ZipArchive<BufReader<File>>>,
    names: Vec<String>,
}

impl Npz {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| unreadable(path, format!("cannot be read: {error}")))?;
        let broken = |error| unreadable(path, format!("is not an .npz archive: {error}"));
        let archive = ZipArchive::new(BufReader::new(file)).map_err(broken)?;
        if archive.has_duplicate_names() {
            return Err(unreadable(path, "holds a name more than once"));
        }
        let mut names = BTreeSet::new();
        for name in archive.file_names() {
            let name = name.map_err(broken)?;
            let title = format!("{}/{name}", path.display());
            check_name(Path::new(&*name), &title)?;
            let array = name.strip_suffix(".npy").unwrap_or(&name);
            if !names.insert(array.to_owned()) {
                return Err(unreadable(path, format!("holds `{array}` more than once")));
            }
        }
        Ok(Self {
            path: path.to_path_buf(),
            archive: RefCell::new(archive),
            names: names.into_iter().collect(),
        })
    }
}

impl Arrays for Npz {
    fn title(&self) -> String {
        self.path.display().to_string()
    }

    fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    fn array(&self, name: &str, limits: &Limits) -> Result<Array<'_>> {
        let title = format!("{}/{name}", self.path.display());
        let mut archive = self.archive.borrow_mut();
        let file = format!("{name}.npy");
        let entry = if archive.index_for_name(&file).is_some() { &file } else { name };
        let broken = |error| damaged(&title, format!("is damaged: {error}"));
        let mut entry = archive.by_name(entry).map_err(broken)?;
        let mut bytes = Vec::new();
        read_limited(&mut entry, &mut bytes, &title, limits)?;
        array(title, bytes)
    }
}

/// An array from the bytes of a `.npy` file.
fn array(title: String, mut bytes: Vec<u8>) -> Result<Array<'static>> {
    announced_header(&title, &bytes)?;
    let mut rest = bytes.as_slice();
    let header = NpyHeader::from_reader(&mut rest)
        .map_err(|error| damaged(&title, format!("has a header that cannot be read: {error}")))?;
    let start = bytes.len() - rest.len();
    let (element, big_endian) = element(&title, &header.dtype())?;
    if header.order() == Order::Fortran && header.shape().len() > 1 {
        return Err(
            damaged(title, "is stored in Fortran order").help("save `numpy.ascontiguousarray(array)`")
        );
    }
    let shape: Vec<usize> = header.shape().iter().map(|&length| length as usize).collect();
    let announced = shape.iter().try_fold(element.size(), |size, &length| size.checked_mul(length));
    let present = bytes.len() - start;
    if announced != Some(present) {
        return Err(damaged(
            title,
            format!("has {present} bytes of numbers, which is not what shape {shape:?} takes"),
        ));
    }
    bytes.drain(..start);
    Ok(Array { title, element, shape, bytes: Cow::Owned(bytes), big_endian })
}

/// An error if the header is longer than the file: its reader takes the announced memory first.
fn announced_header(title: &str, bytes: &[u8]) -> Result<()> {
    let length = match bytes {
        [0x93, b'N', b'U', b'M', b'P', b'Y', 1, _, low, high, ..] => {
            u32::from(u16::from_le_bytes([*low, *high]))
        }
        [0x93, b'N', b'U', b'M', b'P', b'Y', _, _, a, b, c, d, ..] => u32::from_le_bytes([*a, *b, *c, *d]),
        _ => return Err(damaged(title, "does not begin like a NumPy array")),
    };
    match length as usize > bytes.len() {
        true => Err(damaged(title, format!("is cut short: its header alone has {length} bytes"))),
        false => Ok(()),
    }
}

fn element(title: &str, dtype: &DType) -> Result<(Element, bool)> {
    let DType::Plain(plain) = dtype else {
        return Err(damaged(title, "is a structured array, which is not read"));
    };
    if plain.uses_pickled_array() {
        return Err(damaged(title, "is an object array, which is a pickle and could run code")
            .help("save it with a numeric dtype: `array.astype(\"int64\")`"));
    }
    let element = match (plain.type_char(), plain.size_field()) {
        (TypeChar::Uint, 1) => Element::U8,
        (TypeChar::Uint, 2) => Element::U16,
        (TypeChar::Uint, 4) => Element::U32,
        (TypeChar::Uint, 8) => Element::U64,
        (TypeChar::Int, 1) => Element::I8,
        (TypeChar::Int, 2) => Element::I16,
        (TypeChar::Int, 4) => Element::I32,
        (TypeChar::Int, 8) => Element::I64,
        (TypeChar::Float, 4) => Element::F32,
        (TypeChar::Float, 8) => Element::F64,
        _ => {
            return Err(damaged(title, format!("has dtype `{plain}`"))
                .help("images are uint8, float32 or float64, labels integers"));
        }
    };
    Ok((element, plain.endianness() == Endianness::Big))
}
