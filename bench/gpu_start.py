"""From the line that names a job to its first loss, in the real trainer on a GPU; JSON last.

    python -m bench.gpu_start [--device cuda:0] [--shape 8b] [--rounds 2] [--results FOLDER]

Writes a model of a Llama shape with random weights as the import would, then starts the trainer as
the worker does: warm, waiting for a job. The first round verifies the model's files and packs them
to 4 bits; later ones find the packed copy. What the web adds is bench/start.py's to measure.
"""

import argparse
import datetime
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import comparison, workload

_NUM_STEPS = 3
_DEADLINE_SECONDS = 240.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--shape", default="8b")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--results", type=Path, help="a folder for the JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="etude-start") as scratch:
        folder = Path(scratch)
        began = time.monotonic()
        _make_model(folder / "model", arguments.shape, arguments.device)
        made = time.monotonic() - began
        print(f"The model took {made:.0f} s to make.", file=sys.stderr)
        rounds = [_start(folder, turn, arguments.device) for turn in range(arguments.rounds)]
    body = {
        "command": "python -m bench.gpu_start",
        "kind": "start-gpu",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "revision": comparison.revision(),
        "machine": comparison.machine() | comparison.gpu(arguments.device),
        "shape": arguments.shape,
        "rounds": rounds,
        "target_seconds": 6,
    }
    if arguments.results:
        path = arguments.results / f"start-gpu-{body['date']}.json"
        path.write_text(json.dumps(body, indent=1) + "\n")
    print(json.dumps(rounds))


def _make_model(folder: Path, shape: str, device: str) -> None:
    """Write a model's folder in a process of its own, which leaves the GPU empty."""
    program = (
        "import sys; from pathlib import Path; from bench.arms import shapes; "
        "shapes.save(Path(sys.argv[1]), *sys.argv[2:])"
    )
    subprocess.run([sys.executable, "-c", program, folder, shape, device], check=True)


def _start(folder: Path, turn: int, device: str) -> dict[str, Any]:
    """Start a trainer, wait until it waits, name the job, and note when what was said."""
    made = workload.make_job(
        workload.ROOT / "examples/clinic-faq.csv", folder / "model", _NUM_STEPS, device
    )
    job_dir = folder / f"job-{turn}"
    shutil.copytree(made, job_dir)
    shutil.rmtree(made)
    spec = json.loads((job_dir / "config.json").read_text())
    spec["cache_dir"] = str(folder / "cache")
    (job_dir / "config.json").write_text(json.dumps(spec))
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "worker.trainer"],
        cwd=workload.ROOT, stdin=subprocess.PIPE, text=True,
    ) as trainer:  # fmt: skip
        _wait_until_idle(trainer.pid)
        assert trainer.stdin is not None
        began = time.monotonic()
        trainer.stdin.write(f"{job_dir}\n")
        trainer.stdin.flush()
        found: dict[str, Any] = {}
        path = job_dir / "attempts" / "1" / "events.jsonl"
        while time.monotonic() < began + _DEADLINE_SECONDS and trainer.poll() is None:
            lines = path.read_text().splitlines() if path.exists() else []
            now = time.monotonic() - began
            for event in map(json.loads, lines):
                name = event.get("phase") or event["kind"]
                found.setdefault(f"{name}_seconds", round(now, 3))
            if "step_seconds" in found:
                break
            time.sleep(0.01)
        print(f"round {turn + 1}: {found}", file=sys.stderr)
        trainer.kill()
    return found


def _wait_until_idle(pid: int) -> None:
    """Wait until a process has spent no processor time for a second (Linux)."""
    seen, since = -1, time.monotonic()
    while time.monotonic() < since + 1.0:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        spent = int(fields[11]) + int(fields[12])
        if spent > seen + 1:
            seen, since = spent, time.monotonic()
        time.sleep(0.1)


if __name__ == "__main__":
    main()
