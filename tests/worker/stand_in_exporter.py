"""Speaks the exporting child's side without a model: small files, and figures as they are ordered.

The file `orders` in the starting model's folder, if any, says otherwise: "short" falls short of the
bounds, "endless" makes answers that do not end, "wait=SECONDS" takes its time to make it, "refuse"
cannot make it, "die=make", "die=prove" and "die=pack" end as memory that ran out ends a process.
With "linger" each step hangs once its result is said, and with "crash" it ends by a signal.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from worker.exporting import packing
from worker.exporting.agreement import Agreement, Bound, Endings
from worker.exporting.requests import REQUEST, Make, Pack, Prove


def main() -> None:
    request = REQUEST.validate_json(sys.stdin.readline())
    orders = orders_of(request.out.parents[2] / "models" / "tiny")
    do(request)
    if "linger" in orders:
        time.sleep(3600)
    if "crash" in orders:
        os.kill(os.getpid(), signal.SIGSEGV)


def do(request: Make | Prove | Pack) -> None:
    if f"die={request.task}" in orders_of(request.out.parents[2] / "models" / "tiny"):
        os.kill(os.getpid(), signal.SIGKILL)
    if isinstance(request, Pack):
        tell(result=packing.pack(request, lambda doing, share: None))
        return
    orders = orders_of(request.sources.base)
    if isinstance(request, Make):
        tell(progress={"doing": "merging the adapter into the model", "share": 0.5})
        if "refuse" in orders:
            tell(error="This adapter cannot be had in this form.")
            return
        time.sleep(float(orders.partition("wait=")[2] or 0))
        folder = request.out / "export"
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(request.form.encode() * 100)
        tell(result={"notes": ["One row is kept in 8 bits."]})
        return
    found = Agreement(
        program="transformers 5.0",
        quantization=request.quantization,
        num_rows=len(request.rows),
        num_positions=400,
        same_share=0.9 if "short" in orders else 0.999,
        loss=2.2 if "short" in orders else 2.001,
        reference_loss=2.0,
        bound=Bound(same_share=0.98, loss=0.02),
        endings=Endings(
            num_asked=20,
            num_ended=3 if "endless" in orders else 18,
            reference_ended=18,
            max_tokens=96,
        ),
    )
    problem = "" if found.is_fit else found.shortfall()
    tell(result={"agreement": [json.loads(found.model_dump_json())], "problem": problem})


def orders_of(base: Path) -> str:
    file = base / "orders"
    return file.read_text() if file.is_file() else ""


def tell(**message: object) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
