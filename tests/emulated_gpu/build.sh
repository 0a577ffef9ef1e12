#!/usr/bin/env bash
# Builds the emulated GPU: build.sh DIR makes DIR/site/torch, the libtorch of LIBTORCH (of the checkout unless said) with
# `emulated.cpp` as its CUDA part. With it, everything runs on a GPU:
#
#   export LD_LIBRARY_PATH=DIR/site/torch/lib
#   guard-host run                                   # `doctor` tells of it
#   GUARD_DEVICE=cuda cargo test --release -p guard-tests --test golden
#   cargo test --release -p guard-host
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
torch=$(cd "${LIBTORCH:-$here/../../.libtorch/torch}" && pwd -P)
mkdir -p "$1"
done=$(cd "$1" && pwd)/site
site=$done.$$
trap 'rm -rf "$site"' EXIT
mkdir -p "$site/torch/lib"
# libtorch finds NVIDIA's libraries by a path from itself.
if [ -d "$torch/../nvidia" ]; then ln -s "$(cd "$torch/../nvidia" && pwd)" "$site/nvidia"; fi
ln -s "$torch/include" "$site/torch/include"
for file in "$torch"/lib/*; do
    case $(basename "$file") in
        libtorch_cuda.so) ;;
        *) ln -s "$file" "$site/torch/lib/" ;;
    esac
done
"${CXX:-c++}" -std=c++17 -O1 -w -shared -fPIC -isystem "$torch/include" -isystem "$torch/include/torch/csrc/api/include" \
    "$here/emulated.cpp" -o "$site/torch/lib/libtorch_cuda.so" -L "$torch/lib" -ltorch_cpu -lc10
"${CC:-cc}" -shared -fPIC "$here/driver.c" -o "$site/torch/lib/libcuda.so.1"
rm -rf "$done"
mv -T "$site" "$done"
