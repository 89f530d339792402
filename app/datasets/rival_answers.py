"""Several columns that could be the answer: which is the right one, by the words of their names.

“bad_answer”, “student answer” and “answer_old” are answers, and not what a model is to learn.
"""

import re
from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

from app.datasets.column_names import ROLES, plain, says, words
from app.datasets.mapping import ColumnRole


class Rank(IntEnum):
    """How likely a column of answers has the right ones."""

    WRONG = 0
    FIRST_TRY = 1
    PLAIN = 2
    RIGHT = 3


# Compared by plain(), word by word.
_WRONG = words(
    "bad wrong incorrect false rejected worse worst poor negative invalid distractor hallucinated "
    "toxic harmful unsafe undesirable nonpreferred dispreferred falsch falsche falscher schlecht "
    "schlechte inkorrekte fehlerhafte abgelehnte mauvaise fausse incorrecte rejetee mala "
    "incorrecta falsa erronea rechazada sbagliata errata scorretta cattiva fout foute slecht "
    "slechte onjuist onjuiste errada rejeitada"
)
_FIRST_TRY = words(
    "student students pupil pupils learner trainee candidate participant respondent old older "
    "draft drafts previous prior former original raw initial first earlier unedited unreviewed "
    "unchecked outdated obsolete deprecated deleted v1 before predicted prediction generated llm "
    "ai schuler schulerin schulers schulerinnen studenten studierenden lernenden alt alte "
    "entwurf vorherige ursprungliche bisherige veraltete ungeprufte eleve etudiant ancienne "
    "ancien brouillon precedente obsolete alumno alumna estudiante antigua borrador anterior "
    "studente alunno vecchia bozza leerling oude vorige aluno estudante antiga rascunho"
)
_RIGHT = words(
    "good right correct best better preferred gold golden truth reference ideal expected target "
    "teacher tutor expert nurse doctor physician new newer final corrected approved accepted "
    "verified improved edited revised reviewed official sample standard correction human after v2 "
    "richtig richtige korrekt korrekte beste bessere gute muster neu neue endgultige korrigierte "
    "erwartete freigegebene geprufte lehrer dozenten bonne juste correcte meilleure attendue "
    "corrigee nouvelle validee enseignant buena correcta mejor esperada corregida nueva profesor "
    "buona corretta migliore attesa giusta nuova goede juiste correcte beste verwachte nieuwe "
    "boa certa correta melhor esperada nova"
)
# German and Dutch write such names in one word.
_PARTS = {
    "schuler": "pupil", "schueler": "pupil", "student": "student", "studenten": "student",
    "studierenden": "student", "lernenden": "learner", "leerling": "pupil", "falsch": "wrong",
    "fehl": "wrong", "alt": "old", "probe": "draft", "muster": "right", "lehrer": "teacher",
    "soll": "expected", "ist": "predicted",
}  # fmt: skip
_COMPOUND = re.compile(rf"({'|'.join(_PARTS)})_?(?:antwort|losung|antwoord)")
# Whole names of what answers are compared with, though none of their words is known.
_TRUTHS = frozenset(
    {"ground_truth", "groundtruth", "gold", "golden", "truth", "ideal", "gold_label"}
    | {"reference_text", "musterlosung", "musterantwort", "losungsvorschlag", "corrige"}
    | {"corrige_type", "solucion", "soluzione", "solucao", "correction", "modelanswer"}
)
# Answers of models are compared with a reference; other texts only name one.
_OF_MACHINES = frozenset(
    {"response", "output", "completion", "reply", "gpt", "assistant", "prediction", "generated"}
)
_REFERENCES = frozenset({"reference", "references"})


def rank(name: str) -> Rank:
    """Say by a column's name how likely its answers are the right ones."""
    word = plain(name)
    parts = set(re.findall(r"[^\W_]+", word))  # of “pupil’s”, too
    if compound := _COMPOUND.match(word):
        parts.add(_PARTS[compound[1]])
    if parts & _WRONG or ("not" in parts and parts & _RIGHT):
        return Rank.WRONG
    # “student_answer_corrected” is right.
    if parts & _RIGHT or word in _TRUTHS:
        return Rank.RIGHT
    return Rank.FIRST_TRY if parts & _FIRST_TRY else Rank.PLAIN


def is_truth(name: str) -> bool:
    """Say whether a column's name is a word for what is right, which need not say “answer”."""
    return plain(name) in _TRUTHS


def ordered(names: Iterable[str]) -> list[str]:
    """Return columns of answers, those first that have the right ones; of equals the first."""
    return sorted(names, key=lambda name: (-rank(name), ROLES.get(plain(name)) is None))


def better_than(known: Iterable[str], columns: Iterable[str]) -> list[str]:
    """Return columns that say of themselves that they have the right answer, beside others."""
    known = list(known)
    best = max(map(rank, known), default=Rank.PLAIN)
    if best is Rank.RIGHT:
        return []
    return [
        name
        for name in columns
        if name not in known
        and ROLES.get(plain(name)) in (None, ColumnRole.ANSWER)
        and rank(name) is Rank.RIGHT
        and (is_truth(name) or says(plain(name), ColumnRole.ANSWER))
    ]


class Doubt(NamedTuple):
    """What is said of a proposed answer, and whether a person has to look."""

    sentence: str = ""
    is_for_a_person: bool = False


def doubt(answer: str, columns: Iterable[str]) -> Doubt:
    """Say what is to be known of a proposed answer beside the file's other columns."""
    if rank(answer) is Rank.FIRST_TRY:
        return Doubt(
            f" By its name, “{answer}” may have first tries, old answers or what pupils wrote; "
            "please check that they are right.",
            True,
        )
    others = [name for name in columns if name != answer]
    references = [name for name in others if plain(name) in _REFERENCES]
    if references and plain(answer) in _OF_MACHINES:
        return Doubt(
            f" “{references[0]}” may have the right answers, with which those of “{answer}” were "
            "compared; please check.",
            True,
        )
    rivals = [n for n in others if is_truth(n) or says(plain(n), ColumnRole.ANSWER)]
    below = sorted((name for name in rivals if rank(name) < rank(answer)), key=rank)
    if not below:
        return Doubt()
    if rank(below[0]) is Rank.PLAIN:
        return Doubt(
            f" By its name, “{answer}” has the right answers, so “{below[0]}” is not used; please "
            "check.",
            True,
        )
    kind = "wrong answers"
    if rank(below[0]) is Rank.FIRST_TRY:
        kind = "first tries, old answers or what pupils wrote"
    return Doubt(f" By its name, “{below[0]}” has {kind}; it is not used.")


def wrong_ones(columns: Iterable[str]) -> list[str]:
    """Return columns whose names say that they have wrong answers."""
    return [
        name
        for name in columns
        if says(plain(name), ColumnRole.ANSWER) and rank(name) is Rank.WRONG
    ]


def wrong_alone(name: str) -> str:
    """Say why no answer is proposed where the only answers are wrong ones."""
    return (
        f"By its name, “{name}” has wrong answers, which nobody wants to be learned, and no other "
        "column seems to have right ones; choose the answer yourself."
    )
