"""What programs export: quizzes, cards, chats between people and with models, transcripts, mail."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.datasets.conversations import assemble
from app.datasets.mapping import LeftOut
from app.datasets.proposals import propose
from app.datasets.readers import fragments, named_kinds
from app.datasets.readers.grids import Seen
from app.datasets.readers.inspections import Inspection, ReadAs
from app.datasets.readers.reading import inspect, open_rows
from app.datasets.readers.sheets import read_sheet
from app.datasets.readers.unreadable import Unreadable
from tests import exports, files


def rows(folder: Path, content: bytes | str, **read_as: Any) -> tuple[Inspection, list[Any]]:
    """The inspection, and each row's values or the reason why it is left out."""
    path = folder / "picture.png"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    chosen = ReadAs.model_validate(read_as)
    found = inspect(path, chosen, lambda rows: None)
    with open_rows(path, found.read_as(chosen)) as source:
        made = [
            (row.reason if isinstance(row, LeftOut) else tuple(row.values()))
            for _, row in source.rows
        ]
    assert len(made) == found.num_rows
    return found, made


def talk(folder: Path, content: bytes | str, **read_as: Any) -> list[list[str]]:
    """What becomes of a chat by the mapping that is proposed: the texts of its conversations."""
    path = folder / "chat"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    chosen = ReadAs.model_validate(read_as)
    found = inspect(path, chosen, lambda rows: None)
    mapping = propose(found, chosen).mapping

    def again() -> Any:
        with open_rows(path, chosen) as source:
            yield from source.rows

    return [
        [f"{turn['role'][0]}: {turn['content']}" for turn in made.messages]
        for made in assemble(mapping, again)
        if isinstance(made.messages, list)
    ]


# --- quizzes ---------------------------------------------------------------------------------


def test_gift_learns_right_answers_alone(tmp_path: Path) -> None:
    found, made = rows(tmp_path, exports.GIFT)
    assert (found.format, found.place, found.columns) == (
        "gift",
        "line",
        ["section", "question", "answer"],
    )
    assert made == [
        ("Ward/Drugs", "How much aspirin?", "100 mg"),
        ("Ward/Drugs", "Which drugs thin the blood? 5 < 10³", "Heparin\nWarfarin"),
        ("Ward/Drugs", "Match them.", "heart: pulse\nlung: breath"),
        ("Ward/Drugs", "Two plus two is _____, always.", "four"),
        ("Ward/Drugs", "The ward is open at night.", "False"),
        ("Ward/Drugs", "How many beds?", "12"),
        "no_right_answer",
        "no_right_answer",
        ("Ward/Drugs", "Escapes: is 1 = 1 and {x}?", "yes: it ~is"),
    ]
    assert [row.number for row in found.preview][:3] == [4, 10, 16]
    assert "1 question has several right answers, of which the first was taken." in found.warnings
    assert "2 questions have no right answer in the file and were left out." in found.warnings


@pytest.mark.parametrize(
    ("options", "question", "answer"),
    [
        ("leave_out", "What is measured in mmHg?", "Blood pressure"),
        (
            "list",
            "What is measured in mmHg?\n\n- Weight\n- Blood pressure\n- Height",
            "Blood pressure",
        ),
        (
            "letters",
            "What is measured in mmHg?\n\na) Weight\nb) Blood pressure\nc) Height",
            "b) Blood pressure",
        ),
    ],
)
def test_options_are_shown_as_a_person_chooses(
    tmp_path: Path, options: str, question: str, answer: str
) -> None:
    found, made = rows(tmp_path, exports.AIKEN, options=options)
    assert (found.format, found.options, found.reading["options"]) == ("aiken", options, options)
    assert made[0] == ("", question, answer)
    assert made[1:] == [
        ("", made[1][1], f"{'b) ' if options == 'letters' else ''}The one who\nfinds the person"),
        "options",
        "options",
    ]


def test_the_place_of_the_right_option_says_nothing(tmp_path: Path) -> None:
    quiz = "".join(f"Question {n}? {{=right ~wrong ~bad ~none of them}}\n\n" for n in range(40))
    _, made = rows(tmp_path, quiz, options="letters")
    letters = {row[2][0] for row in made}
    assert letters == {"a", "b", "c"}
    # What is said of the other options stays behind them.
    assert all(row[1].endswith("d) none of them") for row in made)
    assert made == rows(tmp_path, quiz, options="letters")[1]


def test_a_quiz_in_word_shows_its_options_too(tmp_path: Path) -> None:
    lines = ("How much?", "a) 1 g", "b) 100 mg *", "c) 2 g") * 4
    body = "".join(
        files.paragraph(f"{n // 4 + 1}. {line}" if n % 4 == 0 else line)
        for n, line in enumerate(lines)
    )
    found, made = rows(tmp_path, files.docx(body), options="letters")
    assert (found.way, found.options) == ("pairs", "letters")
    assert made[0][1:3] == ("1. How much?\n\na) 1 g\nb) 100 mg\nc) 2 g", "b) 100 mg")
    assert rows(tmp_path, files.docx(body))[1][0][1:3] == ("1. How much?", "100 mg")


def test_answers_of_gift_may_be_written_otherwise_than_the_question(tmp_path: Path) -> None:
    quiz = (
        "How much?{\n=[html]<p>5&nbsp;mg</p>#good\n~[markdown]50 **mg**\n}\n\n"
        "::T::[html]<p>When?</p>{=[plain]at <b> or 8 ~[moodle]<b>never</b>}\n\n"
        "[markdown]Which? {=[HTML] <i>this</i> ~that}\n\n"
        "Pairs. {=[html]<b>cat</b> -> [html]<b>Katze</b> =dog -> Hund}\n"
    )
    _, made = rows(tmp_path, quiz)
    assert [row[1:] for row in made] == [
        ("How much?", "5 mg"),
        ("When?", "at <b> or 8"),
        ("Which?", "this"),
        ("Pairs.", "cat: Katze\ndog: Hund"),
    ]


def test_figures_of_moodle_have_their_unit(tmp_path: Path) -> None:
    def question(more: str) -> str:
        return (
            '<question type="numerical"><questiontext><text>Dose?</text></questiontext>'
            f'<answer fraction="100"><text>5</text></answer>{more}</question>'
        )

    def unit(name: str, times: str) -> str:
        return f"<unit><multiplier>{times}</multiplier><unit_name>{name}</unit_name></unit>"

    units = f"<units>{unit('g', '0.001')}{unit('mg', '1')}</units>"
    quiz = [
        *(units, units + "<unitsleft>1</unitsleft>", "", units + "<showunits>3</showunits>"),
        f"<units>{unit('g', '0.001')}</units>",
    ]
    found, made = rows(tmp_path, f"<quiz>{''.join(map(question, quiz))}</quiz>")
    assert [row[2] for row in made] == ["5 mg", "mg 5", "5", "5", "5"]
    assert found.warnings[-1] == (
        "2 questions have units that their answers do not say which of, so the figures stand "
        "alone (first question 4)."
    )


@pytest.mark.parametrize(
    ("lines", "right"),
    [
        (("☐ 1 g", "☒ 100 mg", "☐ 2 g"), "100 mg"),
        (("○ 1 g", "● 100 mg", "○ 2 g"), "100 mg"),
        (("[ ] 1 g", "[x] 100 mg", "[ ] 2 g"), "100 mg"),
        (("( ) 1 g", "(x) 100 mg", "( ) 2 g"), "100 mg"),
        (("☐ 1 g ☒ 100 mg ☐ 2 g",), "100 mg"),
        (("( ) 1 g (x) 100 mg", "( ) 2 g"), "100 mg"),
        (("☐ 1 g", "☐ 100 mg ✔"), "options"),
        (("Tick ☐ here", "or ☒ there"), "Tick ☐ here\n\nor ☒ there"),
        (("☐ a) 1 g", "☑ b) 100 mg", "☐ c) 2 g"), "100 mg"),
        (("☐ 1 g", "☐ 100 mg", "☐ 2 g"), "options"),
        (("☒ 1 g", "☒ 100 mg", "☐ 2 g"), "options"),
        (("(A) 1 g (B) 100 mg * (C) 2 g",), "100 mg"),
        (("(A) 1 g (B) 100 mg (C) 2 g",), "options"),
        (("a) 1 g b) 100 mg", "c) 2 g", "Key: 1B"), "100 mg"),
        # None of these are options.
        (("● 1 g", "● 100 mg", "● 2 g"), "● 1 g\n\n● 100 mg\n\n● 2 g"),
        (("As (A) and (B) say.",), "As (A) and (B) say."),
        (("Room: 3B",), "Room: 3B"),
        (("See: 3B", "and Room: 3B"), "See: 3B\n\nand Room: 3B"),
    ],
)
def test_options_in_word_with_boxes_and_in_one_line(
    tmp_path: Path, lines: tuple[str, ...], right: str
) -> None:
    asked = ("How much?", *lines, "Who asks?", "The nurse.", "When?", "At noon.", "Where?", "Here.")
    _, made = rows(tmp_path, files.docx("".join(map(files.paragraph, asked))), way="pairs")
    assert (made[0] if right == "options" else made[0][2]) == right
    assert [row[2] for row in made[1:]] == ["The nurse.", "At noon.", "Here."]


def test_options_without_a_key_propose_no_answer(tmp_path: Path) -> None:
    table = "question,option1,option2,option3\nHow much?,1 g,100 mg,2 g\nWhen?,never,at noon,\n"
    found, _ = rows(tmp_path, table)
    proposal = propose(found)
    roles = {column.name: column.role.value for column in proposal.mapping.columns}
    assert roles == {"question": "question"} | dict.fromkeys(table.split(",")[1:3], "ignore") | {
        "option3": "ignore"
    }
    assert not proposal.is_sure
    assert "no column says which of them is right" in proposal.why


def test_moodle_xml(tmp_path: Path) -> None:
    found, made = rows(tmp_path, exports.MOODLE)
    assert (found.format, found.place) == ("quiz", "question")
    assert made == [
        ("Ward", "How much aspirin?", "100 mg"),
        ("Ward", "Which two?", "Heparin\nWarfarin"),
        ("Ward", "Open at night.", "False"),
        ("Ward", "Match.", "heart: pulse"),
        ("Ward", "Beds?", "12"),
        "no_right_answer",
        "question_kind",
    ]
    assert (
        "2 pictures stand within texts and were left out (first in question 2)." in found.warnings
    )


def test_qti_1(tmp_path: Path) -> None:
    assert rows(tmp_path, exports.QTI1)[1] == [
        ("", "How much?", "100 mg"),
        ("", "Which two?", "Heparin\nWarfarin"),
        ("", "Unit of pressure?", "mmHg"),
        "no_right_answer",
        "options",
    ]


@pytest.mark.parametrize("version", [2, 3])
def test_qti_2_and_3(tmp_path: Path, version: int) -> None:
    _, made = rows(tmp_path, exports.qti2(version), options="list")
    assert made == [("", "On the ward:\n\nHow much?\n\n- 1 g\n- 100 mg", "100 mg")]


def test_a_package_of_qti_is_one_quiz(tmp_path: Path) -> None:
    package = files.zip_of(
        {
            "imsmanifest.xml": "<?xml version='1.0'?><manifest/>",
            "assessment_meta.xml": "<quiz xmlns='http://canvas.example'/>",
            "items/1.xml": exports.qti2(),
            "items/2.xml": exports.qti2(),
        }
    )
    found, made = rows(tmp_path, package)
    assert [row[-1] for row in made] == ["100 mg", "100 mg"]
    assert "“imsmanifest.xml” (about the quiz)" in found.warnings[0]


def test_a_pool_of_blackboard(tmp_path: Path) -> None:
    def block(text: str) -> str:
        return (
            f"<flow_mat><material><mat_extension><mat_formattedtext type='HTML'>{text}"
            "</mat_formattedtext></mat_extension></material></flow_mat>"
        )

    labels = "".join(
        f"<flow_label><response_label ident='{n}'>{block(text)}</response_label></flow_label>"
        for n, text in enumerate(("1 g", "100 mg"))
    )
    pool = (
        "<?xml version='1.0'?><questestinterop><assessment><section><item><presentation>"
        f"<flow>{block('&lt;p&gt;How much?&lt;/p&gt;')}<response_lid ident='response' "
        f"rcardinality='Single'><render_choice>{labels}</render_choice></response_lid></flow>"
        "</presentation><resprocessing><respcondition title='correct'><conditionvar>"
        "<varequal respident='response'>1</varequal></conditionvar>"
        "<setvar variablename='SCORE' action='Set'>SCORE.max</setvar></respcondition>"
        "<respcondition title='incorrect'><conditionvar><other/></conditionvar>"
        "<setvar variablename='SCORE' action='Set'>0.0</setvar></respcondition></resprocessing>"
        "</item></section></assessment></questestinterop>"
    )
    package = {"imsmanifest.xml": "<manifest/>", "res1.dat": pool, "res2.dat": "<CATEGORIES/>"}
    assert rows(tmp_path, files.zip_of(package))[1] == [("", "How much?", "100 mg")]


def test_other_text_with_braces_is_no_quiz(tmp_path: Path) -> None:
    for text in (
        "Use {name} and {place}.\n\nDear {name}, welcome.\n\nBye {name}.",
        "Dear {title},\n\nyour {form} came to {floor}.\n\nThank you, {first name}.",
        "question,answer\nWhat is {=x}?,A brace\nAnd {~y}?,Another\n",
        "h1 {\n color: red\n}\n\np {\n margin: 0\n}\n",
    ):
        assert rows(tmp_path, text)[0].format != "gift", text


# --- cards -----------------------------------------------------------------------------------


def test_anki_as_text(tmp_path: Path) -> None:
    text = (
        "#separator:tab\n#html:true\n#deck column:1\n#tags column:4\n"
        'Ward\t"<div>How much?</div>"\t100&nbsp;mg<br>[sound:a.mp3]<img src="x">\tdrugs\n'
        "Ward\tThe {{c1::heart::organ}} beats {{c2::70}} times\tmore or less\tbody\n"
    )
    found, made = rows(tmp_path, text)
    assert (found.format, found.columns) == (
        "anki",
        ["question", "answer", "tags", "deck", "field 3"],
    )
    assert made == [
        ("How much?", "100 mg", "Ward", "drugs"),
        ("The [organ] beats 70 times", "heart", "more or less", "Ward", "body"),
        ("The heart beats […] times", "70", "more or less", "Ward", "body"),
    ]
    assert "1 picture stands within a text and was left out (line 5)." in found.warnings
    assert "1 sound or film stands within a text and was left out (line 5)." in found.warnings


@pytest.mark.parametrize("name", ["collection.anki2", "collection.anki21", "collection.anki21b"])
def test_anki_packages_old_and_new(tmp_path: Path, name: str) -> None:
    # The newer ones have an old one beside them that only says “update Anki”.
    more: dict[str, bytes | str] = {} if name == "collection.anki2" else {"collection.anki2": b"x"}
    notes = [("<b>How much?</b>", "100 mg", "the book"), ("Who?", "I", "")]
    found, made = rows(tmp_path, exports.apkg(notes, name=name, more=more))
    assert (found.format, found.place) == ("anki", "note")
    assert found.columns == ["question", "answer", "tags", "Source"]
    assert made == [("How much?", "100 mg", "the book", "ward"), ("Who?", "I", "ward")]


def test_quizlet_and_other_cards_without_names_of_columns(tmp_path: Path) -> None:
    found, made = rows(tmp_path, "How much?\t100 mg\nWho?\tThe nurse\nWhen?\tAt eight\n")
    assert (found.format, found.has_header) == ("csv", False)
    assert made[0] == ("How much?", "100 mg")
    words = "mitosis\tdivision of a cell\nmeiosis\tdivision into gametes\ngene\ta piece of DNA\n"
    found, made = rows(tmp_path, words)
    assert (len(made), found.has_header) == (3, False)
    # Too short to tell: the first row counts as names, and it is said.
    found, made = rows(tmp_path, "osmosis\twater moves\ngene\tDNA piece\ncell\tliving unit\n")
    assert len(made) == 2
    assert any("if that line is an example" in said for said in found.warnings)
    assert len(rows(tmp_path, "osmosis\twater moves\ngene\tDNA piece\n", header_row=0)[1]) == 2


# --- chats between people --------------------------------------------------------------------


def test_whatsapp_by_speaker_and_by_pause(tmp_path: Path) -> None:
    found, made = rows(tmp_path, exports.WHATSAPP)
    assert (found.format, found.columns, found.pause_minutes) == (
        "whatsapp",
        ["conversation", "speaker", "text", "date"],
        240,
    )
    assert made == [
        "notice",
        ("1", "Ana", "When do visits end?", "2026-03-27 08:00"),
        ("1", "Desk", "At eight.\nPlease ring twice.", "2026-03-27 08:01"),
        "not_text",
        "notice",
        ("2", "Ben", "Note: is the lift broken?", "2026-03-27 20:00"),
        ("2", "Desk", "Yes; until Monday.", "2026-03-27 20:01"),
    ]
    assert not propose(found).is_sure
    assert rows(tmp_path, exports.WHATSAPP, pause_minutes=1000)[1][-1][0] == "1"


def test_whatsapp_with_what_was_sent_in_it(tmp_path: Path) -> None:
    sent = {
        "IMG-1.jpg": b"\xff\xd8\xff\xe0",
        "PTT-1.opus": b"OggS\0",
        "Ana.vcf": b"BEGIN:VCARD\r\n",
    }
    found, made = rows(tmp_path, files.zip_of({**sent, "_chat.txt": exports.WHATSAPP}))
    assert made == rows(tmp_path, exports.WHATSAPP)[1]
    assert found.warnings[0] == (
        "In this ZIP “IMG-1.jpg” (a picture), “PTT-1.opus” (a sound) and “Ana.vcf” (sent in the "
        "chat) were passed over."
    )


def test_conversations_of_one_row_are_no_questions_with_answers(tmp_path: Path) -> None:
    text = "".join(
        f"[{day}.3.26, 08:00:00] {'AB'[day % 2]}: Hello {day}.\n" for day in range(1, 28)
    )
    found, _ = rows(tmp_path, text)
    roles = {column.name: column.role.value for column in propose(found).mapping.columns}
    assert roles == {"conversation": "key", "speaker": "speaker", "text": "text", "date": "ignore"}


def test_a_person_says_who_of_the_speakers_is_the_assistant(tmp_path: Path) -> None:
    assert talk(tmp_path, exports.WHATSAPP) == []
    chosen = {"Desk": "assistant", "Ana": "user", "Ben": "user"}
    assert talk(tmp_path, exports.WHATSAPP, speakers=chosen) == [
        ["u: When do visits end?", "a: At eight.\nPlease ring twice."],
        ["u: Note: is the lift broken?", "a: Yes; until Monday."],
    ]
    # A conversation in which nobody but the assistant speaks teaches no answer.
    alone = {"Desk": "user", "Ana": "user", "Ben": "assistant"}
    assert talk(tmp_path, exports.WHATSAPP, speakers=alone) == []


def test_whatsapp_of_android_with_the_month_first(tmp_path: Path) -> None:
    _, made = rows(tmp_path, exports.WHATSAPP_ANDROID)
    assert made == [
        "notice",
        ("1", "Ana", "When do visits end?", "2026-03-27 23:59"),
        ("1", "Desk", "At eight.", "2026-03-28 00:01"),
        "not_text",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "27.03.26, 08:00 - {}: {}",
        "27.03.2026, 08:00 Uhr - {}: {}",
        "27/03/2026 à 08:00 - {}: {}",
        "27/3/26 8:00 a. m. - {}: {}",
        "2026-03-27, 08:00 - {}: {}",
        "[27/03/2026, 8:00:00\u202fAM] {}: {}",
        "27.3.2026 8.00 - {}: {}",
        "2026. 3. 27. 오전 8:00, {} : {}",
        "[2026. 3. 27. 오전 8:00:11] {}: {}",
        "2026년 3월 27일 오전 8:00, {} : {}",
        "2026/3/27 上午8:00 - {}: {}",
    ],
)
def test_dates_of_whatsapp_in_many_languages(tmp_path: Path, line: str) -> None:
    text = "\n".join([line.format("Ana", "Wann?"), line.format("Desk", "Um acht.")])
    found, made = rows(tmp_path, text)
    assert found.format == "whatsapp"
    assert [row[1:] for row in made] == [
        ("Ana", "Wann?", "2026-03-27 08:00"),
        ("Desk", "Um acht.", "2026-03-27 08:00"),
    ]
    assert propose(found).why.endswith("Choose below who gives the answers.")


@pytest.mark.parametrize(
    "message",
    [
        "<Mídia oculta>",
        "‹Mídia oculta>",
        "<メディアは含まれていません>",
        "<Без медиафайлов>",
        "IMG-20270101-WA0001.jpg (file attached)",
        "IMG-20270101-WA0001.jpg (file attached)\nLook at this rash",
        "Look at this \u200e<attached: 0001-PHOTO.jpg>",
        "POLL:\nWhich day?\nOPTION: Mon (2 votes)\nOPTION: Tue (0 votes)",
        "UMFRAGE:\nWelcher Tag?\nOPTION: Mo (2 Stimmen)",
        "location: https://maps.google.com/?q=1,2",
        "Standort: https://maps.google.com/?q=1,2",
        "Café Mond (Am Markt 1): https://foursquare.com/v/4b0587a6f964a",
        "live location shared",
    ],
)
def test_what_whatsapp_writes_for_pictures_polls_and_places_is_left_out(
    tmp_path: Path, message: str
) -> None:
    line = "1/5/27, 9:0{} AM - {}: {}"
    said = [("Ana", "When?"), ("Desk", message), ("Desk", "5 mg if <40 kg, see https://x.org")]
    text = "\n".join(line.format(n, *each) for n, each in enumerate(said))
    found, made = rows(tmp_path, text)
    assert [row if row == "not_text" else row[2] for row in made] == [
        "When?", "not_text", "5 mg if <40 kg, see https://x.org",
    ]  # fmt: skip
    assert found.warnings == [
        "1 message is no text but a picture, a sound, a poll or a place, and was left out; look "
        "whether what follows it still makes sense."
    ]


def test_a_person_may_read_a_chat_as_a_text(tmp_path: Path) -> None:
    found, _ = rows(tmp_path, exports.WHATSAPP, form="document")
    assert (found.format, found.way) == ("text", "text")


def test_teams_as_a_table_with_html(tmp_path: Path) -> None:
    table = (
        "MessageId,ThreadId,Sender,SentTime,Content\n"
        '1,t1,Ana,2026-03-27T08:00,"<p>When do<br>visits end?</p>"\n'
        '2,t1,Desk,2026-03-27T08:01,"<p>At <s>six</s> eight.</p>"\n'
        '3,t1,Ben,2026-03-28T08:00,"<p>And today?</p>"\n'
        '4,t1,Desk,2026-03-28T08:01,"<p>At 10<sup>30</sup>.</p>"\n'
    )
    found, _ = rows(tmp_path, table)
    assert found.columns == ["conversation", "MessageId", "Sender", "SentTime", "Content"]
    assert "In 1 place text is struck out and was left out (line 3)." in found.warnings
    chosen = {"Desk": "assistant", "Ana": "user", "Ben": "user"}
    assert talk(tmp_path, table, speakers=chosen) == [
        ["u: When do\nvisits end?", "a: At eight."],
        ["u: And today?", "a: At 10³⁰."],
    ]


DOSE = "Give <drug> 5 mg if HR <b and RR> 20, weight <kg> or p <s>."


@pytest.mark.parametrize(
    ("text", "is_html"),
    [
        (DOSE, False),
        ("a <b and c> d </b>", False),
        ("x <b> y", False),
        ("<drug>", False),
        ("<b>x</b>", True),
        ("one<br>two", True),
        ('<a href="x?a=1&b=2">y</a>', True),
        ("<p>one", True),
        ("<P CLASS=x>one", True),
        ("<ol reversed><li>x</ol>", True),
    ],
)
def test_a_text_is_html_by_tags_that_there_are(text: str, is_html: bool) -> None:
    assert fragments.is_marked_up(text) == is_html


def test_text_of_teams_is_no_html(tmp_path: Path) -> None:
    def message(number: int, who: str, kind: str, content: str) -> dict[str, Any]:
        return {
            "id": str(number), "messageType": "message",
            "createdDateTime": f"2027-01-05T09:0{number}:00Z",
            "from": {"user": {"displayName": who}},
            "body": {"contentType": kind, "content": content},
        }  # fmt: skip

    said = [
        message(1, "Ana", "text", "If <b>x</b> <kg and age> 3?"),
        message(2, "Desk", "text", DOSE),
        message(3, "Desk", "html", "<p>Or <b>x</b> &lt;kg&gt;</p>"),
    ]
    _, made = rows(tmp_path, json.dumps(said))
    assert [row[2] for row in made] == ["If <b>x</b> <kg and age> 3?", DOSE, "Or x <kg>"]
    old = [
        {"messagetype": "Text", "displayName": "Ana", "content": "a <b>b</b>"},
        {"messagetype": "RichText", "displayName": "Ana", "content": 'Hi <ss type="x">(:</ss>'},
    ]
    _, made = rows(tmp_path, json.dumps({"conversations": [{"MessageList": old, "id": "1"}]}))
    assert [row[2] for row in made] == ["a <b>b</b>", "Hi (:"]


def test_a_table_of_messages_with_their_threads(tmp_path: Path) -> None:
    table = (
        "Sender,Time,Message,Thread\n"
        "user,2027-01-05 09:05,What about <drug name>?,1\n"
        f'agent,2027-01-05 09:06,"{DOSE}",1\n'
    )
    assert talk(tmp_path, table) == [["u: What about <drug name>?", f"a: {DOSE}"]]
    # A column that is called so has no turns in it.
    more = table.replace("Thread", "Conversation")
    assert talk(tmp_path, more) == talk(tmp_path, table)
    twice = "\n".join(
        f"{line},{'Session' if n == 0 else 'a'}" for n, line in enumerate(table.splitlines())
    )
    assert talk(tmp_path, twice) == talk(tmp_path, table)


def test_teams_of_microsoft_graph_comes_newest_first(tmp_path: Path) -> None:
    def message(minute: int, who: str, text: str, **more: Any) -> dict[str, Any]:
        return {
            "createdDateTime": f"2026-03-27T08:{minute:02}:00Z",
            "from": {"user": {"displayName": who}} if who else None,
            "body": {"contentType": "html", "content": text},
            "chatId": "c",
            **more,
        }

    found, made = rows(
        tmp_path,
        json.dumps(
            {
                "value": [
                    message(5, "", "", messageType="systemEventMessage"),
                    message(2, "Desk", "<p>At eight.</p>"),
                    message(1, "Ana", "<p>When do visits end?</p>"),
                ]
            }
        ),
    )
    assert found.pause_minutes == 240
    assert made == [
        ("c · 1", "Ana", "When do visits end?", "2026-03-27 08:01"),
        ("c · 1", "Desk", "At eight.", "2026-03-27 08:02"),
        "notice",
    ]


def test_slack(tmp_path: Path) -> None:
    found, made = rows(tmp_path, exports.slack())
    assert (found.format, found.place) == ("slack", "message")
    assert made[0] == "notice"
    thread = "ward 1790000001.0 · 1"
    assert made[1][:3] == (thread, "Ana", "Is the form & @U2?")
    assert made[2][:3] == ("ward · 1", "U3", "Another matter?")
    assert made[3][:3] == (thread, "Desk", "Yes.")
    assert made[4] == "not_text"
    assert "“channels.json” (about the channels)" in found.warnings[0]


def test_telegram(tmp_path: Path) -> None:
    chat = {
        "name": "Ward",
        "type": "private_group",
        "id": 1,
        "messages": [
            {"id": 1, "type": "service", "date": "2026-03-27T08:00:00", "text": "", "actor": "Ana"},
            {"id": 2, "type": "message", "date": "2026-03-27T08:01:00", "from": "Ana",
             "text": ["When do ", {"type": "bold", "text": "visits"}, " end?"]},
            {"id": 3, "type": "message", "date": "2026-03-27T08:02:00", "from": "Desk",
             "text": "At eight."},
        ],
    }  # fmt: skip
    assert rows(tmp_path, json.dumps(chat))[1] == [
        "notice",
        ("1", "Ana", "When do visits end?", "2026-03-27 08:01"),
        ("1", "Desk", "At eight.", "2026-03-27 08:02"),
    ]


# --- transcripts -----------------------------------------------------------------------------


def test_vtt_by_speaker(tmp_path: Path) -> None:
    found, made = rows(tmp_path, exports.VTT)
    assert (found.format, found.place) == ("subtitles", "line")
    assert made == [
        ("1", "Anna Smith", "What is a pulse & where? Tell me.", "0:00:00"),
        ("1", "Ben", "The beat.", "0:00:04"),
        ("1", "Anna Smith", "Right.", "0:00:04"),
    ]


def test_srt_with_names_before_what_is_said(tmp_path: Path) -> None:
    assert rows(tmp_path, exports.SRT)[1] == [
        ("1", "Anna", "What is a pulse?", "0:00:00"),
        ("1", "Ben", "The beat of the heart. as you feel it.", "0:00:03"),
        ("1", "Anna", "Right.", "0:00:06"),
    ]


def test_subtitles_that_name_nobody_are_a_document(tmp_path: Path) -> None:
    found, made = rows(tmp_path, exports.SRT_OF_NOBODY)
    assert (found.format, found.way) == ("subtitles", "text")
    assert made == [("", "Wash your hands before you begin.\n\nThen dry them.")]


def test_of_two_speakers_the_one_who_asks_does_not_answer(tmp_path: Path) -> None:
    vtt = "WEBVTT\n\n" + "".join(
        f"00:0{n}:00.000 --> 00:0{n}:01.000\n<v Teacher>What is {n}?\n\n"
        f"00:0{n}:02.000 --> 00:0{n}:03.000\n<v Pupil>It is {n}.\n\n"
        for n in range(3)
    )
    assert talk(tmp_path, vtt) == [
        [
            "u: What is 0?",
            "a: It is 0.",
            "u: What is 1?",
            "a: It is 1.",
            "u: What is 2?",
            "a: It is 2.",
        ]
    ]


# --- mail ------------------------------------------------------------------------------------


def test_a_mail_is_decoded_and_its_history_stands_apart(tmp_path: Path) -> None:
    body = (
        "At eight.\n-- \nDesk, ward 3\n"
        "On 26 Mar 2026 Ana\n<ana@example.org> wrote:\n> When?\n>> Older.\n"
    )
    found, made = rows(tmp_path, exports.eml(body))
    assert (found.format, found.place) == ("mail", "message")
    assert made == [
        (
            "<2@example.org>",
            "Re: Grüße",
            "Desk",
            "ana@example.org",
            "2026-03-27 08:00",
            "At eight.",
            "When?",
        )
    ]
    assert "1 signature below a line “--” was left out (message 1)." in found.warnings
    assert any("older mails are quoted" in warning for warning in found.warnings)
    proposal = propose(found)
    assert not proposal.is_sure
    assert {c.name: c.role.value for c in proposal.mapping.columns if c.role != "ignore"} == {
        "quoted": "question",
        "text": "answer",
    }


def test_history_as_outlook_writes_it(tmp_path: Path) -> None:
    body = (
        "At eight.\n\nVon: Ana\nGesendet: Montag\nAn: Desk\nBetreff: Besuch\n\nWann?\n\n"
        "Von: X\nGesendet: Y\n\nalt"
    )
    assert rows(tmp_path, exports.eml(body))[1][0][-2:] == ("At eight.", "Wann?")


@pytest.mark.parametrize(
    ("body", "said", "quoted"),
    [
        ("Give it if\n>38 °C only.\n\n> Which?\n>> old", "Give it if\n>38 °C only.", "Which?"),
        (">=38.5 and\n>2 times\n>\n> When?", ">=38.5 and\n>2 times", "When?"),
        ("Yes.\n>Which dose?\n>5 mg?\n>10 mg?", "Yes.", "Which dose?\n5 mg?\n10 mg?"),
        ("Yes.\n\n> Which?\n>38 °C only.", "Yes.\n\n>38 °C only.", "Which?"),
    ],
)
def test_more_than_a_figure_is_no_quotation(
    tmp_path: Path, body: str, said: str, quoted: str
) -> None:
    head = (
        "From: Ana <a@x.org>\nTo: desk@x.org\nSubject: Fever\nDate: Mon, 5 Jan 2026 08:00:00 +0000"
    )
    _, made = rows(tmp_path, f"{head}\n\n{body}\n")
    assert made[0][-2:] == (said, quoted)


def test_lines_that_a_program_broke_are_joined(tmp_path: Path) -> None:
    body = "At \neight \nsharp.\n\n> When \n> do visits\n> end?\n-- \nDesk\n"
    mail = exports.eml(body, Content_Type="text/plain; charset=utf-8; format=flowed")
    assert rows(tmp_path, mail)[1][0][-2:] == ("At eight sharp.", "When do visits\nend?")


def test_answers_between_quoted_lines_are_said(tmp_path: Path) -> None:
    body = "> When?\nAt eight.\n> Where?\nHere.\n"
    assert rows(tmp_path, exports.eml(body))[1][0][-2:] == ("At eight.\nHere.", "When?\nWhere?")


def test_mail_of_html_alone_with_an_attachment(tmp_path: Path) -> None:
    body = (
        "--b\nContent-Type: text/html; charset=iso-8859-1\n"
        "Content-Transfer-Encoding: quoted-printable\n\n"
        "<p>Um acht, Gr=FC=DFe</p><blockquote><p>Wann?</p></blockquote>\n"
        "--b\nContent-Type: image/png\nContent-Disposition: attachment; filename=a.png\n\nx\n"
        "--b--\n"
    )
    found, made = rows(tmp_path, exports.eml(body, Content_Type="multipart/mixed; boundary=b"))
    assert made[0][-2:] == ("Um acht, Grüße", "Wann?")
    assert "1 attachment was not read (message 1)." in found.warnings


def test_a_mailbox_is_conversations_in_the_order_of_time(tmp_path: Path) -> None:
    asked = exports.eml(
        "When?\n>From us\n", Message_ID="<1@example.org>", From="Ana <ana@example.org>",
        Date="Thu, 26 Mar 2026 08:00:00 +0100",
    )  # fmt: skip
    answer = exports.eml("At eight.\n\nOn Thu Ana wrote:\n> When?\n", In_Reply_To="<1@example.org>")
    box = exports.mbox(answer, asked)
    found, made = rows(tmp_path, box)
    assert [(row[0], row[2], row[-2]) for row in made] == [
        ("<1@example.org>", "Ana", "When?\nFrom us"),
        ("<1@example.org>", "Desk", "At eight."),
    ]
    assert [row.number for row in found.preview] == [2, 1]
    assert talk(tmp_path, box, speakers={"Desk": "assistant", "Ana": "user"}) == [
        ["u: When?\nFrom us", "a: At eight."]
    ]


# --- chats with models, and other JSON ------------------------------------------------------


def only_turns(made: list[Any]) -> list[tuple[str, Any]]:
    return [(turn["role"], turn["content"]) for turn in made[0][0]]


def test_open_webui_shows_the_branch_that_was_seen_last(tmp_path: Path) -> None:
    nodes = {
        "1": {"id": "1", "parentId": None, "role": "user", "content": "How much?"},
        "2": {"id": "2", "parentId": "1", "role": "assistant", "content": "1 g"},
        "3": {"id": "3", "parentId": "1", "role": "assistant", "content": "100 mg"},
    }
    chat = {"title": "t", "history": {"messages": nodes, "currentId": "3"}, "messages": []}
    _, made = rows(tmp_path, json.dumps([{"id": "a", "title": "t", "chat": chat}]))
    assert only_turns(made) == [("user", "How much?"), ("assistant", "100 mg")]


def chatgpt(*messages: tuple[str, Any], **more: Any) -> str:
    """A chat of ChatGPT of turns that follow each other; a text, or the content."""
    nodes: dict[str, Any] = {"0": {"id": "0", "parent": None, "message": None}}
    for number, (who, content) in enumerate(messages, start=1):
        role, _, recipient = who.partition(" to ")
        said = {"content_type": "text", "parts": [content]} if type(content) is str else content
        message = {"author": {"role": role}, "content": said, "recipient": recipient or "all"}
        message["metadata"] = {"is_visually_hidden_from_conversation": bool(said.pop("hid", False))}
        nodes[str(number)] = {"id": "n", "parent": str(number - 1), "message": message}
    return json.dumps(
        [{"title": "T", "mapping": nodes, "current_node": str(len(messages)), **more}]
    )


def test_chatgpt_without_what_is_for_tools_and_with_its_thoughts(tmp_path: Path) -> None:
    thoughts = {"content_type": "thoughts", "thoughts": [{"summary": "s", "content": "weighing"}]}
    about = {"content_type": "user_editable_context", "user_profile": "I am a nurse"}
    chat = chatgpt(
        ("system", ""),
        ("user", about),
        ("user", {"content_type": "text", "parts": ["hidden"], "hid": True}),
        ("user", "How much?"),
        ("assistant", thoughts),
        ("assistant", {"content_type": "reasoning_recap", "content": "Thought for 2s"}),
        ("assistant to browser", {"content_type": "code", "text": "search('x')"}),
        ("tool", {"content_type": "tether_browsing_display", "result": "x"}),
        ("tool", {"content_type": "tether_quote", "text": "quoted"}),
        (
            "assistant",
            '5 mg \ue200cite\ue202turn0search1\ue201. Of \ue200entity\ue202["drug", '
            '"Aspirin"]\ue201, \ue203so\ue204 they say【12†source】; see † below.',
        ),
    )
    found, made = rows(tmp_path, chat)
    assert made[0][0] == [
        {"role": "user", "content": ["How much?"]},
        {"role": "tool", "content": {"content_type": "tether_quote", "text": "quoted"}},
        {
            "role": "assistant",
            "content": ["5 mg. Of Aspirin, so they say; see † below."],
            "reasoning_content": "weighing",
        },
    ]
    assert found.warnings == [
        "In 2 places of chats what the model said to a tool, or what a program did with one, was "
        "left out (first in entry 1); look whether the answers make sense without it.",
        "1 answer refers to sources by signs of the program, which were left out (entry 1).",
        "2 turns have a person’s standing instructions or what the program remembers, and were "
        "left out (first in entry 1).",
    ]


def claude(*turns: dict[str, Any]) -> str:
    return json.dumps([{"uuid": "1", "name": "n", "chat_messages": list(turns)}])


def test_claude_with_files_thoughts_and_the_answer_shown_last(tmp_path: Path) -> None:
    unsupported = "\n```\nThis block is not supported on your current device yet.\n```\n"
    text = {"type": "text", "text": "5 mg"}
    first: dict[str, Any] = {
        "uuid": "a",
        "sender": "human",
        "text": "How much?",
        "parent_message_uuid": "0",
    }
    first["attachments"] = [{"file_name": "a.txt", "extracted_content": "20 kg"}]
    first["files"] = [{"file_name": "scan.png"}, {"file_name": "a.txt"}]
    old = {"uuid": "b", "sender": "assistant", "text": "50 mg", "parent_message_uuid": "a"}
    new: dict[str, Any] = {"uuid": "c", "sender": "assistant", "parent_message_uuid": "a"}
    new |= {"text": f"5 mg{unsupported}more", "content": [
        {"type": "thinking", "thinking": "hm"}, text, {"type": "tool_use", "name": "artifacts"},
        {"type": "tool_result", "content": []}, {"type": "text", "text": "more"},
    ]}  # fmt: skip
    found, made = rows(tmp_path, claude(first, old, new))
    assert made[0][0] == [
        {"role": "human", "content": "How much?\n\na.txt:\n20 kg"},
        {"role": "assistant", "content": "5 mg\n\nmore", "reasoning_content": "hm"},
    ]
    assert found.warnings == [
        "In 1 place of a chat what the model said to a tool, or what a program did with one, was "
        "left out (entry 1); look whether the answer makes sense without it.",
        "1 question was asked with a file, which is not in this export (entry 1); look whether "
        "its answer makes sense without it.",
    ]
    # Of an older export, which has the text alone.
    del new["content"], first["attachments"], first["files"]
    assert only_turns(rows(tmp_path, claude(first, old, new))[1])[1] == ("assistant", "5 mg\nmore")


def test_open_webui_has_thoughts_folded_away_in_answers(tmp_path: Path) -> None:
    said = (
        '<details type="reasoning" done="true" duration="2">\n<summary>Thought</summary>\n'
        "&gt; hm &lt;5\n&gt; yes\n</details>\n"
        '<details type="tool_calls" done="true" result="&quot;a > b&quot;">\n'
        "<summary>Tool</summary>\n</details>\n5 mg\n<details>\nmore\n</details>"
    )
    turns = [{"role": "user", "content": "How much?"}, {"role": "assistant", "content": said}]
    found, made = rows(tmp_path, json.dumps([{"id": "a", "chat": {"messages": turns}}]))
    assert made[0][0][1] == {
        "role": "assistant",
        "content": "5 mg\n<details>\nmore\n</details>",
        "reasoning_content": "hm <5\nyes",
    }
    assert found.warnings[0].startswith("In 1 place of a chat what the model said to a tool")


def test_gemini_of_ai_studio_with_its_thoughts(tmp_path: Path) -> None:
    chat = exports.chunked(
        ("user", "How much?"), ("thought", "Hm."), ("model", "100"), ("model", "mg")
    )
    _, made = rows(tmp_path, json.dumps(chat))
    assert only_turns(made) == [("user", "How much?"), ("model", "100\n\nmg")]
    assert made[0][0][1]["reasoning_content"] == "Hm."
    assert made[0][1] == "Be brief."


def test_gemini_of_google_takeout(tmp_path: Path) -> None:
    activity = [
        {"header": "Gemini Apps", "title": "Prompted How much?", "time": "2026-03-27T08:00:00Z",
         "products": ["Gemini Apps"], "safeHtmlItem": [{"html": "<p>100&nbsp;mg</p>"}]},
        {"header": "Gemini Apps", "title": "Used Gemini Apps", "products": ["Gemini Apps"]},
    ]  # fmt: skip
    assert rows(tmp_path, json.dumps(activity))[1] == [
        ("How much?", "100 mg", "2026-03-27T08:00:00Z"),
        "notice",
    ]


def test_google_takeout_in_other_words(tmp_path: Path) -> None:
    activity = [
        {"header": "Gemini Apps", "title": "Gab Folgendes ein: Wie viel?", "time": "x",
         "safeHtmlItem": [{"html": "<p>100&nbsp;mg</p>"}]},
        {"header": "Gemini Apps", "title": "Used an assistant feature", "time": "x"},
        {"header": "Gemini Apps", "title": "Used a canvas", "time": "x",
         "safeHtmlItem": [{"html": "<p>a page</p>"}]},
        {"header": "Search", "title": "Asked x", "products": ["Search"],
         "safeHtmlItem": [{"html": "<p>a page</p>"}]},
        {"header": "Gemini Apps", "title": "Kysyi: Paljonko?", "time": "x",
         "safeHtmlItem": [{"html": "<p>100 mg</p>"}]},
    ]  # fmt: skip
    found, made = rows(tmp_path, json.dumps(activity))
    assert made == [
        ("Wie viel?", "100 mg", "x"), "notice", "notice", "notice",
        ("Kysyi: Paljonko?", "100 mg", "x"),
    ]  # fmt: skip
    assert found.warnings[-1] == (
        "3 rows are notices of the program, which nobody said, and were left out."
    )
    assert found.warnings[0].startswith("1 question may begin with words of Google’s")


def test_gemini_of_google_takeout_as_a_web_page(tmp_path: Path) -> None:
    date = "Mar 27, 2026, 8:00:00\u202fAM CET"
    page = exports.activity(
        exports.activity_cell(
            f"Prompted&nbsp;How much &amp; how often<br>below 20 kg?<br>{date}<br>"
            "<p>10 mg/kg, up to 10<sup>3</sup> mg</p><ul><li>with water</li></ul>"
        ),
        exports.activity_cell(
            "Eingegebener Prompt:&nbsp;Was ist Asthma?<br>27.03.2026, 08:00:00 MEZ<br><p>Eng.</p>"
        ),
        exports.activity_cell(
            "Prompted&nbsp;What is this?<br>Attached 1 file.<br>-&nbsp;<a href='a.png'>a.png</a>"
            f"<br>{date}<br><p>A knee.</p>"
        ),
        # A language of which nobody wrote down the words: told by what stands below it.
        exports.activity_cell(
            "Gav instruktionen&nbsp;vilken?<br>4 juli 2026 09:15:00 CEST<br><p>Den.</p>"
        ),
        exports.activity_cell(f"Used&nbsp;Gemini Apps<br>{date}<br>"),
        exports.activity_cell(f"Created Gemini Canvas titled&nbsp;Plan<br>{date}<br><p>1.</p>"),
        exports.activity_cell(f"Watched&nbsp;<a href=x>Film</a><br>{date}<br>", "YouTube"),
    )
    found, made = rows(tmp_path, page)
    assert (found.format, found.place, found.columns) == (
        "html",
        "entry",
        ["question", "answer", "date"],
    )
    assert made == [
        (
            "How much & how often\nbelow 20 kg?",
            "10 mg/kg, up to 10³ mg\n\n- with water",
            "Mar 27, 2026, 8:00:00 AM CET",
        ),
        ("Was ist Asthma?", "Eng.", "27.03.2026, 08:00:00 MEZ"),
        ("What is this?", "A knee.", "Mar 27, 2026, 8:00:00 AM CET"),
        ("vilken?", "Den.", "4 juli 2026 09:15:00 CEST"),
        "notice",
        "notice",
        "notice",
    ]
    assert propose(found).is_sure
    assert any("1 question was asked with a file" in said for said in found.warnings)
    # As Takeout packs it, with what it puts beside everything; and read as a document on request.
    packed = {
        "Takeout/archive_browser.html": "<html><h1>Your archive</h1></html>",
        "Takeout/My Activity/Gemini Apps/MyActivity.html": page,
    }
    assert rows(tmp_path, files.zip_of(packed))[1] == made
    assert rows(tmp_path, page, form="document")[0].is_document


def test_each_file_of_a_zip_may_be_read_in_its_own_way(tmp_path: Path) -> None:
    quizzes = files.zip_of({"ward/a.txt": exports.AIKEN, "ward/b.txt": exports.AIKEN})
    of_b = {"files": {"ward/b.txt": {"options": "letters"}}}
    found, made = rows(tmp_path, quizzes, options="list", **of_b)
    answers = [row[-1] for row in made if isinstance(row, tuple)]
    assert answers[: len(answers) // 2] == ["Blood pressure", "The one who\nfinds the person"]
    assert answers[len(answers) // 2 :] == [f"b) {answer}" for answer in answers[:2]]
    assert (found.options, [part.options for part in found.parts]) == ("list", ["list", "letters"])
    assert propose(found).mapping.files == of_b["files"]

    late = exports.WHATSAPP
    chats = files.zip_of({"x_chat.txt": late, "y_chat.txt": late})
    found, made = rows(tmp_path, chats, files={"x_chat.txt": {"pause_minutes": 1000}})
    names = {row[1] for row in made if isinstance(row, tuple)}
    assert names == {"x_chat.txt · 1", "y_chat.txt · 1", "y_chat.txt · 2"}
    assert found.pause_minutes == 240

    # A quiz among tables is enough to ask how options are shown.
    table = "question,answer\nWhere?,There\nWhen?,Now\n"
    found, _ = rows(tmp_path, files.zip_of({"a.csv": table, "b.json": json.dumps(CHOICE)}))
    assert found.options == "leave_out"

    for content in (quizzes, exports.AIKEN):
        with pytest.raises(Unreadable, match="was chosen"):
            rows(tmp_path, content, files={"b.txt": {"options": "list"}})


CHOICE = [
    {"question": f"Q{n}?", "options": ["x", "y"], "correct": "AB"[n % 2]} for n in range(4)
]  # fmt: skip


def test_gemini_as_its_api_has_turns(tmp_path: Path) -> None:
    line = {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "How much?"}]},
            {"role": "model", "parts": [{"text": "100 mg"}]},
        ],
    }
    found, made = rows(tmp_path, f"{json.dumps(line)}\n{json.dumps(line)}\n")
    assert found.columns == ["messages", "system"]
    assert (len(made), made[0][1]) == (2, "Be brief.")
    assert propose(found).is_sure
    assert len(rows(tmp_path, json.dumps(line))[1]) == 1


def test_squad(tmp_path: Path) -> None:
    asked = [
        {"id": "1", "question": "How much?", "answers": [{"text": "100 mg", "answer_start": 0}]},
        {"id": "2", "question": "Why?", "answers": [], "is_impossible": True},
    ]
    squad = {
        "version": "2",
        "data": [{"title": "Drugs", "paragraphs": [{"context": "c", "qas": asked}]}],
    }
    assert rows(tmp_path, json.dumps(squad))[1] == [
        ("Drugs", "c", "How much?", "100 mg"),
        "no_right_answer",
    ]
    flat = {
        "id": "1",
        "question": "How much?",
        "answers": {"text": ["100 mg"], "answer_start": [0]},
    }
    assert rows(tmp_path, json.dumps(flat) + "\n" + json.dumps(flat))[1][0][-1] == "100 mg"


def test_a_page_that_a_hub_shows_of_a_data_set(tmp_path: Path) -> None:
    shown = {
        "features": [{"feature_idx": 0, "name": "question", "type": {"dtype": "string"}}],
        "rows": [
            {"row_idx": 0, "row": {"question": "How much?", "answer": "100 mg"}},
            {
                "row_idx": 1,
                "row": {"question": "How often?", "answer": "Twice a da"},
                "truncated_cells": ["answer"],
            },
        ],
        "num_rows_total": 2,
    }
    found, made = rows(tmp_path, json.dumps(shown))
    assert found.columns == ["question", "answer"]
    assert made == [("How much?", "100 mg"), ("How often?", "")]
    oddities: list[Any] = [5, [["answer"]], [{}], "answer", ["other"]]  # they break nothing
    for odd in oddities:
        shown["rows"][1]["truncated_cells"] = odd  # type: ignore[index]
        assert rows(tmp_path, json.dumps(shown))[0].columns == ["question", "answer"]


@pytest.mark.parametrize(
    "shape",
    [
        {"train": [{"question": "a", "answer": "b"}], "test": [], "info": "x"},
        {"train": {"question": ["a", "c"], "answer": ["b", "d"]}, "test": []},
        {"data": {"train": [{"question": "a", "answer": "b"}], "dev": []}},
        {"columns": ["question", "answer"], "index": [0], "data": [["a", "b"]]},
        {
            "q1": {"question": "a", "answer": "b"},
            "q2": {"question": "c", "answer": "d", "note": "n"},
        },
    ],
)
def test_objects_that_hold_all_rows(tmp_path: Path, shape: Any) -> None:
    for text in (json.dumps(shape), json.dumps(shape, indent=1)):
        found, made = rows(tmp_path, text)
        assert {"question", "answer"} <= set(found.columns)
        assert {"a", "b"} <= set(made[0])


def test_an_object_of_questions_with_their_answers(tmp_path: Path) -> None:
    assert rows(tmp_path, json.dumps({"How much?": "100 mg", "Who?": "I", "When?": "Now"}))[1] == [
        ("How much?", "100 mg"),
        ("Who?", "I"),
        ("When?", "Now"),
    ]
    # The fields of one example are none.
    assert len(rows(tmp_path, json.dumps({"question": "a", "answer": "b", "note": "c"}))[1]) == 1


@pytest.mark.parametrize(
    ("markup", "expected", "left_out"),
    [
        (
            "Give 5 mg <span style='display:none'>50 mg</span> daily",
            "Give 5 mg daily",
            "hidden_text",
        ),
        ("<p hidden>50 mg<p>5 mg", "5 mg", "hidden_text"),
        ("<span hidden>50<span> m</span>g</span>5 mg", "5 mg", "hidden_text"),
        ("<i style='color: red; text-decoration: line-through'>50</i> 5 mg", "5 mg", "struck"),
        ("<s>50 <s>or 500</s> mg</s>5 mg", "5 mg", "struck"),
        ("<b class='a hidden b'>5 mg</b><input type='hidden'>", "5 mg", None),
    ],
)
def test_what_is_not_seen_of_a_piece_of_html(
    markup: str, expected: str, left_out: str | None
) -> None:
    seen = Seen()
    assert fragments.seen_text(markup, seen, 1) == expected
    assert dict(seen.counts) == ({left_out: 1} if left_out else {})


# --- what is refused by its name, and what is passed over -----------------------------------

REFUSED = {
    "webp": (b"RIFF\x10\0\0\0WEBPVP8 ", "a picture (WebP)"),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0", "a picture (HEIC)"),
    "avif": (b"\0\0\0\x18ftypavif\0\0\0\0", "a picture (AVIF)"),
    "svg": (b'<?xml version="1.0"?>\n<svg xmlns="x"/>', "a picture (SVG)"),
    "bmp": (b"BM\x36\x10\0\0\0\0\0\0\x36\0\0\0", "a picture (BMP)"),
    "dicom": (bytes(128) + b"DICM" + bytes(20), "a picture (DICOM, of a patient)"),
    "wav": (b"RIFF\x10\0\0\0WAVEfmt ", "a sound (WAV)"),
    "mp3 without a tag": (b"\xff\xfb\x90\x64" + bytes(20), "a sound (MP3)"),
    "m4a": (b"\0\0\0\x18ftypM4A \0\0\0\0", "a sound (M4A)"),
    "flac": (b"fLaC" + bytes(20), "a sound (FLAC)"),
    "avi": (b"RIFF\x10\0\0\0AVI LIST", "a film (AVI)"),
    "mov": (b"\0\0\0\x14ftypqt  \0\0\0\0", "a film (QuickTime)"),
    "webm": (b"\x1a\x45\xdf\xa3" + bytes(20), "a film (WebM or Matroska)"),
    "hl7": (b"MSH|^~\\&|LAB|H|||20260327||ORU^R01|1|P|2.5\rPID|1||7\r", "HL7 messages"),
    "hl7 with a mark": (b"\xef\xbb\xbf\x0bMSH|^~\\&|LAB|\rPID|1||7\r", "HL7 messages"),
    "cda": (b'<?xml version="1.0"?><ClinicalDocument xmlns="urn:hl7-org:v3"/>', "(HL7 CDA)"),
    "fhir xml": (b'<Patient xmlns="http://hl7.org/fhir"><id/></Patient>', "FHIR in XML"),
    "vcard": (b"BEGIN:VCARD\r\nVERSION:3.0\r\n", "contacts (vCard)"),
    "calendar": (b"BEGIN:VCALENDAR\r\n", "a calendar (iCalendar)"),
    "fhir": (
        b'{"resourceType": "QuestionnaireResponse", "item": []}', "FHIR (QuestionnaireResponse)"
    ),
    "fhir lines": (b'{"resourceType": "Patient"}\n{"resourceType": "Patient"}\n', "FHIR (Patient)"),
    "fhir bundle": (
        b'{"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "Patient"}}]}',
        "FHIR (Bundle)",
    ),
    "hdf5": (b"\x89HDF\r\n\x1a\n", "HDF5 data"),
    "spss": (b"$FL2@(#) SPSS DATA FILE", "an SPSS file"),
    "stata": (b"<stata_dta><header>", "a Stata file"),
    "pst": (b"!BDN" + bytes(40), "a mailbox of Outlook (PST)"),
    "access": (b"\0\1\0\0Standard ACE DB\0", "an Access database"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "a picture (PostScript or EPS)"),
    "edifact": (b"UNA:+.? 'UNB+UNOC:3+A+B'", "messages between programs (EDIFACT)"),
    "edifact without its signs": (b"UNB+UNOA:1+A+B'", "messages between programs (EDIFACT)"),
    "x12": (b"ISA*00*          *00*          *ZZ*A", "messages between programs (X12)"),
    "noise": (b"\x8aXYZ\r\n\x1a\n", "This file is not text"),
    "msg": (files.compound({"__substg1.0_1000001F": b"x" * 5000}), "a mail of Outlook (MSG)"),
}  # fmt: skip


def test_a_page_with_a_picture_in_it_is_no_picture() -> None:
    page = b"<!DOCTYPE html><html><head><link href='http://hl7.org/fhir'/></head><svg/></html>"
    for head in (page, b"<?xml version='1.0'?>" + page):
        assert named_kinds.refusal_of(head) is None
    framed = b'<?xml version="1.0"?><!-- a --><!DOCTYPE svg PUBLIC "x" "y">\n<svg width="1"/>'
    assert "SVG" in (named_kinds.refusal_of(framed) or "")


@pytest.mark.parametrize("name", REFUSED)
def test_what_holds_nothing_to_learn_is_called_by_its_name(tmp_path: Path, name: str) -> None:
    content, expected = REFUSED[name]
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(Unreadable) as refused:
        inspect(path, ReadAs(), lambda rows: None)
    message = str(refused.value)
    assert expected in message
    assert message.endswith(".")
    assert ". " not in message
    assert len(message) < 300


def test_clutter_of_an_archive_is_passed_over_and_listed(tmp_path: Path) -> None:
    table = "question,answer\n" + "Where?,There\n" * 3
    clutter = {
        "__MACOSX/._a.csv": b"x",
        "Icon\r": b"",
        "README.md": b"# About",
        "a.png": b"\x89PNG",
        "empty.csv": b"",
        "song.mp3": b"ID3\4",
        "~$a.docx": b"x",
        "~WRL0001.tmp": b"x",
    }
    found, made = rows(tmp_path, files.zip_of({**clutter, "desk/a.csv": table}))
    assert len(made) == 3
    assert [part.name for part in found.parts] == ["desk/a.csv"]
    assert found.warnings == [
        "In this ZIP “Icon�” (left behind by a program), “__MACOSX/._a.csv” (left behind by a "
        "program), “a.png” (a picture), “empty.csv” (empty), “song.mp3” (a sound) and 3 more were "
        "passed over."
    ]
    # A README alone may be what is meant.
    alone = "# Where?\n\nThere.\n\n# Who?\n\nWe.\n\n# When?\n\nNow.\n"
    assert len(rows(tmp_path, files.zip_of({"README.md": alone}))[1]) == 3


# --- tables of multiple choice ---------------------------------------------------------------

CHOICES = [
    ("How much?", ("1 g", "100 mg", "2 g"), 1),
    ("Who?", ("the nurse", "nobody", "the cook"), 0),
    ("When?", ("never", "at noon", "at eight"), 2),
]


@pytest.mark.parametrize(
    ("header", "right"),
    [
        ("Question,Option A,Option B,Option C,Correct answer", "abc"),
        ("Frage,Antwort A,Antwort B,Antwort C,Richtig", "A) B) C)".split()),  # noqa: SIM905
        ("question,A,B,C,answer", "ABC"),
        ("Question - max 120 characters,Answer 1 - max 75,Answer 2 - max 75,Answer 3 - max 75,"
         "Correct answer(s) - choose at least one", "123"),
        ("question,opa,opb,opc,cop", "012"),
        ("question,choice_1,choice_2,choice_3,answer", None),
    ],
)  # fmt: skip
def test_of_a_table_with_options_the_right_one_is_the_answer(
    tmp_path: Path, header: str, right: Any
) -> None:
    lines = [header] + [
        ",".join([asked, *texts, right[n] if right else texts[n]]) for asked, texts, n in CHOICES
    ]
    found, made = rows(tmp_path, "\n".join(lines))
    assert [row[-1] for row in made] == [texts[n] for _, texts, n in CHOICES]
    assert found.options == "leave_out"
    assert found.columns[-1] == "answer"
    proposal = propose(found)
    assert {c.role.value for c in proposal.mapping.columns} == {"question", "answer"}
    assert proposal.is_sure == ("max" not in header)
    _, made = rows(tmp_path, "\n".join(lines), options="letters")
    assert made[0] == ("How much?\n\na) 1 g\nb) 100 mg\nc) 2 g", "b) 100 mg")


def test_wrong_answers_beside_a_right_one(tmp_path: Path) -> None:
    table = "question,correct_answer,incorrect_1,incorrect_2\nWho?,the nurse,nobody,the cook\n"
    assert rows(tmp_path, table)[1] == [("Who?", "the nurse")]
    listed = rows(tmp_path, table, options="list")[1][0][0]
    assert listed == "Who?\n\n- nobody\n- the cook\n- the nurse"


@pytest.mark.parametrize(
    "table",
    [
        "question,answer,incorrect_answer\nHow many mg?,1,2\nHow much?,2,5\n",
        "question,correct_answer,distractor1,distractor2\nHow many mg?,1,2,3\nHow much?,2,3,1\n",
        "Question,Correct,Wrong 1,Wrong 2\nHow many mg?,1,2,3\nHow much?,2,1,3\n",
    ],
)
def test_a_figure_beside_wrong_answers_is_itself_the_right_one(tmp_path: Path, table: str) -> None:
    expected = [("How many mg?", "1"), ("How much?", "2")]
    assert rows(tmp_path, table)[1] == expected
    num_wrong = table.partition("\n")[0].count(",") - 1
    more = f"What?,5 mg{',50 mg' * num_wrong}\nWhich?,5{',5' * num_wrong}\n"
    # Words among figures change nothing; what is right and wrong at once is no answer.
    assert rows(tmp_path, table + more)[1] == [*expected, ("What?", "5 mg"), "options"]


def test_figures_and_words_as_right_answers_of_json(tmp_path: Path) -> None:
    wrong = {"distractor1": "50", "distractor2": "500"}
    lines = [{"question": asked, "correct_answer": text, **wrong} for asked, text in ("Q5", "Rx")]
    assert rows(tmp_path, files.jsonl(lines))[1] == [("Q", "5"), ("R", "x")]


def test_a_file_all_of_whose_rows_are_left_out_says_why(tmp_path: Path) -> None:
    line = {"question": "Dose?", "choices": ["5", "50"], "answer": "C"}
    with pytest.raises(Unreadable, match="1 question has options and does not say which is right"):
        rows(tmp_path, files.jsonl([line]))


def test_a_right_answer_that_is_not_plain_is_left_out(tmp_path: Path) -> None:
    table = "question,option a,option b,correct\nWho?,I,you,A\nWhy?,x,y,Z\nHow?,p,q,\nIf?,r,,B\n"
    found, made = rows(tmp_path, table)
    assert made == [("Who?", "I"), "options", "options", "options"]
    assert found.warnings == [
        "3 questions do not say which of their options are right, and were left out; set the "
        "right ones in the quiz and export it again."
    ]


def test_of_a_table_that_is_left_out_whole_no_column_is_called_blank(tmp_path: Path) -> None:
    table = "question,option_a,option_b,answer\nHow many mg?,10,20,40\nHow many ml?,1,2,9\n"
    found, made = rows(tmp_path, table)
    assert made == ["options", "options"]
    assert len(found.warnings) == 1
    assert "2 questions do not say which of their options are right" in found.warnings[0]


@pytest.mark.parametrize(
    "row",
    [
        lambda n, texts: {"choices": list(texts), "answer": n},
        lambda n, texts: {
            "choices": {"text": list(texts), "label": ["A", "B", "C"]}, "answerKey": "ABC"[n]
        },
        lambda n, texts: {
            "options": dict(zip("ABC", texts, strict=True)), "answer_idx": "ABC"[n],
            "answer": texts[n],
        },
        lambda n, texts: {"choices": list(texts), "answer": texts[n]},
    ],
)  # fmt: skip
def test_options_in_lists_of_json(tmp_path: Path, row: Any) -> None:
    lines = [{"question": asked, **row(n, texts)} for asked, texts, n in CHOICES]
    _, made = rows(tmp_path, files.jsonl(lines))
    assert made == [(asked, texts[n]) for asked, texts, n in CHOICES]


@pytest.mark.parametrize(
    ("options", "right"),
    [
        ('["never", "at noon", "at eight"]', "C"),
        ("['never', 'at noon', 'at eight']", "2"),
        ("['never', \"at noon\", 'at eight']", "at eight"),
        ('{"A": "never", "B": "at noon", "C": "at eight"}', "C"),
        ("A) never B) at noon C) at eight", "C"),
        ("(a) never, (b) at noon, (c) at eight", "(c)"),
        ("A. never\nB. at noon\nC. at eight", "C"),
        ("1) never 2) at noon 3) at eight", "3"),
        ("never\nat noon\nat eight", "C"),
        ("never;at noon;at eight", "at eight"),
        ("never | at noon | at eight", "C"),
    ],
)
def test_options_in_one_cell_of_a_table(tmp_path: Path, options: str, right: str) -> None:
    first = "0" if right == "2" else "a" if right != "at eight" else "x"
    cells = [
        json.dumps(text)[1:-1].replace('\\"', '""').replace("\\n", "\n") for text in (options,)
    ]
    table = f'question,options,answer\nWhen?,"{cells[0]}",{right}\nIf?,"x;y;z",{first}\n'
    assert rows(tmp_path, table)[1][0] == ("When?", "at eight")
    listed = rows(tmp_path, table, options="list")[1][0][0]
    assert listed == "When?\n\n- never\n- at noon\n- at eight"


@pytest.mark.parametrize(
    "choices",
    [
        [{"label": "A", "text": "5"}, {"label": "B", "text": "50"}],
        [{"text": "5"}, {"text": "50"}],
        [{"key": "A", "value": "5"}, {"key": "B", "value": "50"}],
        ["A. 5", "B. 50"],
        ["(A) 5", "(B) 50"],
    ],
)
def test_options_that_are_objects_or_begin_with_letters(tmp_path: Path, choices: Any) -> None:
    lines = [{"question": f"{key}?", "choices": choices, "answerKey": key} for key in "BA"]
    assert rows(tmp_path, files.jsonl(lines))[1] == [("B?", "50"), ("A?", "5")]


@pytest.mark.parametrize("right", ["A", "(b)", "2", "option a", "A, C", "answer_b"])
@pytest.mark.parametrize(
    "options", ["5 mg", "A. Vitamin B. B. Vitamin C.", "[5 mg", "['5 mg' '50 mg']", ""]
)
def test_a_letter_at_options_that_cannot_be_read_is_no_answer(
    tmp_path: Path, options: str, right: str
) -> None:
    table = f'question,options,answer\nDose?,"{options}","{right}"\nWhen?,"{options}",at noon\n'
    found, made = rows(tmp_path, table)
    kept = (options,) if options else ()
    assert made == ["options", ("When?", *kept, "at noon")]
    # What is not used is seen.
    assert ("options" in found.columns) == bool(options)


@pytest.mark.parametrize("choice", [{"picture": "a.png"}, {"text": ["x"]}, None, ["x"]])
def test_an_option_that_is_no_text_is_never_written_out(tmp_path: Path, choice: Any) -> None:
    lines = [
        {"question": "Which?", "choices": [choice, choice], "answerKey": "B"},
        {"question": "Which?", "choices": ["5", "50"], "answerKey": "B"},
    ]
    assert rows(tmp_path, files.jsonl(lines))[1] == ["options", ("Which?", "50")]


def test_numbers_of_options_that_may_be_counted_from_0_or_from_1(tmp_path: Path) -> None:
    lines = [{"question": "Dose?", "choices": ["5", "50", "500"], "answer": 1}]
    lines.append({"question": "When?", "choices": ["a", "b", "c"], "answer": 2})
    table = files.jsonl(lines)
    with pytest.raises(Unreadable, match="2 questions have options and do not say"):
        rows(tmp_path, table)
    first = files.jsonl([{"question": "If?", "choices": ["x", "y"], "answer": 0}])
    assert rows(tmp_path, table + first)[1] == [("Dose?", "50"), ("When?", "c"), ("If?", "x")]


def test_a_list_of_questions_comes_back_with_the_columns_it_had(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    for header in ("question,option a,option b,correct", "ThreadId,Sender,SentTime,Content"):
        path.write_text(f"{header}\nWho?,I,2026-03-27,A\n")
        assert read_sheet(path, 10).columns == header.split(",")


def test_other_tables_keep_their_columns(tmp_path: Path) -> None:
    for header in (
        "question,answer,answer 2",
        "q,a",
        "question,better answer,label",
        "a,b,c,answer",
    ):
        columns = header.split(",")
        found, _ = rows(tmp_path, f"{header}\n" + ",".join("xyzw"[: len(columns)]) + "\n")
        assert (found.options, found.columns) == (None, columns), header
