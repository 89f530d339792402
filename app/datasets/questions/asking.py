"""What a model is told when it is to make up a question, and what is taken of what it says.

It sees the words that answer, under their heading, and a few patterns: even a small model can turn
one sentence around. It says several things; the one that keeps closest to the words of the document
is proposed. What is no question, or strays, is thrown away and counted.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from app.datasets.questions.passages import Passage, plain, stands_in

# So often the model tries for each answer, and so long it may go on.
NUM_TRIES = 6
MAX_NEW_TOKENS = 48
_MAX_QUESTION_CHARACTERS = 250
_MIN_QUESTION_WORDS = 3

REASONS = {
    "not_in_passage": "the answer was not in the passage",
    "empty": "the model said nothing",
    "no_question": "no question mark",
    "too_short": "too short to be a question",
    "too_long": "too long",
    "repeats": "repeats itself",
    "copies_order": "repeats its instruction",
    "gives_away": "gives away the answer",
    "strays": "asks about something that is not there",
    "duplicate": "was asked before",
}

_ORDER = (
    "You are given a sentence of a document under its heading. Write one question that the "
    "sentence answers, in the language of the sentence. Say nothing else."
)
_PATTERNS = (
    (
        "Opening hours: The library is open from nine to five on weekdays.",
        "When is the library open on weekdays?",
    ),
    (
        "Fire alarm: When the alarm rings, everybody leaves the building by the nearest stairs.",
        "What should I do when the fire alarm rings?",
    ),
    (
        "Growing tomatoes: Tomatoes need at least six hours of sun a day.",
        "How much sun do tomatoes need?",
    ),
    (
        "School trips: Parents sign the form and hand it in a week before the trip.",
        "What do parents have to do before a school trip?",
    ),
    (
        "In the park: Dogs must be kept on a lead at all times.",
        "Are dogs allowed to run free in the park?",
    ),
)
_OF_THE_ORDER = re.compile(
    r"\b(?:the|this|given|following|a) (?:sentence|document|heading|text|passage)\b|"
    r"\b(?:answer to (?:this|the) question|write one question|as an ai)\b",
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"^[\s\"'“”„«*_#>-]*(?:(?:question|q|frage|pregunta)\s*\d{0,2}\s*[:.)-]\s*)?", re.IGNORECASE
)
_MARK = re.compile(r"[?？؟]")
_WORD = re.compile(r"[^\W_]+")
_WIDE = re.compile(r"[\u2e80-\ua4cf\uac00-\ud7ff\uf900-\ufaff]")
# Words that questions are made of; they say nothing of what is asked about.
_ASKING_WORDS = frozenset(
    re.findall(
        r"\S+",
        "what when where which while whom whose does should would could have been being many much "
        "long often with from into about that this there their they them your must will rule "
        "happens happen need needed allowed called make made "
        "welche welcher welches wann warum wieso wohin woher wird werden kann können muss müssen "
        "soll sollen darf dürfen eine einen einem einer nicht sich wenn beim "
        "quel quelle quels quelles quand pourquoi comment combien doit dans avec pour "
        "cuál cuándo dónde cómo debe para",
    )
)
_STEM_LETTERS = 4
# What only the patterns speak of: small models mix it in.
_OF_PATTERNS = frozenset(
    {"library", "alarm", "stairs", "tomatoes", "tomato", "parents", "trip", "trips", "school"}
    | {"dogs", "dog", "park", "lead", "sun"}
)


@dataclass(frozen=True)
class QuestionRequest:
    """One answer of one passage, to which a question is wanted."""

    passage: Passage
    answer: str

    @property
    def words(self) -> str:
        """What the model is told last: the words that answer, under their heading."""
        heading = f"{self.passage.heading}: " if self.passage.heading else ""
        return heading + plain(self.answer)


def told_before() -> list[dict[str, str]]:
    """Return the conversation that goes before each request: what is wanted, and the patterns."""
    said = [{"role": "system", "content": _ORDER}]
    for sentence, question in _PATTERNS:
        said.append({"role": "user", "content": sentence})
        said.append({"role": "assistant", "content": question})
    return said


def choose(request: QuestionRequest, said: Iterable[str], asked: set[str]) -> tuple[str, str]:
    """Take the best question of what a model said to one request.

    Args:
        said: Its tries.
        asked: Keys of questions that were asked before; that of the one chosen is added.

    Returns:
        The question and nothing, or nothing and why there is none, a key of REASONS.
    """
    if not stands_in(request.answer, request.passage.text):
        return "", "not_in_passage"
    best, most = "", float("-inf")
    reasons: Counter[str] = Counter()
    for each in said:
        question, reason = judge(request, each)
        if question and key(question) in asked:
            question, reason = "", "duplicate"
        if reason:
            reasons[reason] += 1
        elif (closeness := _closeness(request, question)) > most:
            best, most = question, closeness
    if not best:
        return "", reasons.most_common(1)[0][0] if reasons else "empty"
    asked.add(key(best))
    return best, ""


def judge(request: QuestionRequest, said: str) -> tuple[str, str]:
    """Return the question in what a model said, or why it is none (a key of REASONS)."""
    whole = plain(said.replace("\0", ""))
    if not whole:
        return "", "empty"
    if (mark := _MARK.search(whole)) is None:
        return "", "no_question"
    question = _LABEL.sub("", whole[: mark.end()])
    # What comes before it, such as "Sure! Here it is:", is no part of it.
    question = re.split(r"[.!:][\"”’]?\s+[\"“‘„«]?(?=\w)", question)[-1]
    words = _WORD.findall(question.casefold())
    if not _WIDE.search(question) and len(words) < _MIN_QUESTION_WORDS:
        return "", "too_short"
    if len(question) > _MAX_QUESTION_CHARACTERS:
        return "", "too_long"
    if _repeats(words):
        return "", "repeats"
    patterns = {key(text) for text, _ in _PATTERNS} | {key(text) for _, text in _PATTERNS}
    there = set(_WORD.findall(f"{request.passage.heading} {request.passage.text}".casefold()))
    borrowed = _OF_PATTERNS.intersection(words) - there
    if borrowed or _OF_THE_ORDER.search(question) or key(question) in patterns:
        return "", "copies_order"
    if _gives_away(question, request.answer):
        return "", "gives_away"
    if _strays(request, question):
        return "", "strays"
    return question[0].upper() + question[1:], ""


def key(question: str) -> str:
    """Write a question so that equal ones are equal but for case, space and signs."""
    return " ".join(_WORD.findall(question.casefold()))


def _repeats(words: list[str]) -> bool:
    for size in (1, 2, 3):
        for start in range(len(words) - 3 * size + 1):
            piece = words[start : start + size]
            if words[start + size : start + 3 * size] == piece * 2:
                return True
    return len(words) >= 8 and len(set(words)) * 2 < len(words)


def _gives_away(question: str, answer: str) -> bool:
    asked, answers = key(question), key(answer)
    return len(answers) > 0 and (answers in asked or (len(asked) > 20 and asked in answers))


def _strays(request: QuestionRequest, question: str) -> bool:
    """Say whether a question is about something else, or names what does not stand there."""
    there = plain(f"{request.passage.heading} {request.passage.text}").casefold()
    if _WIDE.search(question):  # no spaces between words: some two signs in a row have to be there
        pairs = {question[start : start + 2] for start in range(len(question) - 2)}
        return not any(_WIDE.match(pair) and pair in there for pair in pairs)
    if any(number not in there for number in re.findall(r"\d+", question)):
        return True
    # A name: a word with a capital inside the question.
    names = re.findall(r"(?<=[\w,;] )[A-ZÀ-Þ][\w'’-]{2,}", question)
    if any(_stem(name.casefold()) not in there for name in names):
        return True
    content = _content(question)
    num_shared = sum(_stem(word) in there for word in content)
    return num_shared == 0 or (num_shared * 2 <= len(content) and len(content) > 2)


def _closeness(request: QuestionRequest, question: str) -> float:
    """Say how well a question keeps to its answer: the more, the better.

    Words of the answer count, up to half of it, for what says all of it asks nothing; then words of
    the passage. A word that is nowhere counts against.
    """
    answer = plain(request.answer)
    there = plain(f"{request.passage.heading} {request.passage.text}").casefold()
    half = (len(_content(answer)) + 1) // 2
    stems = [_stem(word) for word in _content(question)]
    near = sum(stem in answer.casefold() for stem in stems)
    nowhere = sum(stem not in there for stem in stems)
    around = len(stems) - near - nowhere
    return 2 * min(near, half) - max(near - half, 0) + around - 2 * nowhere - 0.02 * len(question)


def _content(text: str) -> set[str]:
    return {
        word
        for word in _WORD.findall(text.casefold())
        if len(word) >= _STEM_LETTERS and word not in _ASKING_WORDS
    }


def _stem(word: str) -> str:
    """Cut what words end with: tests and test, taking and take are the same here."""
    return word[: max(_STEM_LETTERS, len(word) - 3)] if len(word) > _STEM_LETTERS else word
