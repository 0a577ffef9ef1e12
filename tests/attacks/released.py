#!/usr/bin/env python3
"""Holds our `pgd`, `mim`, `cw` and `deepfool` against torchattacks (PyPI) on the same weights and images.

README.md has the commands, what came out, and the known differences, which are why `cw` and `deepfool` have two forms: one that
computes what torchattacks does, and our own. `compare` fails if the first differs by more than one image in 256, or if the
second leaves more right than torchattacks by more than that. `common.py` says what the files hold. Needs torch, numpy,
safetensors and torchattacks; no other test depends on this one.
"""
import common
import torch

FORMS = {
    "clean": ["clean"],
    "pgd": ['pgd={"steps":20,"random_start":false}'],
    "mim": ['mim={"steps":20}'],
    "cw": ['cw={"compat":"torchattacks"}', 'cw={"search_steps":4,"steps":200,"constant":0.1}'],
    "deepfool": ['deepfool={"compat":"torchattacks"}', "deepfool={}"],
}


def attack(name, model, images, labels, norm, epsilon):
    import torchattacks

    if name == "pgd":
        made = torchattacks.PGD(model, eps=epsilon, alpha=epsilon / 4, steps=20, random_start=False)
    elif name == "mim":
        made = torchattacks.MIFGSM(model, eps=epsilon, alpha=epsilon / 4, steps=20, decay=1.0)
    elif name == "cw":
        made = torchattacks.CW(model, c=1, kappa=0, steps=50, lr=0.01)
    else:
        made = torchattacks.DeepFool(model, steps=50, overshoot=0.02)
    batches = zip(images.split(common.BATCH), labels.split(common.BATCH))
    return torch.cat([made(clean, truth) for clean, truth in batches])


if __name__ == "__main__":
    common.main(__doc__, attack, FORMS)
