//! Compiles the kernels against libtorch's headers.

use std::{env, path::Path};

#[path = "../../sdk/rpath.rs"]
mod rpath;

fn main() {
    rpath::main();
    println!("cargo:rerun-if-changed=src");
    let include = Path::new(&env::var("LIBTORCH").unwrap_or_default()).join("include");
    let build = || {
        let mut build = cc::Build::new();
        build.cpp(true).std("c++17").warnings(false).opt_level(3).include(&include);
        build
    };
    // First, for the linker wants users before what they use.
    build()
        .include(include.join("torch/csrc/api/include"))
        .files(["boundary", "convolution", "pooling", "statistics"].map(|name| format!("src/{name}.cpp")))
        .compile("guard_kernels");
    // Once for any CPU, once for those of the last ten years; `omp simd` lets sums be taken in any order.
    for (name, flags) in [("any_cpu", &[][..]), ("avx2", &["-mavx2", "-mfma"])] {
        let mut loops = build();
        for flag in flags {
            loops.flag(flag);
        }
        loops
            .flag("-fopenmp-simd")
            .define("GUARD_CPU", name)
            .file("src/loops.cpp")
            .compile(&format!("guard_kernels_{name}"));
    }
}
