"""Writes reference.safetensors and reference.json: what torchvision, Pillow and a plain form of DSA make of small images.

    python reference.py        (torch 2.11, torchvision 0.26, Pillow, NumPy, safetensors)

Each case of reference.json names a transform, its parameters as the SDK records them, an input and an output in
reference.safetensors, and how far the SDK's result may be from the output. Everything is float64 except Pillow's images, which
are whole numbers 0..255 and are compared as float64.
"""

import json
import math
import pathlib

import numpy
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv
from torchvision.transforms.v2.functional import _color

FOLDER = pathlib.Path(__file__).parent
EXACT, PILLOW = 1e-9, 1.0 + 1e-9
BILINEAR = InterpolationMode.BILINEAR

torch.manual_seed(0)
tensors = {
    "colour": torch.rand(3, 3, 9, 7, dtype=torch.float64),
    "grey": torch.rand(3, 1, 8, 11, dtype=torch.float64),
    "large": torch.rand(2, 1, 23, 31, dtype=torch.float64),
    "photo": torch.randint(0, 256, (2, 3, 30, 37), dtype=torch.uint8),
}
cases = []


def case(transform, parameters, source, output, tolerance=EXACT):
    name = f"{len(cases)}.{transform}"
    tensors[name] = output.contiguous()
    cases.append(
        {
            "transform": transform,
            "parameters": parameters,
            "input": source,
            "output": name,
            "tolerance": tolerance,
        }
    )


def each(function, source, parameters):
    """The function on every image of the batch with parameters of its own."""
    return torch.cat([function(image[None], p) for image, p in zip(tensors[source], parameters)])


def region(top, left, height, width):
    return {"top": top, "left": left, "height": height, "width": width}


# Crops.


def resized(image, r, size):
    return tv.resized_crop(
        image, r["top"], r["left"], r["height"], r["width"], size, interpolation=BILINEAR, antialias=True
    )


def pillow(image, r, size):
    picture = Image.fromarray(image[0].permute(1, 2, 0).numpy())
    box = (r["left"], r["top"], r["left"] + r["width"], r["top"] + r["height"])
    picture = picture.crop(box).resize(size[::-1], Image.Resampling.BILINEAR)
    return torch.from_numpy(numpy.array(picture)).permute(2, 0, 1)[None]


for source, regions, size in [
    ("colour", [region(1, 2, 5, 4), region(0, 0, 9, 7), region(8, 6, 1, 1)], [6, 8]),
    ("colour", [region(2, 1, 6, 5)], [9, 7]),
    ("grey", [region(0, 3, 8, 8), region(3, 0, 4, 9), region(1, 1, 7, 10)], [3, 4]),
    ("large", [region(0, 0, 23, 31), region(5, 6, 17, 24)], [5, 6]),
]:
    parameters = {"regions": regions, "size": size}
    wide = regions * len(tensors[source]) if len(regions) == 1 else regions
    case("resized-crop", parameters, source, each(lambda x, r: resized(x, r, size), source, wide))
regions, size = [region(3, 5, 25, 30), region(0, 0, 11, 9)], [14, 13]
photo = each(lambda x, r: pillow(x, r, size), "photo", regions)
case("resized-crop", {"regions": regions, "size": size}, "photo", photo, PILLOW)

for border, mode in [("zero", "constant"), ("reflect", "reflect")]:
    corners = [[-3, 2], [1, -1], [0, 3]]

    def padded(image, corner):
        wide = tv.pad(image, [3] * 4, padding_mode=mode)
        return tv.crop(wide, corner[0] + 3, corner[1] + 3, *image.shape[-2:])

    output = each(padded, "colour", corners)
    case("padded-crop", {"corners": corners, "border": border}, "colour", output)

# Flip and roll.

flips = [True, False, True]
output = each(lambda x, flip: tv.horizontal_flip(x) if flip else x, "grey", flips)
case("flip", {"flipped": flips}, "grey", output)
shifts = [[2, -3], [0, 12], [-9, 1]]
case("roll", {"shifts": shifts}, "grey", each(lambda x, s: torch.roll(x, s, (2, 3)), "grey", shifts))

# Colours, as torchvision has them.



def adjust_hue(image, turns):
    """tv.adjust_hue without its detour over float32."""
    if image.shape[1] == 1:
        return image
    hue, saturation, value = _color._rgb_to_hsv(image).unbind(1)
    return _color._hsv_to_rgb(torch.stack([(hue + turns).remainder(1.0), saturation, value], 1))


ADJUST = {
    "brightness": tv.adjust_brightness,
    "contrast": tv.adjust_contrast,
    "saturation": tv.adjust_saturation,
    "hue": adjust_hue,
}


def jitter(image, change):
    for name in change["order"]:
        image = ADJUST[name](image, change[name])
    return image


def change(order, brightness, contrast, saturation, hue):
    names = {initial: name for initial in "bcsh" for name in ADJUST if name[0] == initial}
    return {
        "order": [names[initial] for initial in order],
        "brightness": brightness,
        "contrast": contrast,
        "saturation": saturation,
        "hue": hue,
    }


for changes in [
    [change("bcsh", 1.4, 1.0, 1.0, 0.0)] * 3,
    [change("bcsh", 1.0, 0.3, 1.0, 0.0), change("bcsh", 1.0, 1.7, 1.0, 0.0), change("bcsh", 1.0, 0.0, 1.0, 0.0)],
    [change("bcsh", 1.0, 1.0, 0.2, 0.0), change("bcsh", 1.0, 1.0, 1.9, 0.0), change("bcsh", 1.0, 1.0, 0.0, 0.0)],
    [change("bcsh", 1.0, 1.0, 1.0, 0.5), change("bcsh", 1.0, 1.0, 1.0, -0.21), change("bcsh", 1.0, 1.0, 1.0, 0.07)],
    [change("hbsc", 0.7, 1.6, 1.3, 0.4), change("schb", 1.2, 0.5, 0.6, -0.1), change("chsb", 1.1, 1.3, 1.8, -0.45)],
]:
    for source in ["colour", "grey"]:
        case("color-jitter", {"changes": changes}, source, each(jitter, source, changes))

# Evaluation.

case("resize-shorter-side", {"side": 10}, "large", tv.resize(tensors["large"], [10], antialias=True))
case("resize-shorter-side", {"side": 12}, "colour", tv.resize(tensors["colour"], [12], antialias=True))
for source, size in [("large", [11, 12]), ("large", [8, 8]), ("colour", [12, 4]), ("grey", [9, 12])]:
    case("center-crop", {"size": size}, source, tv.center_crop(tensors[source], size))

# DSA, from the paper's description: a grid of places in [-1,1]² that is sampled bilinearly, zeros outside; translation and
# cutout pixel by pixel.


def sampled(image, matrix, align_corners):
    _, channels, height, width = image.shape
    output = torch.zeros_like(image)

    def place(i, side):
        return 2 * i / (side - 1) - 1 if align_corners else (2 * i + 1) / side - 1

    def pixel(p, side):
        return (p + 1) / 2 * (side - 1) if align_corners else ((p + 1) * side - 1) / 2

    for y in range(height):
        for x in range(width):
            u, v = place(x, width), place(y, height)
            sx = pixel(matrix[0][0] * u + matrix[0][1] * v, width)
            sy = pixel(matrix[1][0] * u + matrix[1][1] * v, height)
            for j in (math.floor(sy), math.floor(sy) + 1):
                for i in (math.floor(sx), math.floor(sx) + 1):
                    if 0 <= j < height and 0 <= i < width:
                        share = (1 - abs(sy - j)) * (1 - abs(sx - i))
                        output[:, :, y, x] += share * image[:, :, j, i]
    return output


def turned(degrees):
    angle = math.radians(degrees)
    return [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]


for align_corners in [False, True]:
    factors = [[1.2, 0.9], [1 / 1.2, 1.1], [1.0, 0.85]]
    output = each(lambda x, f: sampled(x, [[f[0], 0], [0, f[1]]], align_corners), "colour", factors)
    case("dsa", {"transform": "scale", "factors": factors, "align_corners": align_corners}, "colour", output)
    degrees = [15.0, -7.3, 2.5]
    output = each(lambda x, d: sampled(x, turned(d), align_corners), "grey", degrees)
    case("dsa", {"transform": "rotate", "degrees": degrees, "align_corners": align_corners}, "grey", output)


def translated(image, corner):
    _, _, height, width = image.shape
    output = torch.zeros_like(image)
    for y in range(height):
        for x in range(width):
            if 0 <= y + corner[0] < height and 0 <= x + corner[1] < width:
                output[:, :, y, x] = image[:, :, y + corner[0], x + corner[1]]
    return output


def cut(image, r):
    mask = torch.ones_like(image)
    mask[:, :, r["top"] : r["top"] + r["height"], r["left"] : r["left"] + r["width"]] = 0
    return image * mask


def coloured(image, p):
    brightness, saturation, contrast = p
    image = image + brightness
    mean = image.mean(1, keepdim=True)
    image = (image - mean) * saturation + mean
    mean = image.mean()
    return (image - mean) * contrast + mean


corners = [[1, -1], [-1, 0], [0, 1]]
output = each(translated, "colour", corners)
case("dsa", {"transform": "crop", "corners": corners, "border": "zero"}, "colour", output)
regions = [region(0, 2, 5, 4), region(4, 0, 5, 2), region(8, 6, 1, 1)]
case("dsa", {"transform": "cutout", "regions": regions}, "colour", each(cut, "colour", regions))
changes = [[0.3, 1.7, 0.6], [-0.5, 0.0, 1.4], [0.1, 0.4, 0.5]]
for source in ["colour", "grey"]:
    case("dsa", {"transform": "color", "changes": changes}, source, each(coloured, source, changes))
# One entry for the whole batch.
output = each(coloured, "colour", changes[:1] * 3)
case("dsa", {"transform": "color", "changes": changes[:1]}, "colour", output)
output = each(lambda x, d: sampled(x, turned(d), False), "colour", [11.0] * 3)
case("dsa", {"transform": "rotate", "degrees": [11.0], "align_corners": False}, "colour", output)

save_file(tensors, FOLDER / "reference.safetensors")
(FOLDER / "reference.json").write_text("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")
