"""What `official.py` and `released.py` share: the networks, the way an attack is counted, and the comparison.

`--network` is the host's description of a ConvNet or of ResNet-20, as in cn3.json and resnet20.json. `--examples` holds `images`
(float32 `[N,C,H,W]`, pixels in [0,1]) and `labels` (int64 `[N]`); `official.py export` makes one. `--epsilon` is in units of
1/255 for linf, in pixel units for l2.
"""
import argparse
import json
import sys
import time

import torch
from safetensors.torch import load_file, save_file
from torch import nn

# Examples in a call, as in `attack_accuracy`: some attacks look at the whole batch.
BATCH = 64


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


def right(model, images, labels):
    with torch.no_grad():
        return (model(images).argmax(1) == labels).to(torch.uint8)


def known(name, forms):
    if name not in forms:
        sys.exit(f"no attack `{name}` here; there are " + ", ".join(forms))
    return name


def run(arguments, attack, forms):
    """What stays right under each attack; `attack(name, model, images, labels, norm, epsilon)` returns adversarial images.

    What is beyond epsilon does not count."""
    torch.set_num_threads(arguments.threads)
    model = load(arguments.network, arguments.weights)
    examples = load_file(arguments.examples)
    images, labels = examples["images"], examples["labels"]
    linf = arguments.norm == "linf"
    epsilon = arguments.epsilon / 255 if linf else arguments.epsilon
    flags = {"clean": right(model, images, labels)}
    print(json.dumps({"attack": "clean", "correct": int(flags["clean"].sum())}), flush=True)
    for name in [known(name, forms) for name in arguments.attacks.split(",")]:
        started = time.time()
        adversarial = attack(name, model, images, labels, arguments.norm, epsilon).detach()
        change = (adversarial - images).double().flatten(1)
        size = change.abs().amax(1) if linf else change.norm(dim=1)
        within = size <= (epsilon + 2**-23 if linf else epsilon * (1 + 1e-5))
        counted = torch.where(within.view(-1, 1, 1, 1), adversarial, images)
        flags[name], seconds = right(model, counted, labels), time.time() - started
        print(json.dumps({"attack": name, "correct": int(flags[name].sum()), "seconds": seconds}), flush=True)
    save_file(flags, arguments.output)


def compare(arguments, forms):
    """Fails if our form that computes the same leaves another number right, by more than one image in 256, or if any of the
    other forms leaves more. `forms`: for each attack of theirs, the parts of `attack_accuracy` that correspond, the same first."""
    ours = {name: flags for file in arguments.ours for name, flags in load_file(file).items()}
    theirs = {name: flags for file in arguments.theirs for name, flags in load_file(file).items()}
    failed = False
    for name, flags in theirs.items():
        allowed = max(1, len(flags) // 256)
        for number, form in enumerate(forms[known(name, forms)]):
            if form not in ours:
                continue
            own = ours[form]
            difference = int(own.sum()) - int(flags.sum())
            bad = abs(difference) > allowed if number == 0 else difference > allowed
            failed |= bad
            print(f"{name:9} ours {int(own.sum()):4}  theirs {int(flags.sum()):4}  of {len(flags)}"
                  f"  differing flags {int((own != flags).sum()):3}  {'FAILED' if bad else 'ok'}  {form}")
    sys.exit(1 if failed else 0)


def main(description, attack, forms, more=lambda commands: None):
    """The command line: `run` and `compare`, and what `more` adds."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    more(commands)
    command = commands.add_parser("run")
    for name in ["--network", "--weights", "--examples"]:
        command.add_argument(name, required=True)
    command.add_argument("--norm", choices=["linf", "l2"], default="linf")
    command.add_argument("--epsilon", type=float, default=1.0)
    command.add_argument("--attacks", required=True, help="any of " + ", ".join(name for name in forms if name != "clean"))
    command.add_argument("--threads", type=int, default=1)
    command.add_argument("output")
    command.set_defaults(call=lambda arguments: run(arguments, attack, forms))
    command = commands.add_parser("compare")
    command.add_argument("--ours", nargs="+", required=True)
    command.add_argument("--theirs", nargs="+", required=True)
    command.set_defaults(call=lambda arguments: compare(arguments, forms))
    arguments = parser.parse_args()
    arguments.call(arguments)
