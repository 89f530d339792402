"""llama.cpp's own programs take what was made for them, by the very commands that the page shows.

ETUDE_TEST_LLAMA_CPP names their folder; `make test-llama-cpp` builds them and runs this.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from gguf import GGUFReader
from sqlalchemy.orm import Session

from app.adapters import exports, programs, registry
from app.core import settings
from app.core.models import Adapter, ExportForm, ExportStatus, Quantization, User
from app.training.chat import ChatFormat
from bench import workload
from tests import patience
from tests.worker.cpu.test_exporting import asked, made, real_adapter, user
from tests.worker.exporting import tiny_families
from tests.worker.exporting.conftest import Made, family
from worker.exporting import plain

__all__ = ["family", "user"]
PROGRAMS = os.environ.get("ETUDE_TEST_LLAMA_CPP", "")
pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not PROGRAMS, reason="no llama.cpp here: `make test-llama-cpp` builds it"),
]
_PORT = "--port 8080"


def test_llama_cli_answers_as_it_is_pasted(db: Session, user: User, tmp_path: Path) -> None:
    """A real model: what random ones say need not even be a turn."""
    starter = workload.starter_model()
    adapter = real_adapter(
        db, user, "starter", lambda folder, _: shutil.copytree(starter, folder), strength=0.001
    )
    downloaded(db, user, adapter, tmp_path, "gguf-merged", "f16")
    unpack, ask_it, *_ = commands(adapter, {ExportForm.GGUF_MERGED: Quantization.F16})
    paste(tmp_path, unpack)
    question = "What is the capital of France?"
    said = paste(tmp_path, ask_it, f"{question}\n/exit\n")
    _, _, answer = said.rpartition(f"> {question}\n")
    assert answer.startswith("The capital of France is Paris."), said


@pytest.mark.parametrize("name", tiny_families.FAMILIES)
def test_llama_server_serves_as_it_is_pasted(
    db: Session, user: User, tmp_path: Path, name: str
) -> None:
    # In 16 bits: of words that nobody taught a random model, eight may decide.
    adapter = real_adapter(db, user, name, tiny_families.make_base, 24)
    downloaded(db, user, adapter, tmp_path, "gguf-merged", "f16")
    downloaded(db, user, adapter, tmp_path, "gguf")
    taken = {ExportForm.GGUF_MERGED: Quantization.F16}
    unpack, _, serve, serve_adapter = commands(adapter, taken)
    paste(tmp_path, unpack)
    base = settings.get().models_dir / name
    chat = ChatFormat.load(base)
    with serving(tmp_path, serve) as address:
        reads_and_ends(address, chat)
    with serving(tmp_path, serve_adapter) as address:
        reads_and_ends(address, chat)
        # It computes with the adapter: the words that transformers and PEFT find the likeliest.
        with_adapter, alone = (
            likeliest(chat, base, folder) for folder in (registry.folder(adapter), None)
        )
        found = [next_token(address, ids) for ids in prompts(chat)]
        alike = num_alike(found, with_adapter, chat)
        assert alike >= len(found) - 1, (found, with_adapter)
        assert alike > num_alike(found, alone, chat)


@pytest.mark.parametrize("name", tiny_families.FAMILIES)
def test_four_bits_are_llama_quantizes_own(name: str, family: Any, tmp_path: Path) -> None:
    of: Made = family(name)
    theirs = tmp_path / "theirs.gguf"
    paste(tmp_path, f"llama-quantize {of.files['f16']} {theirs} q4_k_m")
    ours = {tensor.name: tensor for tensor in GGUFReader(of.files["q4_k_m"]).tensors}
    for tensor in GGUFReader(theirs).tensors:
        mine = ours.pop(tensor.name)
        if int(tensor.shape[0]) % 256:  # llama.cpp falls back to 5 bits there, Etude to 8
            continue
        assert mine.tensor_type == tensor.tensor_type, tensor.name
        assert mine.data.tobytes() == tensor.data.tobytes(), tensor.name
    assert not ours


def downloaded(
    db: Session, user: User, adapter: Adapter, folder: Path, form: str, quantization: str = ""
) -> None:
    row = made(db, asked(db, user, adapter, form, quantization))
    assert row.status is ExportStatus.READY, row.reason
    (folder / row.filename).write_bytes(exports.archive(db, user, row).read_bytes())
    db.commit()


def commands(adapter: Adapter, taken: Mapping[ExportForm, Quantization] | None = None) -> list[str]:
    (shown,) = (one for one in programs.of(adapter, taken=taken) if one.key == "llama.cpp")
    return [step.command for step in shown.steps]


def paste(folder: Path, command: str, typed: str = "") -> str:
    done = subprocess.run(
        ["sh", "-ec", command],
        cwd=folder,
        env=environment(folder),
        input=typed,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=patience.seconds(300),
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def environment(folder: Path) -> dict[str, str]:
    return {"PATH": f"{PROGRAMS}:{os.environ['PATH']}", "HOME": str(folder)}


@contextmanager
def serving(folder: Path, command: str) -> Iterator[str]:
    """Paste a command that serves, at a port that nobody has, and end it afterwards."""
    assert _PORT in command
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "server.log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            ["sh", "-ec", command.replace(_PORT, f"--port {port}")],
            cwd=folder,
            env=environment(folder),
            stdout=written,
            stderr=written,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + patience.seconds(120)
        while not _is_up(address):
            assert process.poll() is None, log.read_text(errors="replace")[-4000:]
            assert time.monotonic() < deadline, log.read_text(errors="replace")[-4000:]
            time.sleep(0.2)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _is_up(address: str) -> bool:
    try:
        return httpx2.get(f"{address}/health", timeout=5).status_code == httpx2.codes.OK
    except httpx2.HTTPError:
        return False


def call(address: str, path: str, **body: Any) -> Any:
    answer = httpx2.post(address + path, json=body, timeout=patience.seconds(60))
    assert answer.status_code == httpx2.codes.OK, answer.text
    return answer.json()


def reads_and_ends(address: str, chat: ChatFormat) -> None:
    """A question is laid out as Etude does it, and an answer ends at the end of its turn."""
    question = [{"role": "user", "content": tiny_families.QUESTIONS[0]}]
    said = call(
        address,
        "/v1/chat/completions",
        messages=question,
        max_tokens=8,
        logit_bias=[[min(chat.end_token_ids), 100]],
    )
    assert said["usage"]["prompt_tokens"] == len(chat.encode_prompt(question))
    assert said["choices"][0]["finish_reason"] == "stop"
    assert said["usage"]["completion_tokens"] == 1


def prompts(chat: ChatFormat) -> list[list[int]]:
    """Questions, and the same with some words of an answer after them."""
    rows = []
    for number, question in enumerate(tiny_families.QUESTIONS):
        ids = chat.encode_prompt([{"role": "user", "content": question}])
        answer = chat.tokenizer.encode(tiny_families.CORPUS[number % 8]).ids
        rows += [ids + answer[:count] for count in (0, 2, 4)]
    return rows


def likeliest(chat: ChatFormat, base: Path, adapter: Path | None) -> list[int]:
    """The next token of each prompt as transformers finds it."""
    model = plain.load(str(base), str(adapter) if adapter else None)
    rows = prompts(chat)
    found = plain.scores(model, [[*ids, 0] for ids in rows], [len(ids) for ids in rows])
    return [tokens[0] for tokens, _ in found]


def num_alike(found: list[int | None], expected: list[int], chat: ChatFormat) -> int:
    """Count the same tokens; of one that llama-server does not tell, that it is such a one."""

    def is_piece(token: int) -> bool:
        return "\ufffd" in chat.tokenizer.decode([token])

    pairs = zip(found, expected, strict=True)
    return sum(is_piece(wanted) if token is None else token == wanted for token, wanted in pairs)


def next_token(address: str, ids: list[int]) -> int | None:
    """None where that is a piece of a letter that llama-server does not write out alone."""
    body = {"prompt": ids, "n_predict": 1, "temperature": 0, "return_tokens": True}
    answer = httpx2.post(f"{address}/completion", json=body, timeout=patience.seconds(60))
    if answer.status_code == httpx2.codes.INTERNAL_SERVER_ERROR:
        assert "does not match the expected Content-only format" in answer.text
        return None
    assert answer.status_code == httpx2.codes.OK, answer.text
    return int(answer.json()["tokens"][0])
