"""Tables of multiple choice: options in columns or lists, and a cell that says which is right.

The cell names it by its letter, by its number or by its words; what it means is told by the first
rows together. A row of which that is not plain becomes no example.
"""

import ast
import contextlib
import itertools
import json
import re
import string
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

from app.datasets import verdicts
from app.datasets.column_names import ROLES, plain
from app.datasets.mapping import ColumnRole, LeftOut, Options
from app.datasets.readers import quizzes
from app.datasets.readers.quizzes import with_options

_OPTION = re.compile(
    r"(?:answer_option|answer|option|choice|alternative|antwort(?:moglichkeit)?|reponse|respuesta"
    r"|opcion|risposta|opzione|antwoord|resposta|svar)_?([a-h]|[1-9])(?:_.*)?|op([a-h])|([a-h])"
)
_WRONG = re.compile(
    r"(?:incorrect|wrong|false|falsche?|distractor|distraktor|incorrecta?|mauvaise|sbagliata)"
    r"(?:_(?:answer|option|antwort|reponse|respuesta|risposta))?(?:_?\d)?"
)
# The first that a file has; a letter or a number before words.
_RIGHT = (
    *("answer_key", "answer_idx", "answer_index", "correct_option", "correct_answer", "correct"),
    *("correct_answers", "right_answer", "right", "cop", "key", "richtig", "richtige_antwort"),
    *("losung", "bonne_reponse", "reponse_correcte", "correcta", "respuesta_correcta", "corretta"),
    *("risposta_corretta", "juist", "juiste_antwoord", "solution", "answer", "antwort", "label"),
)
# Words beside “right” that make a name mean something else: what is not right, why, how often.
_NOT_RIGHT = re.compile(
    r".*(?:feedback|expla|explic|erklar|erlauter|begrund|justif|kommentar|comment|rationale|reason"
    r"|hinweis|losungsweg|losungsschritt|points|punkte|percent|prozent|count|anzahl|number_of).*"
    r"|(?:.*_)?(?:not|nicht|non|niet|pas|no_es|no_correct\w*|inte|ikke|why|warum|pourquoi|rate|num"
    r"|times?)(?:_.*)?"
)
# Other ways to say so: “richtig ist”, “Lösungsbuchstabe”, “the correct one”.
_SAYS_RIGHT = re.compile(
    r"(?:.*_)?(?:correct|right|richtige?[rns]?|korrekte?[rns]?|lo(?:e)?sung(?:s\w+)?|bonnes?|exactes?"
    r"|correctas?|correcte?s?|corrett[aeo]|esatt[ao]|giust[ao]|juiste?|goede?|certa|ratt|riktigt?"
    r"|solucion|clave|soluzione|corrige)(?:_.*)?"
)
_LISTS = frozenset({"choices", "options", "answer_choices", "answer_options"})
_LETTERS = re.compile(r"\W*([a-h])\W*(?:(?:and|und|et|y|e|en)?\W*([a-h])\W*){0,7}", re.IGNORECASE)
_TEXT_KEYS = ("text", "content", "value", "option", "choice", "answer")
_LABEL_KEYS = ("label", "key", "letter", "id")
_MAX_LISTED = 26
_MAX_WRITTEN_OUT = 20_000
_NAMED = re.compile(r".*_([a-h])|(?:option|answer|antwort) ?([a-h])")
_NUM_LOOKED_AT = 200
NUM_FIRST_ROWS = 20

Row = dict[str, Any]
Means = Literal["itself", "words", "letters", "from 0", "from 1"]


class OptionColumns(NamedTuple):
    """Which columns ask, offer and say what is right; `listed` has all options in one cell."""

    question: str
    options: list[str]
    listed: str | None
    right: str
    # The options are wrong ones alone: the right one is a text of its own and points at none.
    are_wrong: bool = False


class _Read(NamedTuple):
    number: int
    row: Row | LeftOut
    labels: list[str]
    texts: list[str]
    right: str


def option_columns(columns: Iterable[str]) -> OptionColumns | None:
    """Find the columns of multiple choice; none where it is not plain that it is."""
    names = {name: plain(name) for name in columns}
    options = [name for name, word in names.items() if _OPTION.fullmatch(word)]
    wrong = [name for name, word in names.items() if _WRONG.fullmatch(word)]
    listed = [name for name, word in names.items() if word in _LISTS]
    offered = {*options, *wrong, *listed}
    by_word = {word: name for name, word in names.items() if name not in offered}
    right = next((by_word[word] for word in _RIGHT if word in by_word), None)
    right = right or next((name for word, name in by_word.items() if _says_right(word)), None)
    words = {word: name for word, name in by_word.items() if name != right}
    # “Question type” asks nothing where there is a “Question”.
    asked = [name for word, name in words.items() if ROLES.get(word) is ColumnRole.QUESTION] or [
        name for word, name in words.items() if ROLES.get(word.split("_")[0]) is ColumnRole.QUESTION
    ]
    is_choice = len(options) > 1 or len(wrong) > 0 or len(listed) == 1
    if right is None or len(asked) != 1 or not is_choice:
        return None
    only = listed[0] if listed and not options and not wrong else None
    are_wrong = not options and only is None
    return OptionColumns(asked[0], [] if only else options + wrong, only, right, are_wrong)


def _says_right(word: str) -> bool:
    return _SAYS_RIGHT.fullmatch(word) is not None and _NOT_RIGHT.fullmatch(word) is None


def only_judges(found: OptionColumns, first: Iterable[Row | LeftOut]) -> bool:
    """Say whether “wrong” has no wrong options but says of each row whether it is wrong."""
    if not found.are_wrong:
        return False
    cells = [
        value
        for row in first
        if not isinstance(row, LeftOut)
        for name in found.options
        if (value := row.get(name)) not in (None, "")
    ]
    return bool(cells) and all(map(verdicts.is_verdict, cells))


def offered(columns: Iterable[str]) -> list[str]:
    """Return the columns that are called as options are, if there are several beside others.

    Whether or not one says which is right: a single “a” is an answer, “a”, “b” and “c” are options.
    """
    names = list(columns)
    found = [name for name in names if _OPTION.fullmatch(plain(name))]
    return found if 1 < len(found) < len(names) else []


def kept_columns(columns: Iterable[str], found: OptionColumns) -> list[str]:
    """Return the columns of the rows that `rows` yields."""
    gone = {*found.options, found.listed, found.right, "answer"}
    return [*(name for name in columns if name not in gone), "answer"]


def rows(
    given: Iterator[tuple[int, Row | LeftOut]], found: OptionColumns, options: Options
) -> Iterator[tuple[int, Row | LeftOut]]:
    """Put into each row the right answer in its words, and the options as they are asked for."""
    read = (_read(number, row, found) for number, row in given)
    first = list(itertools.islice(read, _NUM_LOOKED_AT))
    means: Means | None = "itself"
    if not found.are_wrong:
        means = _meaning([one for one in first if one.right], is_listed=found.listed is not None)
    for one in itertools.chain(first, read):
        if isinstance(one.row, LeftOut):
            yield one.number, one.row
            continue
        right = _right(one, means)
        question = one.row.get(found.question)
        if not right or not isinstance(question, str):
            is_blank = not any(value not in (None, "") for value in one.row.values())
            yield one.number, LeftOut("blank" if is_blank else "options")
            continue
        texts = [text for text in one.texts if text]
        texts += [text for text in right if text not in texts]
        asked, answer = with_options(question, texts, right, options, is_shuffled=False)
        gone = {*found.options, found.listed, found.right, "answer"}
        if not any(one.texts) and one.row.get(found.listed or "") not in (None, "", [], {}):
            gone.discard(found.listed)  # what cannot be read stays, and is told as not used
        kept = {name: value for name, value in one.row.items() if name not in gone}
        yield one.number, {**kept, found.question: asked, "answer": answer}


def _read(number: int, row: Row | LeftOut, found: OptionColumns) -> _Read:
    if isinstance(row, LeftOut):
        return _Read(number, row, [], [], "")
    offered = _listed(row.get(found.listed)) if found.listed else _of_columns(row, found.options)
    value = row.get(found.right)
    if isinstance(value, list) and all(isinstance(one, str | int) for one in value):
        value = ", ".join(map(str, value))
    is_cell = isinstance(value, str | int | float) and not isinstance(value, bool)
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    return _Read(number, row, *offered, text.strip() if is_cell else "")


def _of_columns(row: Row, options: list[str]) -> tuple[list[str], list[str]]:
    labels, texts = [], []
    for name in options:
        match = _OPTION.fullmatch(plain(name))
        text = row.get(name)
        # A blank column keeps its place: the fourth of three options is none.
        labels.append(next(filter(None, match.groups()), "") if match else "")
        texts.append("" if isinstance(text, list | dict | None) else str(text).strip())
    return labels, texts


def _listed(value: Any) -> tuple[list[str], list[str]]:
    """Read the options of one cell: labels and texts, as long as each other; none if unreadable.

    They are a list, an object by letters, one of texts and labels, a list of objects that have a
    text and perhaps a label, or any of these written out as a text.
    """
    if isinstance(value, str):
        value = _written_out(value.strip())
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        labels, texts = value.get("label"), value["text"]
        if not isinstance(labels, list) or len(labels) != len(texts):
            labels = [""] * len(texts)
    elif isinstance(value, dict):
        labels, texts = list(value), list(value.values())
    elif isinstance(value, list) and all(isinstance(each, dict) for each in value):
        texts = [_first_of(each, _TEXT_KEYS) for each in value]
        labels = [_first_of(each, _LABEL_KEYS) for each in value]
        if not all(isinstance(label, str | int) for label in labels):
            labels = list(string.ascii_lowercase)
    else:
        labels, texts = list(string.ascii_lowercase), value if isinstance(value, list) else []
    if not all(isinstance(text, str | int | float) for text in texts):
        return [], []  # a picture, or something of which nobody can say what it reads like
    shown = _without_letters([str(text).strip() for text in texts[:_MAX_LISTED]])
    return [str(label).strip().casefold() for label in labels[: len(shown)]], shown


def _first_of(value: Row, keys: tuple[str, ...]) -> Any:
    return next((value[key] for key in keys if value.get(key) is not None), None)


def _written_out(text: str) -> Any:
    """Read options that one text has: as JSON, as Python writes a list, with letters, in lines."""
    if len(text) > _MAX_WRITTEN_OUT:
        return []
    if text[:1] in ("[", "{"):
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(text)
        with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            found = ast.literal_eval(text)
            # Without commas between them, as NumPy writes them, Python reads several as one.
            return found if isinstance(found, dict) or len(found) > 1 else []
        return []
    if (marks := quizzes.letters_of(text)) and marks[0].start() == 0:
        return quizzes.cut_at_letters(text)
    between = next((sign for sign in "\n|;" if sign in text), None)
    parts = [part.strip() for part in text.split(between)] if between else []
    return [part for part in parts if part]


def _without_letters(texts: list[str]) -> list[str]:
    """Take the letters off options of which each begins with its own."""
    marks = [mark for text in texts if (mark := quizzes.LETTERED.match(text))]
    if len(texts) < 2 or len(marks) < len(texts) or not quizzes.are_in_order(marks):
        return texts
    return [text[mark.end() :].strip() for text, mark in zip(texts, marks, strict=True)]


def _meaning(read: list[_Read], *, is_listed: bool) -> Means | None:
    """Say how the cells name what is right, by all of the first rows; none where they differ."""
    if not read:
        return None
    if all(_by_words(one) for one in read):
        return "words"
    if all(_by_letters(one) for one in read):
        return "letters"
    numbers = [number for one in read for number in _numbers(one)]
    if not all(_numbers(one) for one in read):
        return "letters" if not any(_numbers(one) for one in read) else None
    if 0 in numbers:
        return "from 0"
    is_last = any(number == len(one.texts) for one in read for number in _numbers(one))
    # Columns are counted from 1 by people; lists by programs from 0 or from 1.
    return "from 1" if is_last or not is_listed else None


def _right(one: _Read, means: Means | None) -> list[str]:
    found: list[str] = []
    match means:
        case "itself":
            # What is right and wrong at once is a slip, of which nobody can say what was meant.
            found = [one.right] if one.right not in one.texts else []
        case "words":
            found = _by_words(one)
        case "letters":
            found = _by_letters(one) or _by_words(one)
        case "from 0" | "from 1":
            first = 0 if means == "from 0" else 1
            places = [number - first for number in _numbers(one)]
            is_within = all(0 <= place < len(one.texts) for place in places)
            found = [one.texts[place] for place in places] if is_within else []
        case None if not _points(one.right):  # words are plain, whatever others mean
            found = _by_words(one)
    return found if all(found) else []


def _by_words(one: _Read) -> list[str]:
    by_word = {text.casefold(): text for text in one.texts if text}
    if one.right.casefold() in by_word:
        return [by_word[one.right.casefold()]]
    if not any(one.texts):
        # Options that cannot be read: words say by themselves what is right, and a letter nothing.
        return [] if _points(one.right) else [one.right]
    parts = [part.strip().casefold() for part in re.split(r"[;\n|]", one.right)]
    return [by_word[part] for part in parts] if all(part in by_word for part in parts) else []


def _by_letters(one: _Read) -> list[str]:
    labels = dict(zip(one.labels, one.texts, strict=False))
    if one.right.casefold() in labels:
        return [labels[one.right.casefold()]]
    last = _NAMED.fullmatch(one.right.casefold())
    letters = [letter for letter in (last.groups() if last else ()) if letter]
    if not letters and len(one.right) < 40 and _LETTERS.fullmatch(one.right):
        letters = re.findall(r"\b[a-h]\b", one.right.casefold())
    if not letters:
        return []
    if not {"a", "b"} <= labels.keys():  # they have numbers, or none
        labels = dict(zip("abcdefgh", one.texts, strict=False))
    return [labels[letter] for letter in letters] if set(letters) <= labels.keys() else []


def _points(right: str) -> bool:
    """Say whether a cell may point at an option and say nothing by itself."""
    is_letter = len(right) < 40 and _LETTERS.fullmatch(right) is not None
    named = _NAMED.fullmatch(right.casefold()) is not None
    return not right or right.isdecimal() or is_letter or named


def _numbers(one: _Read) -> list[int]:
    """Return the numbers of a cell such as “2” or “1, 3”."""
    parts = re.split(r"[\s,;]+", one.right.strip())
    is_number = all(part.isdecimal() and len(part) < 3 for part in parts)
    return [int(part) for part in parts] if is_number else []
