"""Etude's trainer beside TRL's on a GPU: Llama shapes with random weights; JSON last.

    python -m bench.gpu [--device cuda:0] [--shapes 8b,3b,1b] [--seconds 480] [--no-results]

Called by bench/gpu.sh. The most telling cells come first, and those for which no time is left are
not measured. Each is written down as soon as it is done, should the whole be broken off.
`--device cpu --shapes tiny` tries the same code where there is no GPU, and writes only where
`--results` names a folder. A lent machine's CPU, which may have instructions that ours lacks, is
measured the same way: taskset -c 0,1 python -m bench.gpu --device cpu --shapes 135m --workloads B
"""

import argparse
import datetime
import importlib.util
import json
import sys
import time
from pathlib import Path
from typing import Any

from bench import comparison, report, workload
from bench.arms import shapes
from bench.comparison import Arm

CACHE = workload.CACHE
RESULTS = workload.ROOT / "bench" / "results"
# Examples a step: two of the long ones fill what sixteen of the others do.
STEP_SIZE = {"A": 16, "B": 16, "C": 2}
STEPS = {"A": 2, "B": 5, "C": 2}
# TRL's best way with each workload: nothing to pack where all examples are equally long.
BEST: dict[str, dict[str, Any]] = {
    "A": {"variant": "unpadded", "batch_size": 8},
    "B": {"variant": "packed"},  # all rows of a step at once
    "C": {"variant": "unpadded", "batch_size": 1},
}
_PEAKS = {"mfu_989": 989e12, "mfu_790": 790e12}  # H200: data sheet, and measured matrix products
_TOTAL_STEPS = 12
_CELL_SECONDS = 150.0


def main() -> None:
    arguments = _arguments()
    began = time.monotonic()
    has_trl = all(importlib.util.find_spec(name) for name in ("trl", "datasets"))
    results: dict[str, dict[str, Any]] = {}
    body = _describe(arguments.device, has_trl)
    folder = arguments.results or (None if arguments.device == "cpu" else RESULTS)
    if arguments.no_results:
        folder = None
    for arm, shape, load in _arms(arguments, has_trl):
        left = arguments.seconds - (time.monotonic() - began)
        if left < 20:
            results[arm.name] = {"failure": "not measured: the time was up"}
            continue
        found = comparison.run([arm], 1, min(left, _CELL_SECONDS))[arm.name]
        if "tokens_per_second" in found:
            _add_utilization(found, shape, _path(arguments, shape, load))
        results[arm.name] = found
        _compare_losses(results)
        if folder:
            _write(folder, body | {"arms": results})
    if folder == RESULTS:
        report.write()
    print(comparison.last_line(results))
    missing = [name for name, found in results.items() if "failure" in found]
    for name in missing:
        print(f"{name}: {results[name]['failure']}", file=sys.stderr)
    sys.exit(1 if any(name.startswith("etude/") for name in missing) else 0)


def _compare_losses(results: dict[str, dict[str, Any]]) -> None:
    for name in [name for name in results if name.startswith("etude/")]:
        cell = name.partition("/")[2]
        group = {n: r for n, r in results.items() if n.partition("/")[2] == cell}
        reference = f"trl-stock/{cell}"
        comparison.compare_losses(
            group, reference if "losses" in group.get(reference, {}) else name
        )


def _describe(device: str, has_trl: bool) -> dict[str, Any]:
    flash = importlib.util.find_spec("flash_attn") is not None
    peers = "TRL is not installed there." if not has_trl else ""
    if has_trl and not flash:
        peers = "TRL ran without FlashAttention, which is not installed there."
    return {
        "command": "bench/gpu.sh",
        "kind": "train-shapes-cpu" if device == "cpu" else "train-gpu",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "revision": comparison.revision(),
        "machine": comparison.machine() | comparison.gpu(device),
        "peers": peers,
    }


def _write(folder: Path, body: dict[str, Any]) -> None:
    path = folder / f"{body['kind']}-{body['date']}.json"
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(body, indent=1) + "\n")
    partial.rename(path)  # never half a file, whenever it is broken off


def _arms(arguments: argparse.Namespace, has_trl: bool) -> list[tuple[Arm, str, str]]:
    """List the cells, the most telling first."""
    arms: list[tuple[Arm, str, str]] = []
    last: list[tuple[Arm, str, str]] = []
    for shape in arguments.shapes.split(","):
        for load in arguments.workloads.split(","):
            path = _path(arguments, shape, load)
            if not path.exists():
                vocabulary = shapes.SHAPES[shape][6]
                workload.make_synthetic(
                    path, load, _TOTAL_STEPS, vocabulary, STEP_SIZE[load], arguments.shrink
                )
            order = {
                "device": arguments.device,
                "shape": shape,
                "workload": str(path),
                "learning_rate": 4e-4,
            }
            steps = arguments.steps or STEPS[load]
            rows = int(workload.describe(path)["rows_per_step"])
            best: dict[str, Any] = {"rows_per_micro_batch": rows} if load == "B" else {}
            has_liger = importlib.util.find_spec("liger_kernel") is not None
            best["liger"] = has_liger and arguments.device != "cpu"  # its kernels are a GPU's
            chosen: list[tuple[str, str, dict[str, Any]]] = [("etude", "etude", {})]
            if (shape, load) == ("8b", "A") or (shape == "tiny" and load == "A"):
                small = {
                    "resident": "nf4", "micro_batch_tokens": 4096, "checkpointing": True,
                    "offloaded": True,
                }  # fmt: skip
                chosen.append(("etude-nf4-4k", "etude", {"plan": small}))
            if has_trl:
                stock = {"variant": "stock", "batch_size": min(8, STEP_SIZE[load])}
                chosen.append(("trl-stock", "trl_arm", stock))
                chosen.append(("trl-best", "trl_arm", BEST[load] | best))
            for name, module, own in chosen:
                arm = Arm(
                    f"{name}/{shape}/{load}",
                    f"bench.arms.{module}",
                    sys.executable,
                    order | own,
                    steps,
                )
                arms.append((arm, shape, load))
            others: dict[str, tuple[str, dict[str, Any]]] = {}
            if (shape, load) == ("8b", "A"):
                others["etude-no-kernels"] = "etude", {"variant": "no-kernels"}
                if has_trl and best["liger"]:  # else the same as the best
                    others["trl-best-no-liger"] = "trl_arm", BEST[load] | {"liger": False}
            if (shape, load) == ("8b", "B"):
                others["etude-no-varlen"] = "etude", {"variant": "no-varlen"}
            for name, (module, own) in others.items():
                arm = Arm(
                    f"{name}/{shape}/{load}", f"bench.arms.{module}", sys.executable,
                    order | own, steps,
                )  # fmt: skip
                last.append((arm, shape, load))
    wanted = arguments.arms.split(",")
    return [x for x in arms + last if not arguments.arms or x[0].name.partition("/")[0] in wanted]


def _path(arguments: argparse.Namespace, shape: str, load: str) -> Path:
    return CACHE / "synthetic" / f"{shape}-{load}-{STEP_SIZE[load]}-{arguments.shrink}.npz"


def _add_utilization(found: dict[str, Any], shape: str, path: Path) -> None:
    load = workload.describe(path)
    operations = shapes.operations_per_token(
        shape, workload.lengths(path), float(load["labelled_share"])
    )
    found["operations_per_token"] = operations
    for name, peak in _PEAKS.items():
        found[name] = found["tokens_per_second"] * operations / peak


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--shapes", "--shape", default="8b,3b,1b")
    parser.add_argument("--workloads", default="A,B,C")
    parser.add_argument("--arms", default="", help="only those, e.g. etude,trl-best")
    parser.add_argument("--seconds", type=float, default=480, help="for all cells together")
    parser.add_argument("--steps", type=int, default=0, help="measured steps of each cell")
    parser.add_argument("--shrink", type=int, default=1, help="divide the examples' lengths")
    parser.add_argument("--results", type=Path, help="a folder instead of bench/results")
    parser.add_argument("--no-results", action="store_true", help="only print")
    return parser.parse_args()


if __name__ == "__main__":
    main()
