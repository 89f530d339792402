"""Words that are names, stand around names or are none: text files in `words/`, read once.

One word or phrase a line; a line that begins with # is a comment.
"""

from pathlib import Path

_FOLDER = Path(__file__).parent / "words"
# In this order: of two languages with as many known words in a text the first one counts.
_LANGUAGES = ("en", "de", "fr", "es", "nl")


def _read(name: str) -> tuple[str, ...]:
    lines = (_FOLDER / f"{name}.txt").read_text(encoding="utf-8").split("\n")
    return tuple(line for line in lines if line and not line.startswith("#"))


def _set(name: str) -> frozenset[str]:
    return frozenset(_read(name))


def _by_language(name: str) -> dict[str, frozenset[str]]:
    return {code: _set(f"{name}/{code}") for code in _LANGUAGES}


GIVEN_NAMES = _set("given_names")
SURNAMES = _set("surnames")
ALSO_WORDS = _set("also_words")
NAMES_TOO = _set("names_too")

TITLES = _set("titles")
RELATIONS = _set("relations")
# Who is written to without a name, and what is wished.
ADDRESSED = _set("addressed")
BELONGINGS = _set("belongings")
OF = _set("of")
CONTACTS = _set("contacts")
INTRODUCTIONS = _read("introductions")
PERSON_VERBS = _set("person_verbs")
PLACE_PREPOSITIONS = _by_language("place_prepositions")
ARTICLES = _by_language("articles")
PARTICLES = _set("particles")
FUNCTION_WORDS = _by_language("function_words")
# What is said of somebody who was spoken of, and what somebody says who writes to somebody.
SOMEBODY = _by_language("somebody")
WRITER = _by_language("writer")

PLACES = _set("places")
DEVICES = _set("devices")
NOT_NAMES = _set("not_names") | PLACES
MEDICAL = _set("medical")
EPONYMS = _set("eponyms")
SIGNS = _set("signs")
THING_HEADS = _set("thing_heads")
THING_LEADS = _set("thing_leads")
OWN = _set("own")
CALLED = _set("called")
SUCH = _set("such")
WITH = _set("with")
AND = _set("and")
GERMAN_MATTER = _set("german_matter")
ORG_HEADS = _set("organisation_heads")
ROOMS = _set("rooms")
ORG_TAILS = _set("organisation_tails")
