"""A file for what is too much for memory and is nobody else's."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from app.core import settings


@contextmanager
def nameless() -> Iterator[IO[bytes]]:
    """Lend a file without a name: it goes with this process, however that ends."""
    run_dir = settings.get().run_dir
    run_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile("w+b", dir=run_dir) as file:
        yield file
