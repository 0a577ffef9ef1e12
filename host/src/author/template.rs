//! A crate to start from: working code with the names of the template in place of the author's.

use super::{crate_name::Name, put, sdk::lay_down};
use clap::ValueEnum;
use guard_sdk::{Error, Result};
use include_dir::{Dir, include_dir};
use std::path::{Path, PathBuf};

static TEMPLATE: Dir = include_dir!("$CARGO_MANIFEST_DIR/../sdk/template");

/// The kinds of methods that there are templates for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MethodKind {
    /// Finds adversarial images.
    Attack,
    /// A penalty added to a loss.
    Regularizer,
    /// Makes synthetic data good.
    Objective,
}

impl MethodKind {
    fn name(self) -> &'static str {
        match self {
            Self::Attack => "attack",
            Self::Regularizer => "regularizer",
            Self::Objective => "objective",
        }
    }
}

/// Writes the crate of a method `name` into `parent`, with SDK and libtorch; returns its folder.
///
/// # Errors
/// If the name is none, the folder is there already, or libtorch's headers are not found.
pub fn write(name: &str, kind: MethodKind, parent: &Path) -> Result<PathBuf> {
    let name = Name::new(name)?;
    let folder = parent.join(name.method());
    if folder.symlink_metadata().is_ok() {
        return Err(Error::with_code("file", format!("`{}` is there already", folder.display()))
            .help("choose another name, or another folder with `--path`"));
    }
    // First, for it may fail: nothing is left half-written.
    lay_down(&folder)?;
    for part in ["common", kind.name()] {
        let part =
            TEMPLATE.get_dir(part).ok_or_else(|| Error::new(format!("there is no template `{part}`")))?;
        for file in files(part) {
            let path = file.path().strip_prefix(part.path()).unwrap_or(file.path());
            let path = filled(&path.display().to_string(), &name, kind);
            // A `.gitignore` in the template would be one of this repository.
            let path = if path == "gitignore" { ".gitignore".into() } else { path };
            let text = file.contents_utf8().ok_or_else(|| Error::new("a template is no text"))?;
            put(&folder.join(path), filled(text, &name, kind))?;
        }
    }
    Ok(folder)
}

fn filled(text: &str, name: &Name, kind: MethodKind) -> String {
    text.replace("kind_of_method", kind.name())
        .replace("method-name", name.method())
        .replace("method_name", &name.snake())
        .replace("MethodName", &name.pascal())
}

/// All files of an embedded folder.
pub(super) fn files<'a>(folder: &'a Dir<'a>) -> Vec<&'a include_dir::File<'a>> {
    let inner = folder.dirs().flat_map(files);
    folder.files().chain(inner).collect()
}
