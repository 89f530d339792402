"""Run the arms of a comparison, interleaved, one process each, and say what came out."""

import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16")


@dataclass(frozen=True)
class Arm:
    """One contender: its program, its interpreter and what its order says."""

    name: str
    module: str
    python: str
    order: dict[str, Any]
    num_steps: int  # measured ones, in each round
    warmup: int = 1


@dataclass
class Outcome:
    """What the rounds of one arm gave; `failure` says why it has no numbers."""

    rounds: list[dict[str, Any]] = field(default_factory=list)
    failure: str | None = None


def run(
    arms: list[Arm], num_rounds: int, timeout_seconds: float = 1800, log: Path | None = None
) -> dict[str, dict[str, Any]]:
    """Run all arms in turn, round by round (A B C A B C), and sum each one up.

    An arm that fails is left out of later rounds; its last words are kept. `log` gets what each
    process measured as soon as it is done, should the whole be broken off.
    """
    outcomes = {arm.name: Outcome() for arm in arms}
    for turn in range(num_rounds):
        for arm in arms:
            outcome = outcomes[arm.name]
            if outcome.failure:
                continue
            began = time.monotonic()
            try:
                outcome.rounds.append(_run_one(arm, timeout_seconds))
            except RuntimeError as error:
                outcome.failure = str(error)
            if log and not outcome.failure:
                line = json.dumps({"arm": arm.name, "round": turn, **outcome.rounds[-1]})
                with log.open("a") as file:
                    file.write(line + "\n")
            seconds = time.monotonic() - began
            word = (outcome.failure or "done").splitlines()[-1]
            print(f"round {turn + 1} {arm.name}: {seconds:.0f} s, {word}", file=sys.stderr)
    return {arm.name: _summary(arm, outcomes[arm.name]) for arm in arms}


def compare_losses(results: dict[str, dict[str, Any]], reference: str) -> None:
    """Note for each arm how far its losses are from the reference's, step by step."""
    if "losses" not in results.get(reference, {}):
        return
    wanted = results[reference]["losses"]
    for result in results.values():
        if "losses" in result:
            pairs = zip(result["losses"], wanted, strict=False)
            result["loss_differences"] = [abs(found - other) for found, other in pairs]


def last_line(results: dict[str, dict[str, Any]]) -> str:
    """The one line that a program reads: arm -> speed, memory, time to the first step."""
    keys = ("tokens_per_second", "peak_bytes", "seconds_to_first_step")
    return json.dumps(
        {
            name: {key: result[key] for key in keys}
            for name, result in results.items()
            if "tokens_per_second" in result
        }
    )


def machine() -> dict[str, Any]:
    """Describe this machine without naming it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    info = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    stripped = {key.strip(): value.strip() for key, value in info.items()}
    flags = stripped.get("flags", "").split()
    memory = next(
        line for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line
    )
    return {
        "cpu": stripped.get("model name", platform.machine()),
        "cores": len(os.sched_getaffinity(0)),
        "instruction_sets": {flag: flag in flags for flag in _FLAGS},
        "memory_bytes": int(memory.split()[1]) * 1024,
        "system": platform.system(),
    }


def gpu(device: str) -> dict[str, Any]:
    """Describe a CUDA device; empty for the CPU."""
    if device == "cpu":
        return {}
    import torch

    return {
        "gpu": torch.cuda.get_device_name(device),
        "gpu_memory_bytes": torch.cuda.get_device_properties(device).total_memory,
        "cuda": torch.version.cuda,
    }


def revision() -> str:
    """Return the commit that is measured, with a sign where files differ from it."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return found.stdout.strip() or "unknown"


def _run_one(arm: Arm, timeout_seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="etude-arm") as scratch:
        folder = Path(scratch)
        order = arm.order | {
            "num_steps": arm.num_steps + arm.warmup,
            "scratch": scratch,
            "result": str(folder / "result.json"),
        }
        (folder / "order.json").write_text(json.dumps(order))
        # Behind ours what bench/gpu.sh was given as wheels.
        paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        environment = os.environ | {"PYTHONPATH": paths, "PYTHONWARNINGS": "ignore"}
        # Before each arm's command, e.g. "taskset -c 0,1" or "flock /tmp/bench.lock".
        prefix = shlex.split(os.environ.get("ETUDE_BENCH_PREFIX", ""))
        try:
            ended = subprocess.run(
                [*prefix, arm.python, "-m", arm.module, str(folder / "order.json")],
                cwd=ROOT, env=environment, timeout=timeout_seconds,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"not done after {timeout_seconds:.0f} seconds") from None
        if not (folder / "result.json").exists():
            if os.environ.get("ETUDE_BENCH_VERBOSE"):
                print(ended.stdout, file=sys.stderr)
            lines = [line for line in ended.stdout.splitlines() if line.strip()]
            raise RuntimeError(f"ended with {ended.returncode}: " + (lines or ["silent"])[-1])
        result: dict[str, Any] = json.loads((folder / "result.json").read_text())
        return result


def _summary(arm: Arm, outcome: Outcome) -> dict[str, Any]:
    if not outcome.rounds:
        return {"failure": outcome.failure}
    rounds = outcome.rounds
    measured = [step for found in rounds for step in found["steps"][arm.warmup :]]
    first = rounds[0]
    kept = (
        *("versions", "plan", "attention", "micro_batches_per_step"),
        *("examples_or_rows_per_micro_batch", "adapter_dtype"),
    )
    peak = max(found["peak_bytes"] for found in rounds)
    summary = {
        "tokens_per_second": statistics.median(s["tokens"] / s["seconds"] for s in measured),
        "labelled_tokens_per_second": statistics.median(
            s["labelled"] / s["seconds"] for s in measured
        ),
        "step_seconds": statistics.median(s["seconds"] for s in measured),
        "step_seconds_each_round": [
            [s["seconds"] for s in found["steps"][arm.warmup :]] for found in rounds
        ],
        "warmup_seconds": [
            [s["seconds"] for s in found["steps"][: arm.warmup]] for found in rounds
        ],
        "peak_bytes": peak,
        "idle_bytes": first["idle_bytes"],
        "growth_bytes": max(found["peak_bytes"] - found["idle_bytes"] for found in rounds),
        "seconds_to_first_step": statistics.median(f["seconds_to_first_step"] for f in rounds),
        "import_seconds": statistics.median(found["import_seconds"] for found in rounds),
        "load_seconds": statistics.median(found["load_seconds"] for found in rounds),
        "losses": [step["loss"] for step in first["steps"]],
        "same_losses_each_round": all(
            [s["loss"] for s in found["steps"]] == [s["loss"] for s in first["steps"]]
            for found in rounds
        ),
        "order": {
            k: v for k, v in arm.order.items() if k not in ("workload", "job_dir", "model_dir")
        },
        "num_warmup": arm.warmup,
        # Processor time that other programs took, beside the arm's own; above 0.05 distrust speeds.
        "busy_elsewhere": max(found["busy_elsewhere"] for found in rounds),
    }
    if "reserved_bytes" in first:
        summary["reserved_bytes"] = max(found["reserved_bytes"] for found in rounds)
        summary["used_bytes"] = max(found["used_bytes"] for found in rounds)
        summary["host_peak_bytes"] = max(found["host_peak_bytes"] for found in rounds)
    if outcome.failure:  # in a later round; what the earlier ones measured stands
        summary["failure"] = outcome.failure
    return summary | {key: first[key] for key in kept if key in first}
