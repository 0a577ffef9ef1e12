"""Writes reference.safetensors: what PyTorch, torchvision and timm compute for the networks of cases.json.

    pip install torch==2.11.0 torchvision==0.26.0 timm==1.0.31 safetensors numpy
    python reference.py

No weights are stored. Both sides make them, and the images, from the tensors' names by `numbers` below, bit for bit the
same in float64. Of a tensor too large to store, its norm and its product with a direction made in the same way are kept;
of a network as PyTorch starts it, each parameter's mean, standard deviation and largest absolute value.
"""

import json
import math
from pathlib import Path

import numpy as np
import timm
import torch
import torchvision
from definitions import CifarResNet, ConvNet, ResNet18AP, WideResNet
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

HERE = Path(__file__).parent
CLASSES, IMAGES = 10, 3
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]


def fnv1a(text):
    """The 64-bit FNV-1a hash."""
    number = 0xCBF29CE484222325
    for byte in text.encode():
        number = (number ^ byte) * 0x100000001B3 % 2**64
    return number


def numbers(name, shape):
    """Uniform numbers on [0,1): SplitMix64 from the name's hash."""
    count = math.prod(shape)
    with np.errstate(over="ignore"):
        z = np.uint64(fnv1a(name)) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return torch.from_numpy((z >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(shape)


def tensor(name, shape):
    """A parameter or buffer."""
    if len(shape) == 0:
        return torch.tensor(0)
    uniform = numbers(name, shape)
    if len(shape) > 1:
        return (2.0 * uniform - 1.0) * math.sqrt(3.0 / math.prod(shape[1:]))
    if name.endswith(("weight", "running_var")):
        return 0.75 + 0.5 * uniform
    return (uniform - 0.5) * 0.2


def summary(name, value):
    """Norm, and product with a direction."""
    if value is None:
        return torch.zeros(2, dtype=torch.float64)
    direction = 2.0 * numbers(f"direction of {name}", value.shape) - 1.0
    return torch.stack([value.norm(), (value * direction).sum()]).detach()


def build(image, network):
    """The network of a case, from torchvision, timm, or definitions.py."""
    options = dict(network)
    name = options.pop("architecture")
    if name == "convnet":
        return ConvNet(image, CLASSES, **options)
    if name in ["resnet20", "resnet32", "resnet56"]:
        return CifarResNet(image, CLASSES, (int(name[6:]) - 2) // 6)
    if name == "resnet18_ap":
        return ResNet18AP(image, CLASSES, **options)
    if name == "wrn-16-2":
        return WideResNet(image, CLASSES, 16, 2)
    if name.startswith("vit"):
        sizes = {"img_size": image[1:], "patch_size": options.get("patch", 16), "depth": options.get("depth", 12)}
        return timm.create_model(f"{name}_patch16_224", num_classes=CLASSES, **sizes)
    if name == "shufflenet_v2":
        return torchvision.models.shufflenet_v2_x1_0(num_classes=CLASSES)
    cifar = options.pop("stem", "imagenet") == "cifar"
    model = getattr(torchvision.models, name)(num_classes=CLASSES, **options)
    if cifar:
        model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
        nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out")
    return model


def reference(image, network):
    """All values of a case."""
    torch.manual_seed(0)
    model = build(image, network).double()
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    fresh = [[each.mean(), each.std(correction=0), each.abs().max()] for each in parameters.values()]
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model.eval()(torch.zeros([1, *image], dtype=torch.float64))
    with torch.no_grad():
        for name, value in [*parameters.items(), *buffers.items()]:
            value.copy_(tensor(name, value.shape))
    listed = [
        fnv1a("".join(f"{name} {list(value.shape)}\n" for name, value in tensors.items()))
        for tensors in [parameters, buffers]
    ]
    values = {
        "names": torch.from_numpy(np.array(listed, dtype=np.uint64).view(np.int64)),
        "size": torch.tensor(sum(value.numel() for value in parameters.values())),
        # A multiplication and an addition are two operations there.
        "multiply_adds": torch.tensor(counter.get_total_flops() // 2),
        "fresh": torch.tensor(fresh, dtype=torch.float64),
    }
    pixels = numbers("images", [IMAGES, *image]).requires_grad_(True)
    labels = torch.arange(IMAGES)
    channels = [torch.tensor(each[: image[0]], dtype=torch.float64).reshape(-1, 1, 1) for each in [MEAN, STD]]
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    seen = []
    last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))

    def gradients_of(scalar, **options):
        found = torch.autograd.grad(scalar, [pixels, *parameters.values()], allow_unused=True, **options)
        return found, torch.stack([summary(*each) for each in zip(["images", *parameters], found)])

    for mode in ["eval", "train"] if buffers else ["eval"]:
        model.train(mode == "train")
        logits = model((pixels - channels[0]) / channels[1])
        found, values[f"{mode}/gradients"] = gradients_of(F.cross_entropy(logits, labels), create_graph=True)
        values[f"{mode}/logits"] = logits.detach()
        values[f"{mode}/embedding"] = summary("embedding", seen[-1])
        # GUARD differentiates a penalty on the gradient to the images.
        if mode == "eval":
            _, values["eval/second"] = gradients_of(found[0].square().sum())
    if buffers:
        follow = {name: value for name, value in buffers.items() if value.ndim}
        values["train/buffers"] = torch.stack([summary(*each) for each in follow.items()])
    return values


def main():
    torch.set_num_threads(2)
    timm.layers.set_fused_attn(False)
    everything = {}
    for case, description in json.loads((HERE / "cases.json").read_text()).items():
        values = reference(description["input"], description["network"])
        print(f"{case}: {values['size']} parameters, logits {values['eval/logits'].abs().max():.3g}", flush=True)
        everything |= {f"{case}/{name}": value.contiguous() for name, value in values.items()}
    save_file(everything, HERE / "reference.safetensors")


if __name__ == "__main__":
    main()
