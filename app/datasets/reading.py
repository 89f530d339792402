"""What is in a file: its format, columns and rows; sniffed by content, never by name."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Format = Literal["csv", "json", "jsonl", "xlsx"]
NUM_PREVIEW_ROWS = 20


class ReadAs(BaseModel):
    """How a person says that a file is to be read; what is left out goes by the content."""

    model_config = ConfigDict(extra="forbid")

    encoding: str | None = Field(default=None, max_length=40)
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    sheet: str | None = Field(default=None, max_length=200)
    has_header: bool | None = None


class PreviewRow(BaseModel):
    number: int  # line of a text file, row of a sheet, place in a JSON list; from 1
    values: dict[str, Any]


class Inspection(BaseModel):
    """What the reader found; kept as DatasetVersion.inspection."""

    format: Format
    # What a row's number counts: "line" or "row" or "entry".
    place: str
    encoding: str | None = None
    # No proof but a guess: the person looks at the preview and may choose another.
    encoding_is_guess: bool = False
    delimiter: str | None = None
    sheet: str | None = None
    sheets: list[str] = []
    has_header: bool = True
    columns: list[str]
    num_rows: int
    preview: list[PreviewRow]
    # One sentence each.
    warnings: list[str] = []
    # What the proposed mapping rests on, as a sentence, and whether it needs no person to look.
    why: str = ""
    is_sure: bool = False
