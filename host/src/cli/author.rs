//! `guard-host plugin new|sdk`.

use super::{Failure, print};
use crate::author::{MethodKind, lay_down, write};
use clap::Args;
use std::path::PathBuf;

/// What `plugin new` takes.
#[derive(Debug, Args)]
pub(super) struct NewArguments {
    /// The method's name in recipes: lower-case words with hyphens between.
    name: String,

    /// What the method is.
    #[arg(long, value_enum)]
    kind: MethodKind,

    /// Where the crate's folder is made.
    #[arg(long, value_name = "DIR", default_value = ".")]
    path: PathBuf,
}

/// What `plugin sdk` takes.
#[derive(Debug, Args)]
pub(super) struct SdkArguments {
    /// The folder of the plugin's crate.
    #[arg(long, value_name = "DIR", default_value = ".")]
    path: PathBuf,
}

/// Writes a crate and says how to go on.
pub(super) fn new(arguments: &NewArguments) -> Result<(), Failure> {
    let NewArguments { name, kind, path } = arguments;
    let folder = write(name, *kind, path).map_err(Failure::Usage)?;
    let library = crate::plugin::library_name(&name.replace('-', "_"));
    print(&format!(
        "wrote `{folder}`; go on with\n\n  \
         cd {folder}\n  \
         cargo test --release\n  \
         cargo build --release\n  \
         guard-host plugin check target/release/{library}\n",
        folder = folder.display()
    ))
}

/// Lays the SDK down again.
pub(super) fn sdk(arguments: &SdkArguments) -> Result<(), Failure> {
    if !arguments.path.join("Cargo.toml").is_file() {
        return Err(Failure::usage(format!("there is no crate in `{}`", arguments.path.display()))
            .help("name the folder of its `Cargo.toml` with `--path`"));
    }
    lay_down(&arguments.path).map_err(Failure::Usage)?;
    print(&format!("the SDK is in `{}`\n", arguments.path.join(".guard/sdk").display()))
}
