"""More than 80 model folders that are broken or meant to do harm, made from one that is whole.

`corpus()` yields a name and what is done to a copy of the whole folder. A folder may be imported
where what is wrong with it was left behind; it must never be more than that.
"""

import json
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Spoil = Callable[[Path], object]
SECRET = "the canary's own words"
# What a program of theirs would do: leave a mark beside the canary.
CODE = "import os, pathlib\npathlib.Path({mark!r}).touch()\n"
MANY = 3_000_000


def corpus(canary: Path) -> Iterator[tuple[str, Spoil]]:
    """Yield each case.

    Args:
        canary: A file with SECRET in it; a program that runs would make `canary.touched`.
    """
    for name, values in _configs():
        yield f"config: {name}", _config(**values)
    for group in (_config_files, _weights, _gguf, _tokenizers, _templates, _programs, _links):
        yield from group(canary)


def _change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def _config(**values: Any) -> Spoil:
    return lambda folder: _change(folder / "config.json", **values)


def _configs() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "own code", {"auto_map": {"AutoModelForCausalLM": "modeling.Model"}}
    yield "own code, nested", {"text_config": {"auto_map": {"AutoModel": "modeling.Model"}}}
    yield "asks to be trusted", {"trust_remote_code": True}
    yield "asks to be trusted, in words", {"trust_remote_code": "yes"}
    yield "a kernel from the Hub", {"_attn_implementation_internal": "somebody/kernel"}
    yield "a kernel from the Hub, openly", {"attn_implementation": "somebody/kernel"}
    yield "a type with a line of code", {"model_type": "llama\nimport os"}
    yield "a type that is a path", {"model_type": "../../modeling"}
    yield "a type that is a list", {"model_type": ["llama"]}
    yield "a type that is an object", {"model_type": {"llama": 1}}
    yield "a type that is nothing", {"model_type": None}
    yield "an old type", {"model_type": "lightglue"}
    yield "quantized", {"quantization_config": {"quant_method": "gptq"}}
    yield "an architecture that is a program", {"architectures": ["os.system"]}
    yield "a dtype that is a program", {"dtype": "__import__('os').system('id')"}
    yield "an activation from elsewhere", {"hidden_act": "https://example.org/code"}
    yield "an activation that nobody knows", {"hidden_act": "boom"}
    yield "paths and addresses", {"name_or_path": "/etc/passwd", "bos_token": "http://x/"}
    yield "layers without number", {"num_hidden_layers": MANY}
    yield "layers below zero", {"num_hidden_layers": -1}
    yield "half a layer", {"num_hidden_layers": 1.5}
    yield "layers in words", {"num_hidden_layers": "two"}
    yield "a width beyond memory", {"hidden_size": 10**12}
    yield "a width of nothing", {"hidden_size": 0}
    yield "words beyond memory", {"vocab_size": 2**40}
    yield "no heads", {"num_attention_heads": 0}
    yield "more heads than width", {"num_attention_heads": 10**6}
    yield "a head beyond memory", {"head_dim": 2**40}
    yield "a number beyond numbers", {"rms_norm_eps": 10**400}
    yield "no number", {"rms_norm_eps": float("nan")}
    yield "turns of nothing", {"rope_parameters": {"rope_type": "yarn", "factor": 0}}
    yield "turns that nobody knows", {"rope_parameters": {"rope_type": "../x"}}
    yield "positions without end", {"max_position_embeddings": 10**15}
    yield "lists in lists", {"eos_token_id": [[[[[[1]]]]]]}


def _config_files(_: Path) -> Iterator[tuple[str, Spoil]]:
    def written(content: bytes) -> Spoil:
        return lambda folder: (folder / "config.json").write_bytes(content)

    yield "config.json: missing", lambda folder: (folder / "config.json").unlink()
    yield "config.json: empty", written(b"")
    yield "config.json: half", written(b'{"model_type": "lla')
    yield "config.json: a list", written(b"[]")
    yield "config.json: a word", written(b'"llama"')
    yield "config.json: UTF-16", written('{"model_type": "llama"}'.encode("utf-16"))
    yield "config.json: NULs", written(bytes(5000))
    yield "config.json: too deep", written(b"[" * 200_000)
    yield "config.json: objects too deep", written(b'{"a":' * 100_000)
    yield "config.json: a number of a million digits", written(b'{"a": ' + b"9" * 10**6 + b"}")
    yield "config.json: 60 MB", written(b'{"a": "' + b"x" * 60_000_000 + b'"}')
    yield "config.json: a folder", _as_folder("config.json")


def _as_folder(name: str) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return spoil


def _weights(_: Path) -> Iterator[tuple[str, Spoil]]:
    def raw(content: bytes) -> Spoil:
        return lambda folder: (folder / "model.safetensors").write_bytes(content)

    def headed(header: Any, body: bytes = bytes(64), length: int | None = None) -> Spoil:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return raw(struct.pack("<Q", len(text) if length is None else length) + text + body)

    def tensor(**changes: Any) -> dict[str, Any]:
        return {"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} | changes}

    def cut(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:1000])

    def only_pickle(ending: str) -> Spoil:
        def spoil(folder: Path) -> None:
            (folder / "model.safetensors").unlink()
            (folder / f"pytorch_model{ending}").write_bytes(b"\x80\x04\x95\x20cos\nsystem\n.")

        return spoil

    yield "weights: empty", raw(b"")
    yield "weights: noise", raw(bytes(range(256)) * 40)
    yield "weights: cut off", cut
    yield "weights: a header beyond all", headed(tensor(), length=2**63)
    yield "weights: a header beyond the file", headed(tensor(), length=10**6)
    yield "weights: a header of 100 MB", headed(b"{" + b" " * 100_000_000)
    yield "weights: no JSON", headed(b"{nothing")
    yield "weights: too deep", headed(b"[" * 100_000)
    yield "weights: beyond the end", headed(tensor(data_offsets=[0, 10**9]))
    yield "weights: backwards", headed(tensor(data_offsets=[16, 0]))
    yield "weights: below zero", headed(tensor(shape=[-4]))
    yield "weights: beyond counting", headed(tensor(shape=[2**62, 2**62]))
    yield "weights: not what it says", headed(tensor(shape=[400]))
    yield "weights: a strange dtype", headed(tensor(dtype="PICKLE"))
    overlapping = tensor() | {"y": tensor()["x"]}
    yield "weights: over each other", headed(overlapping)
    many = {f"x{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(200_000)}
    yield "weights: 200,000 of nothing", headed(many, b"")
    yield "weights: a name out of the folder", headed({"../../x": tensor()["x"]}, bytes(16))
    yield "weights: pickle .bin", only_pickle(".bin")
    yield "weights: pickle .pt", only_pickle(".pt")
    yield "weights: pickle .ckpt", only_pickle(".ckpt")
    yield "weights: pickle by another name", raw(b"\x80\x04\x95\x20cos\nsystem\n(S'id'\ntR.")
    yield "weights: a zip by another name", raw(b"PK\x03\x04" + bytes(100))
    yield "weights: a folder", _as_folder("model.safetensors")
    index = {"weight_map": {"model.norm.weight": "../../../../etc/passwd"}}
    yield (
        "weights: an index that leads out",
        lambda folder: (folder / "model.safetensors.index.json").write_text(json.dumps(index)),
    )


def _gguf(_: Path) -> Iterator[tuple[str, Spoil]]:
    def alone(content: bytes) -> Spoil:
        def spoil(folder: Path) -> None:
            (folder / "model.safetensors").unlink()
            (folder / "model.gguf").write_bytes(content)

        return spoil

    def two(folder: Path) -> None:
        alone(b"GGUF")(folder)
        (folder / "other.gguf").write_bytes(b"GGUF")

    def head(version: int, tensors: int, pairs: int) -> bytes:
        return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs)

    yield "gguf: four letters", alone(b"GGUF")
    yield "gguf: version 0", alone(head(0, 0, 0))
    yield "gguf: nothing in it", alone(head(3, 0, 0))
    yield "gguf: pairs beyond counting", alone(head(3, 0, 2**63) + bytes(64))
    yield "gguf: tensors beyond counting", alone(head(3, 2**63, 0) + bytes(64))
    yield "gguf: a name beyond the file", alone(head(3, 0, 1) + struct.pack("<Q", 2**62))
    yield "gguf: noise", alone(head(3, 5, 5) + bytes(range(256)) * 20)
    yield "gguf: two of them", two


def _tokenizers(_: Path) -> Iterator[tuple[str, Spoil]]:
    def changed(**values: Any) -> Spoil:
        return lambda folder: _change(folder / "tokenizer.json", **values)

    def written(content: bytes) -> Spoil:
        return lambda folder: (folder / "tokenizer.json").write_bytes(content)

    def split(pattern: str) -> dict[str, Any]:
        how = {"behavior": "Isolated", "invert": False}
        return {"type": "Split", "pattern": {"Regex": pattern}, **how}

    yield "tokenizer: missing", lambda folder: (folder / "tokenizer.json").unlink()
    yield "tokenizer: empty", written(b"")
    yield "tokenizer: a list", written(b"[]")
    yield "tokenizer: noise", written(bytes(range(256)))
    yield "tokenizer: too deep", written(b'{"model":' * 50_000)
    yield "tokenizer: a pattern that takes for ever", changed(pre_tokenizer=split("(a+)+#"))
    yield "tokenizer: a pattern that is none", changed(pre_tokenizer=split("(" * 50))
    yield "tokenizer: a pattern beyond memory", changed(pre_tokenizer=split("(a{1000}){1000}"))
    yield "tokenizer: no words", changed(model={"type": "BPE", "vocab": {}, "merges": []})
    far = {"type": "BPE", "vocab": {"a": 2**31}, "merges": []}
    yield "tokenizer: a word far away", changed(model=far)
    wild = {"type": "BPE", "vocab": {"a": 0}, "merges": [["x", "y"]]}
    yield "tokenizer: joins what is not there", changed(model=wild)
    yield "tokenizer: a kind that nobody knows", changed(model={"type": "Pickle"})
    yield "tokenizer: noise in it", changed(normalizer={"type": "Precompiled", "charsmap": "AAAA"})


def _templates(canary: Path) -> Iterator[tuple[str, Spoil]]:
    mark = str(canary) + ".touched"

    def template(text: str) -> Spoil:
        return lambda folder: (folder / "chat_template.jinja").write_text(text)

    yield "template: missing", lambda folder: (folder / "chat_template.jinja").unlink()
    yield "template: broken", template("{% for")
    yield "template: classes", template("{{ ''.__class__.__mro__[1].__subclasses__() }}")
    reached = f".__init__.__globals__.os.system('touch {mark}')"
    yield "template: a program", template("{{ cycler" + reached + " }}")
    yield "template: a program by a message", template("{{ messages.append" + reached + " }}")
    yield "template: a file", template(f"{{% include '{canary}' %}}")
    yield "template: imports", template("{% import 'os' as os %}{{ os.system('id') }}")
    yield "template: loops", template("{% for i in range(1000000000) %}x{% endfor %}")
    nested = "".join(f"{{% for i{n} in range(99999) %}}" for n in range(4))
    yield "template: loops in loops", template(nested + "x" + "{% endfor %}" * 4)
    yield "template: grows", template("{{ 'x' * 10000000000 }}")
    yield "template: multiplies", template("{{ 9 ** 9 ** 9 }}")
    yield "template: calls itself", template("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}")
    yield "template: 1 MB", template("x" * 10**6)
    yield "template: refuses", template("{{ raise_exception('no <b>thanks</b>\n\n') }}")

    def long(folder: Path) -> None:
        (folder / "chat_template.jinja").unlink()
        _change(folder / "tokenizer_config.json", chat_template="x" * 10**6)

    yield "template: 1 MB, in tokenizer_config.json", long


def _programs(canary: Path) -> Iterator[tuple[str, Spoil]]:
    code = CODE.format(mark=str(canary) + ".touched")

    def beside(*names: str, **config: Any) -> Spoil:
        def spoil(folder: Path) -> None:
            for name in names:
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_text(code)
            if config:
                _change(folder / "config.json", **config)

        return spoil

    yield "program: beside the weights", beside("modeling.py", "setup.py", "run.sh", "conftest.py")
    yield "program: named by libraries", beside("torch.py", "transformers.py", "sitecustomize.py")
    mapped = {"AutoModelForCausalLM": "modeling.Model", "AutoConfig": "modeling.Config"}
    yield "program: asked for", beside("modeling.py", auto_map=mapped)
    custom = {"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["modeling.Mine", None]}}

    def tokenizer(folder: Path) -> None:
        beside("modeling.py")(folder)
        _change(folder / "tokenizer_config.json", **custom)

    yield "program: of the tokenizer", tokenizer


def _links(canary: Path) -> Iterator[tuple[str, Spoil]]:
    def linked(name: str, target: Path = canary) -> Spoil:
        def spoil(folder: Path) -> None:
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(target)

        return spoil

    def pipe(name: str) -> Spoil:
        def spoil(folder: Path) -> None:
            (folder / name).unlink(missing_ok=True)
            os.mkfifo(folder / name)

        return spoil

    for name in ("LICENSE", "README.md", "chat_template.jinja", "config.json", "tokenizer.json"):
        yield f"link: {name} leads out", linked(name)
    yield "link: weights lead out", linked("model.safetensors")
    yield "link: weights without end", linked("model.safetensors", Path("/dev/zero"))
    yield "link: config.json without end", linked("config.json", Path("/dev/zero"))
    yield "link: in a circle", linked("config.json", Path("config.json"))
    yield "pipe: config.json", pipe("config.json")
    yield "pipe: weights", pipe("model.safetensors")
    yield "pipe: README.md", pipe("README.md")
