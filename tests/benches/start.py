"""The peer's side of `cargo xtask bench start`: what a Python tool does before its first answer.

`python start.py CASE DATA PEERS THREADS` starts a Python once to warm up and then five times, and prints one JSON line. `plugin-list`
is the import of torch alone, without which no tool of the field lists anything; `first-step` also reads the digits and makes one
step of training.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time

RUNS = 5
PROGRAMS = {
    "plugin-list": "import torch",
    "first-step": """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from refnets import ConvNetD3
from sklearn.datasets import load_digits

digits = load_digits()
images = torch.tensor(digits.images[:128], dtype=torch.float32)[:, None] / 16
images = torch.nn.functional.interpolate(images, size=(32, 32)).expand(-1, 3, -1, -1)
labels = torch.tensor(digits.target[:128])
network = ConvNetD3(width=128)
optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
torch.nn.functional.cross_entropy(network(images), labels).backward()
optimizer.step()
""",
}

case, peers, threads = sys.argv[1], sys.argv[3], sys.argv[4]
times = []
for run in range(RUNS + 1):
    begun = time.perf_counter()
    command = [sys.executable, "-c", PROGRAMS[case], peers]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": threads})
    times.append(1000 * (time.perf_counter() - begun))
times = times[1:]
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(json.dumps({"ms": statistics.median(times), "ms_all": times, "peak_mib": peak}))
