"""Documents: the questions and answers that they hold themselves, or their text in pieces."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.datasets.mapping import ColumnRole
from app.datasets.proposals import propose
from app.datasets.readers.blocks import Block
from app.datasets.readers.documents import approximate_tokens, texts
from app.datasets.readers.inspections import Inspection, ReadAs
from app.datasets.readers.reading import inspect, open_rows
from app.datasets.readers.unreadable import Unreadable
from tests import files

MARKDOWN = """\
# Ward handbook

Words of welcome.

## When may I eat?

Before the test **nothing**.

- Water is fine.

## Visiting
### Hours
From 8 to 20.

| Question | Answer |
|---|---|
| May I bring flowers? | Not to the ICU \\| no. |
| Dogs? | |

Q: Is there wifi?
A: Yes.
It is free.
Q2: And TV?
A2: Yes.

Where do I park?

Behind the house.
"""


def read(folder: Path, content: bytes | str, **read_as: Any) -> Inspection:
    path = folder / "picture.png"  # a name that lies
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return inspect(path, ReadAs.model_validate(read_as), lambda rows: None)


def pairs(found: Inspection) -> list[tuple[int, str, str, str]]:
    return [
        (row.number, *(row.values[name] for name in ("question", "answer", "found_in")))
        for row in found.preview
    ]


def test_markdown_gives_its_headings_tables_and_lines(tmp_path: Path) -> None:
    found = read(tmp_path, MARKDOWN)
    assert (found.format, found.way, found.num_rows) == ("markdown", "pairs", 7)
    assert pairs(found) == [
        (1, "Ward handbook", "Words of welcome.", "heading"),
        (5, "When may I eat?", "Before the test **nothing**.\n\n- Water is fine.", "heading"),
        (17, "May I bring flowers?", "Not to the ICU | no.", "table"),
        (12, "Hours", "From 8 to 20.", "heading"),
        (20, "Is there wifi?", "Yes.\nIt is free.", "lines"),
        (23, "And TV?", "Yes.", "lines"),
        (26, "Where do I park?", "Behind the house.", "question"),
    ]
    assert found.preview[2].values["section"] == "Ward handbook › Visiting › Hours"
    assert found.found_in == {"heading": 3, "table": 1, "lines": 2, "question": 1}
    proposal = propose(found)
    assert proposal.mapping.named(ColumnRole.QUESTION) == ["question"]
    assert not proposal.is_sure  # a person says whether a heading is a question
    assert "3 under headings, 1 in tables" in proposal.why
    with open_rows(tmp_path / "picture.png", found.read_as(ReadAs())) as source:
        assert [number for number, _ in source.rows] == [row.number for row in found.preview]


def test_the_same_document_as_plain_text(tmp_path: Path) -> None:
    found = read(tmp_path, MARKDOWN, way="text", chunk_tokens=32)
    assert (found.way, found.columns) == ("text", ["section", "text"])
    pieces = [row.values["text"] for row in found.preview]
    assert pieces[0].startswith("Ward handbook\n\nWords of welcome.")
    # Every word of it, once, and no piece ends in a heading.
    words = MARKDOWN.replace("#", "").replace("|---|---|", "").replace("\\|", "|").split()
    assert sorted(" ".join(pieces).replace("|", "").split()) == sorted(
        " ".join(words).replace("|", "").split()
    )
    assert not any(piece.rstrip().endswith(("Visiting", "Hours", "eat?")) for piece in pieces)
    assert all(approximate_tokens(piece) <= 40 for piece in pieces)
    assert propose(found).mapping.named(ColumnRole.TEXT) == ["text"]
    assert "about 32 tokens (an estimate" in propose(found).why


def test_prose_is_taken_as_text_and_a_table_stays_a_table(tmp_path: Path) -> None:
    prose = "It was a dark, stormy night.\nThe wind, the rain, all.\n\nNobody came.\n"
    found = read(tmp_path, prose)
    assert (found.format, found.way, found.num_rows) == ("text", "text", 1)
    as_table = read(tmp_path, prose, form="table", has_header=False)
    assert (as_table.format, as_table.way) == ("csv", None)
    for table in ("text\nOne, two, three\n\nFour\n", "a;b\nx;y\n\nz;w\n", "One line\nAnother\n"):
        assert read(tmp_path, table).format == "csv"
    assert read(tmp_path, "a;b\nx;y\n", form="document").way == "text"
    assert read(tmp_path, "[A note] on commas.\n\nMore, and more.\n").format == "text"
    quoted = 'question,answer\n"What is\n\n# a heading?","This, and\n\nthat"\n' * 3
    assert read(tmp_path, quoted).format == "csv"


@pytest.mark.parametrize(
    "text",
    [
        "Frage: Wo?\nAntwort: Da.\n",
        "Q: Where?\n\nA: There.\n",
        "F: Wo?\nA: Da.\n",
        "Q : Où ?\nR : Là.\n",
        "Pregunta 1: ¿Dónde?\nRespuesta 1: Allí.\n",
        "Domanda: Dove?\nRisposta: Là.\n",
        "**Vraag:** Waar?\n**Antwoord:** Daar.\n",
        "Вопрос: Где?\nОтвет: Там.\n",
        "问：哪里？\n答：那里。\n",
        "سؤال: أين؟\nجواب: هناك\n",
    ],
)
def test_lines_that_say_who_asks_in_many_languages(tmp_path: Path, text: str) -> None:
    found = read(tmp_path, "\n".join([text] * 3))
    assert (found.way, found.found_in) == ("pairs", {"lines": 3})
    row = found.preview[0].values
    assert row["question"].rstrip("?？؟ ").lstrip("¿") == row["question"].strip("¿?？؟ ")
    assert 0 < len(row["answer"]) < 9


@pytest.mark.parametrize(
    ("text", "is_json"),
    [
        ("[0] Where is room 4?\nUp the stairs.\n", False),
        ("[1]\nWhere is room 4?\nUp the stairs.\n", False),
        ("[] milk\n[] bread\n", False),
        ('[1, "Where?"]\n[2, "There."]\n', True),
        ("[null]\n[true]\n", True),
        ("[\n[1]]", True),
    ],
)
def test_a_text_may_begin_with_a_bracket(tmp_path: Path, text: str, is_json: bool) -> None:
    try:
        assert (read(tmp_path, text).format in ("json", "jsonl")) is is_json
    except Unreadable:
        assert is_json  # and without a question in it


def test_word(tmp_path: Path) -> None:
    body = (
        files.paragraph("Handbuch", "berschrift1")
        + files.paragraph("Willkommen.")
        + files.paragraph("Wann darf ich essen?", "berschrift2")
        + "<w:p><w:r><w:t>Nach </w:t></w:r><w:del><w:r><w:delText>vor </w:delText><w:t>vor</w:t>"
        "</w:r></w:del><w:ins><w:r><w:t>dem</w:t><w:tab/><w:t>Test.</w:t></w:r></w:ins></w:p>"
        + files.paragraph("Parken", "Mein")
        + files.paragraph("Hinter & vor dem Haus.")
        + files.word_table([["Begriff", "Bedeutung"], ["ICU", "x" * 60], ["OP", "y" * 60]])
    )
    found = read(tmp_path, files.docx(body))
    assert (found.format, found.place, found.way) == ("docx", "paragraph", "pairs")
    assert pairs(found) == [
        (1, "Handbuch", "Willkommen.", "heading"),
        (3, "Wann darf ich essen?", "Nach dem\tTest.", "heading"),
        (13, "ICU", "x" * 60, "table"),
        (14, "OP", "y" * 60, "table"),
        (5, "Parken", "Hinter & vor dem Haus.", "heading"),
    ]
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
    with pytest.raises(Unreadable, match="document type of its own"):
        read(tmp_path, files.docx(files.paragraph("x"), prolog=bomb))
    with pytest.raises(Unreadable, match="its text breaks off at line 1"):
        read(tmp_path, files.docx(files.paragraph("x") + "<w:p>"))
    with pytest.raises(Unreadable, match="nested more than 200 levels"):
        read(tmp_path, files.docx("<w:p>" * 300 + "</w:p>" * 300))


def test_pictures_charts_and_comments_of_word_are_counted(tmp_path: Path) -> None:
    drawing = '<w:p><w:r><w:drawing><a:blip xmlns:a="a"/></w:drawing></w:r></w:p>'
    chart = '<w:p><w:r><w:drawing><c:chart xmlns:c="c"/></w:drawing></w:r></w:p>'
    comment = '<w:p><w:r><w:t>Text.</w:t></w:r><w:r><w:commentReference w:id="1"/></w:r></w:p>'
    found = read(tmp_path, files.docx(drawing * 2 + chart + comment), way="text")
    said = " ".join(found.warnings)
    for sentence in (
        "2 pictures were not read",
        "1 chart or embedded object was not read (paragraph 3)",
        "1 comment was not read",
    ):
        assert sentence in said, sentence


def test_pdf(tmp_path: Path) -> None:
    page = [
        ("When may I eat?", 14),
        ("Before the test nothing; wa-", 10),
        ("ter is fine, and so is tea", 10),
        ("without sugar.", 10),
        ("", 0),
        ("A second paragraph.", 10),
        ("Parking", 14),
        ("Behind the house.", 10),
    ]
    pages = [
        [(f"Ward handbook, page {n}", 8), *page, (word, 10)]
        for n, word in enumerate(("Or in front.", "Not on the lawn.", "Free of charge."), start=1)
    ]
    found = read(tmp_path, b"\r\n" + files.pdf(pages))
    assert (found.format, found.place, found.way, found.num_rows) == ("pdf", "page", "pairs", 6)
    answer = "Before the test nothing; water is fine, and so is tea without sugar."
    assert pairs(found)[:2] == [
        (1, "When may I eat?", f"{answer}\n\nA second paragraph.", "heading"),
        (1, "Parking", "Behind the house. Or in front.", "heading"),
    ]
    # The line at the top of each page is no part of the text.
    assert "Ward handbook" not in str(found.preview)
    with pytest.raises(Unreadable, match="only pictures of pages"):
        read(tmp_path, files.pdf([[], []]))
    with pytest.raises(Unreadable, match="This PDF is damaged"):
        read(tmp_path, b"%PDF-1.7\nnothing of the kind")


def test_documents_in_an_archive(tmp_path: Path) -> None:
    faq = "Where?\n\nThere.\n\nWhen?\n\nAt 8.\n\nWho?\n\nWe.\n"
    found = read(tmp_path, files.zip_of({"a.md": MARKDOWN, "b.txt": faq}))
    assert (found.format, found.way, found.num_rows) == ("zip", "pairs", 10)
    assert found.found_in == {"heading": 3, "table": 1, "lines": 2, "question": 4}
    assert "4 below paragraphs that ask" in propose(found).why
    found = read(tmp_path, files.zip_of({"a.md": MARKDOWN, "b.txt": faq}), way="text")
    assert (found.way, found.columns) == ("text", ["file", "section", "text"])


def test_what_stands_under_no_question_is_told(tmp_path: Path) -> None:
    found = read(tmp_path, "Words before.\n\n" + MARKDOWN)
    assert "1 paragraph has no question above it and is not used" in found.warnings[0]
    with pytest.raises(Unreadable, match="no headings, tables or “Q:” lines"):
        read(tmp_path, "Only words.\n\nAnd more of them.\n", way="pairs")


def blocks(*sizes: int) -> Iterator[Block]:
    numbers = itertools.count(1)
    for size in sizes:
        text = " ".join(f"Word{next(numbers):03} and so on." for _ in range(size))
        yield Block("text", size, text)


def test_pieces_overlap_by_whole_sentences_and_long_paragraphs_are_cut() -> None:
    rows = [row["text"] for _, row in texts(blocks(20, 3, 3), 32, 10)]
    assert all(approximate_tokens(text) <= 36 for text in rows)
    for before, after in itertools.pairwise(rows):
        # 10 tokens hold two such sentences.
        assert after.startswith(before[-len("Word001 and so on. Word002 and so on.") :])
    apart = [row["text"] for _, row in texts(blocks(20, 3, 3), 32, 0)]
    assert " ".join(apart).split() == " ".join(b.text for b in blocks(20, 3, 3)).split()
    (endless,) = ([row["text"] for _, row in texts(iter([Block("text", 1, "字" * 100)]), 32, 0)],)
    assert "".join(endless).replace(" ", "") == "字" * 100
    assert all(len(piece) <= 32 for piece in endless)


def test_tokens_are_estimated_by_script() -> None:
    assert approximate_tokens("four letters make one token ") == 8
    assert approximate_tokens("漢字仮名") == 5
    assert approximate_tokens("больница") == 5
