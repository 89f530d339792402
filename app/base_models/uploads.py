"""A starting model that comes from an administrator's browser, file by file and piece by piece.

Each upload is a folder: what is known of it, a file for each that is coming, and at last the
model's folder, which a worker imports as it does any other. Nothing of it is in a table until it is
whole. It belongs to the administrators together: any of them may go on with it, or cancel it.
"""

import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel as Model
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.base_models import gguf_head, registry, wanted_files
from app.base_models.wanted_files import Offered
from app.core import disk, pieces, settings, storage
from app.core.errors import Conflict, DiskFull, NotFound, TooLarge
from app.core.models import BaseModel, ModelStatus, Role, User
from app.people.auth import require_role

MAX_OPEN = 5
_BYTES_A_WEIGHT = 2  # of the checked copy
# Longer than a weekend, for a paused upload and for files whose import failed.
STALE_SECONDS = 7 * 24 * 3600
# An upload that has stood still for so long may go on, but holds no room any more.
_QUIET_SECONDS = 3600
_ID = re.compile(r"[0-9a-f]{32}")


class ComingFile(Model):
    name: str  # as it is called here
    chosen: Offered


class Part(NamedTuple):
    """Where one of an upload's files comes to."""

    path: Path
    name: str  # as it was chosen
    size_bytes: int  # that it will have

    def require_kind(self) -> None:
        """Refuse what has come, as soon as it shows that it is not what its name says.

        Raises:
            Invalid: with the field `files`.
            NotFound: the upload ended meanwhile.
        """
        try:
            with self.path.open("rb") as file:
                first = file.read(wanted_files.NUM_FIRST_BYTES)
        except FileNotFoundError:
            raise NotFound("This upload no longer exists; start it again.") from None
        if len(first) == min(wanted_files.NUM_FIRST_BYTES, self.size_bytes):
            wanted_files.require_kind(self.name, self.size_bytes, first)


class ModelUpload(Model):
    """What is known of an upload; kept beside its files."""

    id: str
    name: str  # of the model
    files: list[ComingFile]
    state: Literal["coming", "whole"] = "coming"
    # Of the checked copy, as the head of a GGUF file says; None: not known yet, or as large as it.
    copy_bytes: int | None = None

    @property
    def size_bytes(self) -> int:
        return sum(file.chosen.size_bytes for file in self.files)

    @property
    def received_bytes(self) -> int:
        return sum(_size(path) for path in self._parts())

    @property
    def copied_bytes(self) -> int:
        """What the checked copy takes; of a GGUF file without its head that is a safe guess."""
        if self.copy_bytes is not None:
            return self.copy_bytes
        return sum(
            round(each.chosen.size_bytes * wanted_files.growth(each.chosen.name))
            for each in self.files
        )

    @property
    def folder(self) -> Path:
        """The model's folder; there once it is whole."""
        return registry.uploaded_folder(self.id)

    def part(self, number: int) -> Path:
        """Where the bytes of a file come to."""
        return _place(self.id) / f"{number}.part"

    def _parts(self) -> list[Path]:
        return [self.part(number) for number in range(len(self.files))]

    def hold_room(self) -> None:
        """Hold room for what is still to come, and for the copy that the import makes of it.

        Raises:
            DiskFull: there is none.
        """
        disk.release(_info(self.id))
        left = self.size_bytes + self.copied_bytes - self.received_bytes
        try:
            disk.promise(left, self._parts(), _info(self.id), _QUIET_SECONDS)
        except disk.NoRoom as error:
            raise DiskFull(
                f"This model needs {error.needed_bytes / 1e9:,.1f} GB of free disk space while it "
                f"comes and is checked, and {error.free_bytes / 1e9:,.1f} GB are free; make room "
                "on the server's disk first.",
                field="files",
            ) from None


def start(db: Session, user: User, name: str, offered: Sequence[Offered]) -> ModelUpload:
    """Make room for a model, or go on with an upload of the same files under the same name.

    Raises:
        Forbidden: only administrators may.
        Invalid: the files are no model that Etude takes, or the name cannot be used; with a field.
        Conflict: the name is taken, or too many uploads are under way.
        TooLarge: it is larger than ETUDE_MAX_MODEL_UPLOAD_BYTES.
        DiskFull: the disk has no room for it.
    """
    require_role(user, Role.ADMIN)
    chosen = wanted_files.choose(offered)
    registry.require_name(db, name)
    files = [ComingFile(name=wanted_files.stored_name(file.name), chosen=file) for file in chosen]
    upload = ModelUpload(id=secrets.token_hex(16), name=name, files=files)
    require_size(upload.size_bytes)
    _root().mkdir(parents=True, exist_ok=True)
    remove_stale(db)
    with pieces.one_at_a_time(_root()):
        under_way = list(_coming())
        for earlier in under_way:
            if (earlier.name, earlier.files) == (name, files):
                earlier.hold_room()
                return earlier
        if len(under_way) >= MAX_OPEN:
            raise Conflict(f"{MAX_OPEN} models are being uploaded; complete or cancel one first.")
        _place(upload.id).mkdir()
        try:
            for number in range(len(files)):
                upload.part(number).touch()
            _save(upload)
            upload.hold_room()
        except BaseException:
            forget(upload.id)
            raise
    return upload


def require_size(size_bytes: int) -> None:
    """Refuse what is larger than ETUDE_MAX_MODEL_UPLOAD_BYTES.

    Raises:
        TooLarge: with the field `files`.
    """
    limit = settings.get().max_model_upload_bytes
    if size_bytes > limit:
        raise TooLarge(
            f"This model has {size_bytes / 1e9:,.1f} GB and the limit is {limit / 1e9:,.1f} GB; "
            "copy its folder to the server, or raise ETUDE_MAX_MODEL_UPLOAD_BYTES.",
            field="files",
        )


def get(user: User, upload_id: str) -> ModelUpload:
    """Return an upload that is under way.

    Raises:
        Forbidden: only administrators may.
        NotFound: there is none, it is finished or too old.
    """
    require_role(user, Role.ADMIN)
    upload = _read(_place(upload_id)) if _ID.fullmatch(upload_id) else None
    if upload is None or upload.state != "coming":
        raise NotFound("This upload no longer exists; start it again.")
    return upload


def part(user: User, upload_id: str, number: int) -> Part:
    """Return where one of an upload's files comes to, and what it will be.

    Raises:
        Forbidden, NotFound: as `get`.
    """
    upload = get(user, upload_id)
    if not 0 <= number < len(upload.files):
        raise NotFound("This upload has no such file.")
    chosen = upload.files[number].chosen
    return Part(upload.part(number), chosen.name, chosen.size_bytes)


def reckon(upload_id: str, number: int) -> None:
    """Hold the room that a GGUF file needs by its head, as soon as that has come.

    Raises:
        DiskFull: there is none; nothing more of the file is taken until there is.
    """
    upload = _read(_place(upload_id))
    if upload is None or upload.copy_bytes is not None:
        return
    if not upload.files[number].name.endswith(".gguf"):
        return
    weights = gguf_head.num_weights(upload.part(number))
    if weights is not None:
        upload.copy_bytes = _BYTES_A_WEIGHT * weights
    elif _size(upload.part(number)) >= gguf_head.MAX_BYTES:
        upload.copy_bytes = upload.copied_bytes  # nobody will read that head: the guess stays
    else:
        return
    upload.hold_room()
    _save(upload)


def under_way(user: User) -> list[ModelUpload]:
    """List what is coming, for administrators; nobody else hears of it."""
    return list(_coming()) if user.role is Role.ADMIN else []


def finish(db: Session, user: User, upload: ModelUpload) -> BaseModel:
    """Register a model whose files have all come; the caller commits and rings the cpu queue.

    Raises:
        Conflict: files are still coming, or the name was taken meanwhile.
    """
    with pieces.one_at_a_time(_root()):
        upload = get(user, upload.id)
        registry.require_name(db, upload.name)
        for number, file in enumerate(upload.files):
            if _size(upload.part(number)) != file.chosen.size_bytes:
                raise Conflict(f"{file.name} has not come whole yet; go on with the upload.")
        upload.folder.mkdir(exist_ok=True)
        for number in range(len(upload.files)):
            _sync(upload.part(number))
        for number, file in enumerate(upload.files):
            upload.part(number).rename(upload.folder / file.name)
        storage.sync_folder(upload.folder)
        upload.state = "whole"
        _save(upload)
        disk.release(_info(upload.id))
    return _register(db, user, upload)


def adopt(
    db: Session, user: User, name: str, file: Offered, move_to: Callable[[Path], None]
) -> BaseModel:
    """Register a model that came as one file, in one go; the caller commits and rings.

    Args:
        move_to: Moves the file to its place.

    Raises:
        Forbidden, Invalid, Conflict, TooLarge: as `start`.
    """
    require_role(user, Role.ADMIN)
    (chosen,) = wanted_files.choose([file])
    registry.require_name(db, name)
    require_size(chosen.size_bytes)
    files = [ComingFile(name=wanted_files.stored_name(chosen.name), chosen=chosen)]
    upload = ModelUpload(id=secrets.token_hex(16), name=name, files=files, state="whole")
    upload.folder.mkdir(parents=True)
    place = upload.folder / files[0].name
    try:
        move_to(place)
        Part(place, chosen.name, chosen.size_bytes).require_kind()
    except BaseException:
        forget(upload.id)
        raise
    storage.sync_folder(upload.folder)
    _save(upload)
    return _register(db, user, upload)


def forget(upload_id: str) -> None:
    """Remove an upload and its files; once more is fine."""
    disk.release(_info(upload_id))
    shutil.rmtree(_place(upload_id), ignore_errors=True)


def remove_stale(db: Session) -> None:
    """Remove uploads that nobody has gone on with for a week, and files that nobody imports."""
    oldest = time.time() - STALE_SECONDS
    for place in _root().iterdir():
        try:
            written_at = max(each.stat().st_mtime for each in (place, *place.iterdir()))
        except OSError:
            continue  # it ended meanwhile
        if written_at < oldest and not _is_imported(db, place.name):
            forget(place.name)


def _register(db: Session, user: User, upload: ModelUpload) -> BaseModel:
    source = {"kind": "upload", "id": upload.id}
    model, before = registry.add_again(db, user, source, upload.name)
    if before:
        forget(before)  # of the import that failed
    return model


def _is_imported(db: Session, upload_id: str) -> bool:
    """Say whether a worker is about to read an upload's files."""
    waits = select(BaseModel.id).where(
        BaseModel.source["id"].as_string() == upload_id,
        BaseModel.status.in_((ModelStatus.WAITING, ModelStatus.IMPORTING)),
    )
    return db.scalar(waits.limit(1)) is not None


def _coming() -> Iterator[ModelUpload]:
    for place in sorted(_root().glob("*/upload.json")):
        upload = _read(place.parent)
        if upload is not None and upload.state == "coming":
            yield upload


def _read(place: Path) -> ModelUpload | None:
    try:
        return ModelUpload.model_validate_json((place / "upload.json").read_bytes())
    except (FileNotFoundError, ValueError):  # gone, or never whole
        return None


def _save(upload: ModelUpload) -> None:
    partial = _place(upload.id) / "upload.partial"
    partial.write_text(upload.model_dump_json(), encoding="utf-8")
    partial.rename(_info(upload.id))


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _info(upload_id: str) -> Path:
    return _place(upload_id) / "upload.json"


def _place(upload_id: str) -> Path:
    return registry.uploaded_folder(upload_id).parent


def _root() -> Path:
    return _place("0" * 32).parent
