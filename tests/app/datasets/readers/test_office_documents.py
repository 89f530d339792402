"""ODT, RTF, PPTX and EPUB: what is read, what is left out, and that it is said."""

from pathlib import Path
from typing import Any

import pytest

from app.datasets.readers.inspections import Inspection, ReadAs
from app.datasets.readers.reading import inspect
from tests import document_files, files
from tests.document_files import odt_style, shape, slide_text


def read(folder: Path, content: bytes, **read_as: Any) -> Inspection:
    path = folder / "letter.doc"
    path.write_bytes(content)
    return inspect(path, ReadAs.model_validate(read_as), lambda rows: None)


def pairs(found: Inspection) -> list[tuple[int, str, str]]:
    return [(row.number, row.values["question"], row.values["answer"]) for row in found.preview]


def text(folder: Path, content: bytes) -> tuple[str, str]:
    """Return what is learned of a document as plain text, and what is said of it."""
    found = read(folder, content, way="text")
    return "\n".join(row.values["text"] for row in found.preview), " ".join(found.warnings)


# --- OpenDocument ----------------------------------------------------------------------------

STYLES = (
    odt_style("up", 'style:text-position="super 58%"')
    + odt_style("down", 'style:text-position="-33% 58%"')
    + odt_style("struck", 'style:text-line-through-style="solid"')
    + odt_style("hidden", 'text:display="none"')
    + '<style:font-face style:name="S" fo:font-family="Symbol"/>'
    + odt_style("sign", 'style:font-name="S" fo:font-family="Symbol"')
    + odt_style("P1", family="paragraph", parent="Title")
    + odt_style("P2", family="paragraph", parent="Heading_20_2")
    # A part of a number's format, which is called as the text of the document is.
    + "<number:date-style><number:text>/</number:text></number:date-style>"
)


def span(style: str, inner: str) -> str:
    return f'<text:span text:style-name="{style}">{inner}</text:span>'


def test_odt_has_headings_lists_and_tables(tmp_path: Path) -> None:
    body = (
        '<text:p text:style-name="P1">Handbook</text:p><text:p>Welcome.</text:p>'
        '<text:h text:outline-level="2">When may I eat?</text:h>'
        "<text:p>After<text:s text:c='2'/>the\n   test.<text:line-break/>Not before.</text:p>"
        "<text:list><text:list-item><text:p>Water</text:p><text:p>or tea</text:p></text:list-item>"
        "</text:list>"
        '<text:p text:style-name="P2">Parking</text:p><text:p>Behind the house.</text:p>'
        "<table:table><table:table-header-rows><table:table-row>"
        "<table:table-cell><text:p>Question</text:p></table:table-cell>"
        "<table:table-cell><text:p>Answer</text:p></table:table-cell></table:table-row>"
        "</table:table-header-rows><table:table-row>"
        '<table:table-cell table:number-rows-spanned="2"><text:p>Dogs?</text:p></table:table-cell>'
        "<table:table-cell><text:p>No.</text:p></table:table-cell></table:table-row>"
        "<table:table-row><table:covered-table-cell/>"
        "<table:table-cell><text:p>Not even small ones.</text:p></table:table-cell>"
        "</table:table-row></table:table>"
    )
    found = read(tmp_path, document_files.odt(body, STYLES))
    assert (found.format, found.place, found.way) == ("odt", "paragraph", "pairs")
    assert [row[1:] for row in pairs(found)] == [
        ("Handbook", "Welcome."),
        ("When may I eat?", "After  the test.\nNot before.\n\n- Water\n\nor tea"),
        ("Dogs?", "No."),
        ("Dogs?", "Not even small ones."),
        ("Parking", "Behind the house."),
    ]
    assert found.preview[1].values["section"] == "Handbook"
    assert "1 cell of a table was filled with the text of the merged cell" in str(found.warnings)


def test_odt_keeps_raised_signs_and_counts_what_it_leaves_out(tmp_path: Path) -> None:
    formula = (
        "<math xmlns='http://www.w3.org/1998/Math/MathML'><semantics><mrow><mi>x</mi><mo>=</mo>"
        "<mfrac><mn>1</mn><mn>2</mn></mfrac></mrow><annotation>x = 1 over 2</annotation>"
        "</semantics></math>"
    )
    frame = (
        '<draw:frame><svg:title>a drawing</svg:title><draw:object xlink:href="./Object 1"/>'
        '<draw:image xlink:href="./ObjectReplacements/Object 1"/></draw:frame>'
    )
    body = (
        f"<text:tracked-changes><text:changed-region><text:deletion><text:p>GONE</text:p>"
        "</text:deletion></text:changed-region></text:tracked-changes>"
        f"<text:p>10{span('up', '3')}/{span('sign', 'm')}l and H{span('down', '2')}O "
        f"{span('struck', 'STRUCK')} {span('hidden', 'HIDDEN')} {frame}"
        "<text:note><text:note-citation>1</text:note-citation><text:note-body>"
        "<text:p>See ward 3.</text:p></text:note-body></text:note>"
        "<office:annotation><dc:creator>COMMENT</dc:creator><text:p>COMMENT</text:p>"
        "</office:annotation></text:p>"
        '<text:section text:display="none"><text:p>SECTION</text:p></text:section>'
        '<text:p>Left<text:hidden-paragraph text:is-hidden="true"/></text:p>'
        "<text:table-of-content><text:index-body><text:p>CONTENTS</text:p></text:index-body>"
        "</text:table-of-content>"
        '<draw:frame><draw:image xlink:href="a.png"/></draw:frame>'
        "<text:p><draw:frame><draw:text-box><text:p>In a box.</text:p></draw:text-box></draw:frame>"
        "</text:p>"
    )
    more = {"Object 1/content.xml": formula}
    learned, said = text(tmp_path, document_files.odt(body, STYLES, more))
    assert learned == "10³/µl and H₂O x=½ [See ward 3.]\n\nLeft\n\nIn a box."
    for sentence in (
        "1 place text is struck out",
        "In 2 places text is hidden",
        "1 place text was deleted while changes were tracked",
        "1 comment was not read",
        "1 picture was not read",
        "1 table of contents or index was not read",
    ):
        assert sentence in said, sentence


# --- RTF -------------------------------------------------------------------------------------

RTF_HEAD = (
    r"{\rtf1\ansi\ansicpg1252\deff0{\fonttbl{\f0\fcharset0 Arial{\*\falt Helvetica};}"
    r"{\f1\fcharset2 Symbol;}{\f2\fcharset204 Arial Cyr;}}"
    r"{\stylesheet{\ql Normal;}{\s1 heading 1;}{\s7\outlinelevel1 Mein;}{\*\cs10 Strong;}}"
    "\n"
)


def rtf(body: str) -> bytes:
    return (RTF_HEAD + body + "}").encode("ascii")


def test_rtf_has_headings_lists_and_tables(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        rtf(
            r"\pard\plain\s1 Ward\par\pard\plain Welcome to K\u252\'fcche.\par"
            r"\pard\s7 When may I eat?\par"
            r"\pard{\listtext\pard\plain\f1\'b7\tab}\ls1 After the test\line not before.\par"
            r"{\listtext\pard\plain 2.\tab}Then again.\par"
            r"\pard\trowd\clvmgf\cellx100\cellx200\intbl Question\cell Answer\cell\row"
            r"\trowd\clvmgf\cellx100\cellx200\intbl Dogs?\cell No.\par Never.\cell\row"
            r"\trowd\clvmrg\cellx100\cellx200\intbl\cell Not small ones.\cell\row"
            r"\pard\s7 Parking\par\pard Behind {\f2\'e4\'ee\'ec}\'8a.\par"
        ),
    )
    assert (found.format, found.place, found.way) == ("rtf", "paragraph", "pairs")
    assert [row[1:] for row in pairs(found)] == [
        ("Ward", "Welcome to Küche."),
        ("Dogs?", "No.\nNever."),
        ("Dogs?", "Not small ones."),
        ("When may I eat?", "- After the test\nnot before.\n\n2. Then again."),
        ("Parking", "Behind домŠ."),
    ]
    assert "1 cell of a table was filled" in str(found.warnings)


def test_rtf_keeps_raised_signs_and_counts_what_it_leaves_out(tmp_path: Path) -> None:
    learned, said = text(
        tmp_path,
        rtf(
            r"\pard 10{\super 3}/{\f1 m}l, H{\sub 2}O, 5 {\field{\*\fldinst SYMBOL 109 \\f "
            r'"Symbol" \\s 10}{\fldrslt\f1 m}}g, {\up6 1}{\strike STRUCK}{\v HIDDEN} '
            r"{\deleted GONE}\u8805? 38{\footnote\pard\plain See ward 3.}\par"
            r"{\*\annotation COMMENT}{\pict\pngblip 89504e47}{\object{\*\objdata 00ff}}"
            r"{\*\unknown SECRET}{\header HEADER}{\info{\title TITLE}}"
            r"{\shp{\*\shpinst{\sp{\sn name}{\sv value}}{\shptxt\pard In a box.\par}}}"
            r"\pard{\mmath{\*\moMath{\mr x=}{\mf{\mfPr}{\mnum{\mr 1}}{\mden{\mr 2}}}}"
            r"{\*\mmathPict{\pict 00}}} and \u-10179?\u-8694?\bin4 {}{} done\par"
        ),
    )
    assert learned == ("10³/µl, H₂O, 5 µg, ¹ ≥ 38 [See ward 3.]\n\nIn a box.\n\nx=½ and 😊 done")
    for sentence in (
        "1 place text is struck out",
        "1 place text is hidden",
        "1 place text was deleted",
        "1 comment was not read",
        "1 picture was not read",
        "1 chart or embedded object was not read",
    ):
        assert sentence in said, sentence


def test_fields_of_rtf_that_stand_for_signs(tmp_path: Path) -> None:
    learned, said = text(
        tmp_path,
        rtf(
            r"\pard Take {\field{\*\fldinst {\lang7 EQ \\f(1;2)}}{\fldrslt}} tablet, 1"
            r"{\field{\*\fldinst EQ \\f(3,10)}} g, {\field{\*\fldinst EQ \\f(1;{\field{\*\fldinst "
            r"SYMBOL 109 \\f Symbol}{\fldrslt m}}g)}}, {\field{\*\fldinst {\strike EQ \\f(1;4)}}}"
            r"{\field{\*\fldinst EQ \\i(0;1;x)}{\fldrslt x}}{\field{\*\fldinst PAGE}{\fldrslt 7}}"
            r"\par"
        ),
    )
    assert learned == "Take ½ tablet, 1 3/10 g, 1/µg, 7"
    assert "1 place text is struck out" in said
    assert "1 equation in a field (EQ) cannot be read" in said


def test_equations_of_rtf_without_what_is_struck_out(tmp_path: Path) -> None:
    learned, said = text(
        tmp_path,
        rtf(
            r"\pard{\mmath{\*\moMath{\mr {\strike 50}5 }{\mf{\mfPr{\mtype noBar}}{\mnum{\mr n}}"
            r"{\mden{\mr k}}}{\mbar{\mbarPr{\mpos top}}{\me{\mr x}}}}}\par"
        ),
    )
    assert learned == "5 (n over k)x\u0304"
    assert "1 place text is struck out" in said


def test_rtf_in_pieces_of_any_size_reads_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = r"\pard K\'fcche {\b und}\u8805? \'8a\par" * 40
    whole = text(tmp_path, rtf(body))
    for size in (1, 7, 64):
        monkeypatch.setattr("app.datasets.readers.rtf._CHUNK_BYTES", size)
        assert text(tmp_path, rtf(body)) == whole


# --- PowerPoint ------------------------------------------------------------------------------


def test_slides_in_their_order_with_notes(tmp_path: Path) -> None:
    slides = [
        shape(slide_text("Body before its title", "and more"), "")
        + shape(slide_text("When may I eat?"), "ctrTitle")
        + shape(slide_text("7"), "sldNum"),
        shape(slide_text("A slide without a title"))
        + "<p:graphicFrame><a:tbl><a:tr><a:tc><a:txBody>"
        + slide_text("Question")
        + "</a:txBody></a:tc><a:tc><a:txBody>"
        + slide_text("Answer")
        + "</a:txBody></a:tc></a:tr><a:tr><a:tc rowSpan='2'><a:txBody>"
        + slide_text("Dogs?")
        + "</a:txBody></a:tc><a:tc><a:txBody>"
        + slide_text("No.")
        + "</a:txBody></a:tc></a:tr><a:tr><a:tc vMerge='1'/><a:tc><a:txBody>"
        + slide_text("Not even small ones.")
        + "</a:txBody></a:tc></a:tr></a:tbl></p:graphicFrame>",
        shape(slide_text("Secret"), "title"),
        shape(slide_text("Parking"), "title")
        + shape(
            "<a:p><a:pPr><a:buAutoNum/></a:pPr><a:r><a:t>Left</a:t></a:r></a:p>"
            "<a:p><a:pPr><a:buAutoNum/></a:pPr><a:r><a:t>Right</a:t></a:r></a:p>"
            "<a:p><a:pPr><a:buNone/></a:pPr><a:r><a:t>Free</a:t></a:r></a:p>",
            "",
        ),
    ]
    notes = {0: shape(slide_text("Say it twice."), "body") + shape(slide_text("1"), "sldNum")}
    found = read(tmp_path, document_files.pptx(slides, notes, hidden=[2]))
    assert (found.format, found.place, found.way) == ("pptx", "slide", "pairs")
    assert pairs(found) == [
        (1, "When may I eat?", "- Body before its title\n\n- and more\n\nSay it twice."),
        (3, "Dogs?", "No."),
        (4, "Dogs?", "Not even small ones."),
        (4, "Parking", "1. Left\n\n2. Right\n\nFree"),
    ]
    said = " ".join(found.warnings)
    assert "1 slide is hidden and was left out (slide 3)" in said
    assert "The notes of 1 slide were read" in said
    assert "Secret" not in str(found.preview)
    shown = read(
        tmp_path, document_files.pptx(slides, notes, hidden=[2]), hidden="take_in", way="text"
    )
    assert "Secret" in str(shown.preview)
    assert "hidden" not in " ".join(shown.warnings)
    assert shown.read_as(ReadAs()).hidden == "take_in"


def test_slides_keep_raised_signs_and_count_what_they_leave_out(tmp_path: Path) -> None:
    run = "<a:r><a:rPr {}/><a:t>{}</a:t></a:r>"
    body = (
        "<a:p>"
        + run.format("", "10")
        + run.format('baseline="30000"', "3")
        + '<a:r><a:rPr><a:latin typeface="Symbol"/></a:rPr><a:t>m</a:t></a:r>'
        + run.format('baseline="-25000"', "2")
        + run.format('strike="sngStrike"', "STRUCK")
        + "<m:oMath><m:f><m:num><m:r><m:t>1</m:t></m:r></m:num><m:den><m:r><m:t>2</m:t></m:r>"
        "</m:den></m:f><m:r><a:rPr strike='sngStrike'/><m:t>50</m:t></m:r></m:oMath></a:p>"
    )
    slide = (
        shape(body)
        + shape(slide_text("HIDDEN"), hidden=True)
        + "<p:pic/><p:graphicFrame><c:chart xmlns:c='c'/></p:graphicFrame>"
    )
    more = {
        "ppt/comments/c.xml": "<p:cmLst xmlns:p='p'><p:cm>COMMENT</p:cm><p:cm/></p:cmLst>",
        "ppt/diagrams/data.xml": "<d:dataModel xmlns:d='d' xmlns:a='a'><d:ptLst><d:pt><d:t>"
        f"{slide_text('Drawn')}</d:t></d:pt></d:ptLst></d:dataModel>",
    }
    relations = {0: {"comments": "../comments/c.xml", "diagramData": "../diagrams/data.xml"}}
    learned, said = text(tmp_path, document_files.pptx([slide], more=more, relations=relations))
    assert learned == "10³µ₂½\n\n- Drawn"
    for sentence in (
        "2 places text is struck out",
        "1 place text is hidden",
        "2 comments were not read",
        "1 picture was not read",
        "1 chart or embedded object was not read",
    ):
        assert sentence in said, sentence


# --- EPUB ------------------------------------------------------------------------------------


def test_chapters_of_an_e_book_in_the_books_order(tmp_path: Path) -> None:
    chapters = {
        "z.xhtml": "<h1>Eating</h1><p>After the <a id='x'/>test.</p><script/><p>Not before.</p>",
        "a.xhtml": "<p>Nobody asked.</p><h1>Parking</h1><p>Behind the house.</p>",
        "m n.xhtml": "<h1>Dogs</h1><p>No 10<sup>3</sup><a epub:type='noteref' href='#n'>1</a>.</p>"
        "<aside epub:type='footnote' id='n'><p>Nor 10<sup>2</sup> cats.</p></aside>",
    }
    found = read(tmp_path, document_files.epub(chapters))
    assert (found.format, found.place, found.way) == ("epub", "chapter", "pairs")
    assert pairs(found) == [
        (1, "Eating", "After the test.\n\nNot before."),
        (2, "Parking", "Behind the house."),
        (3, "Dogs", "No 10³ [Nor 10² cats.]."),
    ]
    assert "1 paragraph has no question above it" in str(found.warnings)


def test_documents_of_these_kinds_in_a_zip(tmp_path: Path) -> None:
    one = document_files.odt(
        '<text:h text:outline-level="1">Where?</text:h><text:p>There.</text:p>' * 3
    )
    two = rtf(r"\pard\s1 When?\par\pard Now.\par" * 3)
    found = read(tmp_path, files.zip_of({"a.odt": one, "b.rtf": two}))
    assert (found.format, found.way, found.num_rows) == ("zip", "pairs", 6)
