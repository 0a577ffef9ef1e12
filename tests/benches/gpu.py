"""Lets scripts that PyTorch users wrote for CPUs run on a GPU, eagerly and as they are.

`python gpu.py SCRIPT ARGUMENTS...` runs a script so; `activate()` does it for the script that imports this. Tensors and networks are
made on the GPU unless the script says otherwise, clocks wait for it, and the memory told is the GPU's.
"""

import os
import resource
import runpy
import sys
import time
from types import SimpleNamespace


def wanted():
    """Whether the benchmark is one on a GPU."""
    return os.environ.get("GUARD_DEVICE", "cpu").startswith("cuda")


def activate():
    import torch

    device = torch.device(os.environ.get("GUARD_DEVICE", "cuda"))
    torch.cuda.set_device(device)
    torch.set_default_device(device)
    clock = time.perf_counter

    def waiting():
        torch.cuda.synchronize()
        return clock()

    time.perf_counter = waiting
    resource.getrusage = lambda _: SimpleNamespace(ru_maxrss=torch.cuda.max_memory_allocated() / 1024)


if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    sys.path.insert(0, os.path.dirname(os.path.abspath(sys.argv[0])))
    activate()
    runpy.run_path(sys.argv[0], run_name="__main__")
