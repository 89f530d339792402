"""A real vLLM opens what was made for it, by the very command that the page shows.

`make test-vllm` runs this; see tests/vllm_server.py.
"""

import shlex
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from app.adapters import programs, registry
from app.core import settings
from app.core.models import Adapter, ExportStatus, User
from app.training.chat import ChatFormat
from tests.vllm_server import KEY, NEEDED, Server, serving
from tests.worker.cpu.test_exporting import asked, made, opened, real_adapter, user
from tests.worker.exporting import tiny_families
from worker.exporting import agreement, plain

__all__ = ["user"]
pytestmark = NEEDED

STEM = "ward-questions-first-try"
# vLLM compiles for each length that a model could hold, and one thread is what is left over.
_FEW = ("--api-key", KEY, "--dtype", "float32", "--max-model-len", "256", "--max-num-seqs", "4",
        "--enforce-eager", "--host", "127.0.0.1")  # fmt: skip


FAMILIES = ["llama3", "smollm2", "qwen2", "qwen2.5", "qwen3", "mistral", "gemma2", "gemma3", "phi3"]


@pytest.mark.parametrize("name", FAMILIES)
def test_it_opens_the_folder_and_the_adapters_zip(
    db: Session, user: User, tmp_path: Path, name: str
) -> None:
    adapter = real_adapter(db, user, name, tiny_families.make_base)
    folders = {}
    for form in ("vllm", "adapter"):
        row = made(db, asked(db, user, adapter, form))
        assert row.status is ExportStatus.READY, row.reason
        with opened(db, user, row) as archive:
            archive.extractall(tmp_path)
        folders[form] = tmp_path / row.filename.removesuffix(".zip")
    said = programs.vllm_command(adapter)
    words = [word for word in shlex.split(said) if "=" not in word or word.startswith(STEM)]
    assert words[:3] == ["vllm", "serve", "./base"]
    given = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}
    with serving([*words, *_FEW], folders["vllm"], given) as server:
        assert server.models() == {STEM, f"{STEM}-base"}
        # The adapter's zip beside the same starting model.
        body = {"lora_name": "zip", "lora_path": str(folders["adapter"])}
        server.call("/v1/load_lora_adapter", body)
        _agrees(server, adapter, name, {f"{STEM}-base": False, STEM: True, "zip": True})


def test_a_dora_adapter_is_merged_in_the_folder(db: Session, user: User, tmp_path: Path) -> None:
    adapter = real_adapter(db, user, "llama3", tiny_families.make_base, use_dora=True)
    row = made(db, asked(db, user, adapter, "vllm"))
    assert row.status is ExportStatus.READY, row.reason
    with opened(db, user, row) as archive:
        archive.extractall(tmp_path)
    words = [word for word in shlex.split(programs.vllm_command(adapter)) if "=" not in word]
    assert words[:3] == ["vllm", "serve", "."]
    with serving([*words, *_FEW], tmp_path / row.filename.removesuffix(".zip")) as server:
        assert server.models() == {STEM}
        _agrees(server, adapter, "llama3", {STEM: True})


def _agrees(server: Server, adapter: Adapter, name: str, served: dict[str, bool]) -> None:
    """Each served model says what the reference says, with the adapter or (False) without it."""
    base = settings.get().models_dir / name
    chat = ChatFormat.load(base)
    rows = [
        chat.encode([{"role": "user", "content": question},
                     {"role": "assistant", "content": tiny_families.CORPUS[number % 8]}], 200)
        for number, question in enumerate(tiny_families.QUESTIONS)
    ]  # fmt: skip
    ids = [row.token_ids for row in rows]
    starts = [next(i for i, label in enumerate(row.labels) if label >= 0) for row in rows]
    for model, is_trained in served.items():
        trained = str(registry.folder(adapter)) if is_trained else None
        reference = plain.scores(plain.load(str(base), trained), ids, starts)
        found = agreement.compare(
            "vLLM", "as_trained", _scores(server, model, ids, starts), reference
        )
        print(name, model, found)
        assert found.num_positions >= 300
        assert found.is_fit, found
    _ends(server, chat, ids, starts)


def _scores(
    server: Server, model: str, rows: list[list[int]], starts: list[int]
) -> list[tuple[list[int], list[float]]]:
    found = []
    for ids, start in zip(rows, starts, strict=True):
        body = {"model": model, "prompt": ids, "max_tokens": 1, "prompt_logprobs": 1}
        said = server.call("/v1/completions", body | {"temperature": 0})
        places = said["choices"][0]["prompt_logprobs"][start:]
        likeliest = [next(int(t) for t, one in each.items() if one["rank"] == 1) for each in places]
        logprobs = [
            each[str(token)]["logprob"] for token, each in zip(ids[start:], places, strict=True)
        ]
        found.append((likeliest, logprobs))
    return found


def _ends(server: Server, chat: ChatFormat, rows: list[list[int]], starts: list[int]) -> None:
    """An answer ends at the end of its turn, and the question is read as Etude reads it."""
    end = min(chat.end_token_ids)
    body = {"model": STEM, "prompt": rows[0][: starts[0]], "temperature": 0, "max_tokens": 8}
    said = server.call("/v1/completions", body | {"logit_bias": {str(end): 100}})
    assert said["choices"][0]["finish_reason"] == "stop"
    assert said["usage"]["completion_tokens"] == 1
    question = [{"role": "user", "content": tiny_families.QUESTIONS[0]}]
    talk = {"model": STEM, "messages": question, "max_tokens": 1}
    told = server.call("/v1/chat/completions", talk)["usage"]["prompt_tokens"]
    assert told == len(chat.encode_prompt(question))
