"""JSON in the shapes in which programs write rows: read, or one sentence with the place."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.datasets.conversations import assemble
from app.datasets.mapping import ColumnRole, Mapping, apply
from app.datasets.proposals import propose
from app.datasets.readers.inspections import ReadAs
from app.datasets.readers.reading import inspect, open_rows
from app.datasets.readers.unreadable import Unreadable

ROWS = [{"question": f"Q{n}?", "answer": f"A{n}."} for n in range(3)]


def write(folder: Path, content: str) -> Path:
    path = folder / "file"
    path.write_text(content)
    return path


def rows(folder: Path, content: str) -> list[Any]:
    with open_rows(write(folder, content), ReadAs()) as source:
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
    "objects around a list": json.dumps({"ok": True, "data": {"page": 1, "items": ROWS}}, indent=1),
    "objects around a list in one line": json.dumps({"result": {"data": {"items": ROWS}}}),
    "a list beside lists of something else": json.dumps({"rows": ROWS, "tags": [{"name": "x"}]}),
    "lists of cells below their names": json.dumps(
        [list(ROWS[0])] + [list(row.values()) for row in ROWS]
    ),
    "lists of rows": json.dumps([ROWS[:2], ROWS[2:]]),
}


@pytest.mark.parametrize("name", SHAPES)
def test_rows_in_any_shape(name: str, tmp_path: Path) -> None:
    assert rows(tmp_path, SHAPES[name]) == ROWS


def test_parts_of_a_file_stay_told_apart(tmp_path: Path) -> None:
    found = rows(tmp_path, json.dumps({"train": ROWS[:2], "test": ROWS[2:]}))
    splits = ["train", "train", "test"]
    assert found == [{"split": one, **row} for one, row in zip(splits, ROWS, strict=True)]


def test_lists_of_an_object_are_sections(tmp_path: Path) -> None:
    found = rows(tmp_path, json.dumps({"easy": ROWS[:2], "hard": ROWS[2:], "by": "us"}))
    sections = ["easy", "easy", "hard"]
    assert found == [{"section": one, **row} for one, row in zip(sections, ROWS, strict=True)]


def test_lists_of_cells_without_names_and_of_turns(tmp_path: Path) -> None:
    found = rows(tmp_path, json.dumps([["A?", "1"], ["B?"], ["C?", 3, "x"]]))
    assert found == [
        {"Column 1": "A?", "Column 2": "1"},
        {"Column 1": "B?", "Column 2": ""},
        {"Column 1": "C?", "Column 2": 3, "Column 3": "x"},
    ]
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]
    assert rows(tmp_path, json.dumps([turns, turns])) == [{"messages": turns}] * 2


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Q?", "answer": "A", "sources": [{"name": "x"}]},
        {"id": 1, "case": {"question": "Q?", "answer": "A", "tags": [{"name": "x"}]}},
    ],
)
def test_lists_within_an_example_are_no_rows(row: Any, tmp_path: Path) -> None:
    assert rows(tmp_path, json.dumps(row, indent=1)) == [row]
    choice = {"question": "Q?", "choices": [{"label": "A", "text": "5"}], "answerKey": "A"}
    assert rows(tmp_path, json.dumps(choice)) == [{"question": "Q?", "answer": "5"}]


@pytest.mark.parametrize(
    ("content", "first", "count"),
    [
        ('[{"q": "A?", "a": "1", "a": "2"}]', "entry 1", 1),
        (
            '{"q": "A", "a": "2"}\n{"q" : "B", "a" : "1", "a" : "2"}\n{"a": "1", "a": "2"}',
            "line 2",
            2,
        ),
        ('{"rows": [{"q": "A?", "a": "1", "a": "2"}], "n": 1}', "entry 1", 1),
        ('{"q": "A",\n"a": "2"}\n{"q": "B", "a": {"x": 1, "x": 2}}', "entry 2", 1),
        (json.dumps([{"q": 'He said: "a": 1', "a": "2"}, {"a": ['":', 'b" : c']}]), "", 0),
    ],
)
def test_a_name_that_stands_twice_is_said(
    content: str, first: str, count: int, tmp_path: Path
) -> None:
    found = inspect(write(tmp_path, content), ReadAs(), lambda rows: None)
    said = [one for one in found.warnings if "stands twice" in one]
    assert len(said) == (count > 0)
    assert not said or (first in said[0] and (count == 1) == ("In 1 place" in said[0]))


@pytest.mark.parametrize("text", ["{dose} is 5 mg", "{{name}} asks\n", "{a place} here"])
def test_a_text_that_begins_with_a_brace_is_no_json(text: str, tmp_path: Path) -> None:
    paragraphs = f"{text}\n\nThe ward is open from eight to noon.\n\nRing twice, please.\n"
    with open_rows(write(tmp_path, paragraphs), ReadAs()) as source:
        assert source.inspection.format == "text"
    with pytest.raises(Unreadable, match="is not valid JSON"):
        rows(tmp_path, "{question: 'A?'}")


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


def test_conversations_that_go_by_two_names_are_read_in_one_file(tmp_path: Path) -> None:
    turns = '[{"role": "user", "content": "x?"}, {"role": "assistant", "content": "y"}]'
    said = '[{"from": "human", "value": "a?"}, {"from": "gpt", "value": "b"}]'
    path = tmp_path / "mixed.jsonl"
    path.write_text(f'{{"messages": {turns}}}\n' * 9 + f'{{"conversations": {said}}}\n' * 3)
    proposal = propose(inspect(path, ReadAs(), lambda rows: None))
    assert proposal.mapping.named(ColumnRole.MESSAGES) == ["messages", "conversations"]
    assert not proposal.is_sure
    assert proposal.why.startswith(
        "The columns “messages” and “conversations” have whole conversations, each in other rows."
    )

    def opened() -> Any:
        with open_rows(path, ReadAs()) as source:
            yield from source.rows

    proposal.mapping.check(["messages", "conversations"])
    made = [messages for _, messages, _ in assemble(proposal.mapping, opened)]
    assert [m[-1]["content"] for m in made if isinstance(m, list)] == ["y"] * 9 + ["b"] * 3


def test_rows_of_another_shape_beside_conversations_are_said(tmp_path: Path) -> None:
    turns = '[{"role": "user", "content": "x?"}, {"role": "assistant", "content": "y"}]'
    path = tmp_path / "mixed.jsonl"
    path.write_text(f'{{"messages": {turns}}}\n' * 9 + '{"question": "a?", "answer": "b"}\n' * 3)
    proposal = propose(inspect(path, ReadAs(), lambda rows: None))
    assert not proposal.is_sure
    assert "Other rows have no conversation but other columns, and are left out" in proposal.why


def test_exports_that_were_glued_keep_marks_at_the_start_of_lines(tmp_path: Path) -> None:
    lines = [json.dumps(row) for row in ROWS]
    assert rows(tmp_path, f"{lines[0]}\n\ufeff{lines[1]}\n\ufeff\n{lines[2]}\n") == ROWS
    assert rows(tmp_path, f"[{lines[0]}]\n\ufeff[{lines[1]},{lines[2]}]\n") == ROWS
    with pytest.raises(Unreadable, match="character 13, is not valid JSON: there is an invisible"):
        rows(tmp_path, lines[0] + '\n{"question":\ufeff 1}\n')


def test_a_blank_of_pandas_is_blank_and_told(tmp_path: Path) -> None:
    blank = '{"question": "Q?", "answer": NaN}\n'
    for content in (blank * 2 + json.dumps(ROWS[0]), f"[{blank},{blank},{json.dumps(ROWS[0])}]"):
        found = inspect(write(tmp_path, content), ReadAs(), lambda rows: None)
        assert [row.values["answer"] for row in found.preview] == [None, None, "A0."]
        assert "In 2 places the word NaN stands where a program had no value" in found.warnings[0]
    told = json.dumps({"question": "Is it a: NaN?", "answer": "No."})
    for content in (told, f"[{told}]"):
        assert inspect(write(tmp_path, content), ReadAs(), lambda rows: None).warnings == []
    with pytest.raises(Unreadable, match="Line 2 is not valid JSON: Infinity is not a number"):
        rows(tmp_path, json.dumps(ROWS[0]) + '\n{"question": "Q?", "answer": Infinity}\n')


def test_lines_of_cells_and_of_turns(tmp_path: Path) -> None:
    cells = [list(row.values()) for row in ROWS]
    numbered = [{"Column 1": question, "Column 2": answer} for question, answer in cells]
    assert rows(tmp_path, "\n".join(map(json.dumps, cells))) == numbered
    assert rows(tmp_path, "\n".join(map(json.dumps, [list(ROWS[0]), *cells]))) == ROWS
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]
    assert rows(tmp_path, "\n".join(map(json.dumps, [turns, turns]))) == [{"messages": turns}] * 2


def test_lines_of_texts_lose_none(tmp_path: Path) -> None:
    texts = ["A first text", "A second one,\nof two lines", 'A “third” "one"']
    path = write(tmp_path, "\n".join(map(json.dumps, texts)))
    found = inspect(path, ReadAs(), lambda rows: None)
    assert (found.format, found.columns) == ("jsonl", ["text"])
    assert [row.values["text"] for row in found.preview] == texts
    assert "stand in a column “text”" in found.warnings[0]
    with pytest.raises(Unreadable, match="Line 101 is a number, while the lines before are texts"):
        rows(tmp_path, "\n".join([json.dumps("long text " * 100)] * 100 + ["7"]))
    named = inspect(write(tmp_path, '"Sentence"\n"The first."\n'), ReadAs(), lambda rows: None)
    assert (named.format, named.columns, named.num_rows) == ("csv", ["Sentence"], 1)


def test_comments_are_passed_over_and_told(tmp_path: Path) -> None:
    lines = [json.dumps(row) for row in ROWS]
    path = write(tmp_path, "\n".join(["// made today", *lines[:2], "// and", lines[2]]))
    found = inspect(path, ReadAs(), lambda rows: None)
    assert [row.values for row in found.preview] == ROWS
    assert found.warnings == ["2 lines are comments (//) and are not used (first line 1)."]
