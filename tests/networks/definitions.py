"""Networks that neither torchvision nor timm has, written from their definitions, with the names of the code that the
field uses, and its way to start: the ConvNet and ResNet18_AP of DC/DSA (PyTorch's), He et al.'s ResNets for CIFAR
(akamaster's), the WideResNet (xternalz's)."""

import torch
from torch import nn
from torch.nn import functional as F


def conv3x3(source, target, stride=1):
    return nn.Conv2d(source, target, 3, stride, 1, bias=False)


def norm_layer(norm, shape):
    channels = shape[0]
    return {
        "instance": lambda: nn.GroupNorm(channels, channels),
        "batch": lambda: nn.BatchNorm2d(channels),
        "layer": lambda: nn.LayerNorm(shape),
        "group": lambda: nn.GroupNorm(4, channels),
    }[norm]()


class ConvNet(nn.Module):
    """Blocks of conv 3x3, norm, ReLU, avg-pool 2x2; the first convolution of 28x28 images has padding 3."""

    def __init__(self, image, classes, depth, width, norm="instance"):
        super().__init__()
        channels, side, layers = image[0], image[1], []
        for block in range(depth):
            padding = 3 if channels == 1 and block == 0 else 1
            side += 2 * padding - 2
            layers.append(nn.Conv2d(channels, width, 3, padding=padding))
            if norm != "none":
                layers.append(norm_layer(norm, [width, side, side]))
            layers += [nn.ReLU(), nn.AvgPool2d(2)]
            channels, side = width, side // 2
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels * side * side, classes)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


class OptionABlock(nn.Module):
    """Its shortcut takes every second position and pads the channels with zeros, a half on each side."""

    def __init__(self, source, target, stride):
        super().__init__()
        self.conv1, self.bn1 = conv3x3(source, target, stride), nn.BatchNorm2d(target)
        self.conv2, self.bn2 = conv3x3(target, target), nn.BatchNorm2d(target)
        self.padding = (target - source) // 2

    def forward(self, x):
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.padding:
            zeros = x.new_zeros(x.shape[0], self.padding, (x.shape[2] + 1) // 2, (x.shape[3] + 1) // 2)
            x = torch.cat([zeros, x[:, :, ::2, ::2], zeros], 1)
        return F.relu(out + x)


class CifarResNet(nn.Module):
    """He et al. 2016, section 4.2: 6n+2 layers in three stages of 16, 32 and 64 channels."""

    def __init__(self, image, classes, blocks):
        super().__init__()
        self.conv1, self.bn1 = conv3x3(image[0], 16), nn.BatchNorm2d(16)
        source = 16
        for stage, target in enumerate([16, 32, 64], start=1):
            layers = []
            for block in range(blocks):
                layers.append(OptionABlock(source, target, 2 if stage > 1 and block == 0 else 1))
                source = target
            setattr(self, f"layer{stage}", nn.Sequential(*layers))
        self.linear = nn.Linear(64, classes)
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(layer.weight)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean([2, 3]))


class AveragePoolBlock(nn.Module):
    """A residual block whose stride is an average pooling behind the first activation, and in the shortcut."""

    def __init__(self, source, target, side, pools, norm):
        super().__init__()
        after = side // 2 if pools else side
        self.pools = pools
        self.conv1, self.bn1 = conv3x3(source, target), norm_layer(norm, [target, side, side])
        self.conv2, self.bn2 = conv3x3(target, target), norm_layer(norm, [target, after, after])
        self.shortcut = nn.Sequential()
        if pools:
            self.shortcut = nn.Sequential(
                nn.Conv2d(source, target, 1, bias=False), nn.AvgPool2d(2), norm_layer(norm, [target, after, after])
            )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.avg_pool2d(out, 2) if self.pools else out
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResNet18AP(nn.Module):
    """The ResNet-18 of DC and DSA: average pooling for strides, no global pooling."""

    def __init__(self, image, classes, norm="instance"):
        super().__init__()
        side = image[1]
        self.conv1, self.bn1 = conv3x3(image[0], 64), norm_layer(norm, [64, side, side])
        source = 64
        for stage, target in enumerate([64, 128, 256, 512], start=1):
            pools = stage > 1
            first = AveragePoolBlock(source, target, side, pools, norm)
            side = side // 2 if pools else side
            setattr(self, f"layer{stage}", nn.Sequential(first, AveragePoolBlock(target, target, side, False, norm)))
            source = target
        self.classifier = nn.Linear(512 * side * side, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.classifier(x.flatten(1))


class PreActivationBlock(nn.Module):
    """Norm and ReLU before each convolution; a block that changes the channels shares its first activation."""

    def __init__(self, source, target, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(source), conv3x3(source, target, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(target), conv3x3(target, target)
        self.convShortcut = nn.Conv2d(source, target, 1, stride, bias=False) if source != target else None

    def forward(self, x):
        activated = F.relu(self.bn1(x))
        out = self.conv2(F.relu(self.bn2(self.conv1(activated))))
        return out + (x if self.convShortcut is None else self.convShortcut(activated))


class WideResNet(nn.Module):
    """Zagoruyko and Komodakis 2016, 6n+4 layers."""

    def __init__(self, image, classes, depth, widen):
        super().__init__()
        self.conv1 = conv3x3(image[0], 16)
        source = 16
        for stage in range(3):
            target, layers = 16 * widen * 2**stage, []
            for block in range((depth - 4) // 6):
                layers.append(PreActivationBlock(source, target, 2 if stage > 0 and block == 0 else 1))
                source = target
            setattr(self, f"block{stage + 1}", nn.ModuleDict({"layer": nn.Sequential(*layers)}))
        self.bn1 = nn.BatchNorm2d(source)
        self.fc = nn.Linear(source, classes)
        nn.init.zeros_(self.fc.bias)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out")

    def forward(self, x):
        x = self.conv1(x)
        for block in [self.block1, self.block2, self.block3]:
            x = block["layer"](x)
        return self.fc(F.relu(self.bn1(x)).mean([2, 3]))
