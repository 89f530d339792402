"""`python -m worker.trainer.pack`: a starting model -> its copy in NF4, which trainers read.

What all trainers read none of them may write, as it holds people's data when it could: a taken-over
one would poison the next. So a child of the gpu worker's, which sees weights alone, packs them
beforehand. Its request is one JSON line on standard input, which stays open while it is to live;
{"result": folder} is its last word.
"""

import json
import os
import sys
import threading

from app.training import events, isolation
from app.training.loading import loading
from app.training.plan.machine import total_memory
from worker.trainer import runtime
from worker.trainer.packed_copy import PackRequest

_ROOM_BYTES = 1024**3


def main() -> int:
    """Pack one model."""
    request = PackRequest.model_validate_json(sys.stdin.readline())
    try:
        confine(request)
    except isolation.WallsMissing as error:
        print(error, file=sys.stderr)
        return events.EXIT_CONFIG
    threading.Thread(target=_die_with_parent, daemon=True).start()
    runtime.prepare()
    with loading():
        runtime.load_bitsandbytes()
        from worker.trainer import base_model

    base_model.pack(request.base, request.target, request.device, is_sharded=request.is_sharded)
    print(json.dumps({"result": str(request.target)}), flush=True)
    return events.EXIT_DONE


def confine(request: PackRequest) -> None:
    """Keep the model's files and the folder to work in.

    Raises:
        WallsMissing: this machine cannot see to it.
    """
    is_on_gpu = request.device.startswith("cuda")
    weights = sum(path.stat().st_size for path in request.base.glob("*.safetensors"))
    isolation.confine(
        isolation.Needs(
            reads=[request.base],
            writes=[request.target.parent],
            gpu=is_on_gpu,
            limits=isolation.Limits(
                data_bytes=None if is_on_gpu else total_memory(),
                open_files=1024,
                file_bytes=weights + _ROOM_BYTES,
            ),
        )
    )


def _die_with_parent() -> None:
    while sys.stdin.read(65536):
        pass
    os._exit(events.EXIT_ORPHANED)


if __name__ == "__main__":
    sys.exit(main())
