//! Mangled weight files: whatever the bytes, the answer is tensors or an error, in memory linear in the file's size.
//!
//! `GUARD_FUZZ_CASES` and `GUARD_FUZZ_SEED` choose another number of cases and other cases.

use guard_host::network::weights::{TorchFile, Value, read_tensors};
use guard_sdk::{Kind, Tensor};
use peak_alloc::PeakAlloc;
use rand::{RngExt, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use std::{
    fs,
    io::{Cursor, Read, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Mutex,
};
use zip::{CompressionMethod, ZipArchive, ZipWriter, write::SimpleFileOptions};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;
/// The peak is the whole process's: one test measures at a time.
static MEASURING: Mutex<()> = Mutex::new(());

/// Bytes of memory for each byte of a file: a one-byte instruction makes a value of 32 bytes in vectors that double.
const MULTIPLE: usize = 128;
/// Buffers that do not depend on the file.
const CONSTANT: usize = 256 * 1024;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

/// The names and bytes of a zip file's entries.
type Entries = Vec<(String, Vec<u8>)>;

fn entries(bytes: &[u8]) -> Option<Entries> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).ok()?;
    let mut entries = Vec::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).ok()?;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).ok()?;
        entries.push((entry.name().ok()?.into_owned(), bytes));
    }
    Some(entries)
}

fn archive(entries: &Entries) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, bytes) in entries {
        archive.start_file(name.as_str(), options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// Changes a few bytes: flips a bit, cuts, repeats, inserts, or puts an extreme number.
fn mangle(bytes: &mut Vec<u8>, dice: &mut ChaCha8Rng) {
    for _ in 0..dice.random_range(1..4) {
        if bytes.is_empty() {
            return;
        }
        let at = dice.random_range(0..bytes.len());
        let until = (at + dice.random_range(1..16)).min(bytes.len());
        match dice.random_range(0..7) {
            0 | 1 => bytes[at] ^= 1 << dice.random_range(0..8),
            2 => bytes[at] = INSTRUCTIONS.choose(dice).copied().unwrap(),
            3 => bytes.truncate(at),
            4 => drop(bytes.drain(at..until)),
            5 => {
                let part = bytes[at..until].to_vec();
                let to = dice.random_range(0..bytes.len());
                drop(bytes.splice(to..to, part));
            }
            _ => {
                let extreme =
                    *[0u64, 1, 0x7fff_ffff, 0xffff_ffff, i64::MAX as u64, u64::MAX].choose(dice).unwrap();
                let width = [1, 4, 8].choose(dice).copied().unwrap().min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&extreme.to_le_bytes()[..width]);
            }
        }
    }
}

const INSTRUCTIONS: &[u8] = b"(.012NKMJGXTUCB]})lteaesucRobQqrhj\
    \x81\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x95\x96";

/// A pickle of random instructions that is mostly whole to its end.
fn random_pickle(dice: &mut ChaCha8Rng) -> Vec<u8> {
    const WORDS: [&[u8]; 12] = [
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ctorch._utils\n_rebuild_parameter\n",
        b"ctorch._utils\n_rebuild_tensor_v3\n",
        b"ctorch._tensor\n_rebuild_from_type_v2\n",
        b"ctorch\nSize\n",
        b"ctorch\nfloat32\n",
        b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000NK\x01tQ",
        b"ccollections\nOrderedDict\n",
        b"cposix\nsystem\n",
        b"X\x05\0\0\0model",
        b"X\x0a\0\0\0state_dict",
        b"X\x01\0\0\x000",
    ];
    let mut pickle = b"\x80\x02}".to_vec();
    for _ in 0..dice.random_range(1..200) {
        match dice.random_range(0..8) {
            0 => pickle.extend(*WORDS.choose(dice).unwrap()),
            1 => pickle.extend([b'K', dice.random_range(0..6)]),
            2 => pickle.extend([*b"qh".choose(dice).unwrap(), dice.random_range(0..4)]),
            3 => pickle.extend(b"])(N".choose(dice)),
            _ => pickle.push(*INSTRUCTIONS.choose(dice).unwrap()),
        }
    }
    pickle.push(b'.');
    pickle
}

/// Reads a file in every way, looks at every element, and says whether it was read.
fn read(path: &Path) -> bool {
    let look = |tensor: &Tensor| {
        // A view of one element with strides of 0 may show more than memory holds.
        if tensor.numel() < 1_000_000 {
            let _ = tensor.f_to_kind(Kind::Double).and_then(|tensor| tensor.f_sum(Kind::Double)).unwrap();
        }
    };
    if let Ok(file) = TorchFile::open(path) {
        let mut waiting: Vec<Value<'_>> = vec![file.root()];
        // Values may contain themselves.
        for _ in 0..1000 {
            let Some(value) = waiting.pop() else { break };
            let _ = value.describe();
            if let Ok(Some(tensor)) = file.tensor(value) {
                look(&tensor);
            }
            waiting.extend(value.items().into_iter().flatten());
            waiting.extend(value.entries().into_iter().flatten().flat_map(|(key, value)| [key, value]));
            waiting.extend(value.call().into_iter().flat_map(|call| call.state));
        }
    }
    match read_tensors(path) {
        Ok(tensors) => {
            tensors.iter().for_each(|(_, tensor)| look(tensor));
            true
        }
        Err(error) => {
            assert!(!error.message.is_empty());
            false
        }
    }
}

#[test]
fn no_mangled_file_crashes_or_takes_more_memory_than_it_should() {
    let _alone = MEASURING.lock();
    let (cases, seed) = (number("GUARD_FUZZ_CASES", 4000), number("GUARD_FUZZ_SEED", 1));
    println!("GUARD_FUZZ_CASES={cases} GUARD_FUZZ_SEED={seed}");
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/weights"));
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension != "py"));
    paths.sort();
    let files: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("mangled.pth");
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    let (mut good, mut worst) = (0, 0);
    for case in 0..cases {
        let mut bytes = files.choose(&mut dice).unwrap().clone();
        match (dice.random_range(0..4), entries(&bytes)) {
            // Under a new checksum, so that the pickle itself is read.
            (0 | 1, Some(mut entries)) if !entries.is_empty() => {
                let at = if dice.random_range(0..4) > 0 { 0 } else { dice.random_range(0..entries.len()) };
                mangle(&mut entries[at].1, &mut dice);
                bytes = archive(&entries);
            }
            (2, _) => {
                let storage = ("archive/data/0".to_string(), vec![0; 4]);
                bytes = archive(&vec![("archive/data.pkl".to_string(), random_pickle(&mut dice)), storage]);
            }
            _ => mangle(&mut bytes, &mut dice),
        }
        fs::write(&path, &bytes).unwrap();
        MEMORY.reset_peak_usage();
        let before = MEMORY.current_usage();
        let result = catch_unwind(AssertUnwindSafe(|| read(&path)));
        let used = MEMORY.peak_usage().saturating_sub(before);
        assert!(result.is_ok(), "case {case} of seed {seed} panicked");
        assert!(used < CONSTANT + MULTIPLE * bytes.len(), "case {case}: {used} for {} bytes", bytes.len());
        good += u64::from(result.unwrap());
        worst = worst.max(used);
    }
    println!("{good} of {cases} could be read, at most {worst} bytes of memory");
    assert!(good > cases / 20 && good < cases * 19 / 20, "{good} of {cases} could be read");
}

/// One-byte instructions, the dearest pickle there is.
#[test]
fn the_dearest_pickle_takes_memory_linear_in_its_size() {
    let _alone = MEASURING.lock();
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("dear.pth");
    for instruction in [b"]", b"}", b"N", b"("] {
        let pickle = [b"\x80\x02".to_vec(), instruction.repeat(1 << 20)].concat();
        fs::write(&path, archive(&vec![("archive/data.pkl".to_string(), pickle)])).unwrap();
        MEMORY.reset_peak_usage();
        let before = MEMORY.current_usage();
        assert!(read_tensors(&path).unwrap_err().message.contains("the file ends in the middle"));
        let used = MEMORY.peak_usage() - before;
        assert!(used < CONSTANT + (MULTIPLE << 20), "{used} bytes for {:?}", instruction as &[u8]);
    }
}
