"""Answers that end, counted as if a program had spoken alone, and held against the reference."""

import math

import pytest
from pydantic import ValidationError

from worker.exporting import agreement, endings
from worker.exporting.agreement import Agreement, Bound, Endings

END, OTHER_END = 9, 8
Rows = list[list[int]]


def no_more(rows: Rows, rooms: list[int]) -> Rows:
    raise AssertionError("nothing is left to be said")


def test_along_a_draft_only_what_parts_from_it_is_said_anew() -> None:
    prompts = [[1], [1, 2], [3], [4], [5]]
    drafts = [
        [5, 6, END],  # said word by word
        [5, 6, 7, 7],  # as long as an answer may be
        [5, 6, END],  # ends sooner
        [5, 6, END],  # says another word in the end's place
        [5, 6, 7, END],  # says another one at first
    ]
    likeliest = [[5, 6, END], [5, 6, 7, 7], [5, END, END], [5, 6, 7], [4, 6, 7, END]]
    asked: list[tuple[list[int], int]] = []

    def go_on(rows: Rows, rooms: list[int]) -> Rows:
        asked.extend(zip(rows, rooms, strict=True))
        return [[7, END], [1, 1, END]]  # the first one has no room for its end

    assert endings.count(prompts, drafts, likeliest, {END}, 4, go_on) == 3
    assert asked == [([4, 5, 6, 7], 1), ([5, 4], 3)]


def test_an_end_that_a_program_does_not_know_is_none() -> None:
    asked: Rows = []

    def go_on(rows: Rows, rooms: list[int]) -> Rows:
        asked.extend(rows)
        return [[6, 6] for _ in rows]

    assert endings.count([[1]], [[5, END]], [[5, END]], {OTHER_END}, 4, go_on) == 0
    assert asked == [[1, 5, END]]
    assert endings.count([[1]], [[5, END]], [[5, END]], {OTHER_END, END}, 4, no_more) == 1


@pytest.mark.parametrize(
    ("num_asked", "reference", "ended", "is_fit"),
    [
        (20, 18, 18, True),
        (20, 18, 14, True),  # chance, once in 16 times
        (20, 18, 13, False),
        (20, 2, 20, True),
        (20, 0, 0, True),  # e.g. answers that are all longer than what is looked at
        (3, 3, 2, True),
        (3, 3, 1, False),
    ],
)
def test_clearly_fewer_are_not_offered(
    num_asked: int, reference: int, ended: int, is_fit: bool
) -> None:
    held = endings.compare(
        ended, [[1, END]] * reference + [[1]] * (num_asked - reference), {END}, 9
    )
    assert held == Endings(
        num_asked=num_asked, num_ended=ended, reference_ended=reference, max_tokens=9
    )
    for bound in (Bound(same_share=0.95, loss=0.05), None):  # also where nothing else is asked for
        found = Agreement(
            program="llama.cpp 1",
            quantization="q4_k_m",
            num_rows=num_asked,
            num_positions=400,
            same_share=0.99,
            loss=2.0,
            reference_loss=2.0,
            bound=bound,
            endings=held,
        )
        assert found.is_fit is is_fit
        if not is_fit:
            assert f"{ended} of {num_asked} answers come to an end" in found.shortfall()
            assert f"{reference} do with the adapter" in found.shortfall()


def test_an_answer_may_be_twice_as_long_as_the_longest_held_out_one() -> None:
    assert [endings.max_tokens(lengths) for lengths in ([2, 3], [2, 20], [128])] == [24, 40, 96]


@pytest.mark.parametrize("quantization", ["f16", "q4_k_m"])
def test_a_loss_that_is_no_number_is_never_offered_nor_kept(quantization: str) -> None:
    fine: agreement.Scores = [([1, 2], [-0.5, -1.5])]
    overflown: agreement.Scores = [([1, 2], [-0.5, math.nan])]
    found = agreement.compare("llama.cpp 1", quantization, overflown, fine)
    assert (found.loss, found.reference_loss, found.is_fit) == (None, 1.0, False)
    assert "finds no usable probability" in found.shortfall()
    found = agreement.compare("llama.cpp 1", quantization, fine, overflown)
    assert (found.loss, found.reference_loss, found.is_fit) == (1.0, None, False)
    assert "train it again" in found.shortfall()
    with pytest.raises(ValidationError):
        Agreement.model_validate(found.model_dump() | {"loss": math.nan})
