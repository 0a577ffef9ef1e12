//! Damaged files of every format: never a panic, never memory that the file and the limits do not account for.
//!
//! Alone in its file, so that no other test's memory is counted. `GUARD_FUZZ_CASES` sets how many files of each format are
//! tried, `GUARD_FUZZ_SEED` where the numbers begin.

use guard_host::data::{
    check::readable,
    readers::read,
    source::{Images, Limits, OnError, Part},
};
use guard_tests::data_files::{
    Files, Folder, cifar10, gzipped, mnist, noise, npy, npz, parquet, photo, safetensors, tar_gz,
};
use image::ImageFormat;
use parquet::basic::Compression;
use peak_alloc::PeakAlloc;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use std::{fs, path::Path};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const LIMITS: Limits = Limits { pixels: 1 << 16, file: 1 << 20, memory: 1 << 20 };
/// 16 bytes for each pixel that is allowed, some copies of a file of the largest size, room for threads, and the 16 MiB
/// that a partition of a lossy WebP may announce, which its decoder takes before it reads.
const ALLOWED: usize = 16 * (1 << 16) + 8 * (1 << 20) + (8 << 20) + (16 << 20);
/// The reader of Parquet reserves what a page's header announces, at most 2 GiB, before it looks at the page.
const PARQUET_PAGE: usize = 1 << 31;

struct Format {
    name: &'static str,
    dataset: &'static str,
    /// The first file is the one that is damaged.
    files: Files,
    /// Given to the reader, in the folder of the files.
    root: &'static str,
}

fn formats() -> Vec<Format> {
    let swapped = |mut files: Files, first: usize| {
        files.swap(0, first);
        files
    };
    let labels: Vec<u8> = [1i64, 0].iter().flat_map(|label| label.to_le_bytes()).collect();
    let arrays =
        npz(&[("images", npy("|u1", &[2, 4, 4, 3], &noise(96, 1))), ("labels", npy("<i8", &[2], &labels))]);
    let tensors = safetensors(&[
        ("images", ::safetensors::Dtype::U8, vec![2, 3, 4, 4], noise(96, 1)),
        ("labels", ::safetensors::Dtype::I64, vec![2], labels.clone()),
    ]);
    let rows: Vec<_> = (0..4)
        .map(|index| (Some(photo(ImageFormat::Png, 4, 4, index)), Some(i64::from(index % 2))))
        .collect();
    let rows = |codec| parquet(&rows, Some(&["a", "b"]), codec);
    let gz = |(name, bytes): (String, Vec<u8>)| (name + ".gz", gzipped(&bytes));
    let one = |name: &str, bytes: Vec<u8>| vec![(name.to_owned(), bytes)];
    let format = |name, dataset, files, root| Format { name, dataset, files, root };
    let mut formats = vec![
        format("cifar", "cifar10", cifar10(&[3]), ""),
        format("cifar archive", "cifar10", one("x.tar.gz", tar_gz(&cifar10(&[3]))), "x.tar.gz"),
        format("idx images", "mnist", mnist(&[1, 2], &[3]), ""),
        format("idx labels", "mnist", swapped(mnist(&[1, 2], &[3]), 1), ""),
        format("idx gzipped", "mnist", mnist(&[1, 2], &[3]).into_iter().map(gz).collect(), ""),
        format("npz", "npz", one("x.npz", arrays), "x.npz"),
        format("safetensors", "safetensors", one("x.safetensors", tensors), "x.safetensors"),
        format("parquet", "parquet", one("x.parquet", rows(Compression::UNCOMPRESSED)), "x.parquet"),
        format("parquet snappy", "parquet", one("x.parquet", rows(Compression::SNAPPY)), "x.parquet"),
        format(
            "parquet zstd",
            "parquet",
            one("x.parquet", rows(Compression::ZSTD(Default::default()))),
            "x.parquet",
        ),
    ];
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/tests/data");
    for name in [
        "cmyk.jpg",
        "progressive-420.jpg",
        "a-jpeg.png",
        "grey.jpg",
        "bits-16.png",
        "palette-transparent.png",
        "lossy.webp",
        "lossless.webp",
        "palette.bmp",
        "colour.bmp",
    ] {
        let image = fs::read(made.join(name)).expect("the decoder's files are there");
        formats.push(format(name, "imagefolder", one("a/x.png", image), ""));
    }
    formats
}

/// Cuts, overwrites, repeats, removes or inserts bytes, once or a few times.
fn mangle(bytes: &[u8], random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut below = |n: usize| (random.next_u64() % n.max(1) as u64) as usize;
    for _ in 0..=below(3) {
        let (from, to) = (below(bytes.len()), below(bytes.len()));
        let (from, to) = (from.min(to), from.max(to).min(from.min(to) + 64));
        match below(7) {
            0 => bytes.truncate(from),
            1 if !bytes.is_empty() => bytes[from] ^= 1 << below(8),
            2 if !bytes.is_empty() => bytes[from] = [0, 1, 0x7f, 0x80, 0xff][below(5)],
            3 => bytes[from..to].fill([0, 0xff][below(2)]),
            4 => drop(bytes.drain(from..to)),
            5 => {
                let piece = bytes[from..to].to_vec();
                let at = below(bytes.len());
                bytes.splice(at..at, piece);
            }
            _ => {
                let junk: Vec<u8> = (0..below(16)).map(|_| below(256) as u8).collect();
                let end = (from + junk.len()).min(bytes.len());
                bytes.splice(from..end, junk);
            }
        }
    }
    bytes
}

fn decode_all(part: &Part) {
    if let Images::Encoded(images) = &part.images {
        readable(images.as_ref(), &LIMITS);
    }
}

#[test]
fn damaged_files_neither_panic_nor_fill_the_memory() {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
    };
    let (cases, seed) = (number("GUARD_FUZZ_CASES", 300), number("GUARD_FUZZ_SEED", 0));
    for format in formats() {
        let folder = Folder::with(&format.files);
        let root = folder.path(format.root);
        let (name, whole) = &format.files[0];
        let found = read(format.dataset, Some(&root), OnError::Stop, &LIMITS);
        assert!(found.is_ok(), "{}: {}", format.name, found.err().expect("it is not ok"));
        let allowed = ALLOWED + if format.dataset == "parquet" { PARQUET_PAGE } else { 0 };
        let (mut refused, mut most) = (0, 0);
        for case in 0..cases {
            let mut random = ChaCha8Rng::seed_from_u64(seed.wrapping_add(case));
            folder.write(name, &mangle(whole, &mut random));
            let before = MEMORY.current_usage();
            MEMORY.reset_peak_usage();
            let on_error = [OnError::Stop, OnError::Skip][case as usize % 2];
            let result =
                std::panic::catch_unwind(|| match read(format.dataset, Some(&root), on_error, &LIMITS) {
                    Ok(source) => {
                        decode_all(&source.train);
                        source.test.iter().for_each(decode_all);
                        false
                    }
                    Err(_) => true,
                });
            let peak = MEMORY.peak_usage().saturating_sub(before);
            most = most.max(peak);
            match result {
                Ok(error) => refused += usize::from(error),
                Err(_) => panic!("{}: case {} panics", format.name, seed.wrapping_add(case)),
            }
            assert!(peak <= allowed, "{}: case {} takes {peak} bytes", format.name, seed.wrapping_add(case));
        }
        println!("{}: {refused} of {cases} refused, at most {most} bytes", format.name);
    }
}
