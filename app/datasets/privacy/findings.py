"""What a finding is, and what its kinds are called."""

from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    NAME = "name"
    ADDRESS = "address"
    BIRTH_DATE = "birth_date"
    PHONE = "phone"
    EMAIL = "email"
    RECORD = "record"
    NATIONAL_ID = "national_id"
    STUDENT_ID = "student_id"
    CARD = "card"
    IBAN = "iban"
    IP = "ip"
    OTHER = "other"


# One and many, for sentences; the first is also the stand-in's word.
WORDS = {
    Kind.NAME: ("name", "names"),
    Kind.ADDRESS: ("address", "addresses"),
    Kind.BIRTH_DATE: ("date of birth", "dates of birth"),
    Kind.PHONE: ("phone number", "phone numbers"),
    Kind.EMAIL: ("e-mail address", "e-mail addresses"),
    Kind.RECORD: ("record number", "record and insurance numbers"),
    Kind.NATIONAL_ID: ("national ID", "national IDs"),
    Kind.STUDENT_ID: ("student ID", "student IDs"),
    Kind.CARD: ("card number", "card numbers"),
    Kind.IBAN: ("bank account", "bank accounts (IBAN)"),
    Kind.IP: ("IP address", "IP addresses"),
    Kind.OTHER: ("site-specific detail", "site-specific details"),
}

# Where two findings overlap, the earlier kind here wins: it is the surer one.
ORDER = (
    Kind.EMAIL,
    Kind.IBAN,
    Kind.OTHER,
    Kind.RECORD,
    Kind.STUDENT_ID,
    Kind.NATIONAL_ID,
    Kind.CARD,
    Kind.BIRTH_DATE,
    Kind.PHONE,
    Kind.IP,
    Kind.ADDRESS,
    Kind.NAME,
)


class Span(NamedTuple):
    """A place in a text; start and end in characters."""

    start: int
    end: int
    kind: Kind
