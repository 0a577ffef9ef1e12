//! Build script of every package that makes something runnable: where the loader finds libtorch.
//!
//! First beside an installed binary (`$ORIGIN/../lib`), then in the libtorch this was built against. It becomes
//! RUNPATH, so that LD_LIBRARY_PATH still wins and a binary runs against another install of the same libtorch.

use std::{env, fs, path::Path};

/// Prints the link arguments; `sdk/build.rs` includes this file and calls it too.
pub fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let Some(libtorch) = env::var_os("LIBTORCH") else {
        println!("cargo::error=LIBTORCH is not set; run `cargo xtask setup` in the checkout of guard-host");
        return;
    };
    let lib = Path::new(&libtorch).join("lib");
    match fs::canonicalize(&lib) {
        Ok(lib) => println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../lib:{}", lib.display()),
        Err(error) => {
            println!("cargo::error=no libtorch at `{}` ({error}); run `cargo xtask setup`", lib.display())
        }
    }
}
