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
    python released.py compare OURS.safetensors THEIRS.safetensors

EXAMPLES and NETWORK.json are those of `official.py`, as are the units of EPSILON. `compare` fails if the attack that computes the
same differs by more than one image in 256, or if our own form leaves more right than theirs by more than that.

Known differences, which is why there are two forms:

* `pgd`, `mim`: none of effect. We raise the log-odds, whose gradient has the sign of the cross-entropy's and does not vanish in
  float32 where the network is sure.
* `cw`: theirs has one c for all and does not search for it; its margin takes 0 in place of the true logit and is not shift
  invariant; it stops the whole batch when the summed cost rises; pixels of exactly 0 and 1 never move. `compat` repeats that.
* `deepfool`: theirs applies the overshoot to each step, and goes one by one. `compat` repeats the steps.
* What is beyond EPSILON does not count, on either side; torchattacks' own count has no EPSILON.

Needs torch, numpy, safetensors and torchattacks; no other test depends on this one.
"""
import argparse
import json
import sys
import time

import torch
from official import load
from safetensors.torch import load_file, save_file

# For each attack: the form that computes the same, and our own where it differs.
OURS = {
    "pgd": ['pgd={"steps":20,"random_start":false}'],
    "mim": ['mim={"steps":20}'],
    "cw": ['cw={"compat":"torchattacks"}', 'cw={"search_steps":4,"steps":200,"constant":0.1}'],
    "deepfool": ['deepfool={"compat":"torchattacks"}', "deepfool={}"],
}
# Examples in a call, as in `attack_accuracy`: the released CW looks at the whole batch.
BATCH = 64


def attack_of(name, model, epsilon):
    import torchattacks

    if name == "pgd":
        return torchattacks.PGD(model, eps=epsilon, alpha=epsilon / 4, steps=20, random_start=False)
    if name == "mim":
        return torchattacks.MIFGSM(model, eps=epsilon, alpha=epsilon / 4, steps=20, decay=1.0)
    if name == "cw":
        return torchattacks.CW(model, c=1, kappa=0, steps=50, lr=0.01)
    if name == "deepfool":
        return torchattacks.DeepFool(model, steps=50, overshoot=0.02)
    sys.exit(f"no attack `{name}` here")


def run(arguments):
    torch.set_num_threads(arguments.threads)
    model = load(arguments.network, arguments.weights)
    examples = load_file(arguments.examples)
    images, labels = examples["images"], examples["labels"]
    linf = arguments.norm == "linf"
    epsilon = arguments.epsilon / 255 if linf else arguments.epsilon
    flags = {}
    for name in arguments.attacks.split(","):
        attack = attack_of(name, model, epsilon)
        started, right = time.time(), []
        for start in range(0, len(labels), BATCH):
            clean, truth = images[start : start + BATCH], labels[start : start + BATCH]
            adversarial = attack(clean, truth).detach()
            change = (adversarial - clean).double().flatten(1)
            size = change.abs().amax(1) if linf else change.norm(dim=1)
            within = size <= (epsilon + 2**-23 if linf else epsilon * (1 + 1e-5))
            counted = torch.where(within.view(-1, 1, 1, 1), adversarial, clean)
            with torch.no_grad():
                right.append((model(counted).argmax(1) == truth).to(torch.uint8))
        flags[name] = torch.cat(right)
        seconds = time.time() - started
        print(json.dumps({"attack": name, "correct": int(flags[name].sum()), "seconds": seconds}), flush=True)
    save_file(flags, arguments.output)


def compare(arguments):
    ours, theirs = load_file(arguments.ours), load_file(arguments.theirs)
    failed = False
    for name, flags in theirs.items():
        allowed = max(1, len(flags) // 256)
        for number, form in enumerate(form for form in OURS[name] if form in ours):
            own = ours[form]
            difference = int(own.sum()) - int(flags.sum())
            bad = abs(difference) > allowed if number == 0 else difference > allowed
            failed |= bad
            print(f"{name:9} ours {int(own.sum()):4}  torchattacks {int(flags.sum()):4}  of {len(flags)}"
                  f"  differing flags {int((own != flags).sum())}  {'FAILED' if bad else 'ok'}  {form}")
    sys.exit(1 if failed else 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("run")
    for name in ["--network", "--weights", "--examples"]:
        command.add_argument(name, required=True)
    command.add_argument("--norm", choices=["linf", "l2"], default="linf")
    command.add_argument("--epsilon", type=float, default=1.0)
    command.add_argument("--attacks", default="pgd,mim")
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
