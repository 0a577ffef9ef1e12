//! Compiles the kernels against libtorch's headers.

use std::{env, path::Path};

#[path = "../../sdk/rpath.rs"]
mod rpath;

fn main() {
    rpath::main();
    println!("cargo:rerun-if-changed=src/kernels.cpp");
    let include = Path::new(&env::var("LIBTORCH").unwrap_or_default()).join("include");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .opt_level(3)
        // Lets the loops marked `omp simd` add in any order; threads are libtorch's.
        .flag("-fopenmp-simd")
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .file("src/kernels.cpp")
        .compile("guard_kernels");
}
