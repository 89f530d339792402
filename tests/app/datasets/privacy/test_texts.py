"""Every text of an example is looked through and can be put back, a tool's call too."""

from app.datasets.privacy import texts
from app.datasets.privacy.findings import Kind
from app.datasets.privacy.stand_ins import StandIns, key_of

MESSAGES = [
    {"role": "system", "content": "Be kind."},
    {
        "role": "assistant",
        "weight": 1,
        "content": None,
        "tool_calls": [
            {
                "id": "c1",
                "type": "function",
                "function": {"name": "find", "arguments": '{"q": "Thyra"}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "Bed 4"}]},
]


def test_all_texts_and_nothing_technical() -> None:
    found = texts.read(MESSAGES)
    assert found == ["Be kind.", '{"q": "Thyra"}', "find", "Bed 4"]
    assert texts.write(MESSAGES, found) == MESSAGES
    changed = texts.write(MESSAGES, ["A", "B", "C", "D"])
    assert texts.read(changed) == ["A", "B", "C", "D"]
    assert changed[1]["tool_calls"][0]["id"] == "c1"


def test_the_same_value_has_the_same_stand_in() -> None:
    names = ["Thyra Blomqvist", "Ole Quill", "Ida Quill", "Thyra"]
    stand_ins = StandIns({"name": 4}, names)
    assert stand_ins.of(Kind.NAME, "Thyra Blomqvist") == "[Name 5]"
    assert stand_ins.of(Kind.NAME, "BLOMQVIST") == "[Name 5]"
    assert stand_ins.of(Kind.NAME, "Thyra") == "[Name 5]"
    # Two people are called Quill: the surname alone may be either.
    assert stand_ins.of(Kind.NAME, "Quill") == "[Name 6]"
    assert stand_ins.of(Kind.NAME, "Ole Quill") == "[Name 7]"
    assert stand_ins.of(Kind.PHONE, "555-0143") == "[Phone number 1]"
    assert stand_ins.used == {"name": 7, "phone": 1}
    assert key_of(Kind.NAME, "Thyra  blomqvist") == key_of(Kind.NAME, "thyra Blomqvist")
    assert key_of(Kind.NAME, "1") != key_of(Kind.PHONE, "1")
