"""The exporting child of the chaos run: no model, and yet files that tell what they were made of.

The weights of a form follow from the adapter's own, byte for byte, and are written in pieces over
some seconds, so that disturbances meet them half made. Manifest, zip and reading it again are the
real child's (worker/exporting/packing.py), and like that one it ends with its parent.
"""

import hashlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.worker import stand_in_exporter
from tests.worker.stand_in_exporter import tell
from worker.exporting import packing
from worker.exporting.__main__ import tell_progress
from worker.exporting.requests import EXPORT, REQUEST, Make, Pack, Prove

WEIGHTS = "model.safetensors"
_NUM_PIECES = 8
_PIECE_SECONDS = 0.3


def weights(adapter: Path, form: str, quantization: str) -> Iterator[bytes]:
    """Yield what an adapter's folder becomes in a form, 64 KiB at a time.

    Raises:
        OSError: its weights cannot be read.
    """
    source = hashlib.sha256((adapter / "adapter_model.safetensors").read_bytes()).hexdigest()
    for piece in range(_NUM_PIECES):
        said = f"{source} {form} {quantization} {piece}"
        yield hashlib.sha256(said.encode()).digest() * 2048


def do(request: Make | Prove | Pack) -> None:
    """Carry one step out and say its result."""
    match request:
        case Make():
            folder = request.out / EXPORT
            folder.mkdir()
            pieces = weights(request.sources.adapter, request.form, request.quantization)
            with (folder / WEIGHTS).open("wb", buffering=0) as file:
                for number, piece in enumerate(pieces):
                    _take_time("merging the adapter into the model", number / _NUM_PIECES)
                    file.write(piece)
            tell(result={"notes": []})
        case Prove():
            _take_time("opening it", 0.5)
            stand_in_exporter.do(request)  # its figures
        case Pack():
            tell(result=packing.pack(request, _take_time))


def _take_time(doing: str, share: float) -> None:
    tell_progress(doing, share)
    time.sleep(_PIECE_SECONDS)


def _end_with_parent() -> None:
    while sys.stdin.read(65536):
        pass
    os._exit(70)


def main() -> None:
    request = REQUEST.validate_json(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    do(request)
    sys.stdout.flush()
    os._exit(0)  # the thread that listens holds standard input for ever


if __name__ == "__main__":
    main()
