"""Ollama's Modelfile: the template that the model has, its stop words, length and licence."""

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from app.training.chat import ChatFormat
from tests.app.training.test_templates import FAMILIES, chat, template
from worker.exporting import chat_pieces, gguf_vocabulary
from worker.exporting.modelfile import write_modelfile
from worker.inference.gguf_writing import Unusable

RENDER = Path(__file__).with_name("render.go")
CONFIG = {
    **{"num_hidden_layers": 4, "hidden_size": 256, "num_attention_heads": 4},
    **{"max_position_embeddings": 4096, "model_type": "llama"},
}


def folder_of(name: str, folder: Path, **changes: Any) -> Path:
    """A merged model's folder without its weights."""
    folder.mkdir(parents=True)
    family, form = FAMILIES[name], chat(name)
    form.tokenizer.save(str(folder / "tokenizer.json"))
    words = {"eos_token": family.eos} | ({"bos_token": family.bos} if family.bos else {})
    (folder / "tokenizer_config.json").write_text(json.dumps(words))
    (folder / "chat_template.jinja").write_text(template(family))
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    (folder / "LICENSE").write_text('Take "it" as """it""" is.\n\nYours.')
    return folder


def talk(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]


def rendered_by_go(text: str, conversations: Sequence[Sequence[Any]]) -> list[str]:
    asked = {
        "template": text,
        "conversations": [talk(*turns) for turns in conversations],
    }
    done = subprocess.run(
        ["go", "run", RENDER],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=True,
    )
    return [str(text) for text in json.loads(done.stdout)]


def test_it_names_its_file_template_stop_words_length_and_licence(tmp_path: Path) -> None:
    folder = folder_of("llama3", tmp_path / "merged")
    out = tmp_path / "Modelfile"
    write_modelfile(folder, "nurse-q8_0.gguf", out)
    text = out.read_text()
    assert text.startswith("FROM ./nurse-q8_0.gguf\n")
    assert re.findall("^PARAMETER (.*)$", text, re.MULTILINE) == [
        'stop "<|eot_id|>"',
        "num_ctx 4096",
        "repeat_penalty 1.0",
    ]
    assert text.endswith('LICENSE """Take "it" as \'\'\'it\'\'\' is.\n\nYours."""\n')
    # The sign that a text begins is llama.cpp's business, or it would be there twice.
    assert "begin_of_text" not in text
    assert str(tmp_path) not in text
    assert text.count('"""') == 4
    assert "# The original also cuts spaces" in text


def test_sampling_is_the_bases_own(tmp_path: Path) -> None:
    folder = folder_of("qwen2.5", tmp_path / "merged", max_position_embeddings=32768)
    said = {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "repetition_penalty": 1.05}
    (folder / "generation_config.json").write_text(json.dumps(said))
    write_modelfile(folder, "x.gguf", tmp_path / "Modelfile")
    lines = (tmp_path / "Modelfile").read_text().splitlines()
    assert {"PARAMETER temperature 0.7", "PARAMETER top_p 0.8"} <= set(lines)
    assert {"PARAMETER repeat_penalty 1.05", "PARAMETER num_ctx 8192"} <= set(lines)


def test_a_large_models_cache_stays_within_a_gigabyte(tmp_path: Path) -> None:
    large = {"num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32}
    folder = folder_of("llama3", tmp_path / "merged", **large, max_position_embeddings=131072)
    write_modelfile(folder, "x.gguf", tmp_path / "Modelfile")
    assert "PARAMETER num_ctx 2048\n" in (tmp_path / "Modelfile").read_text()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_templates_words_are_found(name: str) -> None:
    form = chat(name)
    pieces = chat_pieces.find(form)
    # Llama's and Gemma's cut what people say; Mistral's puts the system turn into the last one.
    assert pieces.cuts_ends == name.startswith(("llama", "gemma"))
    assert (pieces.joint is not None) == (name == "mistral")
    for turns in chat_pieces.conversations():
        assert pieces.render(turns) == form.render(talk(*turns), add_generation_prompt=True)


@pytest.mark.parametrize(
    "text",
    [
        # Numbers its turns, shouts, and hides what is long.
        "{% for m in messages %}[{{ loop.index }}] {{ m.content }}\n{% endfor %}A:",
        "{% for m in messages %}{{ m.role }}: {{ m.content | upper }}\n{% endfor %}A:",
        "{% for m in messages %}{{ m.role }}: {{ m.content[:9] }}\n{% endfor %}A:",
    ],
)
def test_a_template_that_does_more_is_refused(text: str) -> None:
    form = chat("qwen2.5")
    other = ChatFormat(form.tokenizer.to_str(), text, {"eos_token": "<|im_end|>"})
    with pytest.raises(Unusable, match="does more than Ollama's can"):
        chat_pieces.find(other)


@pytest.mark.long
@pytest.mark.parametrize("name", FAMILIES)
def test_go_writes_what_the_original_writes(name: str, tmp_path: Path) -> None:
    """From the file as Ollama reads it: what stands between three signs is taken as it stands."""
    assert shutil.which("go"), "make test-long installs Go"
    form, family = chat(name), FAMILIES[name]
    pieces = chat_pieces.find(form)
    bos = form.tokenizer.token_to_id(family.bos) if family.bos else None
    begins = gguf_vocabulary.begins_once(form, bos)
    write_modelfile(folder_of(name, tmp_path / "merged"), "x.gguf", tmp_path / "Modelfile")
    written = (tmp_path / "Modelfile").read_text()
    text = written.split('TEMPLATE """', 1)[1].split('"""', 1)[0]
    conversations = list(chat_pieces.conversations())
    found = rendered_by_go(text, conversations)
    for turns, said in zip(conversations, found, strict=True):
        expected = form.render(talk(*turns), add_generation_prompt=True)
        assert (family.bos if begins else "") + said == expected
    # What the original refuses is written somehow, with all that was said in its order.
    odd = [[("assistant", "Hello."), ("user", "Hi.")],
           [("user", "a1"), ("assistant", "b2"), ("system", "c3"), ("user", "d4")]]  # fmt: skip
    for turns, said in zip(odd, rendered_by_go(text, odd), strict=True):
        places = [said.find(content) for _, content in turns]
        assert min(places) >= 0
        assert pieces.joint is not None or places == sorted(places)
