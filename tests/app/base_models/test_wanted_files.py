"""What a folder's list of names shows is said before a byte of it travels."""

import pytest

from app.base_models.wanted_files import Offered, choose, stored_name
from app.core.errors import Invalid

WHOLE = ("config.json", "tokenizer.json", "tokenizer_config.json", "README.md", "LICENSE")


def names(*offered: str) -> list[str]:
    return [file.name for file in choose(Offered(path=path, size_bytes=1) for path in offered)]


def test_of_a_folder_only_what_a_model_needs_is_taken() -> None:
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    beside = ("model.safetensors.index.json", "SHA256SUMS", "tokenizer.model")
    others = (
        "pytorch_model.bin",
        "modeling.py",
        "original/params.json",
        ".gitattributes",
        "a.gguf",
    )
    assert names(*WHOLE, *shards, *beside, *others) == sorted([*WHOLE, *shards, *beside])


def test_of_two_layouts_transformers_own_is_taken() -> None:
    """Mistral's repositories hold the same weights twice."""
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index, other = "model.safetensors.index.json", "consolidated.safetensors"
    assert names(*WHOLE, *shards, index, other) == sorted([*WHOLE, *shards, index])
    assert names(*WHOLE, "model.safetensors", other) == sorted([*WHOLE, "model.safetensors"])


def test_of_files_beside_a_gguf_file_it_is_taken_with_its_licence() -> None:
    assert names("Qwen 3 (q4).gguf", "LICENSE", "notes.txt") == ["LICENSE", "Qwen 3 (q4).gguf"]


@pytest.mark.parametrize(
    ("offered", "words"),
    [
        ((), "Choose the model's folder"),
        (("model.safetensors", "tokenizer.json"), r"no config\.json"),
        (("model.safetensors", "adapter_config.json"), "This is an adapter"),
        (("model.safetensors", "config.json"), r"no tokenizer\.json"),
        (("config.json", "pytorch_model.bin"), "pickle files"),
        (("config.json", "photo.jpg"), "neither safetensors files nor a GGUF file"),
        (
            (*WHOLE, "model-00001-of-00003.safetensors", "model-00003-of-00003.safetensors"),
            r"^model-00002-of-00003\.safetensors is missing",
        ),
        (
            (*WHOLE, "model-00002-of-00004.safetensors"),
            r"^model-00001-of-00004\.safetensors and 2 more are missing",
        ),
        (("a.gguf", "b.gguf"), "These are 2 GGUF files"),
        (("a-00001-of-00002.gguf", "a-00002-of-00002.gguf"), "comes in several parts"),
        (("qwen/model.safetensors", "qwen/config.json"), "lie in “qwen” within this folder"),
        ((*WHOLE, "model.safetensors.index.json", "größe.safetensors"), "has characters"),
        ((*WHOLE, "consolidated.safetensors"), "layout of their makers' own alone"),
        ((*WHOLE, "model-00001-of-00001.safetensors"), r"no model\.safetensors\.index\.json"),
    ],
)
def test_what_cannot_be_one_is_said_in_a_sentence(offered: tuple[str, ...], words: str) -> None:
    with pytest.raises(Invalid, match=words) as raised:
        names(*offered)
    assert raised.value.field == "files"
    assert "\n" not in raised.value.message


def test_an_empty_file_is_told() -> None:
    empty = Offered(path="model.safetensors", size_bytes=0)
    with pytest.raises(Invalid, match=r"model\.safetensors is empty"):
        choose([empty, *(Offered(path=name, size_bytes=1) for name in WHOLE)])


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("Qwen 3 (q4).gguf", "Qwen-3-q4-.gguf"),
        ("../../etc/passwd.gguf", "etc-passwd.gguf"),
        ("..", "model.gguf"),
        ("größe.gguf", "gr-e.gguf"),
    ],
)
def test_a_name_becomes_a_plain_one(name: str, stored: str) -> None:
    assert stored_name(name) == stored
