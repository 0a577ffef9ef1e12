//! Compiles the calls of libtorch and of NVIDIA's driver. No header of CUDA is needed.

use std::{env, path::Path};

#[path = "../../sdk/rpath.rs"]
mod rpath;

fn main() {
    rpath::main();
    println!("cargo:rerun-if-changed=src");
    let include = Path::new(&env::var("LIBTORCH").unwrap_or_default()).join("include");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .files(["driver", "graphed", "libtorch"].map(|name| format!("src/{name}.cpp")))
        .compile("guard_device");
}
