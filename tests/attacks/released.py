#!/usr/bin/env python3
"""Holds our `pgd`, `mim`, `cw` and `deepfool` against torchattacks (PyPI) on the same weights and images.

    python released.py run --network NETWORK.json --weights W --examples EXAMPLES.safetensors \
                           --norm linf --epsilon 1 --attacks pgd,mim THEIRS.safetensors
    python released.py run ... --norm l2 --epsilon 0.25 --attacks cw,deepfool THEIRS-L2.safetensors
    cargo run --release -p guard-tests --example attack_accuracy -- \
        NETWORK.json W EXAMPLES.safetensors linf 1 OURS.safetensors \
        'pgd={"steps":20,"random_start":false}' 'mim={"steps":20}'
    cargo run --release -p guard-tests --example attack_accuracy -- \
        NETWORK.json W EXAMPLES.safetensors l2 0.25 OURS-L2.safetensors \
        'cw={"compat":"torchattacks"}' 'cw={"search_steps":4,"steps":200,"constant":0.1}' \
        'deepfool={"compat":"torchattacks"}' 'deepfool={}'
    python released.py compare --ours OURS.safetensors OURS-L2.safetensors --theirs THEIRS.safetensors THEIRS-L2.safetensors

`compare` fails if the attack that computes the same differs by more than one image in 256, or if our own form leaves more right
than theirs by more than that. `common.py` says what the files hold, README.md what came out.

Known differences, which is why there are two forms:

* `pgd`, `mim`: none of effect. We raise the log-odds, whose gradient has the sign of the cross-entropy's and does not vanish in
  float32 where the network is sure.
* `cw`: theirs has one c for all and does not search for it; its margin takes 0 in place of the true logit and is not shift
  invariant; it stops the whole batch when the summed cost rises; pixels of exactly 0 and 1 never move. `compat` repeats that.
* `deepfool`: theirs applies the overshoot to each step, and goes one by one. `compat` repeats the steps.
* What is beyond EPSILON does not count, on either side; torchattacks' own count has no EPSILON.

Needs torch, numpy, safetensors and torchattacks; no other test depends on this one.
"""
import sys

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
    elif name == "deepfool":
        made = torchattacks.DeepFool(model, steps=50, overshoot=0.02)
    else:
        sys.exit(f"no attack `{name}` here")
    batches = zip(images.split(common.BATCH), labels.split(common.BATCH))
    return torch.cat([made(clean, truth) for clean, truth in batches])


if __name__ == "__main__":
    common.main(__doc__, attack, FORMS)
