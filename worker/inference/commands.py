"""What parent (worker/answer.py) and child (`python -m worker.inference`) say to each other.

One JSON line each, down standard input and up standard output. Standard input staying open is the
child's licence to live.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from app.training.answers import AnswerRequest, Event, ScoreRequest

EngineName = Literal["llama.cpp", "transformers"]


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Open(_Line):
    """The first line: which model to load, and how much it may take."""

    kind: Literal["open"] = "open"
    engine: EngineName
    base: Path  # the registry's verified folder
    manifest_sha256: str
    cache_dir: Path | None = None  # where a note says which files were hashed before
    gguf: Path | None = None  # llama.cpp's form of it
    adapters: list[Path] = []  # the folders below which adapters lie that may come later
    device: str = "cpu"
    num_threads: int = Field(default=1, ge=1)
    num_slots: int = Field(default=4, ge=1)
    context_tokens: int = Field(default=4096, ge=64)  # of one slot


class AddAdapter(_Line):
    """Load an adapter; `added` or `failed` answers."""

    kind: Literal["add_adapter"] = "add_adapter"
    name: str
    path: Path  # PEFT's folder, or llama.cpp's GGUF file


class RemoveAdapter(_Line):
    kind: Literal["remove_adapter"] = "remove_adapter"
    name: str


class Ask(_Line):
    """Begin to answer; events with this id follow, and one of Done, Scores or Refused last."""

    kind: Literal["ask"] = "ask"
    id: int
    adapter: str | None  # by the name it was added under
    request: AnswerRequest | ScoreRequest = Field(discriminator="kind")


class AskAll(_Line):
    """Begin with several at once: who answers beside whom is then the same each time."""

    kind: Literal["ask_all"] = "ask_all"
    asks: list[Ask]
    afresh: bool = False  # read all of it anew: nothing depends on what was asked before


class Stop(_Line):
    """Whoever asked has gone: nothing more is said under this id."""

    kind: Literal["stop"] = "stop"
    id: int


Command = Annotated[
    Open | AddAdapter | RemoveAdapter | Ask | AskAll | Stop, Field(discriminator="kind")
]
COMMAND: TypeAdapter[Any] = TypeAdapter(Command)


class Opened(_Line):
    kind: Literal["opened"] = "opened"
    num_slots: int
    context_tokens: int


class Added(_Line):
    kind: Literal["added"] = "added"
    name: str


class Failed(_Line):
    """The model or an adapter cannot be used; without a name the child ends."""

    kind: Literal["failed"] = "failed"
    message: str
    name: str | None = None


class Said(_Line):
    kind: Literal["said"] = "said"
    id: int
    event: Event


Reply = Annotated[Opened | Added | Failed | Said, Field(discriminator="kind")]
REPLY: TypeAdapter[Any] = TypeAdapter(Reply)
