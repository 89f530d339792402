"""JSON in the shapes in which programs write rows: read, or one sentence with the place."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.datasets.mapping import Mapping, apply
from app.datasets.readers.inspections import ReadAs
from app.datasets.readers.reading import open_rows
from app.datasets.readers.unreadable import Unreadable

ROWS = [{"question": f"Q{n}?", "answer": f"A{n}."} for n in range(3)]


def rows(folder: Path, content: str) -> list[Any]:
    path = folder / "file"
    path.write_text(content)
    with open_rows(path, ReadAs()) as source:
        return [row for _, row in source.rows]


SHAPES = {
    "a line each": "\n".join(map(json.dumps, ROWS)),
    "a comma behind each line": ",\n".join(map(json.dumps, ROWS)) + ",\n",
    "pretty, one behind the other": "\n".join(json.dumps(row, indent=1) for row in ROWS),
    "the same with commas": ",\n".join(json.dumps(row, indent=1) for row in ROWS),
    "a list a line": "\n".join(json.dumps([row]) for row in ROWS),
    "a list with a last comma": "[" + ",\n".join(map(json.dumps, ROWS)) + ",\n]\n",
    "columns as lists": json.dumps({key: [row[key] for row in ROWS] for key in ROWS[0]}),
    "columns by number": json.dumps(
        {key: {str(n): row[key] for n, row in enumerate(ROWS)} for key in ROWS[0]}, indent=1
    ),
    "an object around a list": json.dumps({"made": "today", "data": ROWS}),
}


@pytest.mark.parametrize("name", SHAPES)
def test_rows_in_any_shape(name: str, tmp_path: Path) -> None:
    assert rows(tmp_path, SHAPES[name]) == ROWS


def test_parts_of_a_file_stay_told_apart(tmp_path: Path) -> None:
    found = rows(tmp_path, json.dumps({"train": ROWS[:2], "test": ROWS[2:]}))
    splits = ["train", "train", "test"]
    assert found == [{"split": one, **row} for one, row in zip(splits, ROWS, strict=True)]


def test_rows_by_id(tmp_path: Path) -> None:
    found = rows(tmp_path, json.dumps({"a": ROWS[0], "b": ROWS[1]}))
    assert found == [{"id": "a", **ROWS[0]}, {"id": "b", **ROWS[1]}]


def test_one_conversation_is_one_row(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "Q"}], "tools": [{"name": "a"}]}
    assert rows(tmp_path, json.dumps(row, indent=1)) == [row]
    assert rows(tmp_path, json.dumps(ROWS[0])) == ROWS[:1]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{\n"q": 1\n}\n{\n"q": }\n', "Line 5, character 6, is not valid JSON"),
        ('[{"q": 1}]\n[{"q" 2}]', "Line 2"),
        ('[{"q": 1}]\nend', "Line 2 is not valid JSON: something stands behind"),
        ('[{"q": 1},,{"q": 2}]', "Line 1, character 11, is not valid JSON"),
    ],
)
def test_faults_have_a_place(content: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(Unreadable) as caught:
        rows(tmp_path, content)
    assert sentence in str(caught.value)


def test_ten_thousand_lists_are_no_depth(tmp_path: Path) -> None:
    assert len(rows(tmp_path, '[{"q": 1}]\n' * 10_000)) == 10_000


def message(role: str, *parts: str) -> dict[str, Any]:
    content = {"content_type": "text", "parts": list(parts)}
    return {"author": {"role": role}, "content": content}


def test_exports_of_chat_programs_become_conversations(tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes"},
    ]
    claude = {
        "uuid": "u",
        "name": "Chat",
        "chat_messages": [
            {"sender": "human", "text": "Hi", "content": [{"type": "text", "text": "Hi"}]},
            {"sender": "assistant", "text": "Yes", "content": []},
        ],
    }
    said = {
        "root": (None, None),
        "empty": ("root", message("system", "")),
        "asked": ("empty", message("user", "Hi")),
        "first": ("asked", message("assistant", "No")),  # asked for again
        "again": ("asked", message("assistant", "Yes")),
    }
    nodes = {name: {"id": name, "parent": p, "message": m} for name, (p, m) in said.items()}
    chatgpt = {"title": "Chat", "mapping": nodes, "current_node": "again"}
    without_last = {"title": "Chat", "mapping": nodes}
    mapping = Mapping.model_validate({"columns": {"messages": "messages"}})
    for export in (claude, chatgpt, without_last):
        (row,) = rows(tmp_path, json.dumps([export]))
        assert apply(mapping, row) == turns


def test_a_mapping_that_is_none_of_a_chat_stays_as_it_is(tmp_path: Path) -> None:
    row = {"mapping": {"a": "b"}, "question": "Q?"}
    assert rows(tmp_path, json.dumps([row])) == [row]
