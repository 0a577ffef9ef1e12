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
    // libtorch's `parallel_for` stands in its headers, and is a plain loop unless they are compiled with OpenMP: that of
    // GCC, which libtorch brings.
    let threads = build().get_compiler().is_like_gnu();
    if threads {
        println!("cargo:rustc-link-lib=gomp");
    } else {
        println!("cargo:warning=guard-kernels run on one thread: compile them with GCC (CXX=g++)");
    }
    // First, for the linker wants users before what they use.
    let mut layers = build();
    if threads {
        layers.flag("-fopenmp");
    }
    layers
        .include(include.join("torch/csrc/api/include"))
        .files(
            ["boundary", "convolution", "pooling", "statistics", "weight_gradient", "winograd"]
                .map(|name| format!("src/{name}.cpp")),
        )
        .compile("guard_kernels");
    // Once for any CPU, once for those of the last ten years.
    for (name, flags, files) in [
        ("any_cpu", &[][..], &["src/loops.cpp"][..]),
        ("avx2", &["-mavx2", "-mfma"], &["src/loops.cpp", "src/tiles.cpp"]),
    ] {
        let mut loops = build();
        for flag in flags {
            loops.flag(flag);
        }
        // A choice between two values becomes a vector only where no comparison may trap.
        loops
            .flag("-fno-trapping-math")
            .define("GUARD_CPU", name)
            .files(files)
            .compile(&format!("guard_kernels_{name}"));
    }
}
