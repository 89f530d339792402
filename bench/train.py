"""Etude's trainer beside TRL's on this CPU: speed, memory, first step, losses; JSON last.

    python -m bench.train [--quick] [--ablate] [--llamafactory] [--arms NAME,…] [--rounds N]

SmolLM2-135M and GSM8K (or ETUDE_BENCH_DATA), LoRA of rank 16 on all linear layers, the same 16
examples a step in the same order. TRL lives in an environment of its own, made at first use.
"""

import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from app.training.config import TrainerSpec
from bench import comparison, report, workload
from bench.comparison import Arm
from worker.gpu.trainer_process import environment

ROOT = Path(__file__).resolve().parents[1]
VENVS = ROOT / "bench" / ".venvs"
RESULTS = ROOT / "bench" / "results"
OURS = ("torch", "transformers", "peft", "bitsandbytes", "accelerate")
LOCK = ("--constraint", str(ROOT / "requirements.lock"))
PEERS: dict[str, tuple[str, ...]] = {
    # With our torch and transformers.
    "trl": (*LOCK, "trl==1.16.0", "datasets", *OURS),
    # With what it wants: plain `pip install llamafactory` picks a torch (2.15) that its torchaudio
    # (2.11) refuses. 6 GB with CUDA's libraries, so only where it is asked for.
    "llamafactory": (
        *("llamafactory==0.9.5", "bitsandbytes==0.50.2"),
        *("torch==2.11.0", "torchaudio==2.11.0", "torchvision"),
    ),
}
TOTAL_STEPS = 24  # the workload's; no arm does them all, but the schedule reaches to their end
PEER_ARMS: dict[str, tuple[dict[str, Any], int]] = {
    # name: what the order says, measured steps a round (few where they are slow)
    "trl-stock": ({"variant": "stock"}, 1),
    "trl-packed": ({"variant": "packed"}, 1),
    "trl-packed-fp32": ({"variant": "packed", "float": "float32"}, 3),
    "llamafactory": ({}, 1),
}
ETUDE_STEPS = 6
NUM_EVALUATIONS = 5  # of the whole job
MOST_SAVE_SHARE = 0.02
# What each takes away is told in bench/arms/etude.py.
ABLATIONS = (
    *("nf4-resident", "checkpointing", "one-by-one", "whole-logits", "all-logits"),
    *("peft-lora", "own-layers", "sdpa-loop", "long-spin", "many-shapes"),
)


def main() -> None:
    arguments = _arguments()
    model = workload.starter_model()
    source = workload.data_file()
    job = workload.make_job(source, model, TOTAL_STEPS)
    arms = _arms(job, model, arguments)
    results = comparison.run(arms, arguments.rounds, log=workload.CACHE / "last-run.jsonl")
    whole = None if arguments.ablate or arguments.arms else whole_job(job)
    comparison.compare_losses(results, "etude" if arguments.ablate else "trl-stock")
    kind = "ablation" if arguments.ablate else "train"
    body = {
        "command": "make bench" + (" BENCH_ARGS=--ablate" if arguments.ablate else ""),
        "kind": f"{kind}-cpu",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "revision": comparison.revision(),
        "machine": comparison.machine(),
        "model": workload.MODEL_NAME,
        "data": source.name,
        "workload": workload.describe(job / "workload.npz"),
        "rounds": arguments.rounds,
        "arms": results,
        "whole_job": whole,
    }
    if not (arguments.quick or arguments.arms or arguments.no_results):
        path = RESULTS / f"{kind}-cpu-{body['date']}.json"
        path.write_text(json.dumps(body, indent=1) + "\n")
        report.write()
        print(f"Wrote {path.relative_to(ROOT)} and docs/performance.md.", file=sys.stderr)
    is_dear = whole is not None and whole["save_share"] > MOST_SAVE_SHARE
    if is_dear:
        print(f"Checkpoints took more than 2 % of the job: {whole}", file=sys.stderr)
    print(comparison.last_line(results))
    sys.exit(1 if is_dear or any("failure" in result for result in results.values()) else 0)


def whole_job(job: Path) -> dict[str, Any]:
    """Train the workload as a user's job, from its start to its adapter: what checkpoints cost."""
    with tempfile.TemporaryDirectory(prefix="etude-job") as scratch:
        folder = Path(scratch)
        spec = TrainerSpec.model_validate_json((job / "config.json").read_bytes())
        config = spec.config.model_copy(update={"num_evaluations": NUM_EVALUATIONS})
        spec = spec.model_copy(update={"config": config, "cache_dir": ""})
        (folder / "config.json").write_text(spec.model_dump_json())
        shutil.copyfile(job / "examples.arrow", folder / "examples.arrow")
        began = time.monotonic()
        trainer = subprocess.Popen(
            [sys.executable, "-m", "worker.trainer"],
            stdin=subprocess.PIPE,
            env=os.environ | environment(),
            cwd=ROOT,
        )
        assert trainer.stdin is not None
        trainer.stdin.write(f"{folder}\n".encode())
        trainer.stdin.flush()
        exit_code = trainer.wait()
        seconds = time.monotonic() - began
        lines = (folder / "attempts" / "1" / "events.jsonl").read_text().splitlines()
    if exit_code != 0:
        raise RuntimeError(f"the whole job ended with exit code {exit_code}")
    events = [json.loads(line) for line in lines]
    saved = events[-1]["save_seconds"]
    return {
        "seconds": round(seconds, 1),
        "steps": sum(event["kind"] == "step" for event in events),
        "evaluations": NUM_EVALUATIONS,
        "checkpoints": sum(event["kind"] == "checkpoint" for event in events),
        "save_seconds": round(saved, 2),
        "save_share": round(saved / seconds, 4),
    }


def _arms(job: Path, model: Path, arguments: argparse.Namespace) -> list[Arm]:
    spec = json.loads((job / "config.json").read_text())
    order: dict[str, Any] = {
        "device": "cpu",
        "workload": str(job / "workload.npz"),
        "job_dir": str(job),
        "model_dir": str(model),
        "learning_rate": spec["config"]["learning_rate"],
    }
    wanted = arguments.arms.split(",") if arguments.arms else None
    arms = [
        Arm(name, f"bench.arms.{name.partition('-')[0]}_arm", "", order | own, steps)
        for name, (own, steps) in PEER_ARMS.items()
        if (name in wanted if wanted else name != "llamafactory" or arguments.llamafactory)
    ]
    variants = ["full", *(ABLATIONS if arguments.ablate or wanted else ())]
    names = {v: "etude" if v == "full" else f"etude:{v}" for v in variants}
    arms += [
        Arm(names[v], "bench.arms.etude", sys.executable, order | {"variant": v}, ETUDE_STEPS)
        for v in variants
        if wanted is None or names[v] in wanted
    ]
    if arguments.ablate:
        arms = [arm for arm in arms if arm.name.startswith("etude")]
    finished = []
    for arm in arms:
        python = arm.python or str(_peer_python(arm.name.partition("-")[0]))
        steps = 1 if arguments.quick else arguments.steps or arm.num_steps
        finished.append(Arm(arm.name, arm.module, python, arm.order, steps))
    return finished


def _peer_python(name: str) -> Path:
    """Return the interpreter of a peer's own environment, made at first use."""
    folder = VENVS / name
    if not (folder / ".ready").exists():
        print(f"Installing {name} into bench/.venvs; this takes some minutes.", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = (str(folder / "bin/python"), "-m", "pip", "install", "--quiet")
        environment = dict(os.environ)
        if name != "trl":
            # A CPU build of torch that lies at hand does not fit the torchaudio from PyPI.
            environment.pop("PIP_FIND_LINKS", None)
        subprocess.run([*pip, *PEERS[name]], check=True, env=environment)
        (folder / ".ready").touch()
    return folder / "bin" / "python"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="2 steps an arm, one round")
    parser.add_argument("--ablate", action="store_true", help="Etude less one optimization each")
    parser.add_argument("--llamafactory", action="store_true", help="LLaMA-Factory, too (6 GB)")
    parser.add_argument("--arms", default="", help="only these, with commas; writes no results")
    parser.add_argument("--rounds", type=int, default=0, help="default 2, quick 1")
    parser.add_argument("--steps", type=int, default=0, help="measured steps of each arm a round")
    parser.add_argument("--no-results", action="store_true", help="only print")
    found = parser.parse_args()
    found.rounds = found.rounds or (1 if found.quick else 2)
    return found


if __name__ == "__main__":
    main()
