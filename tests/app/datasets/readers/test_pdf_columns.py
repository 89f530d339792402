"""Columns of a PDF: read one after the other, and what is unsure is said."""

from pathlib import Path
from typing import Any

from app.datasets.readers.inspections import Inspection, ReadAs
from app.datasets.readers.reading import inspect
from tests import document_files


def read(folder: Path, content: bytes, **read_as: Any) -> Inspection:
    path = folder / "columns.pdf"
    path.write_bytes(content)
    return inspect(path, ReadAs.model_validate(read_as), lambda rows: None)


LEFT = [
    "The ward opens at half past seven", "on every day of the week, and the", "doors close at",
    "Visitors come by the main gate and", "sign their names in the green book", "at the desk.",
    "Whoever brings flowers asks for a", "vase at the desk and takes it back", "when they go.",
]  # fmt: skip
RIGHT = [
    "nine in the evening, later on days", "of the summer feast; then the lamp", "stays lit.",
    "Dogs wait in the yard, where water", "stands ready for them in the shade", "of the wall.",
    "The kitchen serves soup until two,", "and bread with butter at any hour", "of the day.",
]  # fmt: skip


def test_columns_are_read_one_after_the_other(tmp_path: Path) -> None:
    across = [
        piece
        for n, (left, right) in enumerate(zip(LEFT, RIGHT, strict=True))
        for piece in ((left, 60, 700 - 14 * n), (right, 320, 700 - 14 * n))
    ]
    title = [("A heading that goes over the whole width of the page and both columns", 60, 740)]
    end = [("And a line below that goes over the whole width of the page once more.", 60, 500)]
    found = read(tmp_path, document_files.placed_pdf([title + across + end]), way="text")
    learned = " ".join(found.preview[0].values["text"].split())
    assert learned == " ".join([title[0][0], *LEFT, *RIGHT, end[0][0]])
    assert not any("side by side" in warning for warning in found.warnings)
    # Drawn column by column, it is the same text.
    by_column = [piece for place in (0, 1) for piece in across[place::2]]
    assert (
        read(tmp_path, document_files.placed_pdf([title + by_column + end]), way="text")
        .preview[0]
        .values["text"]
        .split()
        == found.preview[0].values["text"].split()
    )


def test_short_cells_are_rows_of_a_table(tmp_path: Path) -> None:
    cells = [("Paracetamol", "500 mg", "every 6 h"), ("Ibuprofen", "400 mg", "every 8 h")] * 3
    pieces = [
        (cell, 60 + 160 * column, 700 - 14 * row)
        for row, each in enumerate(cells)
        for column, cell in enumerate(each)
    ]
    found = read(tmp_path, document_files.placed_pdf([pieces]), way="text")
    assert "Paracetamol 500 mg every 6 h Ibuprofen 400 mg" in found.preview[0].values["text"]
    assert not any("side by side" in warning for warning in found.warnings)


def test_pages_without_text_are_counted(tmp_path: Path) -> None:
    pages = [[("Some text of the first page.", 60, 700)], [], [("And of the last.", 60, 700)], []]
    found = read(tmp_path, document_files.placed_pdf(pages), way="text")
    assert "2 pages have no text" in " ".join(found.warnings)
    assert "(first page 2)" in " ".join(found.warnings)


def test_an_unsure_order_is_said(tmp_path: Path) -> None:
    rows = [
        (LEFT[3 * n : 3 * n + 3], RIGHT[3 * n : 3 * n + 3]) for n in range(3)
    ]  # cells of three lines, with gaps between the rows
    pieces = [
        (line, x, 700 - 70 * n - 14 * at)
        for n, row in enumerate(rows)
        for at in range(3)
        for x, line in ((60, row[0][at]), (320, row[1][at]))
    ]
    found = read(tmp_path, document_files.placed_pdf([pieces]), way="text")
    learned = " ".join(found.preview[0].values["text"].split())
    assert learned == " ".join(line for left, right in rows for line in (*left, *right))
    assert "On 1 page texts stand side by side" in " ".join(found.warnings)
