"""The site's own secrets: generated, each in a file that only the owner may read."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

from app.core.settings import Settings

# The key of rows' fingerprints (app/datasets/practised.py), which every machine that trains needs.
ROW_FINGERPRINTS = "row-fingerprints"


def get(settings: Settings, name: str) -> str:
    """Return a generated secret, made at the first call."""
    file = settings.secrets_dir / name
    if not file.exists():
        settings.secrets_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Written whole under another name first: two commands at once agree on one value.
        handle, draft = tempfile.mkstemp(dir=settings.secrets_dir)
        with os.fdopen(handle, "w") as target:
            target.write(token_hex(24))
            target.flush()
            os.fsync(target.fileno())
        with suppress(FileExistsError):
            os.link(draft, file)
        Path(draft).unlink()
    return file.read_text()


def keep(settings: Settings, name: str, value: str) -> None:
    """Write a secret that came from elsewhere; whole, readable by the owner alone."""
    settings.secrets_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=settings.secrets_dir)  # of mode 0600
    with os.fdopen(handle, "w") as target:
        target.write(value)
        target.flush()
        os.fsync(target.fileno())
    Path(draft).rename(settings.secrets_dir / name)
