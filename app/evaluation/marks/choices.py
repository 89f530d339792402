"""Choices: a letter, or the text that it stands for."""

import re

from app.evaluation.marks.marked import Marked, partly, right, unsure, wrong
from app.evaluation.marks.normalise import clean, plain
from app.evaluation.marks.words import Language

_LINE = re.compile(r"^[ \t]*\(?([A-Ha-h]|[1-9])[).:][ \t]+(\S.*)$", re.MULTILINE)
_INLINE = re.compile(r"(?:^|(?<=[\s,;?:(]))\(?([A-Ha-h])[).:][ \t]+")
_BARE = re.compile(r"^\W*([A-Ha-h]|[1-9])\W*$")
_NAMED = re.compile(
    r"\b(?:option|answer|choice|antwort|lösung|réponse|reponse|respuesta|opción|opcion|antwoord|optie|"
    r"letter|lettre|letra|buchstabe|choix|auswahl|möglichkeit|is|ist|est|es)\s*:?\s*\(?([A-Ha-h])\b(?!')",
    re.IGNORECASE,
)  # fmt: skip
_LISTED_A = re.compile(r"(?:^|[\s(])A\)?\s*(?:or|and|oder|und|ou|et|o|y|of|en|,|/|&)\s+\(?[B-H]\b")
_LEADING = re.compile(r"^\W*([A-Ha-h]|[1-9])[).:]\s")


def mark_choice(
    question: str, reference: str, answer: str, language: Language | None
) -> Marked | None:
    """Mark an answer to a question that offers lettered choices; None: it offers none."""
    options = options_in(clean(question))
    wanted = _letter(reference, options, language)
    if wanted is None or (not options and not re.search(r"[A-Ha-h]", reference)):
        return None
    if not options and _BARE.match(reference) is None and not _NAMED.search(reference):
        return None
    given = _letters(answer, options, language)
    if given is None or not given:
        return wrong("no choice is named") if options and len(answer.split()) <= 3 else None
    if len(given) > 1:
        return (
            wrong("several choices are named")
            if wanted in given
            else wrong("a different choice is named")
        )
    (letter,) = given
    if letter != wanted:
        return wrong(f"the choice differs: {letter.upper()}, not {wanted.upper()}")
    text = options.get(letter, "")
    others = [other for key, other in options.items() if key != letter]
    said = f" {plain(answer)} "
    if text and f" {plain(text)} " not in said and any(f" {plain(o)} " in said for o in others):
        return unsure("the letter and the text of the choice differ")
    if len(answer.split()) > 60:
        return partly("much more is said than the choice")
    return right("the choice is the same")


def options_in(question: str) -> dict[str, str]:
    """Return the choices of a question, by their letters."""
    lines = [(m[1].lower(), m[2].strip()) for m in _LINE.finditer(question)]
    if len(lines) >= 2 and len({letter for letter, _ in lines}) == len(lines):
        return dict(lines)
    marks = list(_INLINE.finditer(question))
    letters = [mark[1].lower() for mark in marks]
    if len(marks) < 2 or letters != [chr(ord("a") + n) for n in range(len(letters))]:
        return {}
    ends = [*(mark.start() for mark in marks[1:]), len(question)]
    return {
        letter: question[mark.end() : end].strip(" \n,;.?/")
        for letter, mark, end in zip(letters, marks, ends, strict=True)
    }


def _letter(text: str, options: dict[str, str], language: Language | None) -> str | None:
    found = _letters(text, options, language)
    return next(iter(found)) if found and len(found) == 1 else None


def _letters(text: str, options: dict[str, str], language: Language | None) -> set[str] | None:
    """Return the choices that a text names, by letter or by their words."""
    text = clean(text).strip()
    bare = _BARE.match(text)
    if bare and (not options or bare[1].lower() in options):
        return {bare[1].lower()}
    leading = _LEADING.match(text)
    found = (
        {leading[1].lower()}
        if leading and (not options or leading[1].lower() in options)
        else set()
    )
    for match in _NAMED.finditer(text):
        # "is a …": an article, unless it is a capital
        if match[1].isupper() or re.match(
            r"(?i)(option|opci|opti|choi|lettre|letra|buchst)", match[0]
        ):
            found.add(match[1].lower())
    for match in re.finditer(r"(?<![\w'])\(?([B-H])\)?(?![\w'])", text):
        if options and match[1].lower() in options:
            found.add(match[1].lower())
    if options and _LISTED_A.search(text):
        found.add("a")
    if found:
        return found
    articles = language.articles if language else frozenset()
    said = f" {plain(text, articles)} "
    named = {
        letter for letter, option in options.items()
        if plain(option, articles) and f" {plain(option, articles)} " in said
    }  # fmt: skip
    longest = {
        letter for letter in named
        if not any(
            other != letter and plain(options[letter], articles) in plain(options[other], articles)
            for other in named
        )
    }  # fmt: skip
    return longest or None
