"""The catalogue: starting models that one may want, with what is known of each (catalog.toml)."""

import tomllib
from functools import cache
from pathlib import Path

from pydantic import BaseModel, Field, TypeAdapter

from app.core import sentences
from app.core.models import Json

_FILE = Path(__file__).parent / "catalog.toml"
_BYTES_A_WEIGHT = 2  # all come in 16 bits
_VERY_MANY = 100  # of so many languages no list is needed


class Entry(BaseModel):
    """One model of the catalogue; what nobody could confirm is empty."""

    name: str  # owner and name on the hub
    label: str
    revision: str = ""
    parameters: int
    weights_bytes: int | None = None  # of the files that hold them
    licence: str
    terms: str  # of the licence, in a sentence
    gated: bool | None = None
    languages: list[str] = []  # ISO 639-1
    num_languages: int = 0  # that its makers state; 0: none
    use: str  # what it is for, in a sentence
    sources: list[str] = Field(min_length=1)
    config: Json  # what a plan needs of its config.json

    @property
    def size_bytes(self) -> int:
        """What its weights take on the disk; about, where nobody could look."""
        return self.weights_bytes or self.parameters * _BYTES_A_WEIGHT

    @property
    def size(self) -> str:
        """The same in words."""
        about = "" if self.weights_bytes else "about "
        return f"{about}{sentences.size(self.size_bytes)}"

    def speaks(self, language: str) -> bool:
        """Tell whether its makers say so; of most small languages nobody says anything.

        Args:
            language: An ISO 639-1 code.
        """
        return language in self.languages or self.num_languages >= _VERY_MANY


@cache
def entries() -> tuple[Entry, ...]:
    """Return the whole catalogue, the smallest first."""
    with _FILE.open("rb") as file:
        found = TypeAdapter(list[Entry]).validate_python(tomllib.load(file)["model"])
    return tuple(sorted(found, key=lambda entry: entry.parameters))


def by_name(name: str) -> Entry | None:
    """Return the model of that name, if the catalogue has it."""
    return next((entry for entry in entries() if entry.name == name), None)
