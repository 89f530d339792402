"""What a GGUF file cannot hold is said in one sentence, and nothing is left half made."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.worker.exporting import tiny_families
from tests.worker.exporting.conftest import Made
from tests.worker.exporting.tiny_families import FAMILIES
from tests.worker.inference import tiny_models
from tests.worker.trainer.conftest import TEMPLATES
from worker.exporting import gguf_vocabulary, making, requests
from worker.exporting.gguf_adapter import write_adapter_gguf
from worker.exporting.gguf_merged import write_merged_gguf
from worker.exporting.requests import Form, Make, Sources
from worker.inference.gguf_writing import Unusable, use_converter


def change_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def folder_of(name: str, folder: Path) -> Path:
    """A tokenizer's files, and no weights: the vocabulary is read first."""
    folder.mkdir(parents=True)
    made = FAMILIES[name].make()
    made.tokenizer.save(str(folder / "tokenizer.json"))
    words = {"eos_token": FAMILIES[name].eos, "bos_token": FAMILIES[name].bos}
    (folder / "tokenizer_config.json").write_text(json.dumps(words))
    template = TEMPLATES / f"{FAMILIES[name].template}.jinja"
    shutil.copyfile(template, folder / "chat_template.jinja")
    if made.pieces is not None:
        (folder / "tokenizer.model").write_bytes(made.pieces)
    return folder


def read(folder: Path, name: str, size: int = 1024) -> gguf_vocabulary.Vocabulary:
    use_converter()
    config = FAMILIES[name].config | {"vocab_size": size}
    return gguf_vocabulary.read(folder, config)


@pytest.mark.parametrize("name", ["gemma2", "gemma3", "phi3"])
def test_a_base_that_lost_its_scores_is_to_be_imported_again(name: str, tmp_path: Path) -> None:
    folder = folder_of(name, tmp_path / "model")
    read(folder, name)
    (folder / "tokenizer.model").unlink()
    with pytest.raises(Unusable, match="import it again"):
        read(folder, name)
    (folder / "tokenizer.model").write_bytes(b"no such file")
    with pytest.raises(Unusable, match="cannot be read"):
        read(folder, name)


def test_llama_2s_kin_do_without_their_scores(tmp_path: Path) -> None:
    """The order in which pieces are merged says the same."""
    folder = folder_of("mistral", tmp_path / "model")
    known = read(folder, "mistral")
    (folder / "tokenizer.model").unlink()
    found = read(folder, "mistral")
    assert (found.tokens, found.types) == (known.tokens, known.types)
    assert known.scores and found.scores

    def order(vocabulary: gguf_vocabulary.Vocabulary) -> list[str]:
        scores = vocabulary.scores or []
        merged = [i for i, text in enumerate(known.tokens) if known.types[i] == 1 and len(text) > 1]
        return [known.tokens[i] for i in sorted(merged, key=lambda i: -scores[i])]

    assert order(found) == order(known)


def test_words_cut_in_an_unknown_way_are_refused(tmp_path: Path) -> None:
    folder = folder_of("qwen2", tmp_path / "model")
    data = json.loads((folder / "tokenizer.json").read_text())
    data["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\s+"
    (folder / "tokenizer.json").write_text(json.dumps(data))
    with pytest.raises(Unusable, match="cuts text into words"):
        read(folder, "qwen2")


def test_two_tokens_of_one_text_would_end_llama_cpp(tmp_path: Path) -> None:
    folder = folder_of("qwen2", tmp_path / "model")
    data = json.loads((folder / "tokenizer.json").read_text())
    data["added_tokens"].append(data["added_tokens"][-1] | {"content": "[PAD1000]", "id": 1001})
    (folder / "tokenizer.json").write_text(json.dumps(data))
    with pytest.raises(Unusable, match="same text"):
        read(folder, "qwen2")
    with pytest.raises(Unusable, match="more words than its weights"):
        read(folder, "qwen2", size=300)


def test_only_phi_3_may_drop_spaces_behind_control_words(tmp_path: Path) -> None:
    assert read(folder_of("phi3", tmp_path / "phi3"), "phi3").name == "phi-3"
    folder = folder_of("qwen2", tmp_path / "qwen2")
    assert "phi-3" not in read(folder, "qwen2").name
    data = json.loads((folder / "tokenizer.json").read_text())
    data["added_tokens"][0]["rstrip"] = True
    (folder / "tokenizer.json").write_text(json.dumps(data))
    with pytest.raises(Unusable, match="drops spaces"):
        read(folder, "qwen2")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"alpha_pattern": {"q_proj": 3}}, "layer to layer"),
        ({"rank_pattern": {"q_proj": 3}}, "layer to layer"),
    ],
)
def test_an_adapter_that_a_file_cannot_hold_is_refused(
    change: dict[str, Any], sentence: str, family: Callable[[str], Made], tmp_path: Path
) -> None:
    made = family("llama3")
    adapter = shutil.copytree(made.adapter, tmp_path / "adapter")
    change_json(adapter / "adapter_config.json", **change)
    out = tmp_path / "out" / "adapter.gguf"
    with pytest.raises(Unusable, match=sentence):
        write_adapter_gguf(adapter, made.base, out)
    assert not out.parent.exists() or list(out.parent.iterdir()) == []


def test_a_model_that_llama_cpp_does_not_know_is_refused(
    family: Callable[[str], Made], tmp_path: Path
) -> None:
    made = family("llama3")
    merged, out = shutil.copytree(made.merged, tmp_path / "merged"), tmp_path / "out" / "x.gguf"
    change_json(merged / "config.json", model_type="unheard_of")
    with pytest.raises(Unusable, match="Neither transformers nor llama"):
        write_merged_gguf(merged, out, "q8_0")
    assert not out.parent.exists() or list(out.parent.iterdir()) == []


def test_no_weights_of_four_bits_are_written_as_sixteen(
    family: Callable[[str], Made], tmp_path: Path
) -> None:
    made = family("llama3")
    merged, out = shutil.copytree(made.merged, tmp_path / "merged"), tmp_path / "x.gguf"
    change_json(
        merged / "config.json",
        quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True},
    )
    with pytest.raises(Unusable, match="fewer than 16 bits"):
        write_merged_gguf(merged, out, "f16")
    assert not out.exists()


@pytest.mark.parametrize("form", ["gguf-merged", "ollama"])
def test_what_cannot_be_had_is_said_before_the_work(form: Form, tmp_path: Path) -> None:
    base, adapter, out = tmp_path / "base", tmp_path / "adapter", tmp_path / "out"
    tiny_families.make_base(base, "gemma3" if form == "gguf-merged" else "llama3")
    if form == "gguf-merged":
        (base / "tokenizer.model").unlink()
    else:
        said = "{% for message in messages %}{{ message['content'] | upper }}<|eot_id|>{% endfor %}"
        (base / "chat_template.jinja").write_text(said)
    tiny_models.make_adapter(adapter, base)
    out.mkdir()
    sources = Sources(
        base=base, base_sha256="", base_name="house/tiny", adapter=adapter, adapter_sha256=""
    )
    request = Make(
        sources=sources, form=form, quantization="f16", name="ward", title="Ward", out=out
    )
    told: list[str] = []
    with pytest.raises(requests.Unusable, match=r"import it again|more than Ollama's"):
        making.make(request, lambda doing, share: told.append(doing))
    assert told == []
    assert not (out / making.MERGED).exists()
