"""The rules by which an answer is right, partly right, wrong, or for a person to check.

Findings are collected first: what contradicts the reference makes wrong, what cannot be told makes
unsure, what is missing or added makes partly. Right needs evidence of its own: the facts that the
question asks for, its yes or no, or nearly all words of the reference.
"""

import re

from app.evaluation.marks import choices, structured
from app.evaluation.marks.comparing import NAMES, differs
from app.evaluation.marks.marked import Marked, partly, right, unsure, wrong
from app.evaluation.marks.matching import match
from app.evaluation.marks.normalise import KEYS, MAX_CHARS, fold, plain, tokenise
from app.evaluation.marks.reading import Reading, read, tell_language
from app.evaluation.marks.text import Text
from app.evaluation.marks.words import LANGUAGES, Language, language_of

_MAX_STRUCTURED = 200_000  # letters of JSON; of other texts MAX_CHARS are read


_FINAL = re.compile(r"####[ \t]*([^\n]{1,80})")


def mark(
    question: str,
    reference: str,
    answer: str,
    *,
    language: str | None = None,
    was_cut: bool = False,
) -> Marked:
    """Mark an answer against a reference.

    Args:
        question: What was asked; it decides which facts matter.
        reference: The right answer.
        answer: What is marked.
        language: One of en, de, fr, es and nl, where it is known; another code is a language
            whose opposites and negations are not checked.
        was_cut: The answer ended at its limit of tokens.
    """
    question, reference, answer = (t[:_MAX_STRUCTURED] for t in (question, reference, answer))
    if not any(sign.isalnum() for sign in answer):
        if reference.strip() and reference.strip() == answer.strip():
            return right("the same words")
        return wrong("there is no answer")
    if not any(sign.isalnum() for sign in reference):
        return unsure("there is no right answer to compare with")
    marked = _marked(question, reference, answer, language)
    if was_cut and marked.mark.value == "right":
        return partly("the answer was cut off at its limit")
    if marked.mark.value == "right" and KEYS.findall(reference) != KEYS.findall(answer):
        return unsure("a symbol differs")
    return marked


def _marked(question: str, reference: str, answer: str, code: str | None) -> Marked:
    if " ".join(reference.split()) == " ".join(answer.split()):
        return right("the same words")
    found = structured.mark_json(reference, answer)
    calls = structured.calls_in(reference)
    if calls:
        return structured.mark_calls(calls, structured.calls_in(answer))
    if found is not None:
        return found
    if structured.calls_in(answer):
        return wrong("a tool is called where none is needed")
    question, reference, answer = (text[:MAX_CHARS] for text in (question, reference, answer))
    language = _language(code, question, reference, answer)
    final = _FINAL.search(reference)
    if final:
        return _mark_final(final[1], answer, language)
    chosen = choices.mark_choice(question, reference, answer, language)
    if chosen is not None:
        return chosen
    if _is_same(reference, answer, language):
        return right("the same words")
    readings = [read(text, language) for text in (question, reference, answer)]
    if language is None:
        return _mark_unknown(*readings)
    return Text(*readings, question, reference, answer, language).marked()


def _language(code: str | None, question: str, reference: str, answer: str) -> Language | None:
    if code is None:
        return tell_language(question, reference) or tell_language(question, reference, answer)
    code = code.lower()[:2]
    return language_of(code) if code in LANGUAGES else None


def _is_same(reference: str, answer: str, language: Language | None) -> bool:
    """Say whether two texts differ in case, signs, articles, spaces and politeness alone."""
    articles = language.articles if language else frozenset()
    # An article may be all there is to a choice: "A".
    first, second = (_without_politeness(text, language) for text in (reference, answer))
    one, two = plain(first, articles), plain(second, articles)
    return bool(one) and fold(one) == fold(two) and _same_signs(first, second)


def _same_signs(first: str, second: str) -> bool:
    return [c for c in first if c in "?<>=+%"] == [c for c in second if c in "?<>=+%"] or (
        first.rstrip("?") == second.rstrip("?")
    )


def _without_politeness(text: str, language: Language | None) -> str:
    if language is None:
        return text
    tokens = tokenise(text)
    polite = language.phrases["polite"]
    start = 0
    while start < len(tokens):
        found = polite.at(tokens, start)
        if tokens[start].kind == "sign" and tokens[start].text in ".,:;!?-":
            start += 1
        elif found and found[1] < len(tokens):
            start = found[1]
        else:
            break
    end = len(tokens)
    while end > start:
        if tokens[end - 1].kind == "sign" and tokens[end - 1].text in ".,:;!":
            end -= 1
            continue
        begin = next(
            (
                place
                for place in range(max(start + 1, end - 12), end)
                if (found := polite.at(tokens, place)) and found[1] == end
                and tokens[place - 1].kind == "sign"
            ),
            None,
        )  # fmt: skip
        if begin is None:
            break
        end = begin
    words: list[str] = []
    for token in tokens[start:end]:
        words.append(token.raw if token.is_glued or not words else " " + token.raw)
    return "".join(words)


def _mark_final(final: str, answer: str, language: Language | None) -> Marked:
    """Mark a worked solution by its last number, as its reference ends."""
    wanted = read(final, language or language_of("en")).facts
    own = _FINAL.search(answer)
    tail = own[1] if own else _last_sentence(answer)
    given = read(tail, language or language_of("en")).facts
    if not wanted:
        return right("the result is the same") if plain(final) == plain(tail) else unsure(
            "the result is no number"
        )  # fmt: skip
    if not given:
        return wrong("the result is missing")
    last = given[-1]
    if last.count == wanted[-1].count:
        if own is None and len(given) > 1 and len({fact.count for fact in given}) > 2:
            return unsure("which number is the result is not said")
        return right("the result is the same")
    if own is None and any(fact.count == wanted[-1].count for fact in given):
        return unsure("which number is the result is not said")
    return wrong(f"the result differs: {last.text}, not {wanted[-1].text}")


def _last_sentence(text: str) -> str:
    sentences = [
        s for s in re.split(r"(?<=[.!?])\s+|\n+", text.strip()) if any(c.isdigit() for c in s)
    ]
    return sentences[-1] if sentences else text


def _mark_unknown(question: Reading, reference: Reading, answer: Reading) -> Marked:
    """Mark in a language whose words are not known: by figures, and by nothing that is new."""
    facts = match(reference.facts, answer.facts, question.facts)
    if facts.missing and facts.added:
        return wrong(differs(facts.missing[0], facts.added[0]))
    stems = answer.stems - reference.stems - question.stems
    if reference.facts and not (facts.missing or facts.added or facts.nearly or facts.part):
        same_order = [f.text for f in reference.facts] == [f.text for f in answer.facts]
        if not stems and same_order and not (reference.stems - answer.stems - question.stems):
            return right("the same facts; its words were not checked in this language")
        if not stems and same_order and len(answer.words) <= 2:
            return right("the same facts; its words were not checked in this language")
    if reference.facts and not answer.facts and len(reference.words) <= 3:
        return wrong(f"{NAMES[reference.facts[0].family]} is missing")
    return unsure("not checked: its language is not one of the five that the rules know")
