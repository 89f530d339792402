"""What every arm measures alike; needs numpy, and torch for a GPU alone."""

import json
import os
import platform
import sys
import time
import zlib
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

IGNORE_INDEX = -100
_PACKAGES = (
    *("torch", "transformers", "peft", "bitsandbytes", "accelerate", "trl", "datasets"),
    *("flash-attn", "liger-kernel", "numpy"),
)


class Examples:
    """A workload's examples in the order of its steps."""

    def __init__(self, path: str) -> None:
        with np.load(path) as arrays:
            self.step_size = int(arrays["step_size"])
            self.rows_per_step = int(arrays["rows_per_step"])
            self.row_tokens = int(arrays["row_tokens"])
            lengths = arrays["lengths"].tolist()
            ends = np.cumsum(lengths)[:-1]
            self.token_ids = [part.tolist() for part in np.split(arrays["token_ids"], ends)]
            self.labels = [part.tolist() for part in np.split(arrays["labels"], ends)]

    def num_tokens(self, step: int) -> tuple[int, int]:
        """Count a step's tokens, and those that are predicted (the first one never is)."""
        chosen = range(step * self.step_size, (step + 1) * self.step_size)
        return (
            sum(len(self.token_ids[i]) for i in chosen),
            sum(label != IGNORE_INDEX for i in chosen for label in self.labels[i][1:]),
        )


class Watch:
    """One arm's process: when its steps ended, what they lost, what memory it took.

    Made after the imports; times count from the start of the process.
    """

    def __init__(self, order: dict[str, Any]) -> None:
        self.order = order
        self.examples = Examples(order["workload"])
        self.cuda = order["device"] != "cpu"
        self.import_seconds = age_seconds()
        self.idle_bytes = status_bytes("VmRSS")
        self.busy = busy_seconds(), time.process_time()
        self.loaded_seconds = 0.0
        self.edges: list[float] = []  # when steps began and ended
        self.first_step_seconds = 0.0
        self.losses: list[float] = []
        if self.cuda:
            import torch

            torch.cuda.init()
            torch.cuda.reset_peak_memory_stats()

    def loaded(self) -> None:
        self.loaded_seconds = age_seconds()

    def edge(self) -> None:
        """Note the start of the first step, then the end of each."""
        if self.cuda:
            import torch

            torch.cuda.synchronize()
        self.edges.append(time.perf_counter())
        if len(self.edges) == 2:
            self.first_step_seconds = age_seconds()

    def write(self, **more: Any) -> None:
        """Write the result to order["result"]."""
        steps = []
        for step, (begin, end) in enumerate(zip(self.edges, self.edges[1:], strict=False)):
            tokens, labelled = self.examples.num_tokens(step)
            loss = self.losses[step] if step < len(self.losses) else None
            steps.append(
                {"seconds": end - begin, "tokens": tokens, "labelled": labelled, "loss": loss}
            )
        memory: dict[str, Any] = {
            "idle_bytes": self.idle_bytes,
            "peak_bytes": status_bytes("VmHWM"),
        }
        if self.cuda:
            import torch

            memory |= {
                "host_peak_bytes": memory["peak_bytes"],
                "peak_bytes": torch.cuda.max_memory_allocated(),
                "reserved_bytes": torch.cuda.max_memory_reserved(),
                # With what the driver and the libraries hold, of all processes.
                "used_bytes": torch.cuda.mem_get_info()[1] - torch.cuda.mem_get_info()[0],
                "idle_bytes": 0,
            }
        own = time.process_time() - self.busy[1]
        others = busy_seconds() - self.busy[0] - own
        result = {
            "busy_elsewhere": max(0.0, others) / max(own, 1e-9),
            "steps": steps,
            **memory,
            "import_seconds": self.import_seconds,
            "load_seconds": self.loaded_seconds - self.import_seconds,
            "seconds_to_first_step": self.first_step_seconds,
            "versions": versions(),
            **more,
        }
        Path(self.order["result"]).write_text(json.dumps(result))


def fill_adapter(parameters: Mapping[str, Any]) -> None:
    """Give every arm's adapter the same first values, PEFT's kind: A uniform, B zero."""
    import torch

    with torch.no_grad():
        for name, parameter in parameters.items():
            if "lora_A" in name:
                plain = name.replace(".default.", ".")
                source = np.random.default_rng(zlib.crc32(plain.encode()))
                bound = parameter.shape[1] ** -0.5
                values = source.uniform(-bound, bound, tuple(parameter.shape))
                parameter.copy_(torch.from_numpy(values))


def read_order() -> dict[str, Any]:
    """Read the order that names workload, model and variant; quiet and offline from here on."""
    os.environ |= {
        "HF_HUB_OFFLINE": "1",
        "USE_HUB_KERNELS": "NO",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "true",
        "TQDM_DISABLE": "1",
    }
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    order: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    return order


def status_bytes(key: str) -> int:
    """Read a line of /proc/self/status (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith(key + ":"))
    return int(line.split()[1]) * 1024


def age_seconds() -> float:
    """Return how long ago this process was started, its interpreter's start included (Linux)."""
    began = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began / os.sysconf("SC_CLK_TCK")


def busy_seconds() -> float:
    """Return how long all cores together have been busy since the start of the system (Linux)."""
    fields = [int(x) for x in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def versions() -> dict[str, str]:
    packages = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return packages
