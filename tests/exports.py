"""Chats, mails, quizzes and cards as programs export them, invented and small."""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow

from tests import files

GIFT = """// a comment {=no}
$CATEGORY: $course$/Ward/Drugs

::Q1:: How much aspirin? {
	=100 mg#Yes.
	~1 g#Far too much.
	~None of these
}

::Q2::[html]<p>Which drugs thin the blood? 5 &lt; 10<sup>3</sup></p> {
	~%50%Heparin
	~%50%Warfarin
	~%-100%Vitamin K
}

Match them. {
	=heart -> pulse
	=lung -> breath
}

Two plus two is {=four =4 ~five}, always.

The ward is open at night. {FALSE#It closes.#It does close.}

How many beds? {#12:1}

Write about your day. {}

A remark without a question.

Escapes: is 1 \\= 1 and \\{x\\}? {=yes\\: it \\~is}
"""

AIKEN = """What is measured in mmHg?
A. Weight
B. Blood pressure
C. Height
ANSWER: B

Who calls the ambulance?
A) Nobody
B) The one who
finds the person
ANSWER: B

Which is right?
A. This
B. That

Last one?
A. Yes
B. No
ANSWER: Z
"""

MOODLE = """<?xml version="1.0" encoding="UTF-8"?>
<quiz>
<question type="category"><category><text>$course$/Ward</text></category></question>
<question type="multichoice"><name><text>1</text></name>
<questiontext format="html"><text><![CDATA[<p>How much <b>aspirin</b>?&nbsp;<img src="x.png">
</p>]]></text>
<file name="x.png" encoding="base64">AAAA</file></questiontext>
<single>true</single><shuffleanswers>true</shuffleanswers>
<answer fraction="0"><text>1 g</text><feedback><text>No.</text></feedback></answer>
<answer fraction="100"><text>100 mg</text></answer></question>
<question type="multichoice"><questiontext><text>Which two?</text></questiontext>
<single>false</single>
<answer fraction="50"><text>Heparin</text></answer><answer fraction="50"><text>Warfarin</text>
</answer>
<answer fraction="-100"><text>Vitamin K</text></answer></question>
<question type="truefalse"><questiontext><text>Open at night.</text></questiontext>
<answer fraction="0"><text>true</text></answer><answer fraction="100"><text>false</text>
</answer></question>
<question type="matching"><questiontext><text>Match.</text></questiontext>
<subquestion><text>heart</text><answer><text>pulse</text></answer></subquestion>
<subquestion><text></text><answer><text>wrong</text></answer></subquestion></question>
<question type="numerical"><questiontext><text>Beds?</text></questiontext>
<answer fraction="100"><text>12</text><tolerance>1</tolerance></answer>
<answer fraction="0"><text>*</text></answer></question>
<question type="essay"><questiontext><text>Write.</text></questiontext></question>
<question type="ddwtos"><questiontext><text>[[1]]</text></questiontext></question>
</quiz>"""

QTI1 = """<?xml version="1.0"?>
<!DOCTYPE questestinterop SYSTEM "ims_qtiasiv1p2p1.dtd">
<questestinterop xmlns="http://www.imsglobal.org/xsd/ims_qtiasiv1p2"><assessment><section>
<item ident="a"><presentation><material>
<mattext texttype="text/html">&lt;p&gt;How much?&lt;/p&gt;</mattext></material>
<response_lid ident="r1" rcardinality="Single"><render_choice>
<response_label ident="1"><material><mattext>1 g</mattext></material></response_label>
<response_label ident="2"><material><mattext>100 mg</mattext></material></response_label>
</render_choice></response_lid></presentation>
<resprocessing><outcomes><decvar maxvalue="100"/></outcomes>
<respcondition><conditionvar><varequal respident="r1">1</varequal></conditionvar>
<setvar action="Set">0</setvar></respcondition>
<respcondition><conditionvar><varequal respident="r1">2</varequal></conditionvar>
<setvar action="Set">100</setvar></respcondition>
</resprocessing></item>
<item ident="b"><presentation><material><mattext>Which two?</mattext></material>
<response_lid ident="r1" rcardinality="Multiple"><render_choice>
<response_label ident="1"><material><mattext>Heparin</mattext></material></response_label>
<response_label ident="2"><material><mattext>Vitamin K</mattext></material></response_label>
<response_label ident="3"><material><mattext>Warfarin</mattext></material></response_label>
</render_choice></response_lid></presentation>
<resprocessing><respcondition><conditionvar><and><varequal respident="r1">1</varequal>
<not><varequal respident="r1">2</varequal></not><varequal respident="r1">3</varequal></and>
</conditionvar>
<setvar action="Set">100</setvar></respcondition></resprocessing></item>
<item ident="c"><presentation><material><mattext>Unit of pressure?</mattext></material>
<response_str ident="r1"><render_fib/></response_str></presentation>
<resprocessing><respcondition><conditionvar><varequal respident="r1">mmHg</varequal>
</conditionvar>
<setvar action="Set">100</setvar></respcondition></resprocessing></item>
<item ident="d"><presentation><material><mattext>Write.</mattext></material>
<response_str ident="r1"><render_fib/></response_str></presentation></item>
<item ident="e"><presentation><material><mattext>Nothing scored?</mattext></material>
<response_lid ident="r1"><render_choice><response_label ident="1"><material><mattext>A</mattext>
</material></response_label>
<response_label ident="2"><material><mattext>B</mattext></material></response_label>
</render_choice></response_lid>
</presentation></item>
</section></assessment></questestinterop>"""


_NAMES_OF_QTI = (
    *("assessmentItem", "responseDeclaration", "correctResponse", "itemBody", "choiceInteraction"),
    *("prompt", "simpleChoice", "feedbackInline", "value"),
)


def qti2(version: int = 2) -> str:
    """A choice in QTI 2, or with the names of QTI 3."""
    text = """<?xml version="1.0"?>
<assessmentItem xmlns="http://www.imsglobal.org/xsd/imsqti_v2p1" identifier="i" title="t">
<responseDeclaration identifier="R" cardinality="single"><correctResponse><value>B</value>
</correctResponse></responseDeclaration>
<itemBody><p>On the ward:</p><choiceInteraction responseIdentifier="R" shuffle="false">
<prompt>How much?</prompt>
<simpleChoice identifier="A">1 g<feedbackInline>No.</feedbackInline></simpleChoice>
<simpleChoice identifier="B">100 mg</simpleChoice></choiceInteraction></itemBody>
</assessmentItem>"""
    if version == 2:
        return text
    for name in _NAMES_OF_QTI:
        new = "qti-" + "".join(f"-{c.lower()}" if c.isupper() else c for c in name)
        text = text.replace(f"<{name}", f"<{new}").replace(f"</{name}>", f"</{new}>")
    return text.replace("responseIdentifier", "response-identifier")


WHATSAPP = "\n".join(
    (
        "[27.3.26, 08:00:00] Ward: \u200eMessages and calls are end-to-end encrypted.",
        "[27.3.26, 08:00:10] Ana: When do visits end?",
        "[27.3.26, 08:01:00] Desk: At eight.",
        "Please ring twice.",
        "\u200e[27.3.26, 08:02:00] Ana: \u200eimage omitted",
        "[27.3.26, 08:03:00] Desk: \u200eThis message was deleted.",
        "[27.3.26, 20:00:00] Ben: Note: is the lift broken? \u200e<This message was edited>",
        "[27.3.26, 20:01:00] \u202a~\u202fDesk\u202c: Yes; until Monday.",
    )
)
WHATSAPP_ANDROID = "\n".join(
    (
        "3/27/26, 11:59\u202fPM - Ana created group “Ward”",
        "3/27/26, 11:59\u202fPM - Ana: When do visits end?",
        "3/28/26, 12:01\u202fAM - Desk: At eight.",
        "3/28/26, 9:00\u202fAM - Ana: <Media omitted>",
    )
)
VTT = """WEBVTT - lesson

NOTE nobody says this

1
00:00:00.000 --> 00:00:02.000 align:start
<v Anna Smith>What is a <i>pulse</i> &amp; where?</v>

2
00:00:02.100 --> 00:00:03.000
<v Anna Smith>Tell me.</v>

00:00:04.000 --> 00:00:05.000
<v.loud Ben>The beat.<v Anna Smith>Right.
"""
SRT = """1
00:00:00,000 --> 00:00:02,000
Anna: What is a pulse?

2
00:00:03,000 --> 00:00:04,000
Ben: The beat
of the heart.

3
00:00:04,500 --> 00:00:05,000
as you feel it.

4
00:00:06,000 --> 00:00:07,000
Anna: Right.
"""
SRT_OF_NOBODY = """1
00:00:00,000 --> 00:00:02,000
Wash your hands

2
00:00:02,100 --> 00:00:04,000
before you begin.

3
00:00:30,000 --> 00:00:32,000
{\\an8}<i>Then dry them.</i>
"""
SLACK_USERS = [{"id": "U1", "name": "ana", "profile": {"display_name": "Ana"}}]
SLACK_DAY = [
    {"type": "message", "subtype": "channel_join", "user": "U1", "text": "<@U1> joined",
     "ts": "1790000000.0"},
    {"type": "message", "user": "U1", "ts": "1790000001.0",
     "text": "Is <https://a.example|the form> &amp; <@U2>?",
     "thread_ts": "1790000001.0", "reply_count": 1},
    {"type": "message", "user": "U3", "text": "Another matter?", "ts": "1790000002.0"},
    {"type": "message", "user": "U2", "user_profile": {"real_name": "Desk"}, "text": "Yes.",
     "ts": "1790000100.0",
     "thread_ts": "1790000001.0"},
    {"type": "message", "user": "U2", "text": "", "files": [{"name": "a.png"}],
     "ts": "1790000101.0"},
]  # fmt: skip


def slack() -> bytes:
    return files.zip_of(
        {
            "channels.json": "[]",
            "users.json": json.dumps(SLACK_USERS),
            "ward/2026-09-21.json": json.dumps(SLACK_DAY),
        }
    )


def eml(body: str, **headers: str) -> bytes:
    lines = {
        "From": "Desk <desk@example.org>",
        "To": "ana@example.org",
        "Subject": "=?utf-8?q?Re=3A_Gr=C3=BC=C3=9Fe?=",
        "Date": "Fri, 27 Mar 2026 08:00:00 +0100",
        "Message-ID": "<2@example.org>",
        "Content-Type": "text/plain; charset=utf-8",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return ("".join(f"{k}: {v}\n" for k, v in lines.items()) + f"\n{body}").encode()


def mbox(*messages: bytes) -> bytes:
    return b"".join(b"From a@b Fri Mar 27 08:00:00 2026\n" + each + b"\n\n" for each in messages)


def apkg(
    notes: Iterable[Sequence[str]],
    *,
    name: str = "collection.anki2",
    more: Mapping[str, bytes | str] | None = None,
    script: str = "",
) -> bytes:
    """A package of Anki with these notes, a field each; `script` is run in its database first."""
    database = sqlite3.connect(":memory:")
    if script:
        database.executescript(script)
    else:
        models = {"1": {"flds": [{"name": "Front"}, {"name": "Back"}, {"name": "Source"}]}}
        database.execute("CREATE TABLE col (models text)")
        database.execute("INSERT INTO col VALUES (?)", [json.dumps(models)])
        database.execute("CREATE TABLE notes (id integer, mid integer, tags text, flds text)")
        database.executemany(
            "INSERT INTO notes VALUES (?, 1, ' ward ', ?)",
            [(n, "\x1f".join(fields)) for n, fields in enumerate(notes)],
        )
    database.commit()
    content = database.serialize()
    if name.endswith("b"):
        content = pyarrow.compress(content, "zstd", asbytes=True)
    entries: dict[str, bytes | str] = {name: content, "media": "{}", **(more or {})}
    return files.zip_of(entries)


def chunked(*turns: tuple[str, str]) -> dict[str, Any]:
    """A chat of Google AI Studio."""
    chunks = [
        {
            "text": text,
            "role": "model" if who == "thought" else who,
            **({"isThought": True} if who == "thought" else {}),
        }
        for who, text in turns
    ]
    return {
        "runSettings": {"model": "models/gemini"},
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "chunkedPrompt": {"chunks": chunks},
    }


def activity_cell(done: str, product: str = "Gemini Apps") -> str:
    """A cell of My Activity as Google Takeout writes it in HTML; `done` is what its middle has."""
    column = "content-cell mdl-cell mdl-cell--6-col mdl-typography--body-1"
    return (
        '<div class="outer-cell mdl-cell mdl-cell--12-col mdl-shadow--2dp"><div class="mdl-grid">'
        '<div class="header-cell mdl-cell mdl-cell--12-col">'
        f'<p class="mdl-typography--title">{product}<br></p></div>'
        f'<div class="{column}">{done}</div>'
        f'<div class="{column} mdl-typography--text-right"></div>'
        '<div class="content-cell mdl-cell mdl-cell--12-col mdl-typography--caption">'
        f"<b>Products:</b><br>&emsp;{product}<br></div></div></div>"
    )


def activity(*cells: str) -> str:
    """A page of My Activity."""
    return (
        "<html><head><title>My Activity History</title><style>.x{}</style></head>"
        f'<body><div class="mdl-grid">{"".join(cells)}</div></body></html>'
    )
