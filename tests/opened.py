"""`python -m tests.opened FOLDER COMMAND …`: run a command where others than root may read.

Python and a test's folder may lie below folders that root alone may pass (/root, pytest's own in
/tmp). In a view of the files of its own each of those is laid over by an empty one that anybody may
pass, with what is needed in its place. Code 77 says that the kernel allows no such view.
"""

import ctypes
import os
import sys
from pathlib import Path

REFUSED = 77
ROOT = Path(__file__).parents[1]
_CLONE_NEWNS = 0x20000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000


def main() -> None:
    needed = {Path(sys.base_prefix), Path(sys.prefix), ROOT, Path(sys.argv[1])}
    try:
        _open(sorted(each.resolve() for each in needed))
    except OSError as error:
        print(f"this kernel shows no other view of the files: {error}", file=sys.stderr)
        raise SystemExit(REFUSED) from None
    os.execv(sys.executable, [sys.executable, *sys.argv[2:]])


def _open(needed: list[Path]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)

    def mount(source: str, target: Path, kind: str, flags: int) -> None:
        options = b"mode=755" if kind == "tmpfs" else None
        said = libc.mount(source.encode(), bytes(target), kind.encode(), flags, options)
        if said != 0:
            raise OSError(ctypes.get_errno(), str(target))

    hidden = {place: top for place in needed if (top := _closed(place)) is not None}
    if libc.unshare(_CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    mount("none", Path("/"), "none", _MS_REC | _MS_PRIVATE)
    handles = {place: os.open(place, os.O_PATH) for place in hidden}
    for top in set(hidden.values()):
        mount("tmpfs", top, "tmpfs", 0)
    for place in hidden:
        place.mkdir(parents=True, exist_ok=True)
        mount(f"/proc/self/fd/{handles[place]}", place, "none", _MS_BIND)


def _closed(place: Path) -> Path | None:
    """Return the first folder on the way to a place that others may not pass."""
    way = [*reversed(place.parents)]
    return next((each for each in way if not each.stat().st_mode & 0o001), None)


if __name__ == "__main__":
    main()
