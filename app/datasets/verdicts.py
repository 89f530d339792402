"""Words by which people and programs say of an answer that it is good, or that it is not."""

import re
from typing import Any

# Whatever the column is called, they judge.
_BAD = (
    "rejected", "reject", "incorrect", "wrong", "disapproved", "declined", "refused", "denied",
    "unapproved", "not approved", "not accepted", "not correct", "undesirable", "unacceptable",
    "thumbs down", "thumbs_down", "thumbsdown", "downvote", "dislike", "disliked", "👎", "✗", "✘",
    "❌", "needs review", "needs work", "needs_review", "unverified", "unreviewed", "not reviewed",
    "abgelehnt", "zurückgewiesen", "falsch", "nicht freigegeben", "ungeprüft", "nicht korrekt",
    "inkorrekt", "nicht richtig", "rejeté", "rejetée", "refusé", "refusée", "incorrecte",
    "rechazado", "rechazada", "incorrecto", "incorrecta", "rifiutato", "rifiutata", "respinto",
    "sbagliato", "sbagliata", "scorretto", "scorretta", "afgekeurd", "afgewezen", "onjuist",
    "rejeitado", "rejeitada", "reprovado", "incorreto", "incorreta",
)  # fmt: skip
_GOOD = (
    "approved", "approve", "accepted", "correct", "desirable", "chosen", "verified", "reviewed",
    "thumbs up", "thumbs_up", "thumbsup", "upvote", "like", "liked", "👍", "✓", "✔", "✅",
    "freigegeben", "genehmigt", "korrekt", "geprüft", "angenommen", "approuvé", "approuvée",
    "accepté", "validé", "validée", "aprobado", "aprobada", "aceptado", "correcto", "correcta",
    "approvato", "approvata", "accettato", "corretto", "corretta", "goedgekeurd", "akkoord",
    "aprovado", "aprovada", "aceito", "correto", "correta",
)  # fmt: skip
# In other columns they say something else: a side, a lab's result, a colour.
_BAD_WHERE_NAMED = (
    "bad", "poor", "low", "fail", "failed", "fails", "unsafe", "harmful", "unhelpful", "not ok",
    "invalid", "draft", "pending", "outdated", "obsolete", "deleted", "discard", "discarded",
    "very bad", "very poor", "terrible", "unusable", "no good", "error", "ko", "-1",
    "to do", "todo", "in review", "down", "entwurf", "schlecht", "mangelhaft", "veraltet",
    "ungültig", "fehlerhaft", "unbrauchbar", "verworfen", "ungenügend", "offen", "in prüfung",
    "faux", "fausse", "mauvais", "mauvaise", "brouillon", "invalide", "non valide", "malo", "mala",
    "borrador", "falso", "cattivo", "bozza", "errato", "scaduto", "fout", "slecht", "concept",
    "mau", "ruim", "errado", "rascunho", "nein", "non", "nee", "não", "nao", "n", "f", "unwahr",
)  # fmt: skip
_GOOD_WHERE_NAMED = (
    "good", "right", "pass", "passed", "passes", "safe", "helpful", "ok", "okay", "valid",
    "excellent", "very good", "great", "high", "final", "published", "done", "keep",
    "usable", "perfect", "up", "richtig", "gut", "sehr gut", "wahr", "gültig", "brauchbar",
    "befriedigend", "ausreichend", "fertig", "ja", "oui", "sí", "sì", "si", "sim", "y", "t", "x",
    "bon", "bonne", "vrai", "juste", "valide", "bueno", "buena", "verdadero", "buono", "buona",
    "vero", "giusto", "goed", "juist", "bom", "boa", "certo", "+1", "fair", "medium", "average",
)  # fmt: skip
_STRONG = dict.fromkeys(_BAD, False) | dict.fromkeys(_GOOD, True)
_WEAK = dict.fromkeys(_BAD_WHERE_NAMED, False) | dict.fromkeys(_GOOD_WHERE_NAMED, True)
_FLAGS = dict.fromkeys(("0", "false", "no", "off"), False) | dict.fromkeys(
    ("1", "true", "yes", "on"), True
)
# A verdict of a reader, or of a laboratory.
_UNCLEAR = frozenset(
    {"positive", "negative", "neutral", "positiv", "negativ", "positif", "négatif", "positivo"}
    | {"negativo", "mixed", "unsure", "unclear", "unknown", "partially correct", "partly correct"}
)
_MAX_LENGTH = 20
_AROUND = re.compile(r"^[\s\"'(\[]+|[\s\"'.!)\]]+$")
_FIGURE = re.compile(
    r"[-+]?\d{1,6}(?:[.,]\d+)?\s*(?:%|★|\*|/\s*\d{1,3}|(?:of|out of|von)\s*\d{1,3})?"
)


def _word(value: Any) -> str:
    text = str(value)
    if len(text) > 2 * _MAX_LENGTH:
        return ""
    return " ".join(_AROUND.sub("", text).casefold().split())


def judges(value: Any) -> bool | None:
    """Say whether a cell says of its row that it is good; none where it judges nothing."""
    word = _word(value)
    return _STRONG[word] if word in _STRONG else _WEAK.get(word)


def is_plain_verdict(value: Any) -> bool:
    """Say whether a cell judges, whatever its column is called."""
    return _word(value) in _STRONG


def is_verdict(value: Any) -> bool:
    """Say whether a cell judges in a column whose name says that it does; true and false, too."""
    word = _word(value)
    return word in _FLAGS or word in _STRONG or word in _WEAK or word in _UNCLEAR


def is_unclear(value: Any) -> bool:
    """Say whether a cell judges in a way of which nobody can say what it means for the row."""
    return _word(value) in _UNCLEAR


def is_bad(value: Any) -> bool:
    """Say whether a cell says of its row that it is not to be learned."""
    word = _word(value)
    return not _FLAGS.get(word, True) or judges(value) is False


def is_figure(value: Any) -> bool:
    """Say whether a cell is a number such as a rating has: 3, 4.5, 80 %, 2/5."""
    if isinstance(value, bool):
        return False
    return isinstance(value, int | float) or _FIGURE.fullmatch(str(value).strip()) is not None
