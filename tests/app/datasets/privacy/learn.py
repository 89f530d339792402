"""Learn the weights for names: `python -m tests.app.datasets.privacy.learn [--texts FILE.csv …]`.

A logistic regression over what evidence.py says of capitalised words: names put into the sentences
of sentences_learned.py, sentences_learned_too.py, sentences_learned_en.py and sentences.py, against
whatever else has a capital there, and in the half of files of texts that name nobody (MedQuAD, CC BY 4.0:
shared/data/medquad; abstracts). The names are those of the rules' own lists, of which half are
hidden from the rules meanwhile, and words of the language that are names, too, which are hidden all:
so what is learned holds for names that nobody has listed. `--folds 5` learns from four fifths of the
sentences and judges by the others, in turn; nothing is written then.
"""

import argparse
import csv
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from app.datasets.privacy import evidence, passage, words
from app.datasets.privacy.scanner import Scanner
from tests.app.datasets.privacy import (
    make,
    sentences,
    sentences_learned,
    sentences_learned_en,
    sentences_learned_too,
)

Vector = NDArray[np.float64]
ROUNDS = 8
PENALTY = 3.0
# What a text says a hundred times is learned from as often as this.
SAME = 6
# So many different sentences or texts say something, and it is learned from.
OFTEN = 4
# One name in so many is a word of the language, too.
WORDS_IN = 5
csv.field_size_limit(10_000_000)

# Names that are words: put together by hand, apart from the lists of the rules and of Faker.
_WORDLIKE = {
    "en": (
        "Grace Hope Faith Joy April May June Rose Lily Daisy Summer Autumn Dawn Robin Heather Holly Ivy Ruby Pearl Amber "
        "Jade Crystal Misty Sandy Penny Patience Prudence Constance Honor Melody Harmony Star River Forrest Hunter Chase "
        "Mason Carter Cooper Miles Chance Max Art Bill Frank Grant Mark Will Drew Skip Rusty Rich Brook Reed Clay Cliff",
        "Baker Bishop Booker Bright Brook Brooks Butcher Carpenter Castle Church Close Cook Cross Day Dean Farmer Field "
        "Fields Fisher Forest Fox Frost Gardener Gates Glass Gold Good Green Grey Hall Hill Hunter Judge Key King Knight "
        "Lake Lane Little Long Love March Marsh Meadows Moon Noble Page Painter Park Peak Pike Pool Pope Porter Power "
        "Price Rain Rivers Rose Savage Sharp Shepherd Short Silver Singer Small Snow Spring Stone Storm Strong Summers "
        "Swan Sweet Swift Tanner Towers Underwood Walls Waters Weeks Wells West Winters Wise Wolf Wood Woods Young",
    ),
    "de": (
        "Linde Rose Heide Viola Ernst Till Wolf Bernd Lore Jasmin Iris Erika Hasso Falk Bär Rabea",
        "Bauer Becker Bäcker Berg Busch Fischer Förster Fuchs Gärtner Gerber Graf Hahn Haas Hase Herbst Herzog Jäger Kaiser "
        "Keller Klein Koch König Krämer Kraus Kuhn Lang Ludwig Maurer Müller Neumann Ochs Pfeiffer Rabe Richter Ritter Roth "
        "Sattler Schäfer Schlosser Schmied Schneider Schreiber Schuster Sommer Specht Stark Stein Sturm Töpfer Vogel Vogt "
        "Wagner Weber Weiß Winter Wirth Wolf Zimmermann",
    ),
    "fr": (
        "Rose Marguerite Violette Capucine Pierre Prudence Constance Victoire Clémence Aurore Désirée Aimée Blanche Reine "
        "Olive Marine Fleur Océane Pervenche Prune Clément Noël Juste Parfait Modeste Parfaite Ange",
        "Berger Boucher Boulanger Bourgeois Bouvier Brun Carpentier Chapelle Charpentier Chevalier Collin Couturier Dubois "
        "Fontaine Forestier Fournier Garnier Gros Jardin Joly Lavigne Leblanc Leclerc Legrand Lemaire Lenoir Leroux Leroy "
        "Maréchal Marchand Mercier Meunier Moulin Noir Olivier Page Pasteur Petit Poirier Poisson Prévost Renard Rivière "
        "Roche Rossignol Roux Roy Sauvage Tailleur Tessier Vallée Verdier Vidal Vigne Voisin",
    ),
    "es": (
        "Paz Luz Rosa Flor Luna Sol Mar Nieves Dolores Pilar Consuelo Esperanza Remedios Milagros Mercedes Soledad Amparo "
        "Concepción Asunción Rocío Estrella Perla Blanca Alba Aurora Estela Gloria Victoria Iris Violeta Margarita Azucena "
        "Ángel León Salvador Modesto Justo Plácido Domingo Clemente Inocencio Cándido Fidel",
        "Calle Iglesias Prado Rey Reyes Ríos Sierra Torre Torres Vega Flores Cruz Luna Paz Blanco Rubio Bravo Cortés Delgado "
        "Cabello Cuesta Fuente Fuentes Leal Montes Nieto Pastor Rico Sastre Valle Crespo Herrero Caballero Guerrero Molina "
        "Serrano Gallego Castellano Ramos Calvo Barba Pino Roble Moreno Casado Marín Campos Redondo Merino Camino Zapatero "
        "Ballesteros Pastor Conejo Cordero Toro Vaca Lobo Gallo Naranjo Manzano Olmo Peña Rojas Salinas Mesa Barrios Arroyo",
    ),
    "nl": (
        "Roos Madelief Fleur Bloem Jasmijn Viool Merel Linde Storm Beer Wolf Bo Pien Sterre Zonne Lente Room Guus Mees",
        "Bakker Visser Smit Mulder Kok Kuiper Schouten Brouwer Dekker Timmerman Schilder Slager Molenaar Koning Keizer Prins "
        "Ridder Bisschop Boer Jager Herder Snijder Schipper Koster Vos Haan Leeuw Valk Wolf Zwart Groen Bruin Wit Berg Bosch "
        "Veld Dijk Brug Molen Kamp Hoek Zee Meer Post Boom Bos Hof Kerk Poort Toren",
    ),
}  # fmt: skip


def is_first_half(text: str) -> bool:
    """Say whether a text is in the half that is learned from; the other half judges."""
    return zlib.crc32(text.encode()) % 2 == 0


class Weighed(NamedTuple):
    """What the rules weighed: its features by group, whether it was a name, and who said it."""

    said: list[str]
    is_name: bool
    source: str


class _Listener:
    """Hears each weighing: (features, start, end). The weights stay out of it: all is likely."""

    def __init__(self) -> None:
        self._scanner = Scanner()

    def hear(self, texts: list[str]) -> list[tuple[list[str], int, int]]:
        heard: list[tuple[list[str], int, int]] = []

        def weigh(
            seen: passage.Passage, positions: list[int], cue: int, tail: int, *, has_article: bool
        ) -> float:
            words = seen.words
            said = ["", *evidence.features(seen, positions, cue, tail, has_article=has_article)]
            groups = evidence.groups(seen, len(positions))
            named = [f"{group} {one}" for one in said for group in groups]
            heard.append((named, words[positions[0]].start, words[positions[-1]].end))
            return 0.0

        with mock.patch.object(evidence, "chance", weigh):
            self._scanner.scan(texts)
        return heard


class _Maker(make.Maker):
    """Draws names from the lists' hidden half, and from words that are names."""

    def __init__(self, code: str, seed: int, given: list[str], surnames: list[str]) -> None:
        super().__init__(code, seed)
        self.usual = (given, surnames)
        self.wordlike = [names.split() for names in _WORDLIKE[code]]

    def values(self) -> dict[str, str]:
        rarely = [self.draw.randrange(WORDS_IN) == 0 for _ in range(2)]
        self.given, self.surnames = (
            self.wordlike[at] if rarely[at] else self.usual[at] for at in range(2)
        )
        return super().values()


def hide() -> tuple[list[str], list[str]]:
    """Hide half of the lists from the rules, and all names that are words; return that half."""
    given, surnames = sorted(words.GIVEN_NAMES), sorted(words.SURNAMES)
    wordlike = {name for pair in _WORDLIKE.values() for names in pair for name in names.split()}
    for module in (passage, evidence):
        vars(module)["GIVEN_NAMES"] = frozenset(given[1::2]) - wordlike
        vars(module)["SURNAMES"] = frozenset(surnames[1::2]) - wordlike
    evidence._letters.cache_clear()
    return given[::2], surnames[::2]


def lines() -> list[tuple[str, str]]:
    """Return the sentences that are learned from, each with its language."""
    return [
        (code, line)
        for module in (
            sentences_learned,
            sentences_learned_too,
            sentences,
            sentences_learned_en,
        )
        for code, of_language in module.LINES.items()
        for line in of_language
    ]


def of_lines(
    chosen: Iterable[tuple[str, str]], names: tuple[list[str], list[str]]
) -> Iterator[Weighed]:
    """Fill sentences in and listen to what the rules weigh in them."""
    listener = _Listener()
    makers = {code: _Maker(code, 7, *names) for code in _WORDLIKE}
    for code, line in chosen:
        for _ in range(ROUNDS if "{" in line else 4):
            turns, key = make.fill(line, makers[code].values())
            offsets = np.cumsum([0, *[len(turn) + 1 for turn in turns]])
            places = [
                (offsets[at] + start, offsets[at] + end)
                for at, start, end, kind in key
                if kind == "name"
            ]
            for said, start, end in listener.hear(turns):
                overlap = sum(max(0, min(end, e) - max(start, s)) for s, e in places)
                yield Weighed(said, overlap * 2 > end - start, line)


def of_texts(path: Path) -> Iterator[Weighed]:
    """Listen to what the rules weigh in the half of texts that name nobody."""
    listener = _Listener()
    met: Counter[str] = Counter()
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if is_first_half(row["Focus"]):
                turns = [row["Question"], row["Answer"]]
                whole = "\n".join(turns)
                for said, start, end in listener.hear(turns):
                    met[whole[start:end]] += 1
                    if met[whole[start:end]] <= SAME:
                        yield Weighed(said, is_name=False, source=row["Focus"])


def fit(made: list[Weighed]) -> dict[str, float]:
    """Fit a logistic regression with an L2 penalty, by L-BFGS."""
    sources: dict[str, set[str]] = {}
    for each in made:
        for one in each.said:
            known = sources.setdefault(one, set())
            if len(known) < OFTEN:
                known.add(each.source)
    columns = {
        one: at for at, one in enumerate(sorted(s for s in sources if len(sources[s]) >= OFTEN))
    }
    rows = [[columns[one] for one in each.said if one in columns] for each in made]
    ends = np.cumsum([0, *map(len, rows)])
    flat = np.fromiter((at for row in rows for at in row), dtype=np.int64, count=ends[-1])
    of_row = np.repeat(np.arange(len(rows)), np.diff(ends))
    wanted = np.array([each.is_name for each in made], dtype=float)

    def loss(weights: Vector) -> tuple[float, Vector]:
        scores = np.bincount(of_row, weights[flat], minlength=len(rows))
        error = 1 / (1 + np.exp(-scores)) - wanted
        nats = np.logaddexp(0, scores) - wanted * scores
        gradient = np.bincount(flat, error[of_row], minlength=len(columns)) + PENALTY * weights
        return float(nats.sum() + PENALTY / 2 * weights @ weights), gradient

    weights = _minimized(loss, len(columns))
    return {
        one: round(float(weights[at]), 2) for one, at in columns.items() if abs(weights[at]) >= 0.03
    }


def _minimized(
    loss: Callable[[Vector], tuple[float, Vector]], size: int, rounds: int = 150, memory: int = 12
) -> Vector:
    """Find the weights with the least loss (L-BFGS: Nocedal and Wright, algorithm 7.4)."""
    at = np.zeros(size)
    value, gradient = loss(at)
    pairs: list[tuple[Vector, Vector]] = []
    for _ in range(rounds):
        way, kept = gradient.copy(), []
        for step, change in reversed(pairs):
            share = step @ way / (change @ step)
            kept.append(share)
            way -= share * change
        if pairs:
            step, change = pairs[-1]
            way *= step @ change / (change @ change)
        else:
            way /= np.abs(gradient).sum()
        for (step, change), share in zip(pairs, reversed(kept), strict=True):
            way += step * (share - change @ way / (change @ step))
        length = 1.0
        while True:
            new = at - length * way
            new_value, new_gradient = loss(new)
            if new_value <= value - 1e-4 * length * (gradient @ way) or length < 1e-8:
                break
            length /= 2
        step, change = new - at, new_gradient - gradient
        if step @ change > 1e-10:
            pairs = [*pairs, (step, change)][-memory:]
        at, gradient = new, new_gradient
        if value - new_value < 1e-5 * value / 10:
            break
        value = new_value
    return at


def judge(made: list[Weighed], folds: int) -> None:
    """Print how well what is learned from some sentences holds for the others."""
    sources = sorted({each.source for each in made})
    fold_of = {source: zlib.crc32(source.encode()) // 7 % folds for source in sources}
    hits, names, wrong, things = 0, 0, 0, 0
    for fold in range(folds):
        weights = fit([each for each in made if fold_of[each.source] != fold])
        for each in made:
            if fold_of[each.source] == fold:
                is_likely = sum(weights.get(one, 0) for one in each.said) > -0.2
                names += each.is_name
                hits += each.is_name and is_likely
                things += not each.is_name
                wrong += not each.is_name and is_likely
    print(f"names found {hits / names:.4f} of {names}, wrong {wrong / things:.4f} of {things}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--texts",
        type=Path,
        nargs="*",
        default=[],
        help="questions and answers that name nobody, as CSV",
    )
    parser.add_argument("--folds", type=int, default=0)
    options = parser.parse_args()
    made = list(of_lines(lines(), hide()))
    for path in options.texts:
        made += of_texts(path)
    print(Counter(each.is_name for each in made))
    if options.folds:
        judge(made, options.folds)
        return
    weights = fit(made)
    evidence.WEIGHTS.write_text(
        json.dumps(weights, indent=0, sort_keys=True, ensure_ascii=False) + "\n"
    )
    print(len(weights), "weights")


if __name__ == "__main__":
    main()
