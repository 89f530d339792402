"""Which files of a model's folder are wanted; what its list of names shows is said at once.

Whoever uploads gigabytes hears before the first of them that a folder is not the right one, and
after its first piece that a file is none of its kind. What neither shows, the import finds
(worker/cpu/model_conversion.py).
"""

import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import PurePosixPath

from pydantic import BaseModel, Field

from app.base_models import hub, weight_files
from app.base_models.weight_files import SHARD, NotNamed
from app.core.errors import Invalid

PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack", ".npz"})
_BESIDE = frozenset(
    {*hub.TOKENIZER_FILES, *hub.LICENCE_FILES, hub.SUMS_FILE, "config.json", "README.md"}
    | {weight_files.INDEX, "tokenizer.model"}
)
# How many bits a weight has by a GGUF file's name: Q4_K_M, IQ2_XS, BF16.
_BITS = re.compile(r"(?<![A-Za-z0-9])(?:I?Q|B?F)([1-8]|16|32)(?![0-9])", re.IGNORECASE)
# A sender's name becomes one of ours only where it is as plain as this.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,150}")
_MAX_SHARDS = 500
# What safetensors says of its weights before they come; the largest models have a tenth of it.
MAX_HEADER_BYTES = 16 * 1024**2
# So much of a file shows its kind.
NUM_FIRST_BYTES = 64


class Offered(BaseModel):
    """A file that somebody chose: where it lies below their folder, and which one it is."""

    path: str = Field(max_length=1000)
    size_bytes: int = Field(ge=0)
    modified: int = 0  # in milliseconds, as the browser says

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name


def choose(offered: Iterable[Offered]) -> list[Offered]:
    """Return the files that a model needs, each once.

    Raises:
        Invalid: they are no model that Etude takes, or one of them is missing; with the field
            `files`.
    """
    everything = list(offered)
    files = {file.path: file for file in everything if "/" not in file.path}
    ggufs = [name for name in files if name.endswith(".gguf")]
    weights = []
    if any(name.endswith(".safetensors") for name in files):
        _require_beside(files.keys())
        weights = _weights(files.keys())
    elif ggufs:
        _require_one(ggufs)
    else:
        raise _no_weights(files, everything)
    names = sorted({*weights, *([] if weights else ggufs), *(files.keys() & _BESIDE)})
    for name in names:
        if files[name].size_bytes == 0:
            raise _wrong(f"{name} is empty; copy it again.")
        if not _PLAIN.fullmatch(name) and name not in ggufs:
            raise _wrong(
                f"The name “{name[:80]}” has characters that a model's files do not have; use the "
                "names that its makers gave them."
            )
    return [files[name] for name in names]


def stored_name(name: str) -> str:
    """Return the name that a file gets here; only a GGUF file may have had another."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip(".-_")[-150:]
    return plain if _PLAIN.fullmatch(plain) else "model.gguf"


def growth(name: str) -> float:
    """Say how many times its size a file's checked copy can have, as far as its name shows.

    A quantized GGUF file comes to 16 bits a weight; most have four or more bits.
    """
    if not name.endswith(".gguf"):
        return 1
    bits = _BITS.search(name)
    return 16 / min(16, int(bits[1])) if bits else 16 / 4


def require_kind(name: str, size_bytes: int, first: bytes) -> None:
    """Refuse a file of weights that does not begin as its name says.

    Args:
        first: Its first NUM_FIRST_BYTES bytes, or all that it has.

    Raises:
        Invalid: with the field `files`.
    """
    if not name.endswith((".safetensors", ".gguf")):
        return
    if first.startswith(b"version https://git-lfs"):
        raise _wrong(
            f"{name[:80]} is a note of Git LFS about the file and not the file itself; run “git "
            "lfs pull” in that folder and choose it again."
        )
    if name.endswith(".gguf"):
        is_one = first.startswith(b"GGUF")
    else:
        length = int.from_bytes(first[:8], "little")
        is_one = first[8:9] == b"{" and length <= min(MAX_HEADER_BYTES, size_bytes - 8)
    if not is_one:
        kind = "GGUF" if name.endswith(".gguf") else "safetensors"
        raise _wrong(f"{name[:80]} is no {kind} file inside; get it again from its makers.")


def _require_beside(there: Collection[str]) -> None:
    if "config.json" not in there:
        if "adapter_config.json" in there:
            raise _wrong(
                "This is an adapter, which changes another model, and no starting model; choose "
                "the folder of the model itself."
            )
        raise _wrong(
            "The folder has no config.json, which says what kind of model it is; choose the "
            "folder with the model's original files."
        )
    if "tokenizer.json" not in there:
        raise _wrong(
            "The folder has no tokenizer.json, without which Etude reads no text; choose the "
            "folder with the model's original files."
        )


def _weights(names: Collection[str]) -> list[str]:
    """Return the files with the weights; parts of which one is missing are refused."""
    parts = [name for name in names if name.endswith(".safetensors") and SHARD.fullmatch(name)]
    missing = _missing_shards(name for name in parts if not name.startswith("consolidated"))
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        are = "are" if more else "is"
        raise _wrong(f"{missing[0]}{more} {are} missing; copy the whole folder again.")
    try:
        return weight_files.guess(names)
    except NotNamed as error:
        raise _wrong(str(error)) from None


def _missing_shards(names: Iterable[str]) -> list[str]:
    """Return the parts that the numbers of the others speak of."""
    there = {name: match for name in names if (match := SHARD.fullmatch(name))}
    missing = []
    for stem, total, ending in {(m["stem"], m["total"], m["ending"]) for m in there.values()}:
        for number in range(1, min(int(total), _MAX_SHARDS) + 1):
            name = f"{stem}-{number:05}-of-{total}{ending}"
            if name not in there:
                missing.append(name)
    return sorted(missing)


def _require_one(ggufs: Sequence[str]) -> None:
    if any(SHARD.fullmatch(name) for name in ggufs):
        raise _wrong(
            "This GGUF file comes in several parts, and Etude takes it in one; join them first "
            "with llama.cpp's llama-gguf-split --merge."
        )
    if len(ggufs) > 1:
        raise _wrong(f"These are {len(ggufs)} GGUF files; choose one of them.")


def _no_weights(files: Iterable[str], everything: Sequence[Offered]) -> Invalid:
    if not everything:
        return _wrong("Choose the model's folder, or one GGUF file.")
    endings = (".safetensors", ".gguf")
    within = {
        str(PurePosixPath(file.path).parent) for file in everything if file.path.endswith(endings)
    } - {"."}
    if within:
        named = f"“{sorted(within)[0][:80]}”"
        return _wrong(f"The model's files lie in {named} within this folder; choose that one.")
    if any(PurePosixPath(name).suffix in PICKLES for name in files):
        return _wrong(
            "This model comes as pickle files (.bin, .pt), which can run programs; get its "
            "safetensors form."
        )
    return _wrong(
        "Here are neither safetensors files nor a GGUF file; choose the folder with the model's "
        "original files."
    )


def _wrong(sentence: str) -> Invalid:
    return Invalid(sentence, field="files")
