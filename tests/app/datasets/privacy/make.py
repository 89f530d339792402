"""Make the file of invented patients and pupils: `python -m tests.app.datasets.privacy.make [--seed 1]`.

Names, phones, addresses and ids come from Faker (MIT), whose lists and formats the rules in
app/datasets/privacy do not use; names that also stand in the rules' lists are not taken. Ids that
Faker lacks are drawn until a formula of our own, written from the standard, holds.
"""

import argparse
import json
import random
import re
from pathlib import Path
from typing import Any

from faker import Faker

from app.datasets.privacy.words import GIVEN_NAMES, SURNAMES
from tests.app.datasets.privacy import sentences, sentences_held_out, sentences_kept_back

PEOPLE = Path(__file__).with_name("people.jsonl")
HELD_OUT = Path(__file__).with_name("held_out.jsonl")
LOCALES = {"en": ("en_GB", "en_US"), "de": ("de_DE",), "fr": ("fr_FR",), "es": ("es_ES",),
           "nl": ("nl_NL",)}  # fmt: skip
ROUNDS = 6
TITLES = {
    "en": ("Mr", "Mrs", "Ms", "Dr"), "de": ("Frau", "Frau Dr."), "fr": ("Monsieur", "Mme", "M."),
    "es": ("señor", "señora", "Sr.", "D."), "nl": ("mevrouw", "meneer", "dhr.", "mevr."),
}  # fmt: skip
KINDS = {
    "full": "name", "full2": "name", "given": "name", "given2": "name", "sur": "name",
    "sur2": "name", "initial": "name", "last_first": "name", "birth": "birth_date", "phone": "phone",
    "email": "email", "address": "address", "record": "record", "record2": "record",
    "kvnr": "record", "student": "student_id", "ssn": "national_id", "nino": "national_id",
    "nhs": "national_id", "steuer": "national_id", "nir": "national_id", "dni": "national_id",
    "nie": "national_id", "bsn": "national_id", "card": "card", "iban": "iban", "ip": "ip",
}  # fmt: skip
# Ids of other countries turn up anywhere: one line each.
ABROAD = (
    ("pt_BR", "cpf", "CPF {}"), ("pl_PL", "pesel", "PESEL {}"), ("it_IT", "ssn", "codice fiscale {}"),
    ("sv_SE", "ssn", "personnummer {}"), ("en_CA", "ssn", "SIN {}"), ("en_IN", "aadhaar_id", "Aadhaar {}"),
    ("nl_BE", "ssn", "rijksregisternummer {}"), ("de_CH", "ssn", "AHV {}"), ("fi_FI", "ssn", "HETU {}"),
    ("no_NO", "ssn", "fødselsnummer {}"), ("tr_TR", "ssn", "TC kimlik {}"), ("ro_RO", "ssn", "CNP {}"),
)  # fmt: skip


class Maker:
    """One seeded draw of everything."""

    def __init__(self, code: str, seed: int) -> None:
        self.code = code
        self.draw = random.Random(f"{code} {seed}")
        self.fakers = [Faker(locale) for locale in LOCALES[code]]
        for faker in self.fakers:
            faker.seed_instance(seed)
        known = {name.lower() for name in GIVEN_NAMES | SURNAMES}
        self.given = _names(self.fakers, "first_names", known)
        self.surnames = _names(self.fakers, "last_names", known)

    def values(self) -> dict[str, str]:
        """Draw a person with all that may be said of one."""
        faker, draw = self.draw.choice(self.fakers), self.draw
        given, given2 = draw.sample(self.given, 2)
        sur, sur2 = draw.sample(self.surnames, 2)
        birth = faker.date_of_birth(minimum_age=5, maximum_age=95)
        formats = {
            "en": ("%d/%m/%Y", "%d %B %Y", "%Y-%m-%d", "%m/%d/%Y"), "de": ("%d.%m.%Y", "%d.%m.%y", "%Y-%m-%d"),
            "fr": ("%d/%m/%Y", "%d-%m-%Y"), "es": ("%d/%m/%Y", "%d-%m-%Y"), "nl": ("%d-%m-%Y", "%d/%m/%Y"),
        }  # fmt: skip
        address = faker.address().replace(" \n", "\n").replace("\n", ", ")
        return {
            "full": f"{given} {sur}",
            "full2": f"{given2} {sur2}",
            "given": given,
            "given2": given2,
            "sur": sur,
            "sur2": sur2,
            "initial": f"{given[0]}.",
            "last_first": f"{sur}, {given}",
            "title": draw.choice(TITLES[self.code]),
            "birth": birth.strftime(draw.choice(formats[self.code])),
            "phone": _phone(faker, draw),
            "email": faker.email(),
            "address": address,
            "record": faker.bothify(draw.choice(("########", "??-######", "#######/##", "?#######"))).upper(),
            "record2": faker.bothify(draw.choice(("########", "??-######"))).upper(),
            "kvnr": _kvnr(draw),
            "student": faker.bothify(draw.choice(("######", "S#######", "????####", "##-####"))).upper(),
            "ssn": _ssn(draw),
            "nino": _nino(draw),
            "nhs": _nhs(draw),
            "steuer": _steuer(draw),
            "nir": _nir(draw),
            "dni": _dni(draw, ""),
            "nie": _dni(draw, draw.choice("XYZ")),
            "bsn": _bsn(draw),
            "card": faker.credit_card_number(),
            "iban": faker.iban(),
            "ip": draw.choice((faker.ipv4_public(), faker.ipv6())),
        }  # fmt: skip


def _names(fakers: list[Faker], which: str, known: set[str]) -> list[str]:
    found: set[str] = set()
    for faker in fakers:
        for provider in faker.get_providers():
            found |= set(getattr(provider, which, ()))
    return sorted(
        name
        for name in found
        if not any(part in known for part in re.split(r"[ -]", name.lower()))
        and re.fullmatch(r"[A-ZÀ-Þ][^\W\d_]+(?:[ -][A-ZÀ-Þ]?[^\W\d_]+){0,2}", name)
    )


def _phone(faker: Faker, draw: random.Random) -> str:
    while True:
        phone = faker.phone_number()
        if 9 <= sum(map(str.isdigit, phone)) <= 15:
            return phone


def _digits(draw: random.Random, count: int) -> str:
    return "".join(draw.choice("0123456789") for _ in range(count))


def _ssn(draw: random.Random) -> str:
    return f"{draw.randint(1, 665):03}-{draw.randint(1, 99):02}-{draw.randint(1, 9999):04}"


def _nino(draw: random.Random) -> str:
    digits = _digits(draw, 6)
    return draw.choice(("AB{}{}{}C", "JG {} {} {} A")).format(digits[:2], digits[2:4], digits[4:])


def _nhs(draw: random.Random) -> str:
    while True:
        digits = _digits(draw, 9)
        check = -sum(int(d) * w for d, w in zip(digits, range(10, 1, -1), strict=True)) % 11
        if check != 10:
            whole = f"{digits}{check}"
            return draw.choice((whole, f"{whole[:3]} {whole[3:6]} {whole[6:]}"))


def _steuer(draw: random.Random) -> str:
    while True:
        ten = _digits(draw, 10)
        if ten[0] == "0" or len(set(ten)) != 9:
            continue
        rest = 10
        for digit in ten:
            rest = ((int(digit) + rest - 1) % 10 + 1) * 2 % 11
        check = (11 - rest) % 10
        whole = f"{ten}{check}"
        return draw.choice((whole, f"{whole[:2]} {whole[2:5]} {whole[5:8]} {whole[8:]}"))


def _nir(draw: random.Random) -> str:
    month, place = draw.randint(1, 12), draw.randint(1, 95)
    parts = (
        draw.choice("12"), _digits(draw, 2), f"{month:02}", f"{place:02}", f"{draw.randint(1, 989):03}",
        f"{draw.randint(1, 999):03}",
    )  # fmt: skip
    key = 97 - int("".join(parts)) % 97
    return draw.choice((" ", "")).join([*parts, f"{key:02}"])


def _dni(draw: random.Random, letter: str) -> str:
    number = _digits(draw, 7 if letter else 8)
    value = int({"": "", "X": "0", "Y": "1", "Z": "2"}[letter] + number)
    check = "TRWAGMYFPDXBNJZSQVHLCKE"[value % 23]
    return f"{letter}{number}{draw.choice(('', '-'))}{check}"


def _bsn(draw: random.Random) -> str:
    while True:
        digits = _digits(draw, 9)
        total = sum(int(d) * w for d, w in zip(digits[:8], range(9, 1, -1), strict=True))
        if digits[0] != "0" and (total - int(digits[8])) % 11 == 0:
            return digits


def _kvnr(draw: random.Random) -> str:
    letter = draw.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    eight = _digits(draw, 8)
    ten = f"{ord(letter) - ord('A') + 1:02}{eight}"
    total = 0
    for weight, digit in zip((1, 2) * 5, ten, strict=True):
        total += sum(map(int, str(int(digit) * weight)))
    return f"{letter}{eight}{total % 10}"


def fill(line: str, values: dict[str, str]) -> tuple[list[str], list[list[Any]]]:
    """Fill a line in; returns its turns and the key: [turn, start, end, kind] of each value."""
    turns: list[str] = []
    key: list[list[Any]] = []
    for number, part in enumerate(line.split(" || ")):
        text = ""
        for piece in re.split(r"(\{\w+\})", part):
            name = piece.strip("{}")
            if not piece.startswith("{"):
                text += piece
                continue
            if name in KINDS:
                start, end = len(text), len(text) + len(values[name])
                if (
                    key
                    and key[-1][3] == KINDS[name] == "name"
                    and key[-1][0] == number
                    and text[key[-1][2] :] == " "
                ):
                    key[-1][2] = end  # "{initial} {sur}" is one name
                else:
                    key.append([number, start, end, KINDS[name]])
            text += values[name]
        turns.append(text)
    return turns, key


def filled(lines_by_language: dict[str, list[str]], seed: int) -> list[dict[str, Any]]:
    """Fill sentences in, each a few times."""
    rows = []
    for code, lines in lines_by_language.items():
        maker = Maker(code, seed)
        for round_ in range(ROUNDS):
            for line in lines:
                if "{" not in line and round_:
                    continue
                turns, key = fill(line, maker.values())
                rows.append({"language": code, "turns": turns, "key": key})
    return rows


def kept_back(seed: int = 101) -> list[dict[str, Any]]:
    """Make the rows of the sentences that are kept back."""
    return filled(sentences_kept_back.LINES, seed)


def people(seed: int, *, held_out: bool = False) -> list[dict[str, Any]]:
    """Make the whole file, or the one of the sentences that no rule was written for."""
    rows = filled((sentences_held_out if held_out else sentences).LINES, seed)
    for locale, name, words in () if held_out else ABROAD:
        faker = Faker(locale)
        faker.seed_instance(seed)
        for _ in range(ROUNDS):
            value = str(getattr(faker, name)())
            text = "The form says: " + words.format(value) + ", as on the card."
            start = text.index(value)
            key = [[0, start, start + len(value), "national_id"]]
            rows.append({"language": "en", "turns": [text], "key": key})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--held-out", action="store_true", help="the other sentences")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    default = HELD_OUT if options.held_out else PEOPLE
    with (options.out or default).open("w", encoding="utf-8") as file:
        for row in people(options.seed, held_out=options.held_out):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
