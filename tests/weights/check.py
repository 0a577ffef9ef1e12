"""Shows that PyTorch reads what the host writes: every file given must load with `weights_only=True` (or as safetensors)
and hold the tensors of `zip.pth`, bit for bit.

    GUARD_EXPORT_DIR=DIR cargo test --release -p guard-host --lib weights::tests::both_formats
    python tests/weights/check.py DIR/*        (torch 2.11, safetensors)
"""

import pathlib
import sys

import safetensors.torch
import torch

from make import HERE, ResNet


def load(path):
    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path)
    return torch.load(path, weights_only=True)


def main():
    expected = torch.load(HERE / "zip.pth", weights_only=True)
    for path in map(pathlib.Path, sys.argv[1:]):
        found = load(path)
        ResNet().load_state_dict(found, strict=True)
        assert found.keys() == expected.keys(), path
        for name, tensor in expected.items():
            assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), (path, name)
        print(f"{path.name}: {len(found)} tensors, type {type(found).__name__}, equal")
    assert len(sys.argv) > 1, "name files"


if __name__ == "__main__":
    main()
