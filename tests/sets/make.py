"""Writes the synthetic sets of this folder with PyTorch, as the code of others saves them: what `guard-host distilled import`
must read.

    python tests/sets/make.py        (torch 2.11, numpy)

Ten images of 1x8x8, one of each digit. Pixel i of the set is ((7 i) mod 31) / 30, and pixel 0 is 1.25, outside of [0,1]: nobody
clamps what is learned. They are normalised as digits are. `malicious.pt` would run a harmless command in an unpickler that
executes.
"""

import os
import pathlib
import pickle

import numpy
import torch

HERE = pathlib.Path(__file__).parent.resolve()
MEAN, STD = 0.305386, 0.375507


def pixels():
    values = torch.arange(640, dtype=torch.float64) * 7 % 31 / 30
    values[0] = 1.25
    return values.reshape(10, 1, 8, 8)


def normalised():
    return ((pixels() - MEAN) / STD).float()


def dc(name, images, labels):
    """DC, DSA and DM: main.py of DatasetCondensation."""
    first = [torch.zeros_like(images), labels]
    accuracies = {"ConvNet": [0.5, numpy.float64(0.75)]}
    torch.save({"data": [first, [images, labels]], "accs_all_exps": accuracies}, HERE / name)


class Malicious:
    def __reduce__(self):
        return os.system, ("touch executed",)


def main():
    images, labels = normalised(), torch.arange(10)
    dc("dc.pt", images.clone().requires_grad_(True).detach(), labels)
    dc("dc_range.pt", images, labels + 3)
    dc("dc_flat.pt", images.flatten(1), labels)
    dc("dc_short.pt", images, labels[:7])
    broken = images.clone()
    broken[4, 0, 3, 3] = float("nan")
    dc("dc_nan.pt", broken, labels)
    # MTT's distill.py; TESLA and DATM learn logits as labels.
    (HERE / "mtt").mkdir(exist_ok=True)
    torch.save(images, HERE / "mtt/images_best.pt")
    torch.save(labels, HERE / "mtt/labels_best.pt")
    torch.save(torch.tensor(0.03125, requires_grad=True), HERE / "mtt/lr_best.pt")
    (HERE / "datm").mkdir(exist_ok=True)
    torch.save(images, HERE / "datm/images_best.pt")
    torch.save(torch.eye(10) * 4 - 1, HERE / "datm/labels_best.pt")
    torch.save(images, HERE / "images_alone.pt")
    # IDC and others.
    torch.save([images, labels], HERE / "pair.pt")
    torch.save({"state_dict": {"weight": images}}, HERE / "network.pt")
    torch.save({"data": Malicious()}, HERE / "malicious.pt")
    (HERE / "plain.pt").write_bytes(pickle.dumps([1, 2], protocol=2))
    whole = (HERE / "dc.pt").read_bytes()
    (HERE / "cut.pt").write_bytes(whole[: len(whole) // 2])


if __name__ == "__main__":
    main()
