"""llama.cpp's own server lays out conversations as Etude does, with one sign at the beginning."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.request import Request, urlopen

import pytest
import xllamacpp

from tests.worker.exporting.conftest import Made
from tests.worker.exporting.tiny_families import FAMILIES
from worker.exporting import chat_pieces

_KEY = "for-this-test"


@pytest.mark.long
@pytest.mark.parametrize("name", FAMILIES)
def test_a_conversation_is_laid_out_as_etude_does(name: str, family: Callable[[str], Made]) -> None:
    made = family(name)
    params = xllamacpp.CommonParams()
    params.model.path = str(made.files["f16"])
    params.n_ctx, params.n_parallel, params.warmup = 512, 1, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.api_keys = [_KEY]
    server = xllamacpp.Server(params)
    for turns in chat_pieces.conversations():
        if name == "gemma2" and turns[0][0] == "system":
            continue  # which its template refuses: llama.cpp joins it otherwise, by one line break
        talk = [{"role": role, "content": content} for role, content in turns]
        said = ask(server, "/apply-template", messages=talk)["prompt"]
        if name == "llama3.1":  # Etude stays with the day that the template was made
            said = said.replace(datetime.now().strftime("%d %b %Y"), "26 Jul 2024")  # noqa: DTZ005
        read = ask(server, "/tokenize", content=said, add_special=True, parse_special=True)
        assert read["tokens"] == made.chat.encode_prompt(talk)


def ask(server: Any, path: str, **body: Any) -> dict[str, Any]:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {_KEY}"}
    request = Request(server.listening_address + path, json.dumps(body).encode(), headers)
    with urlopen(request) as answer:
        return dict(json.load(answer))
