"""What the child is told, on one line of standard input, and the sentences that it may end with."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, TypeAdapter

EXPORT = "export"  # the folder in `out` that a person gets
Form = Literal["adapter", "merged", "gguf", "gguf-merged", "ollama", "vllm"]
Quantization = Literal["as_trained", "bf16", "f16", "q8_0", "q4_k_m"]


class Unusable(Exception):
    """This adapter, or its starting model, cannot be had in this form; a sentence for a person."""


class Sources(BaseModel):
    """The starting model and the adapter as they lie on this machine, and the hashes they have."""

    base: Path
    base_sha256: str  # of the MANIFEST.json that names every file
    base_name: str
    adapter: Path
    adapter_sha256: str


class Make(BaseModel):
    """Write one form into `out/export`; what else the proof needs stands beside it in `out`."""

    task: Literal["make"] = "make"
    sources: Sources
    form: Form
    quantization: Quantization
    name: str  # of files, e.g. "ward-questions"
    title: str  # what programs show, e.g. "Ward questions"
    out: Path


class Row(BaseModel):
    """A held-out row of the data: turns and the answer to them, or a text to go on with."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None


class Prove(BaseModel):
    """Open what `Make` wrote with programs that are not ours, and compare it with the reference."""

    task: Literal["prove"] = "prove"
    sources: Sources
    form: Form
    quantization: Quantization
    out: Path
    rows: list[Row]


class Pack(BaseModel):
    """Put `out/export` and a card into `out/export.zip`, and look that it can be read again."""

    task: Literal["pack"] = "pack"
    out: Path
    folder_name: str  # within the zip
    card: str  # README.md
    about: dict[str, Any]  # what the manifest says beside the files


Request = Annotated[Make | Prove | Pack, Field(discriminator="task")]
REQUEST: TypeAdapter[Make | Prove | Pack] = TypeAdapter(Request)
