"""Merges in a process of its own, and says how many bytes of memory that took at most.

`python -m tests.worker.exporting.merge_peak BASE ADAPTER OUT`
"""

import re
import sys
from pathlib import Path

import torch

from worker.exporting import merging


def resident(name: str) -> int:
    status = Path("/proc/self/status").read_text()
    found = re.search(rf"{name}:\s+(\d+) kB", status)
    assert found is not None
    return 1024 * int(found[1])


if __name__ == "__main__":
    base, adapter, out = map(Path, sys.argv[1:])
    torch.set_num_threads(1)
    change = merging.Change(torch.ones(2, 64), torch.ones(64, 2), 1.0)
    change.of(torch.ones(64, 64))  # what its libraries allocate once is no matter of the file
    Path("/proc/self/clear_refs").write_text("5")  # the highest mark begins anew
    before = resident("VmRSS")
    merging.merge(base, adapter, out, lambda *_: None)
    print(resident("VmHWM") - before)
