"""What Etude costs while nobody does anything: percent of one core; JSON last.

    python -m bench.idle [--seconds 300] [--settle 120]

`etude up` with all its processes and a trainer that waits, in a folder of its own. PostgreSQL and
Valkey are told apart. Counted is what the processes used, not how long they took: other programs
on the machine change it little.
"""

import argparse
import datetime
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench import comparison, processor

ROOT = Path(__file__).resolve().parents[1]
TARGET_PERCENT = 1.0
_START_SECONDS = 300
# What each process is called here, by the first that is found in its command.
_NAMES = {
    r"postgres": "PostgreSQL",
    r"valkey": "Valkey",
    r"app\.cli web|uvicorn": "web",
    r"worker\.trainer": "warm trainer",
    r"worker\.answer": "answer",
    r"celery.* cpu,": "worker-cpu",
    r"celery.* gpu,": "worker-gpu",
    r"app\.cli up": "up",
    r"": "others",
}
_SERVERS = ("PostgreSQL", "Valkey")


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.idle")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--settle", type=float, default=120)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="etude-i") as folder:
        Path(folder).chmod(0o711)
        result = _measure(Path(folder), wanted.settle, wanted.seconds)
    print(json.dumps(result))
    sys.exit(0 if result["percent"] < TARGET_PERCENT else 1)


def _measure(folder: Path, settle: float, seconds: float) -> dict[str, Any]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"ETUDE_DATA_DIR": str(folder), "PYTHONPATH": str(ROOT)}
    with (folder / "up.log").open("wb") as log:
        up = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "up", "--port", str(port)],
            stdout=log, stderr=log, env=environment, cwd=ROOT,
        )  # fmt: skip
    try:
        _until_ready(f"http://127.0.0.1:{port}/healthz")
        # The starter model is imported, and the trainer that waits loads its libraries.
        time.sleep(settle)
        before, began = _by_name(up.pid), time.monotonic()
        time.sleep(seconds)
        after, took = _by_name(up.pid), time.monotonic() - began
    finally:
        up.send_signal(signal.SIGTERM)
        up.wait(120)
    each = {
        name: round((after[name] - before.get(name, 0.0)) / took / 10, 3) for name in sorted(after)
    }
    return {
        "command": "make bench-idle",
        "kind": "idle",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "revision": comparison.revision(),
        "machine": comparison.machine(),
        "seconds": round(took),
        "percent": round(sum(p for name, p in each.items() if name not in _SERVERS), 3),
        "target_percent": TARGET_PERCENT,
        "percent_each": each,
    }


def _by_name(root: int) -> dict[str, float]:
    found: dict[str, float] = defaultdict(float)
    for pid in processor.tree(root):
        found[_name(processor.command(pid))] += processor.milliseconds([pid])
    return dict(found)


def _name(command: str) -> str:
    return next(name for pattern, name in _NAMES.items() if re.search(pattern, command))


def _until_ready(address: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(address, timeout=5):
            return
        time.sleep(0.5)
    raise SystemExit("Etude did not start.")


if __name__ == "__main__":
    main()
