//! Tells the crate which libtorch it is compiled against.

use std::{env, fs, path::Path};

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let include = Path::new(&env::var("LIBTORCH").unwrap_or_default()).join("include");
    let header =
        ["torch/headeronly/version.h", "torch/csrc/api/include/torch/version.h"].iter().find_map(|name| {
            fs::read_to_string(include.join(name))
                .ok()
                .filter(|text| text.contains("define TORCH_VERSION_MAJOR"))
        });
    let Some(header) = header else {
        println!("cargo::error=no version header in `{}`; run `cargo xtask setup`", include.display());
        return;
    };
    let number = |name: &str| {
        header
            .lines()
            .find_map(|line| line.strip_prefix("#define ")?.strip_prefix(name)?.trim().parse::<u32>().ok())
            .unwrap_or_default()
    };
    let version = format!(
        "{}.{}.{}",
        number("TORCH_VERSION_MAJOR "),
        number("TORCH_VERSION_MINOR "),
        number("TORCH_VERSION_PATCH ")
    );
    println!("cargo:rustc-env=GUARD_TORCH_VERSION={version}");
}
