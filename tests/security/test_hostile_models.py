"""Strangers' model folders: each ends in an import or in one sentence, soon, and runs nothing."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.core.outbound import NO_TELEMETRY
from tests import patience
from tests.security.hostile_models import SECRET, corpus
from tests.worker.trainer.conftest import tiny_model  # noqa: F401 - a fixture

# A template alone may have 20 of the processor.
CPU_SECONDS = round(patience.seconds(40))
MEMORY_BYTES = 8 * 1024**3
# Loading torch takes longer than most folders do: one process has it and forks for each of them,
# as in tests/app/datasets/readers/test_hostile_files.py.
NURSERY = """
import io, json, os, resource, signal, sys
from contextlib import redirect_stdout
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, CONFIG_MAPPING
from app.training import chat
from worker.cpu import model_conversion
transformers.logging.set_verbosity_error()
torch.set_num_threads(1)
for line in sys.stdin:
    order = json.loads(line)
    inward, outward = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (order["cpu_seconds"],) * 2)
        resource.setrlimit(resource.RLIMIT_AS, (order["memory_bytes"],) * 2)
        signal.alarm(order["cpu_seconds"])  # what waits takes no processor
        os.dup2(inward[0], 0)
        os.dup2(outward[1], 1)
        for each in (*inward, *outward):
            os.close(each)
        sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
        try:
            model_conversion.main()
        except BaseException as error:
            print(json.dumps({"trace": f"{type(error).__name__}: {error}"[:500]}))
        sys.stdout.flush()
        os._exit(0)
    os.close(inward[0])
    os.close(outward[1])
    # And that there is room, whenever it asks.
    os.write(inward[1], json.dumps(order["request"]).encode() + b"\\n" + b"go on\\n" * 9)
    with os.fdopen(outward[0], "rb") as stream:
        said = [json.loads(each) for each in stream if each.startswith(b"{")]
    os.close(inward[1])
    _, status, used = os.wait4(child, 0)
    print(json.dumps({"last": said[-1] if said else {}, "status": status,
                      "seconds": used.ru_utime + used.ru_stime}), flush=True)
"""


class Nursery:
    def __init__(self, log: Path) -> None:
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", NURSERY],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])}
                | NO_TELEMETRY,
            )

    def convert(self, folder: Path, target: Path) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        order = {
            "request": {"source": {"kind": "folder", "path": str(folder)}, "target": str(target)},
            "cpu_seconds": CPU_SECONDS,
            "memory_bytes": MEMORY_BYTES,
        }
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer


def judge(answer: dict[str, Any], target: Path, canary: Path) -> str:
    """Return what is wrong with how a folder was taken; nothing if nothing is."""
    last = answer["last"]
    if "result" in last:
        taken = [path for path in target.rglob("*") if path.is_file()]
        if any(SECRET.encode() in path.read_bytes() for path in taken):
            return "the canary was copied"
        if any(path.suffix == ".py" for path in taken):
            return "a program was copied"
        return ""
    if target.exists():
        return "it was refused, and something of it was kept"
    sentence = last.get("error", "")
    if not sentence:
        return f"no sentence: {answer}"
    if SECRET in sentence:
        return "the canary is in the sentence"
    is_one = sentence.endswith(".") and "\n" not in sentence and len(sentence) < 450
    return "" if is_one and "Traceback" not in sentence else f"no sentence: {sentence}"


@pytest.mark.parametrize(
    "every",
    # Each makes a model or a tokenizer of what it is given, which takes a second or two.
    [pytest.param(5, id="some"), pytest.param(1, id="all", marks=pytest.mark.long)],
)
@pytest.mark.timeout(900)
def test_folders_are_imported_or_refused_in_a_sentence_and_nothing_runs(
    every: int,
    tiny_model: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    whole, canary = tmp_path / "whole", tmp_path / "canary"
    shutil.copytree(tiny_model, whole)
    (whole / "MANIFEST.json").unlink()
    canary.write_text(SECRET)
    nursery = Nursery(tmp_path / "errors")
    wrong, names = {}, []
    try:
        answer = nursery.convert(whole, tmp_path / "models-whole")
        assert "result" in answer["last"], answer
        for number, (name, spoil) in enumerate(corpus(canary)):
            names.append(name)
            if number % every:
                continue
            folder, target = tmp_path / "given", tmp_path / "models"
            shutil.copytree(whole, folder)
            spoil(folder)
            problem = judge(nursery.convert(folder, target), target, canary)
            if problem:
                wrong[name] = problem
            assert not Path(f"{canary}.touched").exists(), f"{name}: a program of theirs ran"
            assert canary.read_text() == SECRET, name
            for path in (folder, target):
                shutil.rmtree(path, ignore_errors=True)
    finally:
        nursery.process.kill()
        nursery.process.communicate()
    assert wrong == {}
    assert len(names) == len(set(names)) > 110
