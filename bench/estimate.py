"""What the plan says a job takes beside what it takes, on the processor at hand; JSON last.

    python -m bench.estimate [--imitate avx2] [--quick] [--steps N] [--no-results]

The starter model learns as in bench.train. First a layer is timed as a worker does at its start,
and the machine's load is read as a page would; the plan is made of these. Then a few steps are
trained, and a whole job. Results are named by the kind of processor. `--imitate avx2` has torch and
its libraries do without anything newer than AVX2, and trains in float32: what such a processor
lacks in instructions, not in clock or memory.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from app.core import settings
from app.training.config import TrainerSpec
from app.training.plan import choose, speed
from app.training.plan.choose import Plan
from app.training.plan.machine import DeviceInfo, this_cpu
from app.training.plan.shape import LengthHistogram, Shape, count_parameters
from bench import comparison, report, workload
from bench.comparison import Arm
from bench.train import NUM_EVALUATIONS, RESULTS, whole_job
from worker.gpu.cpu_load import CpuLoad
from worker.gpu.trainer_process import environment

TOTAL_STEPS = 8
AIM = 0.15
# As torch, oneDNN and MKL are told.
_AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}


def main() -> None:
    arguments = _arguments()
    if arguments.imitate:
        os.environ |= _AVX2
    model = workload.starter_model()
    job = workload.make_job(workload.data_file(), model, TOTAL_STEPS)
    spec = TrainerSpec.model_validate_json((job / "config.json").read_bytes())
    lengths = workload.lengths(job / "workload.npz")
    histogram = LengthHistogram.from_lengths(lengths, len(lengths), 0)
    device = describe(arguments.imitate)
    said = make_plan(model, histogram, spec, device)
    whole = None
    if not (arguments.imitate or arguments.quick):
        config = spec.config.model_copy(update={"num_evaluations": NUM_EVALUATIONS})
        of_whole = spec.model_copy(update={"config": config})
        of_job = make_plan(model, histogram, of_whole, device)
        whole = {"said_seconds": of_job.seconds} | whole_job(job)
        whole["ratio"] = whole["said_seconds"] / whole["seconds"]
    arm = Arm(
        "etude",
        "bench.arms.etude",
        sys.executable,
        {
            "device": "cpu",
            "workload": str(job / "workload.npz"),
            "job_dir": str(job),
            "model_dir": str(model),
            "learning_rate": spec.config.learning_rate,
            "plan": {"resident": said.resident},
        },
        arguments.steps,
    )
    measured = comparison.run([arm], 1)["etude"]
    kind = kind_of(arguments.imitate)
    body = {
        "command": " ".join(["make bench-estimate", *_given(arguments)]),
        "kind": f"estimate-{kind}",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "revision": comparison.revision(),
        "machine": comparison.machine(),
        "model": workload.MODEL_NAME,
        "imitated": arguments.imitate,
        "layer_rate": device.layer_rate,
        "load": device.load,
        "said": said.model_dump(mode="json"),
        "measured": measured,
        "whole_job": whole,
        "operations_per_token": operations(model, spec),
    }
    if "failure" in measured:
        sys.exit(f"It could not be trained: {measured['failure']}")
    body["ratio"] = said.tokens_per_second / measured["tokens_per_second"]
    if not arguments.no_results:
        path = RESULTS / f"estimate-{kind}-{body['date']}.json"
        path.write_text(json.dumps(body, indent=1) + "\n")
        report.write()
        print(f"Wrote {path.relative_to(workload.ROOT)} and docs/performance.md.", file=sys.stderr)
    for reason in said.reasons:
        print(reason, file=sys.stderr)
    print(
        json.dumps(
            {
                "said": round(said.tokens_per_second, 1),
                "measured": round(measured["tokens_per_second"], 1),
                "ratio": round(body["ratio"], 3),
                "whole_job": whole and {key: round(whole[key], 2) for key in
                                        ("said_seconds", "seconds", "ratio")},
                "layer_gflops": round(device.layer_rate / 1e9, 1),
                "load": device.load,
            }
        )
    )  # fmt: skip


def describe(imitate: str) -> DeviceInfo:
    """Say what a worker here would say of its CPU, and how busy it is."""
    command = [sys.executable, "-m", "worker.trainer.products", *(["float32"] if imitate else [])]
    ended = subprocess.run(
        command, env=os.environ | environment(), capture_output=True, text=True, check=True
    )
    update: dict[str, Any] = {"layer_rate": json.loads(ended.stdout)["rate"]}
    load = CpuLoad()
    time.sleep(settings.get().heartbeat_seconds)
    update["load"] = round(load.read(), 2)
    if imitate:
        update["has_bfloat16"] = False
    return this_cpu().model_copy(update=update)


def make_plan(
    model: Path, histogram: LengthHistogram, spec: TrainerSpec, device: DeviceInfo
) -> Plan:
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    return choose.plan(config, count_parameters(model), histogram, spec.config, device)


def operations(model: Path, spec: TrainerSpec) -> float:
    """Return the floating-point operations of a trained token, as the plan counts them."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    shape = Shape.of(config, count_parameters(model))
    return speed.operations(shape, shape.num_adapter(spec.config), checkpointing=False)


def kind_of(imitate: str) -> str:
    """Name the kind of processor by what is best for products."""
    if imitate:
        return f"imitated-{imitate}"
    sets = comparison.machine()["instruction_sets"]
    for flag, kind in (("amx_bf16", "amx"), ("avx512_bf16", "avx512-bf16"), ("avx512f", "avx512"),
                       ("avx2", "avx2")):  # fmt: skip
        if sets[flag]:
            return kind
    return "other"


def _given(arguments: argparse.Namespace) -> list[str]:
    return [f'BENCH_ARGS="--imitate {arguments.imitate}"'] if arguments.imitate else []


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--imitate", choices=["avx2"], default="", help="do without newer ones")
    parser.add_argument("--quick", action="store_true", help="no whole job")
    parser.add_argument("--steps", type=int, default=4, help="measured ones")
    parser.add_argument("--no-results", action="store_true", help="only print")
    return parser.parse_args()


if __name__ == "__main__":
    main()
