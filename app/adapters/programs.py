"""How an export is used: one screen a program, with commands that work as they are pasted.

The page “How to use it” and the card in each zip say the same; the words stand in programs.toml. No
command reaches a hub; names that people chose get into commands only as `exports.file_stem` spells
them.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

from app.adapters import exports
from app.adapters.exports import FORMS
from app.core.models import Adapter, ExportForm, Quantization

_WORDS = Path(__file__).with_name("programs.toml")


@dataclass(frozen=True)
class Step:
    """One sentence, and what is pasted."""

    words: str
    command: str = ""
    is_python: bool = False
    form: ExportForm | None = None  # None: whichever of its program's somebody has


@dataclass(frozen=True)
class Program:
    """A program that people already run."""

    key: str
    name: str
    about: str
    forms: tuple[ExportForm, ...]  # any of these does
    steps: Sequence[Step]
    traps: Sequence[str]


def of(
    adapter: Adapter,
    address: str = "http://127.0.0.1:8000",
    taken: Mapping[ExportForm, Quantization] | None = None,
) -> list[Program]:
    """Return the programs in the order of the page.

    Args:
        address: Under which people reach this Etude.
        taken: In which bits somebody has a form; otherwise its usual ones are named.
    """
    if not adapter.has_weights:
        return []
    names = _names(adapter, taken or {}) | {"address": address}
    is_merged_for_vllm = bool(exports.adapter_config(adapter).get("use_dora"))
    return [
        Program(
            key=program["key"],
            name=program["name"],
            about=program["about"],
            forms=tuple(map(ExportForm, program["forms"])),
            steps=[_step(step, names) for step in program["step"]],
            traps=[
                *program["traps"],
                *([] if is_merged_for_vllm else program.get("traps_of_an_adapter", [])),
            ],
        )
        for program in _programs()
    ]


def for_form(adapter: Adapter, form: ExportForm, quantization: Quantization) -> list[Program]:
    """Return the programs that take a form, as they take it in these bits."""
    found = of(adapter, taken={form: quantization})
    return [
        replace(program, steps=[step for step in program.steps if step.form in (None, form)])
        for program in found
        if form in program.forms
    ]


@cache
def _programs() -> Sequence[Mapping[str, Any]]:
    said: Sequence[Mapping[str, Any]] = tomllib.loads(_WORDS.read_text("utf-8"))["program"]
    return said


def _step(step: Mapping[str, Any], names: Mapping[str, str]) -> Step:
    return Step(
        words=Template(step["words"]).substitute(names),
        command=Template(step.get("command", "")).substitute(names),
        is_python=step.get("is_python", False),
        form=ExportForm(step["form"]) if "form" in step else None,
    )


def _names(adapter: Adapter, taken: Mapping[ExportForm, Quantization]) -> dict[str, str]:
    """Return what stands in the place of a name with a dollar sign."""
    stem = exports.file_stem(adapter)
    of_form = {form: taken.get(form, FORMS[form].quantizations[0]) for form in FORMS}
    names = {
        "stem": stem,
        "gguf_file": f"{stem}-{of_form[ExportForm.GGUF_MERGED].value}",
        "public_name": adapter.public_name,
        "base": adapter.base_model.label,
        "vllm_command": vllm_command(adapter),
    }
    for form, quantization in of_form.items():
        key = form.value.replace("-", "_")
        names[key] = exports.filename(adapter, form, quantization)
        # Python is there on most Linux and on every Mac with tools; `unzip` is not. Windows has
        # neither, but a `tar` that unpacks zips, which the sentence above the command says.
        names[f"unpack_{key}"] = f"python3 -m zipfile -e {names[key]}.zip ."
    return names


def vllm_command(adapter: Adapter) -> str:
    """Return the command that serves a vLLM folder, from within it."""
    stem, config = exports.file_stem(adapter), exports.adapter_config(adapter)
    offline = "HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 vllm serve"
    if config.get("use_dora"):
        return f"{offline} . --served-model-name {stem} --generation-config vllm"
    rank = exports.vllm_rank(int(config.get("r", 16)))
    return (
        f"{offline} ./base --served-model-name {stem}-base --enable-lora "
        f"--lora-modules {stem}=./adapter --max-lora-rank {rank} --generation-config vllm"
    )
