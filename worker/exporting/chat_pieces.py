"""What a chat template writes between the turns, found by asking it.

Jinja is a programming language, of which other programs know less or nothing. But nearly all chat
templates do one simple thing: they write some fixed words before each turn, which depend on whose
turn it is and whose was before, and some more behind the last one. These words are found from
conversations whose contents are marks; then others are written with them and compared, so what a
template does beyond that is noticed and refused.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from app.training.chat import ChatError, ChatFormat
from worker.inference.gguf_writing import Unusable

ROLES = ("system", "user", "assistant")
START = ""  # in the place of the turn before the first
Turns = Sequence[tuple[str, str]]  # role and content

_S, _U, _A = ROLES
# Each template has to take these, and those below where it does.
_USUAL = (
    *((_U,), (_U, _A, _U), (_U, _A, _U, _A, _U)),
    *((_S, _U), (_S, _U, _A, _U), (_S, _U, _A, _U, _A, _U)),
)
_ODD = (
    *((_U, _A), (_U, _U), (_S,), (_S, _S, _U), (_A, _U), (_S, _A, _U), (_U, _A, _A, _U)),
    *((_U, _S, _U), (_U, _A, _S, _U), (_S, _U, _A, _S, _U)),
)
_SAID = (
    "Wie heißt das?",
    'Two lines:\n\n- "one"\n- {{ two }} {% three %}',
    "😀 日本語 \\n",
    "1. 2. 3.",
    "It is 37.5 °C.",
    "no",
)
_REFUSED = (
    "This model's chat template does more than Ollama's can: {what}. Use llama.cpp or LM Studio, "
    "which read the template in the GGUF file itself."
)


@dataclass(frozen=True)
class Pieces:
    """The fixed words of a chat template."""

    before: Mapping[tuple[str, str], str]  # by the role before, or START, and the turn's own
    ends: Mapping[str, str]  # behind the last turn, by its role: what asks for an answer
    # Between a system turn and the question that it stands in, the last one; None: in its place.
    joint: str | None
    cuts_ends: bool  # whether the template drops spaces and line breaks around what is said

    def render(self, turns: Turns) -> str:
        """Write a conversation out, with the words that ask for an answer."""
        if self.joint is not None:
            turns = _with_system_last(turns, self.joint)
        before, text = START, ""
        for role, content in turns:
            text += self.before[before, role] + content
            before = role
        return text + (self.ends[before] if turns else "")


def find(chat: ChatFormat) -> Pieces:
    """Find a template's fixed words.

    Raises:
        Unusable: it does more than write such words between the turns.
    """
    found = _in_place(chat) or _with_the_last(chat)
    if found is None:
        raise Unusable(_REFUSED.format(what="what it writes before a turn depends on more"))
    for turns in conversations():
        if found.render(turns) != _rendered(chat, turns):
            raise Unusable(_REFUSED.format(what="it changes what is said in a conversation"))
    return found


def conversations() -> Iterator[Turns]:
    """Yield the conversations with which a template is compared."""
    for roles in _USUAL:
        for shift in range(len(_SAID)):
            yield [
                (role, _SAID[(shift + number) % len(_SAID)]) for number, role in enumerate(roles)
            ]


def _in_place(chat: ChatFormat) -> Pieces | None:
    """Find the words of a template that writes turns in their order."""
    before: dict[tuple[str, str], str] = {}
    ends: dict[str, str] = {}
    for roles in _USUAL:
        if not _learn(chat, roles, before, ends):
            return None
    for roles in _ODD:
        more, more_ends = dict(before), dict(ends)
        if _learn(chat, roles, more, more_ends):
            before, ends = more, more_ends
    return _whole(chat, before, ends, None)


def _with_the_last(chat: ChatFormat) -> Pieces | None:
    """Find the words of a template that writes the system turn into the last question."""
    before: dict[tuple[str, str], str] = {}
    ends: dict[str, str] = {}
    for roles in (each for each in _USUAL if _S not in each):
        if not _learn(chat, roles, before, ends):
            return None
    marks = _marked((_S, _U, _A, _U))
    text = _rendered(chat, marks)
    (_, system), _, _, (_, question) = marks
    joint = text.partition(system)[2].partition(question)[0] if text else ""
    return _whole(chat, before, ends, joint)


def _learn(
    chat: ChatFormat,
    roles: Sequence[str],
    before: dict[tuple[str, str], str],
    ends: dict[str, str],
) -> bool:
    """Take the words from one conversation; returns whether they agree with those known."""
    marks = _marked(roles)
    text = _rendered(chat, marks)
    if text is None:
        return False
    last = START
    for role, mark in marks:
        words, is_there, text = text.partition(mark)
        if not is_there or before.setdefault((last, role), words) != words:
            return False
        last = role
    return ends.setdefault(last, text) == text


def _whole(
    chat: ChatFormat,
    before: Mapping[tuple[str, str], str],
    ends: Mapping[str, str],
    joint: str | None,
) -> Pieces:
    """Fill up what a template refuses: other programs can only write something."""
    answer, again = before[_U, _A], before[_A, _U]
    filled = {
        # Ollama joins turns of the same role like this.
        **{(role, role): "\n\n" for role in (_S, _U)},
        **{(role, _A): answer for role in (START, _S, _A)},
        **{(START, _S): before[START, _U], (_S, _U): "\n\n", (_U, _S): "\n\n", (_A, _S): again},
    }
    every_end = dict.fromkeys(ROLES, ends[_U])
    spaced, plain = (_rendered(chat, [(_U, content)]) for content in (" \n x\n ", "x"))
    return Pieces(filled | dict(before), every_end | dict(ends), joint, spaced == plain)


def _with_system_last(turns: Turns, joint: str) -> Turns:
    system = "\n\n".join(content for role, content in turns if role == _S)
    rest = [turn for turn in turns if turn[0] != _S]
    questions = [number for number, (role, _) in enumerate(rest) if role == _U]
    if system and questions:
        last = questions[-1]
        rest[last] = (_U, system + joint + rest[last][1])
    return rest


def _marked(roles: Sequence[str]) -> list[tuple[str, str]]:
    return [(role, f"Xq{number}zX") for number, role in enumerate(roles)]


def _rendered(chat: ChatFormat, turns: Turns) -> str | None:
    messages = [{"role": role, "content": content} for role, content in turns]
    try:
        return chat.render(messages, add_generation_prompt=True)
    except ChatError:
        return None
