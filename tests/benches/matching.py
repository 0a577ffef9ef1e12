"""The peer's side of `cargo xtask bench matching`: the same steps in PyTorch.

`python matching.py CASE DATA PEERS THREADS` makes one step to warm up and five that count, and prints one JSON line. The steps
of `dc` and `mtt20` are those of `peers.py` in PEERS; `tesla20` is measured against MTT's. With GUARD_DEVICE=cuda all of it runs on the
GPU.
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import gpu

STEPS, BENCH, THREADS = 5, Path(sys.argv[3]), int(sys.argv[4])
PEERS = {"dc": "cn3_dc", "mtt20": "cn3_mtt20", "tesla20": "cn3_mtt20"}


def of_peers(name):
    wrapper = [gpu.__file__] if gpu.wanted() else []
    command = [sys.executable, *wrapper, BENCH / "peers.py", "--only", name, "--json", "--runs", str(STEPS), "--threads", str(THREADS)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found["ms_median"], found["peak_rss_mib"]


def dm():
    """A fresh ConvNet-3, the distance of the mean embeddings of 256 real and 10 synthetic images of a class, one step."""
    import torch

    if gpu.wanted():
        gpu.activate()
    sys.path.insert(0, str(BENCH))
    from refnets import ConvNetD3

    torch.set_num_threads(THREADS)
    real = torch.randn(256, 3, 32, 32)
    synthetic = torch.randn(10, 3, 32, 32, requires_grad=True)
    optimizer = torch.optim.SGD([synthetic], lr=1.0, momentum=0.5)

    def step():
        network = ConvNetD3(width=128).requires_grad_(False)
        with torch.no_grad():
            target = network.embed(real).mean(0)
        loss = (network.embed(synthetic).mean(0) - target).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    step()
    times = []
    for _ in range(STEPS):
        begun = time.perf_counter()
        step()
        times.append(1000 * (time.perf_counter() - begun))
    return statistics.median(times), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


milliseconds, peak = dm() if sys.argv[1] == "dm" else of_peers(PEERS[sys.argv[1]])
print(json.dumps({"ms": milliseconds, "peak_mib": peak}))
