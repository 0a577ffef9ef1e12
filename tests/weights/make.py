"""Writes the weight files of this folder with PyTorch: what host/src/network/weights/ must read.

    python tests/weights/make.py        (torch 2.11, numpy, safetensors)

Values follow one formula, which the Rust tests know too: element i of tensor t is ((7 i + 3 t) mod 31 - 15) / 8, exact in
every floating type. `malicious.pth` and `malicious_root.pth` would run a harmless command in an unpickler that executes.
"""

import argparse
import os
import pathlib
import zipfile
from collections import OrderedDict

import numpy
import safetensors.torch
import torch
from torch import nn

HERE = pathlib.Path(__file__).parent.resolve()
# The legacy format records where a class's source lies: a bare name, not a path of this machine.
os.chdir(HERE)
__file__ = "make.py"


class BasicBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x):
        main = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(x + main)


class ResNet(nn.Module):
    """torchvision's names: one stage of one block, two channels, three classes."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 2, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(2)
        self.layer1 = nn.Sequential(BasicBlock(2))
        self.fc = nn.Linear(2, 3)

    def forward(self, x):
        x = self.layer1(torch.relu(self.bn1(self.conv1(x))))
        return self.fc(x.mean((2, 3)))


class Scale(nn.Module):
    """Small, since the legacy format holds the source of each module."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))


def values(t, shape, dtype=torch.float32):
    count = int(numpy.prod(shape))
    return (((7 * torch.arange(count) + 3 * t) % 31 - 15) / 8).to(dtype).reshape(shape)


def network(dtype=torch.float32):
    model = ResNet()
    state = model.state_dict()
    for t, (name, tensor) in enumerate(state.items()):
        tensor.copy_(torch.tensor(5) if tensor.dtype == torch.int64 else values(t, tensor.shape))
    return model.to(dtype)


class Evil:
    def __reduce__(self):
        return os.system, ("echo this file ran a command",)


def save(name, what, **options):
    torch.save(what, HERE / name, **options)


def prefixed(prefix, state):
    return OrderedDict((prefix + name, tensor) for name, tensor in state.items())


def rewrite(source, target, change):
    """A copy of a zip file with some entries changed."""
    with zipfile.ZipFile(HERE / source) as old, zipfile.ZipFile(HERE / target, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))


def main():
    model = network()
    state = model.state_dict()
    save("zip.pth", state)
    save("legacy.pth", state, _use_new_zipfile_serialization=False)
    save("protocol4.pth", state, pickle_protocol=4)
    save("legacy_protocol5.pth", state, pickle_protocol=5, _use_new_zipfile_serialization=False)
    save("half.pth", network(torch.float16).state_dict())
    save("bfloat16.pth", network(torch.bfloat16).state_dict())
    save("parameters.pth", {"net": OrderedDict(model.named_parameters()) | dict(model.named_buffers())})
    save("compiled.pth", {"model": prefixed("_orig_mod.module.", state)})
    save("averaged.pth", torch.optim.swa_utils.AveragedModel(model).state_dict())
    torch.serialization.set_crc32_options(False)
    save("without_crc.pth", state)
    torch.serialization.set_crc32_options(True)

    # A network of its own: a forward pass changes the running statistics.
    trained = network()
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.1, momentum=0.9)
    trained(torch.ones(2, 3, 4, 4)).sum().backward()
    optimizer.step()
    checkpoint = {
        "epoch": 3,
        "args": argparse.Namespace(lr=numpy.float64(0.1), arch="resnet", device=torch.device("cpu"), dtype=torch.float16),
        "best_acc1": torch.tensor(0.5),
        "history": numpy.arange(3),
        "optimizer": optimizer.state_dict(),
        "state_dict": prefixed("module.", network().state_dict()),
    }
    save("checkpoint.pth", checkpoint)
    save("legacy_checkpoint.pth", checkpoint, _use_new_zipfile_serialization=False)

    integers = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
    dtypes = {str(d): values(t, [2, 3], d) for t, d in enumerate([torch.float64, torch.float32, torch.float16, torch.bfloat16])}
    dtypes |= {str(d): torch.tensor([[0, 1, 2], [100, 101, 127]], dtype=d) for d in integers}
    dtypes["torch.bool"] = torch.tensor([[True, False, True], [False, False, True]])
    save("dtypes.pth", dtypes)
    save("legacy_dtypes.pth", dtypes, _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(dtypes, HERE / "dtypes.safetensors")
    save("complex.pth", {"weight": torch.zeros(2, dtype=torch.complex64), "bias": torch.zeros(2)})

    base = values(0, [4, 6])
    views = {
        "base": base,
        "transposed": base.t(),
        "slice": base[1:3, ::2],
        "expanded": base[0, :1].expand(3, 1),
        "scalar": base[2, 3],
        "empty": torch.zeros(0, 3),
        "channels_last": values(1, [2, 3, 2, 2]).contiguous(memory_format=torch.channels_last),
        "parameter": nn.Parameter(base[3]),
    }
    save("views.pth", views)
    save("legacy_views.pth", views, _use_new_zipfile_serialization=False)

    # As the authors of DC and MTT write their synthetic sets.
    save("synthetic.pt", {"data": [[values(0, [2, 1, 2, 2]), torch.tensor([0, 1])]], "accs_all_exps": {"ConvNet": []}})

    save("malicious.pth", {"state_dict": state, "payload": Evil()})
    save("malicious_root.pth", Evil())
    save("malicious_weight.pth", state | {"fc.weight": Evil()})
    save("module.pth", model)
    save("legacy_module.pth", Scale(), _use_new_zipfile_serialization=False)
    torch.jit.script(nn.Linear(1, 1)).save(HERE / "script.pt")
    rewrite("zip.pth", "big_endian.pth", lambda name, data: b"big" if name.endswith("/byteorder") else data)
    numpy.savez(HERE / "arrays.npz", images=numpy.zeros(3))


if __name__ == "__main__":
    main()
