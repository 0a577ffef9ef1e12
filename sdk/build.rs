//! Compiles the C++ shim against libtorch's headers.

use std::{env, path::Path};

#[path = "rpath.rs"]
mod rpath;

fn main() {
    rpath::main();
    println!("cargo:rerun-if-changed=src/abi/shim.cpp");
    let include = Path::new(&env::var("LIBTORCH").unwrap_or_default()).join("include");
    if !include.is_dir() {
        println!("cargo::error=no headers in `{}`; run `cargo xtask setup`", include.display());
        return;
    }
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .file("src/abi/shim.cpp")
        .compile("guard_torch_shim");
}
