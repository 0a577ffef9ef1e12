"""The peer's side of `cargo xtask bench data`: the same files through torchvision's DataLoader with two workers.

`python data.py CASE DIR` makes one pass to warm up and three that count, and prints one JSON line.
"""

import json
import resource
import sys
import tarfile
import time
from pathlib import Path

import numpy
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import datasets, transforms

BATCH, PASSES, WORKERS = 128, 3, 2


class Cifar(Dataset):
    """torchvision's CIFAR10, from the binary layout in place of the pickles: an array, and a PIL image per item."""

    def __init__(self, archive, transform):
        self.transform = transform
        with tarfile.open(archive) as files:
            batches = [files.extractfile(f"cifar-10-batches-bin/data_batch_{n}.bin").read() for n in range(1, 6)]
        records = numpy.frombuffer(b"".join(batches), dtype=numpy.uint8).reshape(-1, 3073)
        self.labels = records[:, 0].astype(int).tolist()
        self.images = numpy.ascontiguousarray(records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def dataset(case, folder):
    tail = [transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    if case == "cifar":
        normalise = transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
        steps = [transforms.RandomCrop(32, padding=4), *tail, normalise]
        return Cifar(folder / "cifar-10" / "cifar-10-binary.tar.gz", transforms.Compose(steps))
    normalise = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    steps = [transforms.RandomResizedCrop(224), *tail, normalise]
    return datasets.ImageFolder(folder / "caltech101-10" / "train", transforms.Compose(steps))


def main():
    case, folder = sys.argv[1], Path(sys.argv[2])
    torch.manual_seed(0)
    loader = DataLoader(dataset(case, folder), BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True)
    for a_pass in range(PASSES + 1):
        if a_pass == 1:
            count, started = 0, time.perf_counter()
        for images, _ in loader:
            if a_pass > 0:
                count += len(images)
    rate = count / (time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"rate": rate, "unit": "images/s", "peak_mib": peak}))


if __name__ == "__main__":
    main()
