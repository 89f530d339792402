"""How llama.cpp's own converter is made to write what we want: whole files, by names of ours.

Names and shapes are the converter's business. The vocabulary is the caller's, adapters' rows are
turned as the base model's are, and what is written is there whole or not at all.
"""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from worker.inference import gguf_files
from worker.inference.gguf_files import Form

_ADAPTER_PREFIX = "base_model.model."
_BLOCK = 32  # of Q8_0


class Unusable(Exception):
    """llama.cpp cannot take this; a sentence for a person."""


def use_converter() -> None:
    """Let `conversion` and its own `gguf` be imported from where they lie aside.

    Raises:
        EngineError: they are not installed.
    """
    places = [str(gguf_files.converter_folder() / part) for part in (".", "gguf-py")]
    if sys.path[:2] == places:
        return
    # The converter is newer than the package `gguf`, of which something may have loaded some.
    for name in [name for name in sys.modules if name.partition(".")[0] == "gguf"]:
        del sys.modules[name]
    sys.path[:0] = places
    logging.getLogger("hf-to-gguf").setLevel(logging.CRITICAL)  # for its developers
    logging.getLogger("gguf").setLevel(logging.ERROR)


def model_file(
    folder: Path,
    hparams: dict[str, Any],
    form: Form,
    target: Path,
    *,
    name: str,
    set_vocabulary: Callable[[Any], None],
    tensors: Mapping[str, Any] | None = None,
) -> Any:
    """Return the converter's object of a model, for `write`.

    Args:
        folder: The model's, as transformers has it.
        hparams: What `hparams` said of it.
        form: Of its matrices; vectors are float32.
        target: The file to write.
        name: What the file calls the model; llama.cpp looks for families' names in it.
        set_vocabulary: Given the object, adds the vocabulary to its `gguf_writer`.
        tensors: Others than the folder's, by their names.
    """
    import gguf

    kind = _model_class(hparams)

    class ModelFile(kind):  # type: ignore[valid-type, misc]
        model_arch = kind.model_arch  # each class has to name its own

        def index_tensors(self, remote_hf_model_id: str | None = None) -> Any:
            if tensors is None:
                return super().index_tensors(remote_hf_model_id)
            named = ((name, lambda tensor=tensor: tensor) for name, tensor in tensors.items())
            return dict(filter(None, map(self.filter_tensors, named)))

        def set_vocab(self) -> None:
            set_vocabulary(self)

        def modify_tensors(self, data_torch: Any, name: str, bid: int | None) -> Any:
            if name.endswith("embed_tokens.weight"):
                # Gemma 3's would lose the rows of ids that no word has; the reference has them.
                rows = [(self.map_tensor_name(name), data_torch)]
                if hparams["model_type"] in _NEVER_TIED and hparams.get("tie_word_embeddings"):
                    rows.append(
                        (gguf.TENSOR_NAMES[gguf.MODEL_TENSOR.OUTPUT] + ".weight", data_torch)
                    )
                return rows
            return super().modify_tensors(data_torch, name, bid)

        def prepare_metadata(self, vocab_only: bool) -> None:
            self.dir_model_card = None  # cards say nothing that counts here
            super().prepare_metadata(vocab_only)

    return ModelFile(
        folder,
        _form_type(form),
        target,
        hparams=dict(hparams),
        model_name=name,
        eager=tensors is not None,
    )


def adapter_file(
    base: Path, hparams: dict[str, Any], adapter: Path, form: Form, target: Path
) -> Any:
    """Return the converter's object of an adapter, for `write`, under llama.cpp's names.

    What llama.cpp's converter does to a weight's rows is done to those of B, which are the same
    rows; A stays, since no weight's columns are changed. In Q8_0 the rank is filled up with zeros
    to whole blocks, and alpha grows with it: llama.cpp divides by the rank that it sees.

    Args:
        base: The folder of the model that it changes.
        hparams: What `hparams` said of that one.
        adapter: PEFT's folder.
        form: Of both matrices.
        target: The file to write.

    Raises:
        Unusable: llama.cpp cannot do what it does.
    """
    import gguf
    import torch
    from safetensors.torch import load_file

    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    if gguf_files.must_merge(config) or config.get("alpha_pattern") or config.get("rank_pattern"):
        raise Unusable(
            "This trained model can only be answered with once it is merged into its model."
        )
    pairs = _pairs(load_file(adapter / "adapter_model.safetensors"))
    rank = int(config["r"])
    filled = rank if form == "f16" else -(-rank // _BLOCK) * _BLOCK
    kind = _model_class(hparams)

    class AdapterFile(kind):  # type: ignore[valid-type, misc]
        model_arch = kind.model_arch

        def index_tensors(self, remote_hf_model_id: str | None = None) -> dict[str, Any]:  # noqa: ARG002
            return {}

        def get_tensors(self) -> Iterator[tuple[str, Any]]:
            for name, (_, matrix_b) in pairs.items():
                yield name, matrix_b

        def generate_extra_tensors(self) -> tuple[()]:
            return ()

        def modify_tensors(
            self, data_torch: Any, name: str, bid: int | None
        ) -> Iterator[tuple[str, Any]]:
            for new_name, rows in super().modify_tensors(data_torch, name, bid):
                more = filled - rows.shape[1]
                yield f"{new_name}.lora_a", torch.nn.functional.pad(pairs[name][0], (0, 0, 0, more))
                yield f"{new_name}.lora_b", torch.nn.functional.pad(rows, (0, more))

        def set_type(self) -> None:
            self.gguf_writer.add_type(gguf.GGUFType.ADAPTER)
            self.gguf_writer.add_string(gguf.Keys.Adapter.TYPE, "lora")

        def set_gguf_parameters(self) -> None:
            alpha = gguf_files.adapter_alpha(config) * filled / rank
            self.gguf_writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)

        def set_vocab(self) -> None:
            pass

        def prepare_metadata(self, vocab_only: bool) -> None:
            self.dir_model_card = None
            super().prepare_metadata(vocab_only)

    return AdapterFile(
        base,
        _form_type(form),
        target,
        hparams=dict(hparams),
        model_name="adapter",
        eager=True,
    )


def write(file: Any) -> None:
    """Write what `model_file` or `adapter_file` made, to the path that it was given."""
    file.prepare_tensors()
    file.prepare_metadata(vocab_only=False)
    file.gguf_writer.write_header_to_file(path=file.fname_out)
    file.gguf_writer.write_kv_data_to_file()
    file.gguf_writer.write_tensors_to_file()
    file.gguf_writer.close()


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """Give a file's path to write to; it bears its name once it is whole and on disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".tmp")  # the next try overwrites a killed one's
    try:
        yield partial
        handle = os.open(partial, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        partial.rename(target)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def hparams(base: Path) -> dict[str, Any]:
    """Return a model's settings as llama.cpp's converter wants them.

    Raises:
        Unusable: llama.cpp would compute something else.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    try:
        config = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
        architecture = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[config.model_type]
    except (ValueError, KeyError):
        raise Unusable("Neither transformers nor llama.cpp knows this kind of model.") from None
    found: dict[str, Any] = config.to_dict()
    found["architectures"] = [architecture]
    for key, period in (("layer_types", _WINDOW_PERIODS), ("no_rope_layers", _NO_ROPE_PERIODS)):
        every = period.get(config.model_type)
        if every is None or not found.get(key):
            continue
        is_last = [(layer + 1) % every == 0 for layer in range(config.num_hidden_layers)]
        if [value in ("full_attention", 0) for value in found[key]] != is_last:
            raise Unusable("llama.cpp does not know this model's order of layers.")
    return found


def _form_type(form: Form) -> Any:
    import gguf

    return {"f16": gguf.LlamaFileType.MOSTLY_F16, "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}[form]


def _pairs(tensors: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Sort PEFT's tensors into (A, B), by the name of the weight that they change."""
    found: dict[str, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        weight, _, which = name.removeprefix(_ADAPTER_PREFIX).rpartition(".lora_")
        if which not in ("A.weight", "B.weight") or not name.startswith(_ADAPTER_PREFIX):
            raise Unusable(f"This trained model changes {name}, which llama.cpp cannot do.")
        found.setdefault(f"{weight}.weight", {})[which[0]] = tensor.float()
    return {name: (pair["A"], pair["B"]) for name, pair in found.items()}


def _model_class(hparams: Mapping[str, Any]) -> Any:
    from conversion import get_model_class

    try:
        return get_model_class(hparams["architectures"][0])
    except NotImplementedError:
        raise Unusable(f"llama.cpp does not know {hparams['model_type']} models.") from None


# llama.cpp knows by heart which layers see the whole text, or have no angles: one in so many.
_WINDOW_PERIODS = {"gemma2": 2, "gemma3_text": 6}
_NO_ROPE_PERIODS = {"smollm3": 4}
# Of these it wants a matrix for the scores, also where a model has one for words and scores.
_NEVER_TIED = ("olmo2",)
