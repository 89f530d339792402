"""The Hugging Face Hub: a model's own files are fetched from there, and never a program.

A worker's child fetches them where that is allowed (ETUDE_HUB_DOWNLOADS); elsewhere `etude models
pack` does, on a machine with internet, and writes down what each file has to be.
"""

import hashlib
import re
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from app.base_models import weight_files
from app.core import plain_errors

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
_SUM = re.compile(r"([0-9a-f]{64})  ([^/\0\n]{1,255})")
_BLOCK_BYTES = 2**20


class NotFetched(Exception):
    """The hub did not give the files; a sentence that says why."""


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
) -> str:
    """Fetch a model's files into a folder, and go on where an earlier call was broken off.

    Args:
        repo: Owner and name.
        revision: A commit; None takes the newest.
        token: Of somebody who accepted the model's licence, where it asks for that; or "".
        ask_for_room: Called with the weights' bytes before they come.

    Returns:
        The commit that the files are of.

    Raises:
        NotFetched: the hub cannot be reached, has no such model, or wants a token.
        NotNamed: which of its files hold the weights cannot be told.
    """
    import httpx2
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        found = HfApi(token=token or False).model_info(repo, revision=revision, files_metadata=True)
        files = {file.rfilename: file for file in found.siblings or []}
        commit = found.sha or revision
        download = partial(
            snapshot_download, repo, revision=commit, local_dir=folder, token=token or False
        )
        if weight_files.INDEX in files:
            download(allow_patterns=[weight_files.INDEX])
        weights = weight_files.pick(files.keys(), (folder / weight_files.INDEX).read_bytes)
        ask_for_room(sum(files[name].size or 0 for name in weights))
        download(allow_patterns=[*weights, *_BESIDE])
        # Its library compares sizes alone.
        for name, file in files.items():
            digest = file.lfs.sha256 if file.lfs else None
            if digest is not None and (folder / name).is_file():
                _require_hash(folder / name, digest, repo)
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
        raise NotFetched(f"{repo} could not be downloaded: {plain_errors.words(error)}.") from None
    return commit or ""


def pack(repo: str, revision: str | None, folder: Path, token: str) -> Packed:
    """Fetch a model into a folder that can be carried, with the hash of each file beside them.

    Raises:
        NotFetched, NotNamed: as `fetch`, and where the disk is too full.
    """
    sums, begun = folder / SUMS_FILE, folder / ".cache"
    if folder.is_dir() and any(folder.iterdir()) and not (sums.exists() or begun.exists()):
        raise NotFetched(f"{folder} is not empty; name a new folder.")
    sums.unlink(missing_ok=True)  # what is half fetched says nothing of itself
    folder.mkdir(parents=True, exist_ok=True)
    commit = fetch(repo, revision, folder, token, lambda needed: _require_room(folder, needed))
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
    sums: str, opened: Callable[[str], AbstractContextManager[BinaryIO]], names: list[str]
) -> None:
    """Compare a packed folder's files with the hashes that were written beside them.

    Args:
        sums: The text of SHA256SUMS.
        opened: Opens one of the files.
        names: The files that are there.

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


def _require_hash(path: Path, digest: str, repo: str) -> None:
    """Remove a file that is not what the hub says it is: the next call fetches it anew."""
    with path.open("rb") as file:
        if _sha256(file) == digest:
            return
    path.unlink()
    raise NotFetched(
        f"{path.name} of {repo} arrived damaged, its SHA-256 is not the hub's: try again."
    )


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := file.read(_BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()


def _require_room(folder: Path, needed: int) -> None:
    here = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    free = shutil.disk_usage(folder).free
    if needed - here > free:
        raise NotFetched(
            f"It takes {needed / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are free on that disk."
        )
