"""A text becomes passages, and of each passage the sentences that could be an answer.

Answers are chosen here and not by the model: each stands in its passage word for word, however poor
the model. What is chosen must make sense alone, so a sentence that leans on the one before it ("It
is…") takes that one along, and what is no sentence is passed over.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

# About so much fits beside a question on a page, and before a small model loses the thread.
MAX_PASSAGE_CHARACTERS = 900
MIN_ANSWER_CHARACTERS, MAX_ANSWER_CHARACTERS = 25, 400
_MIN_ANSWER_WORDS = 4
_MAX_HEADING_CHARACTERS = 90

_BLOCK = re.compile(r"\S(?:.|\n(?!\s*\n))*")
_SENTENCE_END = re.compile(r"[.!?…][\"'”’»)\]]*(?=\s|$)|[。！？।]")
# A full stop behind one of these ends no sentence, nor does one behind a number or a letter.
_SHORT_FORMS = re.compile(
    r"(?:\b(?:\w|\d{1,3}|Dr|Mrs?|Ms|Prof|St|No|Nr|vs|e\.g|i\.e|z\.B|d\.h|u\.a|ca|bzw|approx|Fig|Abb|"
    r"incl|max|min|Tel|Mme|Sr|Sra|p\.ej))\.$"
)
_LIST_LINE = re.compile(r"[ \t]*(?:[-*•–·]|\d{1,3}[.)])[ \t]+\S")
_TABLE_LINE = re.compile(r"\S \| \S")
# Words at the beginning that point back to what was said before.
_POINTS_BACK = re.compile(
    r"(?:and|but|or|so|also|however|then|therefore|thus|otherwise|it|its|they|their|them|this|that|"
    r"these|those|he|she|his|her|such|both|"
    r"und|aber|oder|also|dann|daher|deshalb|sonst|außerdem|er|sie|es|ihr|ihre|dies|diese|dieser|"
    r"dieses|dabei|dazu|danach|"
    r"et|mais|ou|donc|ensuite|il|elle|ils|elles|cela|ceci|y|pero|entonces|este|esta|esto|estos)\b",
    re.IGNORECASE,
)
_WIDE = re.compile(r"[\u2e80-\ua4cf\uac00-\ud7ff\uf900-\ufaff]")


@dataclass(frozen=True)
class Passage:
    """Some paragraphs of a text as they stand there, and the words in them that may answer."""

    heading: str
    text: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class _Block:
    start: int
    end: int
    text: str


def passages(text: str, num_answers: int) -> Iterator[Passage]:
    """Cut a text into passages, each with its best answers in their order; none without any."""
    heading = ""
    group: list[_Block] = []
    for block in _blocks(text):
        if _is_heading(block.text) and block.end < len(text.rstrip()):
            yield from _passage(text, heading, group, num_answers)
            heading, group = plain(block.text), []
            continue
        if group and block.end - group[0].start > MAX_PASSAGE_CHARACTERS:
            yield from _passage(text, heading, group, num_answers)
            group = []
        group.append(block)
    yield from _passage(text, heading, group, num_answers)


def plain(text: str) -> str:
    """Write a text on one line; passages are compared in this form, lines of a file mean little."""
    return " ".join(text.split())


def stands_in(words: str, passage: str) -> bool:
    """Say whether words stand in a passage as they are, wherever its lines end."""
    return bool(words.strip()) and plain(words) in plain(passage)


def _blocks(text: str) -> Iterator[_Block]:
    for match in _BLOCK.finditer(text):
        whole = match[0].rstrip()
        # A paragraph that is too long for one passage becomes several, cut behind sentences.
        start = 0
        last = 0
        for sentence_start, sentence_end in _spans(whole):
            if sentence_end - start > MAX_PASSAGE_CHARACTERS and last > start:
                yield _Block(match.start() + start, match.start() + last, whole[start:last])
                start = sentence_start
            last = sentence_end
        yield _Block(match.start() + start, match.start() + len(whole), whole[start:])


def _is_heading(block: str) -> bool:
    return (
        "\n" not in block
        and len(block) <= _MAX_HEADING_CHARACTERS
        and not block.endswith((".", "!", "?", "…", ":", ";", ",", "。", "！", "？", "।"))
        and not _LIST_LINE.match(block)
        and not _TABLE_LINE.search(block)
    )


def _passage(text: str, heading: str, group: list[_Block], num_answers: int) -> Iterator[Passage]:
    if not group:
        return
    answers = list(dict.fromkeys(answer for block in group for answer in _answers(block.text)))
    best: list[str] = []
    for answer in sorted(answers, key=_weight, reverse=True):
        # A sentence and the same with the next one are asked about once.
        if not any(answer in each or each in answer for each in best):
            best.append(answer)
    chosen = best[:num_answers]
    if chosen:
        quoted = text[group[0].start : group[-1].end]
        yield Passage(heading, quoted, tuple(answer for answer in answers if answer in chosen))


def _answers(block: str) -> Iterator[str]:
    lines = block.split("\n")
    if any(_TABLE_LINE.search(line) for line in lines):
        return
    if any(_LIST_LINE.match(line) for line in lines):
        # The points of a list answer together, with the line that says what they are.
        if (
            not _LIST_LINE.match(lines[0])
            and len(lines) > 1
            and len(block) <= MAX_ANSWER_CHARACTERS
        ):
            yield block
        return
    before = ""
    for start, end in _spans(block):
        sentence = plain(block[start:end])
        answer = sentence
        if _POINTS_BACK.match(sentence):
            answer = f"{before} {sentence}" if before else ""
        before = answer
        if _fits(answer):
            yield answer


def _spans(block: str) -> Iterator[tuple[int, int]]:
    """Yield where each whole sentence of a paragraph begins and ends."""
    start = 0
    for match in _SENTENCE_END.finditer(block):
        is_last = not block[match.end() :].strip()
        if not is_last and _SHORT_FORMS.search(block, start, match.start() + 1):
            continue
        yield start, match.end()
        start = match.end()
        while start < len(block) and block[start].isspace():
            start += 1


def _fits(answer: str) -> bool:
    if len(answer) > MAX_ANSWER_CHARACTERS or answer.endswith(("?", "？", "…")):
        return False
    if _WIDE.search(answer):
        return len(answer) >= MIN_ANSWER_CHARACTERS // 3
    return len(answer) >= MIN_ANSWER_CHARACTERS and len(answer.split()) >= _MIN_ANSWER_WORDS


def _weight(answer: str) -> float:
    """Prefer answers that say something: different longer words, and numbers above all."""
    words = set(re.findall(r"[^\W\d_]{4,}", answer.lower()))
    numbers = re.findall(r"\d+", answer)
    num_sentences = sum(1 for _ in _spans(answer))
    return min(len(words), 12) + 2 * min(len(numbers), 3) - 3 * num_sentences
