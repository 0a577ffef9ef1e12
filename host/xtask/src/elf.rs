//! Which shared libraries a program needs, found as the loader would find them.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use object::Endianness;
use object::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH, FileHeader64};
use object::read::ReadCache;
use object::read::elf::FileHeader;

/// What the dynamic section of a file asks the loader for.
#[derive(Debug, Default)]
pub struct Needs {
    /// The names of the libraries.
    pub libraries: Vec<String>,
    /// The folders to look for them, as written: `$ORIGIN` is the folder of the file.
    pub folders: Vec<String>,
}

/// Reads the dynamic section of a program or library.
pub fn needs(file: &Path) -> Result<Needs> {
    let read = || -> Result<Needs> {
        let data = ReadCache::new(File::open(file)?);
        let header = FileHeader64::<Endianness>::parse(&data)?;
        let endian = header.endian()?;
        let table = header.sections(endian, &data)?.dynamic_table(endian, &data)?;
        let mut needs = Needs::default();
        for entry in &table {
            let text = || -> Result<_> { Ok(String::from_utf8_lossy(table.string(entry)?)) };
            match entry.tag {
                DT_NEEDED => needs.libraries.push(text()?.into_owned()),
                DT_RPATH | DT_RUNPATH => needs.folders.extend(text()?.split(':').map(str::to_owned)),
                _ => {}
            }
        }
        Ok(needs)
    };
    read().with_context(|| format!("cannot read `{}`", file.display()))
}

/// All libraries that `programs` need, directly or through others, by name, with where they are.
///
/// A library is looked for in the folders that the file which needs it names, then in `libtorch`.
/// One that is in none of them is the system's and left out. `needs` reads a file.
pub fn closure(
    programs: &[PathBuf],
    libtorch: &Path,
    needs: impl Fn(&Path) -> Result<Needs>,
) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut open = programs.to_vec();
    while let Some(file) = open.pop() {
        let needs = needs(&file)?;
        let origin = file.parent().unwrap_or(Path::new("."));
        let named = needs.folders.iter().map(|folder| expand(folder, origin));
        let folders: Vec<_> = named.chain([libtorch.to_path_buf()]).collect();
        for name in needs.libraries {
            let place = folders.iter().map(|folder| folder.join(&name)).find(|file| file.is_file());
            if let Some(place) = place
                && !found.contains_key(&name)
            {
                open.push(place.clone());
                found.insert(name, place);
            }
        }
    }
    Ok(found)
}

/// A folder of a search path with `$ORIGIN` put in.
fn expand(folder: &str, origin: &Path) -> PathBuf {
    for token in ["$ORIGIN", "${ORIGIN}"] {
        if let Some(rest) = folder.strip_prefix(token) {
            return origin.join(rest.trim_start_matches('/'));
        }
    }
    PathBuf::from(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_program_needs_the_c_library() {
        let program = std::env::current_exe().unwrap();
        let needs = needs(&program).unwrap();
        assert!(needs.libraries.iter().any(|name| name == "libc.so.6"), "{needs:?}");
    }

    #[test]
    fn a_file_that_is_no_program_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("text.so");
        fs::write(&file, "INPUT(libtorch_cpu.so)\n").unwrap();
        let error = format!("{:#}", needs(&file).unwrap_err());
        assert!(error.starts_with(&format!("cannot read `{}`: ", file.display())), "{error}");
    }

    #[test]
    fn libraries_are_found_through_others_and_the_systems_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let (torch, cuda) = (folder.path().join("torch/lib"), folder.path().join("nvidia/lib"));
        for (folder, name) in [(&torch, "libtorch_cpu.so"), (&torch, "libc10.so"), (&cuda, "libcudart.so.13")]
        {
            fs::create_dir_all(folder).unwrap();
            fs::write(folder.join(name), "").unwrap();
        }
        let read = |file: &Path| {
            let (libraries, folders): (&[&str], &[&str]) = match file.file_name().unwrap().to_str().unwrap() {
                "host" => (&["libtorch_cpu.so", "libc.so.6"], &["$ORIGIN/../lib"]),
                "libtorch_cpu.so" => {
                    (&["libc10.so", "libcudart.so.13"], &["$ORIGIN/../../nvidia/lib", "$ORIGIN"])
                }
                // Needs the one that needs it: the search still ends.
                "libc10.so" => (&["libtorch_cpu.so"], &[]),
                _ => (&["libm.so.6"], &[]),
            };
            let owned = |list: &[&str]| list.iter().map(|text| text.to_string()).collect();
            Ok(Needs { libraries: owned(libraries), folders: owned(folders) })
        };
        let found = closure(&[folder.path().join("target/host")], &torch, read).unwrap();
        let names: Vec<_> = found.keys().map(String::as_str).collect();
        assert_eq!(names, ["libc10.so", "libcudart.so.13", "libtorch_cpu.so"]);
        assert_eq!(
            found["libcudart.so.13"].canonicalize().unwrap(),
            cuda.join("libcudart.so.13").canonicalize().unwrap()
        );
    }

    #[test]
    fn the_origin_is_put_in_with_and_without_braces() {
        let origin = Path::new("/a/lib");
        assert_eq!(expand("$ORIGIN", origin), Path::new("/a/lib"));
        assert_eq!(expand("$ORIGIN/../b", origin), Path::new("/a/lib/../b"));
        assert_eq!(expand("${ORIGIN}/b", origin), Path::new("/a/lib/b"));
        assert_eq!(expand("/usr/lib", origin), Path::new("/usr/lib"));
    }
}
