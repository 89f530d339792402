"""The Hugging Face Hub: a model's own files are fetched from there, and never a program.

A worker's child fetches them where that is allowed (ETUDE_HUB_DOWNLOADS); elsewhere `etude models
pack` does, on a machine with internet, and writes down what each file has to be.
"""

import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from app.base_models import weight_files
from app.core import plain_errors

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("chat_template.jinja", "generation_config.json"),
    # Etude reads tokenizer.json; SentencePiece's scores, which GGUF has to hold, stand here alone.
    "tokenizer.model",
)
LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "NOTICE")
# Of a packed folder: a line for each file, its SHA-256 in hexadecimal, two spaces, its name.
SUMS_FILE = "SHA256SUMS"
_BESIDE = (weight_files.INDEX, "config.json", "README.md", *TOKENIZER_FILES, *LICENCE_FILES)
# Of a folder that is being filled: what is half fetched, and of which commit.
_HALF = ".partial"
_TELL_SECONDS = 2.0
# A connection that says nothing for so long is taken for broken, and is made again.
_ANSWER_SECONDS, _LONGEST_PAUSE_SECONDS = 60.0, 60.0
_SUM = re.compile(r"([0-9a-f]{64})  ([^/\0\n]{1,255})")
_BLOCK_BYTES = 2**20


class NotFetched(Exception):
    """The hub did not give the files; a sentence that says why."""


class BrokenOff(NotFetched):
    """The connection was broken off; what has come is kept, and the next call goes on."""


class NotAsPacked(Exception):
    """A file is not what was packed; a sentence that says which."""


@dataclass(frozen=True)
class Packed:
    """A model's files in a folder, ready to be carried."""

    folder: Path
    revision: str  # the commit that they are of
    num_files: int
    size_bytes: int


def fetch(
    repo: str,
    revision: str | None,
    folder: Path,
    token: str,
    ask_for_room: Callable[[int], object],
    *,
    tell: Callable[[int, int], object] = lambda _done, _whole: None,
    check: Callable[[], object] = lambda: None,
    patience_seconds: float = 10,
) -> str:
    """Fetch a model's files into a folder, and go on where an earlier call was broken off.

    The weights come last, when all that is small has come and was looked at.

    Args:
        repo: Owner and name.
        revision: A commit; None takes the newest.
        token: Of somebody who accepted the model's licence, where it asks for that; or "".
        ask_for_room: Called with the weights' bytes before they come.
        tell: Called now and then with the bytes that are here, and those of all the files.
        check: Called before the weights come, when all other files are here.
        patience_seconds: So long a broken connection is tried again without a byte of news.

    Returns:
        The commit that the files are of.

    Raises:
        BrokenOff: the connection is gone; another call goes on.
        NotFetched: the hub cannot be reached, has no such model, or wants a token.
        NotNamed: which of its files hold the weights cannot be told.
    """
    import httpx2
    from huggingface_hub import HfApi, hf_hub_url
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        found = HfApi(token=token or False).model_info(repo, revision=revision, files_metadata=True)
        files = {file.rfilename: file for file in found.siblings or []}
        commit = found.sha or revision or ""
        _begin(folder, commit)
        num_here, told_at, whole = 0, 0.0, 0

        def bring(name: str) -> None:
            nonlocal num_here, told_at
            file, half = files[name], folder / _HALF / name
            before = num_here
            if not _is_it(folder / name, file):
                url = hf_hub_url(repo, name, revision=commit)
                for size in _received(url, half, file.size, token, patience_seconds):
                    num_here = before + size
                    if whole and time.monotonic() - told_at >= _TELL_SECONDS:
                        told_at = time.monotonic()
                        tell(min(num_here, whole), whole)
                if not _is_it(half, file):
                    half.unlink()
                    raise NotFetched(
                        f"{name} of {repo} arrived damaged, its SHA-256 is not the hub's: try "
                        "again."
                    )
                half.replace(folder / name)
            num_here = before + (folder / name).stat().st_size

        beside = [name for name in _BESIDE if name in files]
        for name in beside:
            bring(name)
        weights = weight_files.pick(files.keys(), (folder / weight_files.INDEX).read_bytes)
        check()
        num_bytes = sum(files[name].size or 0 for name in weights)
        ask_for_room(num_bytes)
        whole = num_here + num_bytes
        tell(num_here, whole)
        for name in weights:
            bring(name)
        tell(whole, whole)
    except GatedRepoError:
        raise NotFetched(
            f"{repo} is given only to people who accepted its licence: accept it on its page at "
            "huggingface.co, and set ETUDE_HUB_TOKEN to a token of that account."
        ) from None
    except RepositoryNotFoundError:
        raise NotFetched(
            f"{repo} could not be downloaded: the hub has no such model, or shows it only with a "
            "token of an account that may see it (ETUDE_HUB_TOKEN)."
        ) from None
    except (HfHubHTTPError, httpx2.HTTPError, OSError, ValueError) as error:
        raise BrokenOff(f"{repo} could not be downloaded: {plain_errors.words(error)}.") from None
    return commit


def here_bytes(folder: Path) -> int:
    """Return how much of a model has come to a folder, whole or in part."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _begin(folder: Path, commit: str) -> None:
    """Make a folder ready for a commit; of what was begun of another one nothing is kept."""
    half = folder / _HALF
    half.mkdir(parents=True, exist_ok=True)
    note = half / "commit"
    if note.exists() and note.read_text(encoding="utf-8") != commit:
        for path in (*half.iterdir(), *(folder / name for name in _BESIDE)):
            path.unlink(missing_ok=True)
        for path in folder.glob("*.safetensors"):
            path.unlink()
    note.write_text(commit, encoding="utf-8")


def _received(
    url: str, path: Path, size_bytes: int | None, token: str, patience_seconds: float
) -> Iterator[int]:
    """Receive a file behind what is there of it, and again where the connection breaks off.

    Not by the hub's own library: it forgets what has come as soon as its process ends.

    Yields:
        So many bytes of it are here.
    """
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    pause, news_at = 1.0, time.monotonic()
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # whoever had it before may just be dying
        while True:
            try:
                for size in _rest_of(url, file, size_bytes, token):
                    pause, news_at = 1.0, time.monotonic()
                    yield size
            except (httpx2.TransportError, HfHubHTTPError) as error:
                said = getattr(error, "response", None)
                is_final = (
                    said is not None
                    and 400 <= said.status_code < 500
                    and (said.status_code not in (408, 429))
                )
                if is_final or time.monotonic() + pause - news_at > patience_seconds:
                    raise
            else:
                return
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def _rest_of(url: str, file: BinaryIO, size_bytes: int | None, token: str) -> Iterator[int]:
    import httpx2
    from huggingface_hub import get_session, hf_raise_for_status

    here = file.seek(0, os.SEEK_END)
    if size_bytes is not None and here > size_bytes:
        here = file.truncate(0)
    if here == size_bytes:
        return
    headers = {"Accept-Encoding": "identity"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if here:
        headers["Range"] = f"bytes={here}-"
    asked = get_session().stream("GET", url, headers=headers, timeout=_ANSWER_SECONDS)
    with asked as response:
        hf_raise_for_status(response)
        if here and response.status_code != 206:
            here = file.truncate(0)  # it sends all of it
        for chunk in response.iter_bytes():
            file.write(chunk)
            here += len(chunk)
            yield here
    if size_bytes is not None and here < size_bytes:
        raise httpx2.ReadError(f"{here} of {size_bytes} bytes came")


def _is_it(path: Path, listed: "RepoSibling") -> bool:
    """Say whether a file is the one that the hub lists."""
    if not path.is_file() or listed.size not in (None, path.stat().st_size):
        return False
    if listed.lfs is not None:
        with path.open("rb") as file:
            return _sha256(file) == listed.lfs.sha256
    if listed.blob_id is not None:  # as git names it
        content = path.read_bytes()
        digest = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
        return digest.hexdigest() == listed.blob_id
    return True


def pack(
    repo: str,
    revision: str | None,
    folder: Path,
    token: str,
    tell: Callable[[int, int], object] = lambda _done, _whole: None,
) -> Packed:
    """Fetch a model into a folder that can be carried, with the hash of each file beside them.

    Raises:
        NotFetched, NotNamed: as `fetch`, and where the disk is too full.
    """
    sums, begun = folder / SUMS_FILE, folder / _HALF
    if folder.is_dir() and any(folder.iterdir()) and not (sums.exists() or begun.exists()):
        raise NotFetched(f"{folder} is not empty; name a new folder.")
    sums.unlink(missing_ok=True)  # what is half fetched says nothing of itself
    folder.mkdir(parents=True, exist_ok=True)
    commit = fetch(
        repo, revision, folder, token, lambda needed: _require_room(folder, needed), tell=tell
    )
    shutil.rmtree(begun, ignore_errors=True)
    files = sorted(path for path in folder.iterdir() if path.is_file())
    if not any(path.suffix == ".safetensors" for path in files):
        raise NotFetched(
            f"{repo} has no safetensors files; Etude takes no pickle (.bin, .pt), since it can run "
            "programs."
        )
    lines = []
    for path in files:
        with path.open("rb") as file:
            lines.append(f"{_sha256(file)}  {path.name}\n")
    half = folder / f"{SUMS_FILE}.partial"
    half.write_text("".join(lines), encoding="utf-8")
    half.replace(sums)
    return Packed(folder, commit, len(files), sum(path.stat().st_size for path in files))


def verify(
    sums: str,
    opened: Callable[[str], AbstractContextManager[BinaryIO]],
    names: list[str],
    told: Callable[[int], object] = lambda _: None,
) -> None:
    """Compare a packed folder's files with the hashes that were written beside them.

    Args:
        sums: The text of SHA256SUMS.
        opened: Opens one of the files.
        names: The files that are there.
        told: Called with the bytes of each file, once it is compared.

    Raises:
        NotAsPacked: one is missing or is not the same.
    """
    for line in sums.splitlines():
        entry = _SUM.fullmatch(line)
        if entry is None:
            raise NotAsPacked(f"{SUMS_FILE} has a line that is none of its own; pack it again.")
        digest, name = entry[1], entry[2]
        if name not in names:
            raise NotAsPacked(f"{name} was packed and is not there; copy the whole folder again.")
        with opened(name) as file:
            if _sha256(file) != digest:
                raise NotAsPacked(
                    f"{name} is not the file that was packed, its SHA-256 differs: copy it again."
                )
            told(os.fstat(file.fileno()).st_size)


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := file.read(_BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()


def _require_room(folder: Path, needed: int) -> None:
    here = here_bytes(folder)
    free = shutil.disk_usage(folder).free
    if needed - here > free:
        raise NotFetched(
            f"It takes {needed / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are free on that disk."
        )
