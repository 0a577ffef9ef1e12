#!/usr/bin/env python3
"""Holds our attacks against the official AutoAttack (PyPI: pyautoattack) on the same weights and images.

README.md has the commands and what came out. `compare` fails if a robust accuracy differs by more than one image in 256.
`common.py` says what the files hold. Needs torch, numpy, safetensors and pyautoattack; no other test depends on this one.
"""
import tarfile

import common
import numpy as np
import torch
from safetensors.torch import save_file

FORMS = {
    "clean": ["clean"],
    "apgd-ce": ["apgd={}"],
    "apgd-t": ['apgd={"loss":"targeted-dlr"}'],
    "fab-t": ['fab={"early_stop":true}'],
    "square": ["square={}"],
    "standard": ["autoattack={}"],
}


def export(arguments):
    """The first images of CIFAR-10's test set, as the host reads them."""
    with tarfile.open(arguments.archive) as archive:
        member = next(name for name in archive.getnames() if name.endswith("test_batch.bin"))
        raw = archive.extractfile(member).read()
    records = np.frombuffer(raw, np.uint8).reshape(-1, 3073)[: arguments.images]
    images = torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32).copy()).float() / 255
    save_file({"images": images, "labels": torch.from_numpy(records[:, 0].astype(np.int64))}, arguments.output)


def add_export(commands):
    command = commands.add_parser("export")
    command.add_argument("--archive", required=True)
    command.add_argument("--images", type=int, default=256)
    command.add_argument("output")
    command.set_defaults(call=export)


def attack(name, model, images, labels, norm, epsilon):
    from pyautoattack import AutoAttack

    official = AutoAttack(model, norm={"linf": "Linf", "l2": "L2"}[norm], eps=epsilon, version="standard", seed=0)
    if name != "standard":
        official.attacks_to_run = [name]
    return official.run_standard_evaluation(images, labels, batch_size=common.BATCH)[0]


if __name__ == "__main__":
    common.main(__doc__, attack, FORMS, add_export)
