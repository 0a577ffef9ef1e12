#!/usr/bin/env python3
"""Holds our attacks against the official AutoAttack (PyPI: pyautoattack) on the same weights and images.

    python official.py export  --archive CIFAR.tar.gz --images 256 EXAMPLES.safetensors
    python official.py run     --network NETWORK.json --weights W --examples EXAMPLES.safetensors \
                               --norm linf --epsilon 1 --attacks apgd-ce,apgd-t,fab-t,square,standard THEIRS.safetensors
    cargo run --release -p guard-tests --example attack_accuracy -- \
        NETWORK.json W EXAMPLES.safetensors linf 1 OURS.safetensors \
        'apgd={}' 'apgd={"loss":"targeted-dlr"}' 'fab={"early_stop":true}' 'square={}' 'autoattack={}'
    python official.py compare OURS.safetensors THEIRS.safetensors

`compare` fails if a robust accuracy differs by more than one image in 256. EPSILON is in units of 1/255 for linf, in pixel
units for l2. NETWORK.json is the host's description of a network, e.g.
    {"architecture": "convnet", "depth": 3, "width": 128, "norm": "instance", "input": [3, 32, 32], "classes": 10,
     "mean": [0.4914, 0.4822, 0.4465], "std": [0.2023, 0.1994, 0.2010]}
`"architecture": "resnet20"` is He et al.'s with option-A shortcuts. Needs torch, numpy, safetensors and pyautoattack; no
other test depends on this one.
"""
import argparse
import json
import sys
import tarfile
import time

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

# The part of the host's `attack_accuracy` that corresponds to each attack here.
OURS = {
    "clean": "clean",
    "apgd-ce": "apgd={}",
    "apgd-t": 'apgd={"loss":"targeted-dlr"}',
    "fab-t": 'fab={"early_stop":true}',
    "square": "square={}",
    "standard": "autoattack={}",
}


class OptionA(nn.Module):
    """A block of ResNet-20: the shortcut takes every other pixel and pads channels with zeros."""

    def __init__(self, inner, outer, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False), nn.BatchNorm2d(outer)
        self.conv2, self.bn2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False), nn.BatchNorm2d(outer)
        self.stride, self.padding = stride, (outer - inner) // 2

    def forward(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        short = x[:, :, :: self.stride, :: self.stride]
        return torch.relu(y + nn.functional.pad(short, (0, 0, 0, 0, self.padding, self.padding)))


class Resnet20(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        for stage, width in enumerate([16, 32, 64], 1):
            inner = max(16, width // 2) if stage > 1 else 16
            blocks = [OptionA(inner if block == 0 else width, width, 2 if stage > 1 and block == 0 else 1)
                      for block in range(3)]
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.linear = nn.Linear(64, classes)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


class Convnet(nn.Module):
    def __init__(self, spec):
        super().__init__()
        channels, side, _ = spec["input"]
        width, layers = spec["width"], []
        for _ in range(spec["depth"]):
            norm = nn.GroupNorm(width, width) if spec["norm"] == "instance" else nn.BatchNorm2d(width)
            layers += [nn.Conv2d(channels, width, 3, padding=1), norm, nn.ReLU(), nn.AvgPool2d(2)]
            channels, side = width, side // 2
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(width * side * side, spec["classes"])

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


class Pixels(nn.Module):
    """The network on pixels in [0,1]."""

    def __init__(self, network, spec):
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(spec["mean"]).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(spec["std"]).view(1, -1, 1, 1))

    def forward(self, x):
        return self.network((x - self.mean) / self.std)


def load(network, weights):
    with open(network) as file:
        spec = json.load(file)
    if spec["architecture"] == "resnet20":
        model = Resnet20(spec["classes"])
    elif spec["architecture"] == "convnet":
        model = Convnet(spec)
    else:
        sys.exit(f"no network `{spec['architecture']}` here")
    model.load_state_dict(load_file(weights))
    return Pixels(model, spec).eval()


def export(arguments):
    """The first images of CIFAR-10's test set, as the host reads them."""
    with tarfile.open(arguments.archive) as archive:
        member = next(name for name in archive.getnames() if name.endswith("test_batch.bin"))
        raw = archive.extractfile(member).read()
    records = np.frombuffer(raw, np.uint8).reshape(-1, 3073)[: arguments.images]
    images = torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32).copy()).float() / 255
    save_file({"images": images, "labels": torch.from_numpy(records[:, 0].astype(np.int64))}, arguments.output)


def run(arguments):
    from pyautoattack import AutoAttack

    torch.set_num_threads(arguments.threads)
    model = load(arguments.network, arguments.weights)
    examples = load_file(arguments.examples)
    images, labels = examples["images"], examples["labels"]
    with torch.no_grad():
        flags = {"clean": (model(images).argmax(1) == labels).to(torch.uint8)}
    norm, unit = ("Linf", 1 / 255) if arguments.norm == "linf" else ("L2", 1.0)
    print(json.dumps({"attack": "clean", "correct": int(flags["clean"].sum())}), flush=True)
    for attack in arguments.attacks.split(","):
        official = AutoAttack(model, norm=norm, eps=arguments.epsilon * unit, version="standard", seed=0)
        if attack != "standard":
            official.attacks_to_run = [attack]
        started = time.time()
        adversarial, _ = official.run_standard_evaluation(images, labels, batch_size=64)
        seconds = time.time() - started
        with torch.no_grad():
            right = (model(adversarial).argmax(1) == labels).to(torch.uint8)
        flags[attack] = right
        print(json.dumps({"attack": attack, "correct": int(right.sum()), "seconds": seconds}), flush=True)
    save_file(flags, arguments.output)


def compare(arguments):
    ours, theirs = load_file(arguments.ours), load_file(arguments.theirs)
    failed = False
    for attack, flags in theirs.items():
        if OURS.get(attack) not in ours:
            continue
        own = ours[OURS[attack]]
        difference = int(own.sum()) - int(flags.sum())
        allowed = max(1, len(flags) // 256)
        failed |= abs(difference) > allowed
        print(f"{attack:9} ours {int(own.sum()):4}  official {int(flags.sum()):4}  of {len(flags)}"
              f"  differing flags {int((own != flags).sum())}  {'ok' if abs(difference) <= allowed else 'FAILED'}")
    sys.exit(1 if failed else 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("export")
    command.add_argument("--archive", required=True)
    command.add_argument("--images", type=int, default=256)
    command.add_argument("output")
    command.set_defaults(call=export)
    command = commands.add_parser("run")
    for name in ["--network", "--weights", "--examples"]:
        command.add_argument(name, required=True)
    command.add_argument("--norm", choices=["linf", "l2"], default="linf")
    command.add_argument("--epsilon", type=float, default=1.0)
    command.add_argument("--attacks", default="apgd-ce,apgd-t,fab-t,square,standard")
    command.add_argument("--threads", type=int, default=1)
    command.add_argument("output")
    command.set_defaults(call=run)
    command = commands.add_parser("compare")
    command.add_argument("ours")
    command.add_argument("theirs")
    command.set_defaults(call=compare)
    arguments = parser.parse_args()
    arguments.call(arguments)


if __name__ == "__main__":
    main()
