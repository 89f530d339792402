"""Broken and hostile files, each in a reading process of its own with the worker's limits."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.core.settings import Settings
from tests import hostile, patience

MEMORY_BYTES = Settings.model_fields["reader_memory_bytes"].default
CPU_SECONDS = round(patience.seconds(10))
# Starting Python takes longer than most files do: one process has everything loaded and forks
# a reader for each file, which then confines itself as always.
NURSERY = """
import json, os, resource, sys
from app.datasets.readers import reader
for line in sys.stdin:
    order = json.loads(line)
    inward, outward = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(inward[0], 0)
        os.dup2(outward[1], 1)
        for each in (*inward, *outward):
            os.close(each)
        sys.stdin = os.fdopen(0)
        sys.stdout = os.fdopen(1, "w")
        code = 1
        try:
            reader.main()
            code = 0
        finally:
            os._exit(code)
    os.close(inward[0])
    os.close(outward[1])
    os.write(inward[1], json.dumps({**order, "parent": os.getpid()}).encode() + b"\\n")
    os.close(inward[1])
    said, size = [], 0
    with os.fdopen(outward[0], "rb") as stream:
        for said_line in stream:
            size += len(said_line)
            if said_line.startswith(b"{"):
                said.append(said_line)
            else:
                json.loads(said_line.split(b"\\t")[2])
    _, status, used = os.wait4(child, 0)
    last = json.loads(said[-1]) if said else {}
    print(json.dumps({"last": last, "status": status, "cpu": used.ru_utime + used.ru_stime,
                      "kilobytes": used.ru_maxrss}), flush=True)
"""


class Nursery:
    def __init__(self, folder: Path) -> None:
        self.errors = (folder / "errors").open("w+b")
        self.process = subprocess.Popen(
            [sys.executable, "-c", NURSERY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[4])},
        )

    def read(self, path: Path, **order: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        limits = {"memory_bytes": MEMORY_BYTES, "cpu_seconds": CPU_SECONDS}
        self.process.stdin.write(json.dumps({"path": str(path), **limits, **order}) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def end(self) -> None:
        self.process.communicate(timeout=patience.seconds(30))
        self.errors.close()


def judge(nursery: Nursery, path: Path, expected: str) -> str:
    """Return what is wrong with how a file was taken; nothing if nothing is."""
    answer = nursery.read(path, task="inspect")
    if answer["cpu"] > CPU_SECONDS or answer["kilobytes"] * 1024 > MEMORY_BYTES:
        return f"took {answer['cpu']:.1f} s and {answer['kilobytes'] / 1024:.0f} MB"
    last = answer["last"]
    if "inspection" in last:
        if expected not in (hostile.READ, hostile.EITHER):
            return f"was read: {str(last['inspection'])[:300]}"
        if expected == hostile.EITHER:
            return ""
        built = nursery.read(path, task="build", mapping=last["mapping"])
        if "end" not in built["last"] or built["status"] != 0:
            return f"was read, but not built: {built}"
        return ""
    sentence = last.get("unreadable", "")
    if not sentence:
        # The kernel or a parser ended it; the parent says so (app/datasets/readers/process.py).
        return "" if expected in (hostile.REFUSED, hostile.EITHER) else f"broke off: {answer}"
    is_any = expected in (hostile.REFUSED, hostile.EITHER)
    if not is_any and expected not in sentence:
        return f"was refused: {sentence}"
    if not sentence.endswith(".") or ". " in sentence or len(sentence) > 450:
        return f"was refused with more or less than a sentence: {sentence}"
    return "" if "Error" not in sentence else f"was refused with a trace: {sentence}"


@pytest.mark.parametrize(
    "every",
    # The corpus goes by kinds of files; an eighth of it has some of nearly each.
    [pytest.param(8, id="some"), pytest.param(1, id="all", marks=pytest.mark.long)],
)
@pytest.mark.timeout(600)
def test_files_are_read_or_refused_in_a_sentence_within_their_limits(
    every: int, tmp_path: Path
) -> None:
    wrong = {}
    names = []
    folder = tmp_path / "files"
    folder.mkdir()
    nursery = Nursery(tmp_path)
    path = folder / "file.csv"
    for number, (name, content, expected) in enumerate(hostile.corpus()):
        names.append(name)
        if number % every:
            continue
        path.write_bytes(content)
        if problem := judge(nursery, path, expected):
            wrong[name] = problem
        assert list(folder.iterdir()) == [path], name
    nursery.end()
    assert wrong == {}
    assert len(names) == len(set(names)) > 400
