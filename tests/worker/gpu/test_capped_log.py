"""A log whose writer is never stopped, and which takes little of the disk."""

import subprocess
import sys
from pathlib import Path

import pytest

from worker.gpu import capped_log
from worker.gpu.capped_log import HALF_BYTES, CappedLog

# Two megabytes a line of input: what it was told, and then numbered lines.
_WRITER = """
import sys
for place, _ in enumerate(sys.stdin):
    for line in range(20_000):
        print(f"{place:04d} {line:06d} " + "x" * 88, file=sys.stderr)
    print("told", flush=True)
"""


@pytest.mark.parametrize("has_holes", [True, False])
def test_the_first_and_the_last_part_stay_while_its_writer_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_holes: bool
) -> None:
    if not has_holes:
        monkeypatch.setattr(capped_log, "_punch", lambda *_: False)
    path = tmp_path / "log.txt"
    log = CappedLog(path)
    with path.open("ab") as target:
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=target,
            text=True,
        )
    assert writer.stdin is not None and writer.stdout is not None
    for _ in range(16):
        writer.stdin.write("go on\n")
        writer.stdin.flush()
        assert writer.stdout.readline() == "told\n"
        log.cap()
        assert path.stat().st_blocks * 512 < 2 * HALF_BYTES + 4 * 1024**2
    writer.stdin.close()
    assert writer.wait() == 0
    writer.stdout.close()
    kept = path.read_bytes()
    assert kept.startswith(b"0000 000000 ")
    assert kept.endswith(b"x\n")
    assert kept.count(b"the middle of this log was left out") == 1
    assert b"0015 019999 " in log.tail(8000)
    # No line of the last part is missing.
    assert kept.count(b"\n0015 ") == 20_000
    assert kept.count(b"\n0008 ") == 0


def test_a_short_log_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    log = CappedLog(path)
    log.cap()
    assert log.tail(100) == b""
    path.write_bytes(b"one\ntwo\n")
    log.cap()
    assert path.read_bytes() == b"one\ntwo\n"
    assert log.tail(4) == b"two\n"
