"""Rows that a column judges bad are never learned as good answers in silence."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from app.datasets.conversations import assemble
from app.datasets.mapping import LeftOut
from app.datasets.proposals import Proposal, propose
from app.datasets.readers.inspections import Inspection, ReadAs
from app.datasets.readers.reading import inspect, open_rows


def proposed(values: list[dict[str, Any]], format_: str = "jsonl") -> Proposal:
    rows = [{"number": number, "values": row} for number, row in enumerate(values, start=1)]
    return propose(
        Inspection.model_validate(
            {
                "format": format_,
                "place": "line",
                "columns": list(values[0]),
                "num_rows": len(rows),
                "preview": rows,
            }
        )
    )


def judged(name: str, cells: list[Any]) -> Proposal:
    return proposed(
        [
            {"question": f"How much of {n}?", "answer": f"About {n} mg.", name: cell}
            for n, cell in enumerate(cells)
        ]
    )


def read(folder: Path, content: str) -> tuple[Proposal, list[Any], dict[str, int]]:
    path = folder / "file"
    path.write_text(content)
    proposal = propose(inspect(path, ReadAs(), lambda rows: None))
    with open_rows(path, ReadAs()) as source:
        rows = list(source.rows)
    found = [made for _, made, _ in assemble(proposal.mapping, lambda: iter(rows))]
    examples = [made for made in found if not isinstance(made, LeftOut)]
    left_out = Counter(made.reason for made in found if isinstance(made, LeftOut))
    return proposal, examples, dict(left_out)


def test_what_kto_calls_bad_is_left_out_and_counted(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"x{n}?", "completion": "good" if n % 2 else "BAD", "label": bool(n % 2)}
        for n in range(10)
    ]
    proposal, examples, left_out = read(tmp_path, "\n".join(map(json.dumps, rows)))
    assert proposal.is_sure
    assert "“label” says which answers are good" in proposal.why
    assert left_out == {"not_learned": 5}
    assert {messages[-1]["content"] for messages in examples} == {"good"}


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("is_correct", [False, True, True]),
        ("isCorrect", ["false", "TRUE", "true"]),
        ("label", [0, 1, 1]),
        ("correct?", ["no", "yes", "yes"]),
        ("status", ["rejected", "approved", "approved"]),
        ("Review status", ["Needs review", "Approved", "Approved"]),
        ("reviewer", ["Rejected.", "accepted", "accepted"]),
        ("verdict", ["wrong", "right", "right"]),
        ("rating", ["👎", "👍", "👍"]),
        ("quality", ["poor", "good", "excellent"]),
        ("Richtig?", ["nein", "ja", "ja"]),
        ("Freigabe", ["abgelehnt", "freigegeben", "freigegeben"]),
        ("Validé", ["non", "oui", "oui"]),
        ("Estado", ["rechazada", "aprobada", "aprobada"]),
        ("Approvato", ["no", "sì", "sì"]),
        ("Goedgekeurd", ["nee", "ja", "ja"]),
    ],
)
def test_rows_that_are_judged_bad_are_left_out_and_a_person_looks(
    name: str, cells: list[Any], tmp_path: Path
) -> None:
    proposal = judged(name, cells)
    assert not proposal.is_sure
    assert proposal.mapping.column_roles[name] == "weight"
    assert f"“{name}” seems to say which answers are good" in proposal.why
    assert proposal.why.endswith("please check.")
    rows = [{"question": f"{n}?", "answer": str(n), name: cell} for n, cell in enumerate(cells)]
    _, examples, left_out = read(tmp_path, "\n".join(map(json.dumps, rows)))
    assert left_out == {"not_learned": 1}
    assert [messages[-1]["content"] for messages in examples] == ["1", "2"]


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("score", [1, 5, 4]),
        ("Bewertung", ["2/5", "5/5", "4/5"]),
        ("quality_rating", ["20 %", "90 %", "80 %"]),
        ("is_wrong", [True, False, False]),
        ("wrong", ["yes", "no", "no"]),
        ("flagged", ["", "", ""]),
        ("status", ["rejected", "approved", "open since May"]),
        ("feedback", ["negative", "positive", "positive"]),
        ("verdict", ["The dose is too high.", "fine", "fine"]),
        ("not_approved", [True, False, False]),
    ],
)
def test_ratings_that_a_program_cannot_read_are_for_a_person(name: str, cells: list[Any]) -> None:
    proposal = judged(name, cells)
    assert not proposal.is_sure
    assert proposal.mapping.column_roles[name] == "ignore"
    assert f"“{name}” seems to say how good each row is" in proposal.why


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("label", ["cardiology", "diabetes", "asthma"]),
        ("status", ["closed", "solved", "closed"]),
        ("feedback", ["See the leaflet, page 3.", "Ask the ward.", "None."]),
        ("urgent", [True, False, True]),
        ("eye", ["left", "right", "left"]),
        ("HIV test", ["positive", "negative", "negative"]),
        ("difficulty", [1, 2, 3]),
        ("topic", ["a", "b", "c"]),
    ],
)
def test_columns_that_judge_nothing_leave_a_plain_file_plain(name: str, cells: list[Any]) -> None:
    proposal = judged(name, cells)
    assert proposal.is_sure
    assert "seems to say" not in proposal.why


def test_conversations_and_pairs_are_judged_too(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    chats = [{"messages": turns, "is_good": n > 0} for n in range(3)]
    proposal, examples, left_out = read(tmp_path, "\n".join(map(json.dumps, chats)))
    assert (proposal.is_sure, len(examples), left_out) == (False, 2, {"not_learned": 1})
    pair = {"prompt": "Why?", "chosen": "So.", "rejected": "No."}
    scores = {"score_chosen": 8.0, "score_rejected": 2.0}
    assert proposed([pair | scores]).is_sure
    assert not proposed([pair | {"label": False}]).is_sure


def test_wrong_as_yes_or_no_is_no_wrong_option(tmp_path: Path) -> None:
    table = "question,answer,wrong\nHow much?,900 mg,yes\nHow often?,Twice,no\n"
    proposal, examples, _ = read(tmp_path, table)
    assert not proposal.is_sure
    assert "“wrong” seems to say how good each row is" in proposal.why
    assert len(examples) == 2
    lines = [{"question": "How much?", "answer": "900 mg", "wrong": n == 0} for n in range(3)]
    proposal, _, _ = read(tmp_path, "\n".join(map(json.dumps, lines)))
    assert not proposal.is_sure
