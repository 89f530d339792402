"""How whole sentences are filled in: by a count that chooses between two, and with lists of things.

Sentences stay whole, since in other languages more than a noun changes with a count.
"""

from collections.abc import Sequence


def counted(count: int, one: str, many: str, **words: object) -> str:
    """Choose a whole sentence by a count: `one` says it of 1, `many` of {n}; `words` fill it in."""
    return (one if count == 1 else many).format(n=f"{count:,}", **words)


def listed(things: Sequence[str], form: str = "{most} and {last}") -> str:
    """Write a list as people do: “a”, “a and b”, “a, b and c”."""
    *most, last = things
    return form.format(most=", ".join(most), last=last) if most else last


def losses(loss: float | None, reference_loss: float | None, digits: int = 3) -> str:
    """Write a loss beside the one that it is compared with; None: it is no number."""
    own, reference = (
        f"{each:.{digits}f}" if each is not None else "that is no number"
        for each in (loss, reference_loss)
    )
    return f"loss {own} beside {reference}"


def size(size_bytes: float) -> str:
    """Write a number of bytes the way a file manager does: 1.4 MB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size_bytes < 1000 or unit == "GB":
            return f"{size_bytes:,.0f} {unit}" if unit == "bytes" else f"{size_bytes:,.1f} {unit}"
        size_bytes /= 1000
    raise AssertionError("unreachable")
