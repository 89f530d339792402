"""Columns beside question and answer that judge the row: true and false, words, or ratings.

A row that is judged bad must not be learned as a good answer in silence: such a column is proposed
as what says whether the row is learned where it can be read so, and a person looks at it.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from app.datasets import verdicts
from app.datasets.column_names import plain, words
from app.datasets.readers.inspections import Inspection
from app.datasets.turns import FLAGS

# By any word of the name, compared by plain(). True means that the row is good.
_GOOD = words(
    "correct correctness good accepted approved valid verified reviewed helpful usable keep "
    "included desirable ok okay passed pass acceptable useful factual accurate richtig korrekt gut "
    "freigegeben gepruft verwendbar brauchbar zugelassen bestatigt stimmt genehmigt juste valide "
    "validee valable approuve approuvee verifie verifiee accepte correcte correcto correcta valido "
    "valida aprobado aprobada verificado verificada aceptado corretto corretta giusto approvato "
    "approvata verificato verificata juist correcta goed goedgekeurd gecontroleerd correto certo "
    "aprovado aprovada"
)
# True means that it is not.
_BAD = words(
    "wrong incorrect bad rejected flagged deleted outdated obsolete invalid harmful toxic unsafe "
    "hallucination hallucinated discard discarded exclude excluded spam undesirable falsch "
    "fehlerhaft abgelehnt veraltet ungultig verworfen faux fausse incorrecte rejete rejetee "
    "perime incorrecto incorrecta rechazado rechazada obsoleto sbagliato sbagliata rifiutato "
    "scartato fout afgekeurd verouderd errado rejeitado incorreto"
)
# What the cells say is told by themselves.
_VERDICT = words(
    "label labels status state verdict review judgement judgment judge rating ratings score "
    "scores grade quality vote votes upvotes downvotes feedback thumb thumbs evaluation assessment "
    "reward stars approval validation annotation likes preference bewertung bewertungen urteil "
    "prufung freigabe qualitat note punktzahl beurteilung statut evaluation jugement qualite avis "
    "estado calificacion valoracion puntuacion calidad evaluacion veredicto stato valutazione "
    "punteggio giudizio qualita voto beoordeling oordeel kwaliteit cijfer avaliacao nota qualidade "
    "pontuacao"
)
# They judge whatever stands in them.
_ONLY_VERDICT = frozenset({"verdict", "judgement", "judgment", "correctness", "urteil", "rating"})
# The three columns of KTO, whose label is true or false.
_KTO = {"prompt", "completion", "label"}
_NUM_SHOWN = 3


class How(StrEnum):
    """How the cells of such a column judge."""

    KTO = "kto"  # true or false beside prompt and completion: plain to a program
    READ = "read"  # by words that can be read: rows judged bad are left out
    UNREAD = "unread"  # by ratings, or by true for what is bad: a person has to look


class Judged(NamedTuple):
    """A column that judges, and the words in it that say “bad”, as far as they were seen."""

    name: str
    how: How
    bad: list[str]


def judged_columns(inspection: Inspection, names: Iterable[str]) -> list[Judged]:
    """Find those of the columns that judge their rows."""
    return [found for name in names if (found := _judged(inspection, name)) is not None]


def _judged(inspection: Inspection, name: str) -> Judged | None:
    word = plain(name)
    if word in FLAGS:
        return None
    parts = set(word.split("_"))
    is_not = bool(parts & {"not", "non", "nicht", "un", "no"})
    good, bad, verdict = parts & _GOOD, parts & _BAD, parts & _VERDICT
    cells = [value for row in inspection.preview if (value := row.values.get(name)) not in ("", [])]
    values = [value for value in cells if value is not None]
    if any(isinstance(value, list | dict) for value in values):
        return None
    seen = list(dict.fromkeys(_shown(value) for value in values if verdicts.is_bad(value)))
    are_flags = bool(values) and all(isinstance(value, bool) for value in values)
    if are_flags and word == "label" and {plain(each) for each in inspection.columns} >= _KTO:
        return Judged(name, How.KTO, seen)
    is_named = bool(good or bad or verdict)
    if not values:
        # Only the first rows are looked at: a mark may stand further down.
        return Judged(name, How.UNREAD, []) if bad and len(parts) <= 2 else None
    if all(map(verdicts.is_plain_verdict, values)) and not bad:
        return Judged(name, How.READ, seen)
    if not is_named:
        return None
    if all(map(verdicts.is_verdict, values)):
        is_read = not bad and not is_not and not any(map(verdicts.is_unclear, values))
        return Judged(name, How.READ if is_read else How.UNREAD, seen)
    if all(map(verdicts.is_figure, values)):
        return Judged(name, How.UNREAD, [])
    if any(map(verdicts.is_plain_verdict, values)) or parts & _ONLY_VERDICT:
        return Judged(name, How.UNREAD, seen)
    return None


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value).strip()


def sentence(judged: Judged) -> str:
    """Say what becomes of the rows that a column judges."""
    bad = " or ".join(f"“{word}”" for word in judged.bad[:_NUM_SHOWN])
    if judged.how is How.KTO:
        return f"“{judged.name}” says which answers are good: rows with “false” are left out."
    if judged.how is How.READ:
        where = f"where it says {bad}" if bad else "where it says no"
        return (
            f"“{judged.name}” seems to say which answers are good, so rows {where} are left out; "
            "please check."
        )
    return (
        f"“{judged.name}” seems to say how good each row is, and bad rows would be learned as "
        "well; take bad rows out of the file first, if there are any."
    )
