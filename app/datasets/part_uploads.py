"""A file in parts that come in any order, side by side, and are joined in the end: OpenAI's way.

Each upload is a folder with what is known of it and a file a part; nothing of it is in a table. The
parts are joined onto the first one and removed one by one, so that the disk never holds the file
twice. A process that dies amid that leaves what the next try needs to go on.
"""

import fcntl
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from app.core import disk, pieces, settings, storage
from app.core.errors import Conflict, Invalid, NotFound, TooLarge
from app.core.models import User
from app.datasets import uploads, versions
from app.datasets.uploads import Incoming

LIFE = timedelta(hours=1)
MAX_PART_BYTES = 64 * 1024**2
MAX_PARTS = 10_000
# For so long an upload can still say what became of it.
_KEPT_SECONDS = 24 * 3600
_ID = re.compile(r"upload_[0-9a-f]{32}")
_PART_ID = re.compile(r"part_[0-9a-f]{32}")

Status = Literal["pending", "completed", "cancelled", "expired"]


class PartUpload(BaseModel):
    """What is known of an upload; kept beside its parts."""

    id: str
    owner_id: int
    filename: str
    size_bytes: int
    created_at: float
    state: Literal["pending", "completed", "cancelled"] = "pending"
    file_id: str | None = None  # the public one, once it is completed
    # While it is joined: the parts in their order, with the bytes of each.
    order: list[tuple[str, int]] | None = None
    sha256: str | None = None  # once it is joined

    @property
    def expires_at(self) -> float:
        return self.created_at + LIFE.total_seconds()

    @property
    def status(self) -> Status:
        is_late = self.state == "pending" and time.time() > self.expires_at
        return "expired" if is_late else self.state

    @property
    def folder(self) -> Path:
        return _root() / self.id

    @property
    def joined(self) -> Path:
        return self.folder / "joined"

    def save(self) -> None:
        partial = self.folder / f"{secrets.token_hex(4)}.partial"
        partial.write_text(self.model_dump_json(), encoding="utf-8")
        partial.rename(_info(self.folder))


class Part(BaseModel):
    id: str
    created_at: float


def start(user: User, filename: str, size_bytes: int) -> PartUpload:
    """Make room for a file of a known size.

    Raises:
        Forbidden: viewers look only.
        Invalid: it is no file that Etude could read.
        TooLarge: more than ETUDE_MAX_UPLOAD_BYTES, or than the disk holds.
        Conflict: too many uploads of this person are under way.
    """
    uploads.require_uploader(user)
    uploads.check_filename(filename, "filename")
    uploads.require_size(size_bytes, "bytes")
    _root().mkdir(parents=True, exist_ok=True)
    remove_stale()
    upload = PartUpload(
        id=f"upload_{secrets.token_hex(16)}",
        owner_id=user.id,
        filename=versions.clean_filename(filename),
        size_bytes=size_bytes,
        created_at=time.time(),
    )
    with pieces.one_at_a_time(_root()):
        mine = (one for one in _all() if one.owner_id == user.id and one.status == "pending")
        uploads.require_few([one.size_bytes for one in mine], size_bytes)
        upload.folder.mkdir()
        upload.save()
    try:
        uploads.promise_room(size_bytes, upload.folder, _info(upload.folder))
    except BaseException:
        shutil.rmtree(upload.folder, ignore_errors=True)
        raise
    return upload


def get(user: User, upload_id: str) -> PartUpload:
    """Return a person's own upload.

    Raises:
        NotFound: there is none, or it is somebody else's.
    """
    upload = _read(_root() / upload_id) if _ID.fullmatch(upload_id) else None
    if upload is None or upload.owner_id != user.id:
        raise NotFound(f"No such upload: {upload_id[:60]!r}. It may have been removed.")
    return upload


def require_pending(upload: PartUpload) -> None:
    """Refuse to change an upload that is over.

    Raises:
        Invalid: with the code `upload_over`.
    """
    if upload.status != "pending":
        raise Invalid(f"This upload is {upload.status}; make a new one.", code="upload_over")


def add_part(upload: PartUpload, data: Incoming) -> Part:
    """Keep a part.

    Raises:
        Invalid: the upload is over, or the part is empty.
        TooLarge: the parts hold far more than the file is to have.
        Conflict: the upload is being completed.
        NotFound: it is gone.
    """
    with _held(upload, fcntl.LOCK_SH) as now:
        require_pending(now)
        if now.order is not None:
            raise Conflict("This upload is being completed; it takes no more parts.")
        if data.size_bytes == 0:
            raise Invalid("data: this part is empty.", field="data")
        parts = _parts(now)
        # A part whose answer was lost is sent again, and the first one stays unused.
        limit = 2 * now.size_bytes + MAX_PART_BYTES
        if sum(parts.values()) + data.size_bytes > limit or len(parts) >= MAX_PARTS:
            raise TooLarge(
                f"data: the parts hold more than the {now.size_bytes:,} bytes that were announced.",
                field="data",
            )
        part = Part(id=f"part_{secrets.token_hex(16)}", created_at=time.time())
        data.move_to(now.folder / part.id)
        return part


@contextmanager
def completing(
    upload: PartUpload, part_ids: Sequence[str], md5: str | None
) -> Iterator[tuple[PartUpload, storage.Stored | None]]:
    """Join the parts and lend the file; whoever makes a dataset of it calls `finish` within.

    Yields:
        The upload as it stands, and the file; no file where it was completed before, or where the
        file was taken and nobody said what became of it (`sha256` tells which it was).

    Raises:
        Invalid: the upload is over, or these are not its parts, or they are not the file.
        Conflict: parts are still arriving, or another request completes it.
        NotFound: it is gone.
    """
    with _held(upload, fcntl.LOCK_EX) as now:
        if now.state == "completed":
            yield now, None
            return
        require_pending(now)
        _settle_order(now, part_ids, md5)
        if now.sha256 is not None and not now.joined.exists():
            yield now, None
            return
        _join(now)
        with now.joined.open("rb") as file:
            now.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        now.save()
        yield now, storage.adopt("uploads", now.joined, now.sha256)


def finish(upload: PartUpload, file_id: str) -> None:
    """Say which file an upload has become; what was not used of it goes."""
    upload.state, upload.file_id = "completed", file_id
    upload.save()
    _remove_bytes(upload)


def cancel(upload: PartUpload) -> PartUpload:
    """Forget an upload's bytes; once more is fine.

    Raises:
        Invalid: it is completed or expired.
        Conflict: parts are arriving, or it is being completed.
    """
    with _held(upload, fcntl.LOCK_EX) as now:
        if now.state != "cancelled":
            require_pending(now)
            give_up(now)
        return now


def give_up(upload: PartUpload) -> None:
    """Mark an upload as cancelled and remove its bytes."""
    upload.state = "cancelled"
    upload.save()
    _remove_bytes(upload)


def remove_stale() -> None:
    """Remove the bytes of uploads that are over, and after a day all that is known of them."""
    for folder in _root().glob("upload_*"):
        upload = _read(folder)
        if upload is None:
            if time.time() - folder.stat().st_mtime > _KEPT_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
        elif upload.status != "pending":
            try:
                with _held(upload, fcntl.LOCK_EX):
                    _remove_bytes(upload)
                    if time.time() - upload.created_at > _KEPT_SECONDS:
                        shutil.rmtree(folder, ignore_errors=True)
            except (Conflict, NotFound):
                continue  # somebody is at it


def _settle_order(upload: PartUpload, part_ids: Sequence[str], md5: str | None) -> None:
    """Check that these parts are the file, and write their order down: from now on they go."""
    if upload.order is not None:
        if [part_id for part_id, _ in upload.order] != list(part_ids):
            raise Invalid(
                "part_ids: this upload is being joined from other parts, or in another order.",
                field="part_ids",
            )
        return
    sizes = _parts(upload)
    for number, part_id in enumerate(part_ids):
        if part_id not in sizes or part_id in part_ids[:number]:
            raise Invalid(
                f"part_ids[{number}]: this upload has no such part, or it is named twice.",
                field=f"part_ids[{number}]",
            )
    total = sum(sizes[part_id] for part_id in part_ids)
    if total != upload.size_bytes:
        raise Invalid(
            f"part_ids: these parts hold {total:,} bytes, and {upload.size_bytes:,} were "
            "announced.",
            field="part_ids",
        )
    if md5 is not None and _md5(upload, part_ids) != md5.lower():
        raise Invalid("md5: these parts have another one; send them again.", field="md5")
    upload.order = [(part_id, sizes[part_id]) for part_id in part_ids]
    upload.save()


def _md5(upload: PartUpload, part_ids: Sequence[str]) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for part_id in part_ids:
        with (upload.folder / part_id).open("rb") as part:
            while piece := part.read(1024**2):
                digest.update(piece)
    return digest.hexdigest()


def _join(upload: PartUpload) -> None:
    """Append part after part to the first; one goes only once it is there whole."""
    assert upload.order is not None
    begin = 0
    for part_id, size in upload.order:
        part = upload.folder / part_id
        if begin == 0 and part.exists():
            part.rename(upload.joined)
        elif part.exists():
            with upload.joined.open("r+b") as whole, part.open("rb") as piece:
                whole.truncate(begin)  # an earlier try may have broken off in the midst of it
                whole.seek(begin)
                shutil.copyfileobj(piece, whole, 1024**2)
                whole.flush()
                os.fsync(whole.fileno())
            part.unlink()
        begin += size


def _remove_bytes(upload: PartUpload) -> None:
    disk.release(_info(upload.folder))
    for part_id in _parts(upload):
        (upload.folder / part_id).unlink(missing_ok=True)
    upload.joined.unlink(missing_ok=True)


def _parts(upload: PartUpload) -> dict[str, int]:
    """Return the bytes of each part that is there."""
    return {
        path.name: path.stat().st_size
        for path in upload.folder.iterdir()
        if _PART_ID.fullmatch(path.name)
    }


@contextmanager
def _held(upload: PartUpload, how: int) -> Iterator[PartUpload]:
    """Hold an upload, with others or alone, and lend what is known of it by now."""
    try:
        lock = (upload.folder / "lock").open("a")
    except FileNotFoundError:
        raise NotFound("This upload no longer exists; make a new one.") from None
    with lock:
        try:
            fcntl.flock(lock, how | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict("Another request works on this upload.", code="locked") from None
        now = _read(upload.folder)
        if now is None:
            raise NotFound("This upload no longer exists; make a new one.")
        yield now


def _all() -> Iterator[PartUpload]:
    for folder in _root().glob("upload_*"):
        upload = _read(folder)
        if upload is not None:
            yield upload


def _read(folder: Path) -> PartUpload | None:
    try:
        return PartUpload.model_validate_json(_info(folder).read_bytes())
    except (FileNotFoundError, ValueError):  # gone, or never whole
        return None


def _info(folder: Path) -> Path:
    return folder / "upload.json"


def _root() -> Path:
    return settings.get().storage_dir / "parts"
