"""The peer's side of `cargo xtask bench steps`: the same steps as PyTorch users write them.

`python steps.py CASE DATA PEERS THREADS` prints one JSON line. PEERS is the folder of `peers.py`, which has most cases and is run as it
is; here are those that it lacks: the official AutoAttack and its Square (PyPI: pyautoattack), ResNet-20 on CIFAR-10, and the squared form
of the curvature. With GUARD_DEVICE=cuda all of it runs on the GPU.
"""

import json
import resource
import statistics
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import gpu

EPSILON = 1 / 255
OWN = {"cn3_pgd100": 128, "cn3_autoattack": 16, "rn20_pgd100": 128, "rn20_autoattack": 64, "cn3_square": 64, "rn20_square": 64}
QUERIES = 500


def resnet20(data, count):
    """The published network, and the first test images."""
    import numpy
    import torch
    from safetensors.torch import load_file

    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "attacks"))
    import common

    network = common.Resnet20(10)
    network.load_state_dict(load_file(data / "weights/resnet20-cifar10.safetensors"))
    spec = {"mean": [0.4914, 0.4822, 0.4465], "std": [0.247, 0.2435, 0.2616]}
    with tarfile.open(data / "cifar-10/cifar-10-binary.tar.gz") as archive:
        raw = archive.extractfile("cifar-10-batches-bin/test_batch.bin").read(3073 * count)
    records = numpy.frombuffer(raw, numpy.uint8).reshape(-1, 3073)
    images = torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32).copy()).float() / 255
    return common.Pixels(network, spec).eval(), images, torch.from_numpy(records[:, 0].astype(numpy.int64))


def convnet(peers, count):
    """The network and images of `peers.py`."""
    import torch
    from safetensors.torch import load_file

    sys.path.insert(0, str(peers))
    import refnets

    tensors = load_file(peers / "bench_cn3.safetensors")
    images, labels = tensors.pop("eval_images")[:count], tensors.pop("eval_labels")[:count]
    network = refnets.ConvNetD3(width=128)
    network.load_state_dict(tensors)
    pixels = refnets.PixelNorm(refnets.CIFAR_MEAN, refnets.CIFAR_STD)
    return torch.nn.Sequential(pixels, network).eval(), images, labels


def own(case, data, peers, threads):
    import torch

    if gpu.wanted():
        gpu.activate()
    torch.set_num_threads(threads)
    count = OWN[case]
    network, images, labels = resnet20(data, count) if case.startswith("rn20") else convnet(peers, count)
    device = torch.get_default_device()
    network, images, labels = network.to(device), images.to(device), labels.to(device)
    if case.endswith("pgd100"):
        import torchattacks

        pgd = torchattacks.PGD(network, eps=EPSILON, alpha=EPSILON / 4, steps=100)
        attack, runs = (lambda: pgd(images, labels)), 2
    else:
        from pyautoattack import AutoAttack

        official = AutoAttack(network, norm="Linf", eps=EPSILON, version="standard", seed=0, device=str(device))
        if case.endswith("square"):
            official.attacks_to_run, official.square.n_queries = ["square"], QUERIES
        attack, runs = (lambda: official.run_standard_evaluation(images, labels, batch_size=count)[0]), 1
    network(images)
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        adversarial = attack()
        times.append((time.perf_counter() - started) * 1e3)
    with torch.no_grad():
        correct = int((network(adversarial).argmax(1) == labels).sum())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"ms": statistics.median(times), "ms_all": times, "peak_mib": peak, "correct": correct}


def shared(case, peers, threads):
    """A case of `peers.py`; attacks there take 128 images."""
    # The squared form takes the same passes.
    case = "rn18_cure_full" if case == "rn18_cure_squared" else case
    wrapper = [Path(gpu.__file__)] if gpu.wanted() else []
    command = [sys.executable, *wrapper, peers / "peers.py", "--only", case, "--json", "--runs", "3", "--threads", str(threads)]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    correct = round(found["robust_acc"] * 128) if "robust_acc" in found else None
    return {"ms": found["ms_median"], "ms_all": found["ms_all"], "peak_mib": found["peak_rss_mib"], "correct": correct,
            "calibration_ms": found["calib_ms"]}


def main():
    case, data, peers, threads = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    # pyautoattack writes what it does to stdout.
    out, sys.stdout = sys.stdout, sys.stderr
    result = own(case, data, peers, threads) if case in OWN else shared(case, peers, threads)
    print(json.dumps(result), file=out)


if __name__ == "__main__":
    main()
