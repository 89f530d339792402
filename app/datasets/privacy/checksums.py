"""National ids and account numbers: their shapes and check digits, from the published rules.

python-stdnum knows more of them, under the LGPL; these are a few lines each.
"""

import re
from collections.abc import Callable
from typing import NamedTuple


class NationalId(NamedTuple):
    """An id's shape, its check, and the words that must stand near where the check is weak."""

    name: str
    pattern: re.Pattern[str]
    is_valid: Callable[[str], bool]
    # None: the shape and the check suffice. A match with separators in it needs no words either.
    near: re.Pattern[str] | None = None
    # Its usual grouping is that of phone numbers too: the words must stand near all the same.
    is_weak: bool = False


def luhn(digits: str) -> bool:
    """ISO/IEC 7812: cards, SIN, personnummer."""
    total = 0
    for position, digit in enumerate(reversed(digits)):
        number = int(digit) * (1 + position % 2)
        total += number - 9 if number > 9 else number
    return total % 10 == 0


def iban(text: str) -> bool:
    """ISO 13616: letters count from 10, modulo 97 is 1."""
    plain = text.replace(" ", "").upper()
    moved = plain[4:] + plain[:4]
    return 15 <= len(plain) <= 34 and int("".join(str(int(c, 36)) for c in moved)) % 97 == 1


# ISO 13616's registry.
IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29,
    "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29,
    "ES": 24, "FI": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28,
    "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20,
    "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22,
    "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18, "NO": 15, "PK": 24, "PL": 28, "PS": 29, "PT": 25,
    "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SC": 31, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "ST": 25,
    "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
}  # fmt: skip


def card(digits: str) -> bool:
    """A payment card: a known first digit, 13 to 19 digits (Maestro: from 12), Luhn."""
    shortest = 12 if digits[:2] in ("50", "56", "57", "58", "60", "63", "67") else 13
    return shortest <= len(digits) <= 19 and digits[0] in "123456" and luhn(digits)


def _weighted(digits: str, weights: tuple[int, ...]) -> int:
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False))


def _is_date(year: int, month: int, day: int) -> bool:
    return 1 <= month <= 12 and 1 <= day <= 31 and year >= 0


def ssn(d: str) -> bool:
    """US: no check digit, but areas, groups and serials that were never given out."""
    return d[:3] not in ("000", "666") and d[0] != "9" and d[3:5] != "00" and d[5:] != "0000"


def nhs(d: str) -> bool:
    """England: weights 10 to 2, modulo 11."""
    check = 11 - _weighted(d, (10, 9, 8, 7, 6, 5, 4, 3, 2)) % 11
    return check != 10 and check % 11 == int(d[9])


def nino(text: str) -> bool:
    """United Kingdom: two letters of a limited set; no check digit."""
    letters = text[:2].upper()
    return (
        letters[0] not in "DFIQUV"
        and letters[1] not in "DFIQUVO"
        and letters not in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ")
    )


def nir(text: str) -> bool:
    """France: 13 digits (2A, 2B for Corsica) and a key of two, modulo 97."""
    plain = re.sub(r"[ .-]", "", text).upper()
    number = plain[:13].replace("2A", "19").replace("2B", "18")
    return number.isdigit() and 97 - int(number) % 97 == int(plain[13:15])


def steuer_id(d: str) -> bool:
    """Germany: ISO 7064 modulo 11,10; one digit of the first ten comes twice or three times."""
    if d[0] == "0" or not 8 <= len(set(d[:10])) <= 9:
        return False
    product = 10
    for digit in d[:10]:
        total = (int(digit) + product) % 10 or 10
        product = total * 2 % 11
    return (11 - product) % 10 == int(d[10])


def kvnr(text: str) -> bool:
    """German health insurance: a letter, eight digits, a check digit as in Luhn from the left."""
    letter = f"{ord(text[0].upper()) - 64:02}"
    total = 0
    for position, digit in enumerate(letter + text[1:9]):
        number = int(digit) * (1 + position % 2)
        total += number - 9 if number > 9 else number
    return total % 10 == int(text[9])


_D = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 3, 4, 0, 6, 7, 8, 9, 5), (2, 3, 4, 0, 1, 7, 8, 9, 5, 6),
    (3, 4, 0, 1, 2, 8, 9, 5, 6, 7), (4, 0, 1, 2, 3, 9, 5, 6, 7, 8), (5, 9, 8, 7, 6, 0, 4, 3, 2, 1),
    (6, 5, 9, 8, 7, 1, 0, 4, 3, 2), (7, 6, 5, 9, 8, 2, 1, 0, 4, 3), (8, 7, 6, 5, 9, 3, 2, 1, 0, 4),
    (9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
)  # fmt: skip
_P = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 5, 7, 6, 2, 8, 3, 0, 9, 4), (5, 8, 0, 3, 7, 9, 6, 1, 4, 2),
    (8, 9, 1, 6, 0, 4, 3, 5, 2, 7), (9, 4, 5, 3, 1, 2, 6, 8, 7, 0), (4, 2, 8, 6, 5, 7, 3, 9, 0, 1),
    (2, 7, 9, 3, 8, 0, 6, 4, 1, 5), (7, 0, 4, 6, 9, 1, 3, 2, 5, 8),
)  # fmt: skip


def verhoeff(d: str) -> bool:
    """India's Aadhaar: Verhoeff's dihedral check."""
    check = 0
    for position, digit in enumerate(reversed(d)):
        check = _D[check][_P[position % 8][int(digit)]]
    return check == 0


def aadhaar(d: str) -> bool:
    """India: twelve digits, the first from 2 on."""
    return d[0] not in "01" and verhoeff(d)


def bsn(d: str) -> bool:
    """Netherlands: the eleven test."""
    return d != "0" * 9 and _weighted(d, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0


def cpf(d: str) -> bool:
    """Brazil: two check digits, modulo 11."""
    if len(set(d)) == 1:
        return False
    for length in (9, 10):
        weights = tuple(range(length + 1, 1, -1))
        if _weighted(d[:length], weights) * 10 % 11 % 10 != int(d[length]):
            return False
    return True


def dni(text: str) -> bool:
    """Spain, DNI and NIE: modulo 23 as a letter."""
    plain = re.sub(r"[ .-]", "", text).upper()
    number = plain[:-1].translate(str.maketrans("XYZ", "012"))
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == plain[-1]


_ODD = dict(
    zip(
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3,
         6, 8, 12, 14, 16, 10, 22, 25, 24, 23),
        strict=True,
    )
)  # fmt: skip


def codice_fiscale(text: str) -> bool:
    """Italy: a letter over the fifteen signs before it."""
    plain = text.upper()
    total = 0
    for position, sign in enumerate(plain[:15]):
        total += (
            _ODD[sign] if position % 2 == 0 else int(sign, 36) % 36 - (10 if sign.isalpha() else 0)
        )
    return chr(65 + total % 26) == plain[15]


def pesel(d: str) -> bool:
    """Poland: a date of birth and a check digit, modulo 10."""
    check = (10 - _weighted(d, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) % 10) % 10
    return _is_date(int(d[:2]), int(d[2:4]) % 20, int(d[4:6])) and check == int(d[10])


def personnummer(d: str) -> bool:
    """Sweden: a date of birth and Luhn over the last ten digits."""
    last = d[-10:]
    day = int(last[4:6])
    return _is_date(0, int(last[2:4]), day - 60 if day > 60 else day) and luhn(last)


def sin(d: str) -> bool:
    """Canada: Luhn; 0 and 8 are not given to people."""
    return d[0] not in "08" and luhn(d)


def rrn_belgium(d: str) -> bool:
    """Belgium: 97 minus the rest; births from 2000 on count with a 2 in front."""
    key = int(d[9:])
    month = int(d[2:4]) % 20
    return month <= 12 and key in (97 - int(d[:9]) % 97, 97 - int("2" + d[:9]) % 97)


def ahv(d: str) -> bool:
    """Switzerland: 756 and an EAN-13 check digit."""
    return (10 - _weighted(d, (1, 3) * 6) % 10) % 10 == int(d[12])


def svnr_austria(d: str) -> bool:
    """Austria: serial, check digit, date of birth."""
    check = _weighted(d[:3] + d[4:], (3, 7, 9, 5, 8, 4, 2, 1, 6)) % 11
    return d[0] != "0" and check == int(d[3]) and _is_date(0, int(d[6:8]), int(d[4:6]))


def cpr(d: str) -> bool:
    """Denmark: a date of birth and a serial; new ones have no check digit."""
    return _is_date(0, int(d[2:4]), int(d[:2]))


def fodselsnummer(d: str) -> bool:
    """Norway: a date of birth and two check digits, modulo 11."""
    first = (11 - _weighted(d, (3, 7, 6, 1, 8, 9, 4, 5, 2)) % 11) % 11
    second = (11 - _weighted(d, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11) % 11
    return first == int(d[9]) and second == int(d[10])


def hetu(text: str) -> bool:
    """Finland: a date of birth, a serial, modulo 31 as a sign."""
    number = int(text[:6] + text[7:10])
    return "0123456789ABCDEFHJKLMNPRSTUVWXY"[number % 31] == text[10].upper()


def nif_portugal(d: str) -> bool:
    """Portugal: modulo 11."""
    check = 11 - _weighted(d, (9, 8, 7, 6, 5, 4, 3, 2)) % 11
    return d[0] in "1235689" and (0 if check > 9 else check) == int(d[8])


def tckn(d: str) -> bool:
    """Turkey: two check digits."""
    odd, even = sum(map(int, d[0:9:2])), sum(map(int, d[1:8:2]))
    return (
        d[0] != "0"
        and (odd * 7 - even) % 10 == int(d[9])
        and sum(map(int, d[:10])) % 10 == int(d[10])
    )


def cnp(d: str) -> bool:
    """Romania: a date of birth and a check digit, modulo 11."""
    check = _weighted(d, (2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9)) % 11
    return _is_date(0, int(d[3:5]), int(d[5:7])) and (1 if check == 10 else check) == int(d[12])


def rodne_cislo(d: str) -> bool:
    """Czechia and Slovakia: ten digits, divisible by 11."""
    month = int(d[2:4])
    return int(d) % 11 == 0 and _is_date(0, month - 50 if month > 50 else month, int(d[4:6]))


def curp(text: str) -> bool:
    """Mexico: a check digit over all signs before it."""
    order = "0123456789ABCDEFGHIJKLMNÑOPQRSTUVWXYZ"
    plain = text.upper()
    total = sum(order.index(sign) * (18 - position) for position, sign in enumerate(plain[:17]))
    return (10 - total % 10) % 10 == int(plain[17])


def pps(text: str) -> bool:
    """Ireland: modulo 23 as a letter, a second letter counts nine times."""
    plain = text.upper()
    total = _weighted(plain[:7], (8, 7, 6, 5, 4, 3, 2))
    if len(plain) > 8 and plain[8] != "W":
        total += (ord(plain[8]) - 64) * 9
    return "WABCDEFGHIJKLMNOPQRSTUV"[total % 23] == plain[7]


def resident_china(text: str) -> bool:
    """China: ISO 7064 modulo 11-2."""
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return "10X98765432"[_weighted(text, weights) % 11] == text[17].upper()


def _near(words: str) -> re.Pattern[str]:
    return re.compile(words, re.IGNORECASE)


def _rx(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-]){pattern}(?![\w-])")


# Separators stay in the match and are taken out before the check.
NATIONAL_IDS = (
    NationalId("US SSN", _rx(r"\d{3}[- ]\d{2}[- ]\d{4}"), ssn),
    NationalId("US SSN", _rx(r"\d{9}"), ssn, _near(r"\bssn\b|social security")),
    NationalId(
        "NHS number",
        _rx(r"\d{3}[ -]?\d{3}[ -]?\d{4}"),
        nhs,
        _near(r"\bnhs\b|health (?:service )?n"),
    ),
    NationalId("UK NINO", _rx(r"[A-Za-z]{2} ?\d{2} ?\d{2} ?\d{2} ?[A-Da-d]"), nino),
    NationalId(
        "NIR",
        _rx(
            r"[12][ .-]?\d{2}[ .-]?(?:0[1-9]|1[0-2]|[2-9]\d)[ .-]?(?:\d{2}|2[ABab])[ .-]?\d{3}[ .-]?\d{3}[ .-]?\d{2}"
        ),
        nir,
    ),
    NationalId("Steuer-ID", _rx(r"\d{2}[ /-]?\d{3}[ /-]?\d{3}[ /-]?\d{3}"), steuer_id),
    NationalId("Aadhaar", _rx(r"\d{4}[ -]?\d{4}[ -]?\d{4}"), aadhaar),
    NationalId("BSN", _rx(r"\d{4}[. ]\d{2}[. ]\d{3}"), bsn),
    NationalId("BSN", _rx(r"\d{9}"), bsn, _near(r"\bbsn\b|burgerservice|sofi")),
    NationalId("CPF", _rx(r"\d{3}\.\d{3}\.\d{3}-\d{2}"), cpf),
    NationalId("CPF", _rx(r"\d{11}"), cpf, _near(r"\bcpf\b")),
    NationalId("DNI", _rx(r"\d{1,2}\.?\d{3}\.?\d{3}[ -]?[A-Za-z]"), dni),
    NationalId("NIE", _rx(r"[XYZxyz][ -]?\d{7}[ -]?[A-Za-z]"), dni),
    NationalId(
        "codice fiscale",
        _rx(r"[A-Za-z]{6}\d{2}[A-EHLMPRSTa-ehlmprst]\d{2}[A-Za-z]\d{3}[A-Za-z]"),
        codice_fiscale,
    ),
    NationalId("PESEL", _rx(r"\d{11}"), pesel),
    NationalId("personnummer", _rx(r"(?:19|20)?\d{6}[-+]\d{4}"), personnummer),
    NationalId("personnummer", _rx(r"(?:19|20)\d{10}|\d{10}"), personnummer, _near(r"person")),
    NationalId(
        "SIN", _rx(r"\d{9}"), sin, _near(r"\bsin\b|social insurance|assurance sociale|\bnas\b")
    ),
    NationalId("Rijksregister", _rx(r"\d{2}[. ]\d{2}[. ]\d{2}[- ]\d{3}[. ]\d{2}"), rrn_belgium),
    NationalId(
        "Rijksregister",
        _rx(r"\d{11}"),
        rrn_belgium,
        _near(r"rijksregister|registre national|insz|niss"),
    ),
    NationalId("AHV", _rx(r"756\.?\d{4}\.?\d{4}\.?\d{2}"), ahv),
    NationalId("SVNR", _rx(r"\d{4}[ /-]\d{6}"), svnr_austria),
    NationalId("SVNR", _rx(r"\d{10}"), svnr_austria, _near(r"svnr|sv-nr|sozialvers")),
    NationalId("CPR", _rx(r"\d{6}-\d{4}"), cpr),
    NationalId("CPR", _rx(r"\d{10}"), cpr, _near(r"\bcpr\b|personnummer")),
    NationalId("fødselsnummer", _rx(r"\d{6} ?\d{5}"), fodselsnummer),
    NationalId("HETU", _rx(r"\d{6}[-+A-FU-Ya-fu-y]\d{3}[0-9A-Ya-y]"), hetu),
    NationalId(
        "NIF",
        _rx(r"\d{3} ?\d{3} ?\d{3}"),
        nif_portugal,
        _near(r"\bnif\b|contribuinte"),
        is_weak=True,
    ),
    NationalId("TCKN", _rx(r"\d{11}"), tckn),
    NationalId("CNP", _rx(r"[1-9]\d{12}"), cnp),
    NationalId("rodné číslo", _rx(r"\d{6}/\d{4}"), rodne_cislo),
    NationalId("CURP", _rx(r"[A-Z]{4}\d{6}[HMX][A-Z]{5}[A-Z0-9]\d"), curp),
    NationalId("PPS", _rx(r"\d{7}[A-Wa-w][A-IWa-iw]?"), pps, _near(r"\bpps|personal public")),
    NationalId("resident id", _rx(r"[1-9]\d{16}[0-9Xx]"), resident_china),
)
