"""From a person's disk to a dataset: a file in pieces or in one go, then the rows for it.

Pieces go on after any break (app/core/pieces.py; app/web/tus.py speaks it).
"""

import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.core import disk, pieces, settings, storage, wakeup
from app.core.errors import Conflict, DiskFull, Forbidden, Invalid, NotFound, TooLarge
from app.core.models import DatasetVersion, User
from app.core.sentences import size
from app.datasets import versions
from app.datasets.privacy import reviews
from app.datasets.privacy.reviews import Decision
from app.datasets.readers import named_kinds
from app.datasets.readers.inspections import ReadAs
from app.people.auth import can_edit

# A killed web process leaves a half-written file behind; nobody can still be sending it after this.
STALE_SECONDS = 24 * 3600
MAX_OPEN_UPLOADS = 20
# As many of the largest files may one person's unfinished uploads hold room for.
_MAX_OPEN_FILES = 4
_ID = re.compile(r"[0-9a-f]{32}")
# By name alone, to save people a long upload; what a file really is, the reader finds by content.
_ENDINGS = frozenset(
    {"csv", "tsv", "tab", "json", "jsonl", "ndjson", "xlsx", "xlsm", "xlsb", "xls", "ods"}
    | {"parquet", "txt", "text", "md", "markdown", "docx", "docm", "pdf", "zip", ""}
    | {"odt", "ott", "rtf", "pptx", "pptm", "ppsx", "html", "htm", "xhtml", "epub", "xml", "gz"}
    | {"eml", "mbox", "vtt", "srt", "gift", "apkg", "colpkg"}
)
# So much room is asked for at once where nobody has said how long a file will be.
_ROOM_STEP_BYTES = 64 * 1024**2
# An upload that has stood still for so long may go on, but holds no room any more.
_QUIET_SECONDS = 3600
_NO_ROOM = "The server's disk has no room for this file; tell your administrator."


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
    require_uploader(user)
    check_filename(filename)
    if size_bytes <= 0:
        raise Invalid("This file is empty; save it again and choose it again.", field="file")
    limit = settings.get().max_upload_bytes
    if size_bytes > limit:
        raise TooLarge(
            f"This file has {size(size_bytes)}, and the limit is {size(limit)}. Split it, or ask "
            "your administrator to raise ETUDE_MAX_UPLOAD_BYTES.",
            field="file",
        )
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    remove_stale()
    upload = Upload(
        id=secrets.token_hex(16),
        owner_id=user.id,
        filename=versions.clean_filename(filename),
        name=name[: versions.MAX_NAME_LENGTH],
        size_bytes=size_bytes,
    )
    with pieces.one_at_a_time(folder):
        under_way = [each.size_bytes for each in _all() if each.owner_id == user.id]
        require_few(under_way, size_bytes, "file")
        upload.data.touch()
        _info(upload.id).write_text(upload.model_dump_json(), encoding="utf-8")
    try:
        promise_room(size_bytes, upload.data, _info(upload.id))
    except BaseException:
        cancel(upload)
        raise
    return upload


def require_few(under_way: Sequence[int], size_bytes: int, field: str = "") -> None:
    """Refuse one more unfinished upload of a person, who has some of these sizes.

    Raises:
        Conflict: they are too many, or would hold too much of the disk together; with the field.
    """
    if len(under_way) >= MAX_OPEN_UPLOADS:
        what = f"You have {MAX_OPEN_UPLOADS} uploads under way"
    elif sum(under_way) + size_bytes > _MAX_OPEN_FILES * settings.get().max_upload_bytes:
        what = "Your unfinished uploads would hold too much room together"
    else:
        return
    raise Conflict(f"{what}; complete or cancel one first.", field=field or None)


def get(user: User, upload_id: str) -> Upload:
    """Return a person's own upload.

    Raises:
        NotFound: there is none, it is finished or too old, or it is somebody else's.
    """
    upload = _read(_info(upload_id)) if _ID.fullmatch(upload_id) else None
    if upload is None or upload.owner_id != user.id:
        raise NotFound("This upload no longer exists; start it again.")
    return upload


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


class Incoming:
    """A file that comes in one go, written to disk as it comes; what is not kept is forgotten."""

    def __init__(
        self, field: str = "file", max_bytes: int | None = None, expected_bytes: int = 0
    ) -> None:
        """Begin a file, and hold room for it.

        Args:
            field: The form's, of which what is wrong with it is said.
            max_bytes: It may have, where that is less than ETUDE_MAX_UPLOAD_BYTES.
            expected_bytes: How long it will be, as far as anybody said.

        Raises:
            DiskFull: the disk has no room for it; with the field.
        """
        self._field, self._max_bytes = field, max_bytes
        folder = settings.get().storage_dir / "incoming"
        folder.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        self.size_bytes = 0
        self._path = folder / secrets.token_hex(16)
        try:
            self._room = disk.Reservation(expected_bytes, [self._path])
        except disk.NoRoom:
            raise DiskFull(_NO_ROOM, field=field) from None
        try:
            self._file = self._path.open("wb")
        except BaseException:
            self._room.close()
            raise
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """The hash of what has come so far."""
        return self._digest.hexdigest()

    def require_room_for(self, num_bytes: int) -> None:
        """Refuse what would make the file larger than it may be.

        Raises:
            TooLarge: with the form's field.
        """
        require_size(self.size_bytes + num_bytes, self._field, self._max_bytes)

    def write(self, data: bytes) -> None:
        """Append some bytes.

        Raises:
            DiskFull: the disk has no room for them; with the field.
        """
        if self.size_bytes + len(data) > self._room.size_bytes:
            try:
                self._room.grow(max(len(data), _ROOM_STEP_BYTES))
            except disk.NoRoom:
                raise DiskFull(_NO_ROOM, field=self._field) from None
        self._digest.update(data)
        self._file.write(data)
        self.size_bytes += len(data)

    def read(self) -> bytes:
        """Return what has come, for what is small enough to be held in memory."""
        self._file.flush()
        return self._path.read_bytes()

    def keep(self) -> storage.Stored:
        """Move the file into the storage."""
        self._file.close()
        return storage.adopt("uploads", self._path, self.sha256)

    def move_to(self, path: Path) -> None:
        """Move the file to a place of the same disk, whole and on disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._path.rename(path)

    def forget(self) -> None:
        """Remove the file unless it was kept, and let go of the room that it did not take."""
        self._room.close()
        self._file.close()
        self._path.unlink(missing_ok=True)


def require_size(size_bytes: int, field: str = "file", max_bytes: int | None = None) -> None:
    """Refuse a file that is larger than ETUDE_MAX_UPLOAD_BYTES, or than a part may be.

    Raises:
        TooLarge: with the field.
    """
    limit = settings.get().max_upload_bytes
    if max_bytes is not None and max_bytes < limit:
        if size_bytes > max_bytes:
            raise TooLarge(f"{field}: send at most {max_bytes:,} bytes at once.", field=field)
    elif size_bytes > limit:
        raise TooLarge(
            f"The file is larger than the {size(limit)} that this server takes. Split it, or ask "
            "your administrator to raise ETUDE_MAX_UPLOAD_BYTES.",
            field=field,
        )


def add_dataset(
    db: Session,
    user: User,
    stored: storage.Stored,
    filename: str,
    name: str,
    *,
    auto_confirm: bool = False,
    decision: Decision | None = None,
    read_as: ReadAs | None = None,
    is_ours: bool = False,
) -> DatasetVersion:
    """Make a dataset of stored bytes, commit and wake a worker; the bytes go if that fails.

    Args:
        auto_confirm: Nobody is there to ask: a mapping that is sure is taken, another an error.
        decision: What to do with personal details, where that is known before they are found.
        read_as: What a person says of how it is to be read.
        is_ours: It is a sample that comes with Etude, about which Etude decided.

    Raises:
        Forbidden, Invalid: as for versions.add and reviews.state.
    """
    try:
        version = versions.add(db, user, stored, filename, name.strip(), auto_confirm=auto_confirm)
        if read_as is not None:
            version.read_as = read_as.model_dump(mode="json", exclude_defaults=True)
        if decision is not None:
            reviews.state(db, user, version, decision, is_ours=is_ours)
        db.commit()
    except BaseException:
        storage.delete(stored.key)
        raise
    wakeup.hint("cpu")
    return version


def promise_room(size_bytes: int, place: Path, made_for: Path) -> None:
    """Hold room for a file that comes piece by piece; refuse what the disk has no room for.

    Args:
        place: The file, or the folder that its parts come to.
        made_for: What goes when the upload ends.

    Raises:
        TooLarge: with the field `file`.
    """
    try:
        disk.promise(size_bytes, [place], made_for, _QUIET_SECONDS)
    except disk.NoRoom:
        raise TooLarge(_NO_ROOM, field="file") from None


def require_uploader(user: User) -> None:
    """Refuse people who may only look."""
    if not can_edit(user):
        raise Forbidden("You can view datasets, but not add any.")


def check_filename(filename: str, field: str = "file") -> None:
    """Refuse what is plainly no table and no list of examples.

    Raises:
        Invalid: with the field.
    """
    _, dot, ending = versions.clean_filename(filename).rpartition(".")
    ending = ending.lower() if dot else ""
    if refusal := named_kinds.refusal_of_ending(ending):
        raise Invalid(refusal, field=field)
    if ending not in _ENDINGS:
        raise Invalid(
            f"Etude cannot read files that end in “.{ending}”. Open the file in the program that "
            "it comes from, save it as a table (such as Excel or CSV) or as a document (such as "
            "Word or PDF), and upload that.",
            field=field,
        )


def _remove_leftovers(folder: Path) -> None:
    for leftover in os.scandir(folder):
        try:
            if time.time() - leftover.stat().st_mtime > STALE_SECONDS:
                Path(leftover).unlink()
        except FileNotFoundError:  # another upload ended meanwhile
            continue


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
