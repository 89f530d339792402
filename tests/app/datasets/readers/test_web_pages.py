"""Web pages: what opens an answer, what stands beside the text, and tables named XLS."""

from pathlib import Path
from typing import Any

import pytest

from app.datasets.mapping import LeftOut
from app.datasets.readers.inspections import Inspection, ReadAs
from app.datasets.readers.reading import inspect, open_rows
from app.datasets.readers.unreadable import Unreadable


def read(folder: Path, content: str | bytes, **read_as: Any) -> Inspection:
    path = folder / "page.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return inspect(path, ReadAs.model_validate(read_as), lambda rows: None)


def pairs(found: Inspection) -> list[tuple[str, str]]:
    return [(row.values["question"], row.values["answer"]) for row in found.preview]


def text(folder: Path, content: str | bytes) -> tuple[str, str]:
    found = read(folder, f"<html><body>{content!s}", way="text", form="document")
    return "\n".join(row.values["text"] for row in found.preview), " ".join(found.warnings)


def test_headings_definitions_and_what_unfolds(tmp_path: Path) -> None:
    page = """<!DOCTYPE html><html><head><title>FAQ</title><style>p{}</style></head><body>
    <nav><ul><li>Home</li></ul></nav>
    <h1>Ward</h1>
    <h2>When may I eat?</h2><p>After the
       <b>test</b>.<br>Not before.</p><ol><li>Water<li>Tea</ol>
    <details><summary>Dogs?</summary><p>No.</p></details>
    <p>Between two answers.</p>
    <dl><dt>ICU<dt>ITU<dd>Intensive care.<dd>On floor 2.<dt>OP<dd>Surgery.</dl>
    <p>After the list.</p>
    <h2>Parking</h2><p>Behind the house.</p>
    <p><strong>Is there wifi?</strong> Yes, everywhere.</p>
    <ul><li><p>How much is it?</p><p>Nothing.</p></li></ul>
    <button aria-expanded="false" aria-controls="a1">Visitors</button>
    <div id="a1" style="display: none"><p>From 8 to 20.</p></div>
    <h3><button aria-expanded="false">Flowers</button></h3><div hidden><p>Not to the ICU.</p></div>
    <div itemscope itemtype="https://schema.org/Question"><div itemprop="name">Shop</div>
      <div itemprop="acceptedAnswer"><div itemprop="text">On floor 0.</div></div></div>
    <footer>Imprint</footer><script>var x = "<p>y</p>"</script></body></html>"""
    found = read(tmp_path, page)
    assert (found.format, found.place, found.way) == ("html", "paragraph", "pairs")
    assert pairs(found) == [
        ("When may I eat?", "After the test.\nNot before.\n\n1. Water\n\n2. Tea"),
        ("Dogs?", "No."),
        ("ICU / ITU", "Intensive care.\n\nOn floor 2."),
        ("OP", "Surgery."),
        ("Parking", "Behind the house."),
        ("Is there wifi?", "Yes, everywhere."),
        ("How much is it?", "Nothing."),
        ("Visitors", "From 8 to 20."),
        ("Flowers", "Not to the ICU."),
        ("Shop", "On floor 0."),
    ]
    said = " ".join(found.warnings)
    assert "2 paragraphs have no question above them" in said
    assert "In 2 places text is folded away and was read" in said
    assert (
        "2 parts of the page beside its main text, such as menus and footers, were left out" in said
    )


def test_only_the_main_part_of_a_page_that_has_one(tmp_path: Path) -> None:
    page = (
        "<html><body><div>Logo<div>Slogan</div></div><main><h1>Where?</h1><p>There.</p>"
        "<aside>Not at night.</aside></main><div>Cookies?</div></body></html>"
    )
    found = read(tmp_path, page, way="pairs")
    assert pairs(found) == [("Where?", "There.\n\nNot at night.")]
    assert "2 parts of the page" in " ".join(found.warnings)


def test_an_answer_ends_where_its_panel_ends(tmp_path: Path) -> None:
    page = (
        "<html><body><nav><button aria-expanded=false aria-controls=n>Menu</button>"
        "<nav id=n>x</nav></nav>"
        "<h2><button aria-expanded=false aria-controls=c>Price</button></h2>"
        "<div id=c><p>Nothing<sup><a href='#s1'>1</a></sup>.</p></div><p>Stray.</p>"
        "<h2>Source</h2><p>Word<!-- of 2027 -->.</p><ol><li id=s1>A source.</li></ol>"
        "<p style='mso-list:l0'><span style='mso-list:Ignore'>·  </span>Item</p></body></html>"
    )
    found = read(tmp_path, page, way="pairs")
    assert pairs(found) == [("Price", "Nothing."), ("Source", "Word.\n\n- Item")]
    said = " ".join(found.warnings)
    assert "1 paragraph has no question above it" in said
    assert "1 note or source at the foot of the page was not read" in said


def test_notes_stand_where_they_are_referred_to(tmp_path: Path) -> None:
    page = (
        "<html><body><h2>Dose?</h2><p>10<a role=doc-noteref href='#n1'>1</a> mg</p>"
        "<aside role=doc-footnote id=n1>At most 10<sup>2</sup>.</aside>"
        "<aside role=doc-footnote id=n2>Nobody refers to it.</aside></body></html>"
    )
    found = read(tmp_path, page, way="pairs")
    assert pairs(found) == [("Dose?", "10 [At most 10².] mg")]
    assert "1 part of the page beside its main text" in " ".join(found.warnings)


@pytest.mark.parametrize(
    "hidden",
    [
        "<p>Give 5 mg <span style='display:none'>50 mg</span> daily.</p>",
        "<p><span hidden>50 mg</span>Give 5 mg daily.</p>",
        "<div>Give 5 mg<div style='display: none'>50 mg</div> daily.</div>",
        "<ul><li hidden>50 mg</li><li>Give 5 mg daily.</li></ul>",
        "<p>Give 5 mg <a aria-controls='x' href='#x'>?</a><b id='x' hidden>50 mg</b> daily.</p>",
    ],
)
def test_what_is_hidden_amid_a_text_is_left_out(tmp_path: Path, hidden: str) -> None:
    page = f"<!doctype html><body><h2>How much?</h2>{hidden}<h2>When?</h2><div hidden>At 8.</div>"
    found = read(tmp_path, page, way="pairs")
    answers = [" ".join(answer.split()) for _, answer in pairs(found)]
    assert answers[-1] == "At 8."
    assert "50 mg" not in str(answers)
    assert "5 mg" in answers[0]
    said = " ".join(found.warnings)
    assert "1 place text is hidden" in said
    assert "folded away" in said


def test_equations_of_web_pages(tmp_path: Path) -> None:
    learned, _ = text(
        tmp_path,
        "<p><math><mfrac linethickness='0'><mi>n</mi><mi>k</mi></mfrac></math>, "
        "<math><mover><mi>x</mi><mo>¯</mo></mover></math>, <math><mmultiscripts><mi>I</mi>"
        "<mprescripts/><mn>53</mn><mn>131</mn></mmultiscripts></math>, <math><mmultiscripts>"
        "<mi>R</mi><mn>1</mn><mn>2</mn></mmultiscripts></math></p>",
    )
    assert learned == "(n over k), x\u0304, ¹³¹₅₃I, R₁²"


def test_signs_and_what_is_left_out(tmp_path: Path) -> None:
    learned, said = text(
        tmp_path,
        "<p>10<sup>3</sup>/&micro;l, H<sub>2</sub>O, &#8805;&nbsp;38, <s>STRUCK</s>"
        " <span style='text-decoration: line-through'>STRUCK</span>"
        "5 mg<sup><a href='#n1'>[2]</a></sup> <math><mfrac><mn>1</mn><mn>2</mn></mfrac></math>"
        " soft&shy;ly <img src=x alt='✓'><img src=y alt='A nurse'></p>"
        "<p hidden>HIDDEN</p><pre>a\n  b</pre><select><option>OPTION</select>",
    )
    assert learned == "10³/µl, H₂O, ≥ 38, 5 mg ½ softly ✓\n\na\n  b"
    for sentence in (
        "In 2 places text is struck out",
        "1 place text is hidden",
        "1 raised mark that points to a note was left out",
        "1 picture was not read",
    ):
        assert sentence in said, sentence


def test_what_people_choose_from_is_no_answer(tmp_path: Path) -> None:
    page = "<html><body>" + "".join(
        f"<h2>{n}. Which is right?</h2><form>"
        f"<label><input type=radio name=q{n}> One</label><br>"
        f"<label><input type=radio name=q{n}> Two</label></form>"
        for n in range(4)
    )
    path = tmp_path / "quiz.html"
    path.write_text(page)
    with open_rows(path, ReadAs(way="pairs")) as source:
        assert [row for _, row in source.rows] == [LeftOut("options")] * 4


@pytest.mark.parametrize(
    ("said", "written", "named"),
    [
        ("<meta charset='windows-1251'>", "cp1251", "cp1251"),
        (
            "<meta http-equiv=content-type content='text/html; charset=iso-8859-1'>",
            "cp1252",
            "cp1252",
        ),
        ("<meta charset=utf-8>", "cp1252", "cp1252"),  # it says what is not true
        ("", "utf-8", "utf-8"),
        ("", "utf-16", "utf-16"),
    ],
)
def test_a_page_says_its_encoding(tmp_path: Path, said: str, written: str, named: str) -> None:
    word = "Кухня" if written == "cp1251" else "Küche – schön"
    page = f"<html><head>{said}</head><body><h1>Wo?</h1><p>{word}</p></body></html>"
    found = read(tmp_path, page.encode(written), way="pairs")
    assert (found.preview[0].values["answer"], found.encoding) == (word, named)
    again = read(tmp_path, page.encode(written), **found.read_as(ReadAs(way="pairs")).model_dump())
    assert again.preview == found.preview


TABLE = (
    "<html xmlns:x='urn:schemas-microsoft-com:office:excel'><body><p>Ward list</p><table>"
    "<tr><th>question</th><th>answer</th></tr>"
    "<tr><td rowspan=2>Where?</td><td>There</td></tr><tr><td>And here</td></tr>"
    "<tr style='display:none'><td>Secret?</td><td>Yes</td></tr>"
    "<tr><td>How much?</td><td style='mso-number-format:\"0.0%\"'>0.075</td></tr>"
    "<tr><td>5<sup>2</sup>?</td><td>25 <s>24</s></td></tr></table></body></html>"
)


def test_a_table_of_a_page_is_read_as_a_sheet(tmp_path: Path) -> None:
    found = read(tmp_path, TABLE)
    assert (found.format, found.place, found.way) == ("html", "row", None)
    assert [tuple(row.values.values()) for row in found.preview] == [
        ("Where?", "There"),
        ("Where?", "And here"),
        ("How much?", "0.075"),
        ("5²?", "25"),
    ]
    said = " ".join(found.warnings)
    for sentence in (
        "1 row is hidden or filtered out",
        "1 cell was filled with the text of the merged cell",
        "1 cell has a number format that this file does not settle (“0.0%”",
        "In 1 cell text is struck out",
    ):
        assert sentence in said, sentence
    shown = read(tmp_path, TABLE, hidden="take_in", merged="leave_blank")
    assert [row.values["question"] for row in shown.preview] == [
        "Where?", None, "Secret?", "How much?", "5²?",
    ] or [row.values["question"] for row in shown.preview][2] == "Secret?"  # fmt: skip
    as_text = read(tmp_path, TABLE, form="document", way="pairs")
    assert pairs(as_text)[:2] == [("Where?", "There"), ("Where?", "And here")]


def test_one_of_several_tables_is_read_and_that_is_said(tmp_path: Path) -> None:
    table = "<table><caption>{}</caption><tr><th>{}<th>answer<tr><td>Where?<td>There</table>"
    page = "<html xmlns:x='urn:schemas-microsoft-com:office:excel'><body>"
    page += table.format("Ward", "question") + table.format("", "Frage")
    found = read(tmp_path, page)
    assert (found.sheet, found.sheets, found.columns) == (
        "Ward",
        ["Ward", "Table 2"],
        ["question", "answer"],
    )
    assert "The page has 2 tables; “Ward” was read" in " ".join(found.warnings)
    assert read(tmp_path, page, sheet="Table 2").columns == ["Frage", "answer"]
    with pytest.raises(Unreadable, match="has no table with text in it"):
        read(tmp_path, "<html><body><p>Text.</p></body></html>", form="table")


def test_pages_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="only shows others in frames"):
        read(tmp_path, "<html><frameset><frame src='a.htm'></frameset></html>")
    with pytest.raises(Unreadable, match="This is XML"):
        read(tmp_path, "<?xml version='1.0'?><a/>")
    # Markdown may begin with a tag.
    assert read(tmp_path, "<div align=center>\n\n# Where?\n\nThere.\n").format == "markdown"
