"""`python -m worker.exporting`: one step of an export, behind walls (app/training/isolation).

It reads a Request from standard input, one JSON line, and writes {"progress": …} lines and at last
{"result": …} or {"error": "a sentence"}. Each step is a process of its own: what one has loaded
is gone before the next begins, and what opens an export has not made it. Standard input staying
open is its licence to live.
"""

import json
import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any

from app.training import isolation, manifests
from app.training.chat import ChatError
from app.training.plan.machine import total_memory
from worker.exporting.requests import REQUEST, Make, Pack, Prove, Sources, Unusable

_ROOM_BYTES = 2 * 1024**3
_CPU_SECONDS = 7 * 24 * 3600


def main() -> None:
    request = REQUEST.validate_json(sys.stdin.readline())
    os.nice(10)
    logging.disable(logging.WARNING)  # what libraries tell their developers
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    try:
        confine(request)  # before the first thread
        threading.Thread(target=_die_with_parent, daemon=True).start()
        _tell(result=_do(request))
    except (Unusable, isolation.WallsMissing) as error:
        _tell(error=str(error))
    except ChatError as error:
        _tell(error=str(error).splitlines()[0])
    except MemoryError:
        _tell(error="This machine has too little memory to make this; try a smaller form.")
    except OSError as error:
        print(error, file=sys.stderr)
        _tell(error="This could not be written: the disk is full, or cannot be written to.")


def confine(request: Make | Prove | Pack) -> None:
    """Keep the model's and the adapter's files, and the folder to work in.

    Raises:
        WallsMissing: this machine cannot see to it.
    """
    reads: list[Path] = []
    weights = 0
    if not isinstance(request, Pack):
        reads = [request.sources.base, request.sources.adapter]
        weights = sum(path.stat().st_size for path in request.sources.base.glob("*.safetensors"))
    if isinstance(request, Prove):
        reads.append(request.out)
        writes: list[Path] = []
    else:
        writes = [request.out]
    made = sum(path.stat().st_size for path in request.out.rglob("*") if path.is_file())
    isolation.confine(
        isolation.Needs(
            reads=reads,
            writes=writes,
            limits=isolation.Limits(
                data_bytes=total_memory(),
                cpu_seconds=_CPU_SECONDS,
                open_files=1024,
                file_bytes=0 if isinstance(request, Prove) else 2 * (weights + made) + _ROOM_BYTES,
            ),
        )
    )


def _do(request: Make | Prove | Pack) -> Any:
    # Imported where they are needed: the packing needs no torch.
    match request:
        case Make():
            from worker.exporting import making

            require_files(request.sources)
            return making.make(request, tell_progress)
        case Prove():
            from worker.exporting import proving

            return proving.prove(request, tell_progress)
        case Pack():
            from worker.exporting import packing

            return packing.pack(request, tell_progress)


def require_files(sources: Sources) -> None:
    """Look whether both folders hold what they held when they were made.

    Raises:
        Unusable: they do not.
    """
    for folder, wanted, what in (
        (sources.base, sources.base_sha256, "The starting model's files"),
        (sources.adapter, sources.adapter_sha256, "The adapter's files"),
    ):
        try:
            found = manifests.verify_manifest(folder)
        except (ValueError, OSError) as error:
            print(error, file=sys.stderr)  # for the log alone: it names places on this machine
            raise Unusable(
                f"{what} on the server are damaged, or not all there; ask your administrator to "
                "restore them from a backup."
            ) from None
        if found != wanted:
            raise Unusable(
                f"{what} on the server have been replaced since; ask your administrator to restore "
                "them from a backup."
            )


def tell_progress(doing: str, share: float) -> None:
    """Say what is being done, for a person, and how far this step is, from 0 to 1."""
    _tell(progress={"doing": doing, "share": round(share, 3)})


def _tell(**message: Any) -> None:
    print(json.dumps(message), flush=True)


def _die_with_parent() -> None:
    while sys.stdin.read(65536):
        pass
    os._exit(70)


if __name__ == "__main__":
    main()
