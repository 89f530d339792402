"""The dataset doctor: from a version's examples through a real child process to findings."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core import leases, settings
from app.core.child import BrokeOff
from app.core.models import (
    CheckStatus,
    DatasetVersion,
    Example,
    ExampleKind,
    Finding,
    SearchBits,
    Severity,
    Split,
)
from app.datasets import browsing, changes, examples, nearest, search, search_bits
from app.datasets.changes import Change
from app.datasets.doctor import checks, fixes, process
from app.datasets.doctor.request import DoctorRequest
from tests.factories import first_user, make_dataset_version
from worker.cpu import checking
from worker.leased import LeaseHolder

LONG = (
    "Wash your hands with soap for at least half a minute before you touch a patient, and dry "
    "them with a paper towel afterwards"
)
GERMAN = (
    "Waschen Sie sich die Hände vor jedem Kontakt mit Patienten gründlich mit Seife und trocknen "
    "Sie sie danach mit einem Papiertuch ab."
)


def pair(question: str, answer: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def version_of(
    db: Session,
    conversations: list[list[dict[str, Any]]],
    tests: tuple[int, ...] = (),
    checks_on: tuple[int, ...] | None = None,
) -> DatasetVersion:
    """A version of these rows; of three parts where some are to check."""
    version = make_dataset_version(db, num_train=0, num_validation=0)
    part = dict.fromkeys(tests, Split.VALIDATION if checks_on is None else Split.TEST)
    part |= dict.fromkeys(checks_on or (), Split.VALIDATION)
    splits = [part.get(index, Split.TRAIN) for index in range(len(conversations))]
    version.num_train = splits.count(Split.TRAIN)
    version.num_validation = splits.count(Split.VALIDATION)
    version.num_test = None if checks_on is None else splits.count(Split.TEST)
    for index, (messages, split) in enumerate(zip(conversations, splits, strict=True)):
        db.add(
            Example(
                version_id=version.id,
                index=index,
                split=split,
                kind=ExampleKind.PAIR,
                messages=messages,
            )
        )
    checks.want(db, version)
    db.commit()
    return version


def check(db: Session, version: DatasetVersion) -> dict[str, list[int]]:
    """Check a version; the indexes found, by kind."""
    assert checking.check_next("cpu-0")
    db.expire_all()
    done = checks.of(db, version)
    assert done is not None
    assert (done.status, done.reason) == (CheckStatus.DONE, None)
    return {
        one.kind: list(browsing.marks(db, version, one.kind).indices)
        for one in checks.findings(db, version)
    }


THINGS = [
    "pump",
    "scale",
    "lamp",
    "drip",
    "chair",
    "frame",
    "glove",
    "mask",
    "trolley",
    "basin",
    "sheet",
    "monitor",
    "splint",
    "sling",
    "crutch",
    "kettle",
    "syringe",
    "towel",
    "pillow",
    "bandage",
    "thermometer",
    "blanket",
]
# Each with other words, so that none is like another.
PLAIN = [
    pair(
        f"What does the {word} of ward {number} need before the night begins?",
        f"The {word} is put beside bed {number}, is wiped with {word} spirit, and its {word} book "
        f"is signed by whoever has {word} duty that day, as sheet {number} of the {word} says.",
    )
    for number, word in enumerate(THINGS)
]


def test_each_kind_of_damage_is_found_where_it_is_and_nowhere_else(db: Session) -> None:
    rows = [
        *PLAIN,  # 0 to 21
        pair("How do I wash my hands?", LONG),  # 22
        pair("How do I  wash my HANDS?", LONG),  # 23: repeats 22
        pair("How do I wash my hands?", LONG.replace("paper", "clean")),  # 24: near, and conflict
        pair("How much is given at noon?", f"Give 5 mg. {LONG}"),  # 25
        pair("How much is given at noon?", f"Give 50 mg. {LONG}"),  # 26: another number
        pair("May I give it with milk?", f"You may give it with milk. {LONG}."),  # 27
        pair("May I give it with milk?", f"You may not give it with milk. {LONG}."),  # 28: a "not"
        pair("Who decides?", "n/a"),  # 29
        pair("...", "The doctor on duty decides."),  # 30
        pair("Dear whom?", "Dear {{first_name}}, please come on Monday."),  # 31
        pair("Wohin?", "In die KÃ¼che, bitte."),  # 32
        pair("Where to?", "To the kitchen,<br>please &amp; thank you."),  # 33
        pair("Who holds the key to the big cupboard?", "Who holds the key to the big cupboard."),
        pair("Was ist zu tun?", GERMAN),  # 35
        pair("Is it open?", " Yes, until six. "),  # 36
        pair("How long is it?", "word " * 3000),  # 37
        PLAIN[3],  # 38: a test question that is practised, too
        pair("A formula: is a < b & c > d?", "It is, if a < b & c > d."),  # no marks of a page
    ]
    version = version_of(db, rows, tests=(38,))
    found = check(db, version)
    assert found == {
        "amount": [],
        "empty": [29, 30],
        "placeholder": [31],
        "broken_letters": [32],
        "leak": [38],
        "duplicate": [23],
        "conflict": [24, 26, 28],
        "near_duplicate": [24],
        "echo": [34],
        "markup": [33],
        "language": [35],
        "long": [37],
        "short": [29],
        "spaces": [36, 37],
    }
    assert browsing.marks(db, version, "duplicate").partner(23) == 22
    assert browsing.marks(db, version, "leak").partner(38) == 3
    kept = checks.of(db, version)
    report = checks.report_of(kept)
    assert kept is not None and report is not None
    assert report.languages["English"] > 20
    assert sum(report.bars["answer"]) == sum(report.bars["whole"]) == len(rows)
    assert report.notes == [
        "What would be cut off was not counted, since no starting model was ready."
    ]
    # No text of a row is kept beside the row, but single words that many rows share.
    said = json.dumps(report.model_dump(exclude={"topics"})) + json.dumps(
        [row.detail for row in db.scalars(select(Finding))]
    )
    assert "soap" not in said
    assert "Seife" not in said
    order = browsing.by_length(db, version)
    assert (order[-1], sorted(order)) == (37, list(range(len(rows))))


def test_no_row_nor_its_like_may_stand_in_two_parts(db: Session) -> None:
    near = f"{LONG}, then put on fresh gloves from the box beside the door of the ward"
    rows = [
        *PLAIN,  # 0 to 21, to practise
        PLAIN[3],  # 22: practised, and checks
        PLAIN[4],  # 23: practised, and tests
        pair("Only kept?", "Yes, this one is."),  # 24: checks
        pair("only  KEPT?", "yes, this one is."),  # 25: checks, and tests
        pair("How?", f"{near}."),  # 26: checks
        pair("How?", f"{near}!"),  # 27: tests, and is nearly the same
        pair("In one part twice?", "That is no leak."),  # 28, 29: test
        pair("In one part twice?", "That is no leak."),
    ]
    version = version_of(db, rows, tests=(23, 25, 27, 28, 29), checks_on=(22, 24, 26))
    found = check(db, version)
    assert found["leak"] == [22, 23, 25, 27]
    assert found["duplicate"] == [29]
    marks = browsing.marks(db, version, "leak")
    assert [marks.partner(index) for index in found["leak"]] == [3, 4, 24, 26]
    # Each goes where its like stands, and then there is none.
    made = fixes.apply(db, first_user(db), version, "leak", "move")
    assert made is not None
    db.commit()
    assert [row.split for row in examples.at(db, made, found["leak"])] == [
        Split.TRAIN,
        Split.TRAIN,
        Split.VALIDATION,
        Split.VALIDATION,
    ]
    assert (made.num_train, made.num_validation, made.num_test) == (24, 4, 2)
    assert "leak" not in check(db, made)


def test_a_small_test_set_is_told_by_what_tests(db: Session) -> None:
    many = [pair(f"What is {number}?", f"It is {number}.") for number in range(220)]
    version = version_of(db, many, tests=tuple(range(30)), checks_on=(30, 31))
    assert "test_set" not in check(db, version)
    version = version_of(db, many, tests=(0, 1, 2), checks_on=tuple(range(3, 40)))
    check(db, version)
    small = next(one for one in checks.findings(db, version) if one.kind == "test_set")
    assert "The test set has 3 examples" in small.reason


def test_the_verdict_comes_first_and_says_what_to_do(db: Session) -> None:
    version = version_of(db, PLAIN)
    check(db, version)
    found = checks.findings(db, version)
    assert [(one.kind, one.severity) for one in found] == [("amount", Severity.WARN)]
    assert checks.verdict(found) == "Looks good. One thing to look at."
    assert found[0].reason.startswith("With 22 examples, first try a good instruction")
    assert checks.verdict([]) == "Looks good. Nothing stands out."


def test_a_fix_makes_a_version_that_is_checked_again(db: Session) -> None:
    rows = [*PLAIN, pair("Where to?", "To the <b>kitchen</b>, caf\u00c3\u00a9 & all."), *PLAIN[:3]]
    version = version_of(db, rows)
    assert set(check(db, version)) == {"amount", "broken_letters", "duplicate", "markup"}
    user = first_user(db)
    fix = fixes.choose("duplicate", "remove")
    shown = fixes.preview(db, version, "duplicate", fix)
    assert [(one.before.index, one.change.is_removed) for one in shown] == [
        (23, True),
        (24, True),
        (25, True),
    ]
    second = fixes.apply(db, user, version, "duplicate", "remove")
    assert second is not None
    db.commit()
    assert set(check(db, second)) == {"amount", "broken_letters", "markup"}
    third = fixes.apply(db, user, second, "markup", "mend")
    assert third is not None
    db.commit()
    check(db, third)
    fourth = fixes.apply(db, user, third, "broken_letters", "mend")
    assert fourth is not None
    db.commit()
    assert set(check(db, fourth)) == {"amount"}
    mended = examples.get(db, fourth, 22)
    assert mended is not None
    assert mended.messages[1]["content"] == "To the kitchen, café & all."
    assert (fourth.changes or {})["why"] == "letters repaired"


def test_answers_that_contradict_are_kept_merged_or_chosen(db: Session) -> None:
    asked = "When may visitors come?"
    rows = [*PLAIN, pair(asked, "At two."), pair(asked, "From two to six."), pair(asked, "Ask.")]
    version = version_of(db, rows)
    assert check(db, version)["conflict"] == [23, 24]
    user = first_user(db)
    ways = {}
    for name in ("first", "longest", "merge"):
        made = fixes.apply(db, user, version, "conflict", name)
        assert made is not None
        ways[name] = {
            row.index: row.messages[1]["content"] for row in examples.at(db, made, [22, 23, 24])
        }
    assert ways == {
        "first": {22: "At two."},
        "longest": {23: "From two to six."},
        "merge": {22: "At two.\n\nFrom two to six.\n\nAsk."},
    }


def test_a_worker_that_lost_its_check_writes_nothing(db: Session) -> None:
    version = version_of(db, PLAIN)
    lease = leases.claim(db, leases.CHECKS, "cpu-0")
    db.commit()
    assert lease is not None
    with LeaseHolder(lease) as holder:
        leases.take_back(db, leases.CHECKS, "cpu-0")  # as if it had been given up for dead
        db.commit()
        try:
            checking._keep(holder, version)
        except leases.LeaseLost:
            pass
        else:
            raise AssertionError
    assert db.scalar(select(func.count()).select_from(Finding)) == 0
    waiting = checks.of(db, version)
    assert waiting is not None
    db.refresh(waiting)
    assert (waiting.status, waiting.strikes) == (CheckStatus.WAITING, 1)
    check(db, version)


def test_of_versions_replaced_before_their_turn_none_is_checked(db: Session) -> None:
    first = version_of(db, PLAIN)
    second = changes.derive(db, first_user(db), first, [Change(1, is_removed=True)], "by hand")
    db.commit()
    check(db, second)
    assert not checking.check_next("cpu-0")
    assert checks.of(db, first) is None
    checks.again(db, first)
    db.commit()
    check(db, first)


def test_the_nearest_question_of_a_large_version_is_found_by_its_bits(db: Session) -> None:
    rows = [pair(f"Where is thing {n}?", f"Shelf {n}.") for n in range(search.MIN_INDEXED + 300)]
    rows[4321] = pair("May I have coffee before blood is taken?", "Until two hours before.")
    rows[5100] = pair("May I have coffee with milk?", "Yes.")
    version = version_of(db, rows, tests=(5100,))
    asked = "Can I drink coffee before the blood test?"
    assert nearest.find(db, version, asked) is None  # nobody has looked through it yet
    check(db, version)
    assert nearest.find(db, version, asked) == 4321
    assert nearest.find(db, version, "May I have coffee with milk?") == 4321
    assert nearest.find(db, version, "Helicopters, dinosaurs?") is None


def test_words_are_found_by_their_bits_in_any_derived_version(db: Session) -> None:
    num = search.MIN_INDEXED + 700
    rows = [
        pair(f"Where is thing {n}?", f"In room {n * 7919 % 9973}, shelf {n}.") for n in range(num)
    ]
    rows[4321] = pair("Who sings?", "The Nightingale, zur Übung.")
    rows[77] = pair("Who else?", "No one but ZYGMUNT sings.")
    rows[4000] = rows[5001] = pair("Which bird is it?", "A wren.")
    rows[5002:5602] = rows[100:700]
    version = version_of(db, rows)
    check(db, version)
    assert db.scalar(select(func.count()).select_from(SearchBits)) > 100  # type: ignore[operator]

    def hits(version: DatasetVersion, words: str, **more: Any) -> list[int]:
        wish = browsing.Wish(words=words, **more)
        found = browsing.page(db, version, wish, seconds=60)
        return [row.index for row in found.examples]

    assert hits(version, "nightingale") == [4321]
    assert hits(version, "zygmunt SINGS") == [77]
    assert hits(version, "sings") == [77, 4321]
    assert hits(version, "sings", order=browsing.SortOrder.LONGEST) == [4321, 77]
    assert hits(version, '"zur übung"') == [4321]
    assert hits(version, "sings nothing") == []
    assert hits(version, "üb") == [4321]  # two letters; three bytes
    assert hits(version, "gm") == [77]  # too short for bits: looked for all the same
    # Hundreds of repeats are marked; few of them stand in a block with the word.
    assert hits(version, "wren") == [4000, 5001]
    assert hits(version, "wren", finding="duplicate") == [5001]
    assert hits(version, "wren", finding="duplicate", order=browsing.SortOrder.LONGEST) == [5001]
    repeats = browsing.Wish(words="wren", finding="duplicate")
    back = browsing.page_before(db, version, repeats, num, seconds=60)
    assert [row.index for row in back.examples] == [5001]
    # A rare word is found without looking at the rest.
    blocks = search.blocks(db, version, ["nightingale"])
    assert sum(blocks.has(index) for index in range(0, num, search_bits.BLOCK_EXAMPLES)) <= 3
    second = changes.derive(
        db,
        first_user(db),
        version,
        [Change(5000, pair("Who sings?", "A lark.")), Change(77, is_removed=True)],
        "by hand",
    )
    assert hits(second, "sings") == [4321, 5000]
    assert hits(second, "lark") == [5000]
    assert hits(second, "zygmunt") == []


def test_looking_stops_after_a_moment_and_goes_on_where_it_was(db: Session) -> None:
    rows = [pair(f"Where is thing {n}?", f"On shelf {n}.") for n in range(600)]
    rows[590] = pair("Who sings?", "A lark.")
    version = version_of(db, rows)
    wish = browsing.Wish(words="lark")
    start, turns = 0, 0
    while True:
        found = browsing.page(db, version, wish, start, seconds=0)
        turns += 1
        if found.examples or found.following is None:
            break
        assert found.num_searched == found.following > start
        start = found.following
    assert [row.index for row in found.examples] == [590]
    assert turns == 10  # 64 at a time
    # The same the way back, whose end is the first page.
    before, turns = 590, 0
    while True:
        found = browsing.page_before(db, version, wish, before, seconds=0)
        turns += 1
        if found.preceding is None:
            break
        assert found.is_back
        assert found.num_searched == before - found.preceding > 0
        before = found.preceding
    assert (found.examples, found.following) == ([], 64)
    assert turns == 10


def test_the_clock_is_looked_at_where_thousands_are_passed_over(
    db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browsing, "_PASSED_OVER", 100)
    rows = [pair(f"Where is thing {n}?", f"On shelf {n}.") for n in range(600)]
    version = version_of(db, [*rows, *rows[:2]])
    check(db, version)
    wish = browsing.Wish(finding="duplicate", order=browsing.SortOrder.SHORTEST)
    start, places, shown = 0, [], []
    while True:
        found = browsing.page(db, version, wish, start, seconds=0)
        shown += [row.index for row in found.examples]
        if found.following is None:
            break
        start = found.following
        places.append(start)
    assert sorted(shown) == [600, 601]
    assert len(places) >= 5
    monkeypatch.undo()
    way = ((place, 10 * place) for place in range(10_000))
    assert list(browsing._thinned(way, lambda index: index == 90_000)) == [
        (4095, None),
        (8191, None),
        (9000, 90_000),
    ]


def test_a_small_dataset_is_seen_whole_however_slow_the_machine(db: Session) -> None:
    rows = [pair(f"Where is thing {n}?", f"On shelf {n}.") for n in range(249)]
    version = version_of(db, [*rows, pair("Who sings?", "A lark.")])
    found = browsing.page(db, version, browsing.Wish(words="lark"), seconds=0)
    assert [row.index for row in found.examples] == [249]
    assert (found.num_searched, found.following) == (None, None)


# --- the process ---------------------------------------------------------------------------


def heard(num_examples: int, memory_bytes: int) -> list[dict[str, Any]]:
    """Have the process prepare for so many examples, and read one."""
    with tempfile.TemporaryFile("w+b") as file:
        file.write(f"0\ttrain\t{json.dumps(PLAIN[0])}\t\\N\n".encode())
        file.flush()
        file.seek(0)
        request = DoctorRequest(file=file.fileno(), num_examples=num_examples, parent=os.getpid(),
                      limit_tokens=1024, writes_bits=True, memory_bytes=memory_bytes,
                      cpu_seconds=60)  # fmt: skip
        with process.start(request) as child:
            return [json.loads(line) for line in child.lines()]


def test_two_million_examples_find_room_within_the_limit(data_dir: Path) -> None:
    assert "end" in heard(2_000_000, settings.get().reader_memory_bytes)[-1]


def test_the_log_learns_why_the_process_broke_off(data_dir: Path) -> None:
    with pytest.raises(BrokeOff) as broke_off:
        heard(4_000_000, 512 * 1024**2)
    assert "MemoryError" in broke_off.value.tail
