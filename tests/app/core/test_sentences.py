"""Sentences that are filled in with counts and lists."""

from app.core.sentences import counted, listed


def test_a_sentence_is_chosen_by_its_count() -> None:
    said = [counted(n, "1 row of {name}.", "{n} rows of {name}.", name="{x}") for n in (0, 1, 2000)]
    assert said == ["0 rows of {x}.", "1 row of {x}.", "2,000 rows of {x}."]


def test_a_list_reads_as_people_write_it() -> None:
    assert [listed("abc"[:n]) for n in (1, 2, 3)] == ["a", "a and b", "a, b and c"]
    assert listed(["member", "lead", "admin"], "{most} or {last}") == "member, lead or admin"
