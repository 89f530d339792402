"""Which files of a model's folder hold its weights, whatever else lies beside them.

A repository may hold the same weights a second time, in its makers' own layout (Mistral's
`consolidated.safetensors`): what is read is what transformers reads.
"""

import json
import re
from collections.abc import Callable, Collection

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<total>\d{5})(?P<ending>\.\w+)")


class NotNamed(Exception):
    """Which files hold the weights cannot be told; a sentence that says why."""


def pick(names: Collection[str], read_index: Callable[[], bytes]) -> list[str]:
    """Return the files with the weights: those of the index, or the single one without one.

    Args:
        names: What the folder holds.
        read_index: Called where the folder has an index.

    Returns:
        The names, in order; none where no file is safetensors.

    Raises:
        NotNamed: the files are of another layout, or one of them is missing.
    """
    if INDEX not in names:
        return _without_index(names)
    wanted = _named(read_index())
    missing = [name for name in wanted if name not in names]
    if missing and SINGLE in names:
        return [SINGLE]
    if missing:
        raise NotNamed(f"{missing[0][:80]} is missing; copy the whole folder again.")
    return wanted


def guess(names: Collection[str]) -> list[str]:
    """Return the files that can hold the weights, as long as nothing but names is known.

    Raises:
        NotNamed: the files are of another layout.
    """
    if INDEX not in names:
        return _without_index(names)
    own = sorted(name for name in names if _is_own(name))
    return [name for name in own if SHARD.fullmatch(name)] or own


def _without_index(names: Collection[str]) -> list[str]:
    if SINGLE in names:
        return [SINGLE]
    if any(_is_own(name) for name in names):
        raise NotNamed(
            f"There is no {INDEX}, which says which file holds which weights; get the model's "
            "original files."
        )
    if any(name.endswith(".safetensors") for name in names):
        raise NotNamed(
            "The weights are here in a layout of their makers' own alone (consolidated); get the "
            f"model in the form that has {SINGLE} or {INDEX}."
        )
    return []


def _is_own(name: str) -> bool:
    return name.endswith(".safetensors") and not name.startswith("consolidated")


def _named(index: bytes) -> list[str]:
    try:
        files = json.loads(index)["weight_map"].values()
        wanted = sorted({name for name in files if isinstance(name, str)})
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise NotNamed(f"{INDEX} cannot be read; get the original file.") from None
    if not wanted or not all(name.endswith(".safetensors") and "/" not in name for name in wanted):
        raise NotNamed(f"{INDEX} names no files of this folder; get the original file.")
    return wanted
