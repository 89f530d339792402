"""How many answers come to an end by themselves, said greedily, and how many of the reference's do.

A program says what the reference said for as long as its likeliest token is the next one of that
answer. So one reading of the reference's answers shows where the two part, and only from there a
program has to speak by itself: it ends where it would have ended without that, in a fraction of the
time.
"""

from collections.abc import Callable, Collection, Sequence

from worker.exporting.agreement import Endings

# An answer that is not over by then counts as one without an end; less where the held-out answers
# are short.
_MOST_TOKENS, _FEWEST_TOKENS = 96, 24
Ids = Sequence[int]
# Given rows and how many tokens may follow each: what follows.
GoOn = Callable[[list[list[int]], list[int]], Sequence[Ids]]


def max_tokens(answer_lengths: Sequence[int]) -> int:
    """Return how long an answer may be: twice the longest held-out one, within bounds."""
    return min(_MOST_TOKENS, max(_FEWEST_TOKENS, 2 * max(answer_lengths)))


def count(
    prompts: Sequence[Ids],
    drafts: Sequence[Ids],
    likeliest: Sequence[Ids],
    ends: Collection[int],
    most: int,
    go_on: GoOn,
) -> int:
    """Return how many of a program's own answers end.

    Args:
        prompts: What was asked, as token ids.
        drafts: What the reference said, each at least one token and at most `most`.
        likeliest: The program's likeliest token in the place of each of a draft's.
        ends: At which the program takes an answer to be over.
        most: How many tokens an answer may have.
        go_on: Lets the program speak.
    """
    num_ended = 0
    rows: list[list[int]] = []
    rooms: list[int] = []
    for prompt, draft, own in zip(prompts, drafts, likeliest, strict=True):
        said = _along(draft, own, ends)
        if said[-1] in ends:
            num_ended += 1
        elif len(said) < most:
            rows.append([*prompt, *said])
            rooms.append(most - len(said))
    later = go_on(rows, rooms) if rows else []
    for said_later, room in zip(later, rooms, strict=True):
        num_ended += any(token in ends for token in said_later[:room])
    return num_ended


def compare(num_ended: int, drafts: Sequence[Ids], ends: Collection[int], most: int) -> Endings:
    """Hold the number of answers that ended against the reference's, whose own `ends` are."""
    return Endings(
        num_asked=len(drafts),
        num_ended=num_ended,
        reference_ended=sum(draft[-1] in ends for draft in drafts),
        max_tokens=most,
    )


def _along(draft: Ids, likeliest: Ids, ends: Collection[int]) -> list[int]:
    """Return what is said along a draft, up to an end or the first token that is another one."""
    said: list[int] = []
    for token, own in zip(draft, likeliest, strict=True):
        said.append(own)
        if own in ends or own != token:
            break
    return said
