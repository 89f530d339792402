"""Uploads that are still under way: pieces of a file on disk, which go on after any break.

The server's half of tus 1.0 (app/web/datasets/upload_routes.py speaks it). How much is there is
the file's own size, so that a killed process leaves nothing to disagree with; a lock lets one
request write.
"""

import fcntl
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel

from app.core import settings, storage
from app.core.errors import Conflict, Forbidden, Invalid, NotFound, TooLarge
from app.core.models import User
from app.datasets import versions
from app.people.auth import can_edit

STALE_SECONDS = 24 * 3600
MAX_OPEN_UPLOADS = 20
_ID = re.compile(r"[0-9a-f]{32}")
# By name alone, to save people a long upload; what a file really is, the reader finds by content.
_ENDINGS = frozenset(
    {"csv", "tsv", "tab", "json", "jsonl", "ndjson", "xlsx", "xlsm", "xlsb", "xls", "ods"}
    | {"parquet", "txt", "text", "md", "markdown", "docx", "docm", "pdf", "zip", ""}
)
READABLE = (
    "tables (CSV, TSV, Excel, ODS, JSON, JSONL, Parquet), documents (Word, PDF with text, "
    "Markdown, TXT) and ZIP archives of them"
)
# Left free on the disk whatever is uploaded: the database lives there too.
_SPARE_BYTES = 512 * 1024**2


class Upload(BaseModel):
    """What is known of an upload before its bytes; kept beside them."""

    id: str
    owner_id: int
    filename: str
    name: str
    size_bytes: int

    @property
    def data(self) -> Path:
        """The bytes that have come so far."""
        return _folder() / f"{self.id}.part"

    @property
    def offset(self) -> int:
        return self.data.stat().st_size


def start(user: User, filename: str, name: str, size_bytes: int) -> Upload:
    """Make room for a file of a known size.

    Raises:
        Forbidden: viewers look only.
        Invalid: it is no file that Etude could read; with the field `file`.
        TooLarge: more than ETUDE_MAX_UPLOAD_BYTES, or than the disk holds.
        Conflict: too many uploads of this person are under way.
    """
    check_may_upload(user)
    check_filename(filename)
    if size_bytes <= 0:
        raise Invalid("This file is empty; save it again and choose it anew.", field="file")
    limit = settings.get().max_upload_bytes
    if size_bytes > limit:
        raise TooLarge(
            f"This file has {size_bytes:,} bytes and the limit is {limit:,}. Split it, or ask your "
            "administrator to raise ETUDE_MAX_UPLOAD_BYTES.",
            field="file",
        )
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder).free < size_bytes + _SPARE_BYTES:
        raise TooLarge(
            "The server's disk has no room for this file; tell your administrator.", field="file"
        )
    remove_stale()
    if sum(upload.owner_id == user.id for upload in _all()) >= MAX_OPEN_UPLOADS:
        raise Conflict(
            f"You have {MAX_OPEN_UPLOADS} uploads under way; finish or cancel one first.",
            field="file",
        )
    upload = Upload(
        id=secrets.token_hex(16),
        owner_id=user.id,
        filename=versions.clean_filename(filename),
        name=name[: versions.MAX_NAME_LENGTH],
        size_bytes=size_bytes,
    )
    upload.data.touch()
    _info(upload.id).write_text(upload.model_dump_json(), encoding="utf-8")
    return upload


def get(user: User, upload_id: str) -> Upload:
    """Return a person's own upload.

    Raises:
        NotFound: there is none, it is finished or too old, or it is somebody else's.
    """
    upload = _read(_info(upload_id)) if _ID.fullmatch(upload_id) else None
    if upload is None or upload.owner_id != user.id:
        raise NotFound("This upload does not exist any more; start it again.")
    return upload


@contextmanager
def writing(upload: Upload, offset: int) -> Iterator[BinaryIO]:
    """Lend the file for one piece that begins at an offset; nobody else may write meanwhile.

    Raises:
        Conflict: another request is writing, or the piece does not follow from what is there.
        NotFound: the upload ended meanwhile.
    """
    try:
        file = upload.data.open("r+b")
    except FileNotFoundError:
        raise NotFound("This upload does not exist any more; start it again.") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict("Another request writes to this upload.", code="locked") from None
        there = file.seek(0, os.SEEK_END)
        if offset != there:
            raise Conflict(f"This upload holds {there} bytes, not {offset}.", code="offset")
        yield file


def finish(upload: Upload) -> storage.Stored:
    """Move a complete upload into the storage."""
    assert upload.offset == upload.size_bytes
    with upload.data.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    stored = storage.adopt("uploads", upload.data, digest.hexdigest())
    _info(upload.id).unlink(missing_ok=True)
    return stored


def cancel(upload: Upload) -> None:
    """Forget an upload and its bytes."""
    _info(upload.id).unlink(missing_ok=True)
    upload.data.unlink(missing_ok=True)


def remove_stale() -> None:
    """Remove what nobody has written to for a day."""
    oldest = time.time() - STALE_SECONDS
    for upload in _all():
        try:
            if upload.data.stat().st_mtime < oldest:
                cancel(upload)
        except FileNotFoundError:  # it ended meanwhile
            _info(upload.id).unlink(missing_ok=True)


def check_may_upload(user: User) -> None:
    """Refuse people who may only look."""
    if not can_edit(user):
        raise Forbidden("You may look at datasets, but not add any.")


def check_filename(filename: str) -> None:
    """Refuse what is plainly no table and no list of examples.

    Raises:
        Invalid: with the field `file`.
    """
    _, dot, ending = versions.clean_filename(filename).rpartition(".")
    ending = ending.lower() if dot else ""
    if ending not in _ENDINGS:
        raise Invalid(
            f"Etude reads {READABLE}, and this one ends in “.{ending}”. "
            "Open it in the program it comes from and save it as one of those.",
            field="file",
        )


def _all() -> Iterator[Upload]:
    for info in _folder().glob("*.json"):
        upload = _read(info)
        if upload is not None:
            yield upload


def _read(info: Path) -> Upload | None:
    try:
        return Upload.model_validate_json(info.read_bytes())
    except (FileNotFoundError, ValueError):  # gone, or half written when the process died
        return None


def _info(upload_id: str) -> Path:
    return _folder() / f"{upload_id}.json"


def _folder() -> Path:
    return settings.get().storage_dir / "partial"
