"""The rules of the privacy gate: checksums by published numbers, names by context, and how well."""

import csv
import re
from pathlib import Path

import openpyxl
import pytest

from app.datasets.privacy import checksums, passage
from app.datasets.privacy.findings import Kind
from app.datasets.privacy.scanner import Scanner, SitePattern
from app.datasets.privacy.words import GIVEN_NAMES, SURNAMES
from tests.app.datasets.privacy import measure
from tests.app.datasets.privacy.make import HELD_OUT, KINDS, PEOPLE, kept_back

EXAMPLES = Path(__file__).parents[4] / "examples"


@pytest.fixture(scope="module")
def scanner() -> Scanner:
    return Scanner()


def found(scanner: Scanner, text: str) -> list[tuple[str, str]]:
    return [(text[s.start : s.end], s.kind.value) for s in scanner.scan([text])[0]]


# Numbers that the offices and standards themselves print as examples.
PUBLISHED = [
    (checksums.nhs, "9434765919"),
    (checksums.steuer_id, "86095742719"),
    (checksums.nir, "255081416802538"),
    (checksums.bsn, "111222333"),
    (checksums.cpf, "52998224725"),
    (checksums.dni, "12345678Z"),
    (checksums.dni, "X1234567L"),
    (checksums.codice_fiscale, "RSSMRA85T10A562S"),
    (checksums.pesel, "44051401458"),
    (checksums.personnummer, "8112189876"),
    (checksums.sin, "130692544"),
    (checksums.kvnr, "A123456780"),
    (checksums.rrn_belgium, "85073003328"),
    (checksums.ahv, "7569217076985"),
    (checksums.svnr_austria, "1237010180"),
    (checksums.hetu, "131052-308T"),
    (checksums.tckn, "10000000146"),
    (checksums.rodne_cislo, "7360285163"),
    (checksums.pps, "1234567T"),
    (checksums.resident_china, "11010519491231002X"),
    (checksums.verhoeff, "2363"),
    (checksums.iban, "GB82 WEST 1234 5698 7654 32"),
    (checksums.card, "4111111111111111"),
]


@pytest.mark.parametrize(
    ("is_valid", "number"), PUBLISHED, ids=lambda value: getattr(value, "__name__", value)
)
def test_a_published_number_holds_and_a_slip_does_not(is_valid: object, number: str) -> None:
    assert callable(is_valid)
    assert is_valid(number)
    place = next(i for i in range(len(number) - 2, 0, -1) if number[i].isdigit())
    slip = number[:place] + str((int(number[place]) + 1) % 10) + number[place + 1 :]
    assert not is_valid(slip)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Dear Mr Okonjo-Bright, thank you.", [("Okonjo-Bright", "name")]),
        ("My daughter Thyra has a fever.", [("Thyra", "name")]),
        ("Can Thyra come back on Monday?", [("Thyra", "name")]),
        ("Where is the Emergency Department on Church Street?", []),
        ("Take Paracetamol twice a day.", []),
        ("Im Gang 3, Im März 2024.", []),
        ("Tamsin Quarle's test results are back.", [("Tamsin Quarle", "name")]),
        ("Please put Tamsin Hall down for Tuesday.", [("Tamsin Hall", "name")]),
        ("Crohn's disease is treated. The Barthel index is used.", []),
        ("Er wohnt Im Winkel 3.", [("Im Winkel 3", "address")]),
        ("Frau Abendschön fragt nach dem Befund.", [("Abendschön", "name")]),
        ("Die Sprechstunde ist am Montag im Haupthaus bei der Notaufnahme.", []),
        ("Monsieur Kerguélen viendra demain.", [("Kerguélen", "name")]),
        ("J'ai vu Mme de la Brosse hier.", [("de la Brosse", "name")]),
        ("La señora Berrocal llamó ayer.", [("Berrocal", "name")]),
        ("Mevrouw van der Hoogstraten belde.", [("van der Hoogstraten", "name")]),
        (
            "Call 555-0143 or +44 1632 960123.",
            [("555-0143", "phone"), ("+44 1632 960123", "phone")],
        ),
        ("The meeting is on 12.03.2024.", []),
        ("Born on 12.03.1954 in Kiel.", [("12.03.1954", "birth_date")]),
        ("Version 1.2.3.4 from 10.0.0.17", [("10.0.0.17", "ip")]),
        ("She lives at 14 Larch Grove, AB1 2CD.", [("14 Larch Grove, AB1 2CD", "address")]),
        ("Patient id: AB-48213, room 12", [("AB-48213", "record")]),
        ("Matrikelnummer 4821773", [("4821773", "student_id")]),
        # A slip in an id that is called one points to somebody all the same.
        ("Steuer-ID 86095742710", [("86095742710", "national_id")]),
        ("We ask [Name 3] and [Name 12] to come.", []),
        # What is called after somebody is nobody.
        ("Hodgkin lymphoma is treated in two steps. People with Hodgkin's often recover.", []),
        ("Merkel cell carcinoma is rare; the Barthel index is not used.", []),
        ("Her score on the Karnofsky scale fell; IGF-I, LDL-C and an ELISA were normal.", []),
        ("Giardia lamblia lives in water. Giardia is found by a test.", []),
        ("Ask your doctor. Treatment may help.", []),
        ("My son is called Quillfeather.", [("Quillfeather", "name")]),
        (
            "My son Thyra is well; Thyra's test is on Monday.",
            [("Thyra", "name"), ("Thyra", "name")],
        ),
        # Who wrote a work or sells it is no patient; behind a title somebody is.
        ("Scores fell (Weathers, Litz & Keane, 1993), as in Foa et al. © 2004 Elsevier B.V.", []),
        ("Mrs Kelly (1955) came.", [("Kelly", "name")]),
        ("The Child Posttraumatic Stress Scale was used after Hurricane Hugo.", []),
        ("Medicare and the Food and Drug Administration list side effects.", []),
        ("Duke William of Normandy landed. The Normans said: Guten Morgen.", [("William", "name")]),
        # Who is written to without a name, and what is wished.
        ("Sehr geehrte Damen und Herren, wie kann ich Ihnen helfen?", []),
        ("Liebe Kolleginnen und Kollegen, vielen Dank für Ihre Nachricht. Schönen Tag noch!", []),
        ("Liebe Eltern, herzlichen Glückwunsch und liebe Grüße", []),
        (
            "Dear Parents, good Evening and Happy Birthday. Hi Everyone, hello Team, dear Grandma!",
            [],
        ),
        ("The treaty of Versailles was signed.", []),
        ("Liebe Thyra, vielen Dank, Frau Tag.", [("Thyra", "name"), ("Tag", "name")]),
        # Signs with their result, what is put into patients, a title and its stop.
        ("Das Horner-Syndrom, Babinski positiv, Lasègue negativ, Braunüle legen.", []),
        ("Hoffmann negative, Spurling positive, Phalen and Tinel negative.", []),
        ("Murphy négatif à droite, Babinski absent.", []),
        ("Bitte Braunüle ziehen und Redon leeren.", []),
        ("Wir warten auf Hr. Öztürk am Montag.", [("Öztürk", "name")]),
        ("Tell Grandma. Call Mum back. Help Yourself.", []),
        # Parts of a house, and towns.
        ("Linden Ward is quiet. In the Heron Hall and in Reed Hall there are lockers.", []),
        ("The Okonkwo Suite is beside the Finch Lounge. Reed Hall has a pool.", []),
        ("Die Station Linde ist im Flügel Birkenau.", []),
        ("La salle Mistral est à droite. El pabellón Cervantes está cerrado.", []),
        ("De vleugel Merwede is dicht.", []),
        ("Does Quillmere accept donations? We sail to Asia and met at Hastings.", []),
        ("Mrs Tarnwick is in Tarnwick.", [("Tarnwick", "name"), ("Tarnwick", "name")]),
    ],
)
def test_what_is_found(scanner: Scanner, text: str, expected: list[tuple[str, str]]) -> None:
    assert found(scanner, text) == expected


def test_our_samples_name_whom_they_name(scanner: Scanner) -> None:
    """Uploaded as files they pass the gate as anybody's file does."""
    with (EXAMPLES / "clinic-faq.csv").open(newline="", encoding="utf-8") as file:
        faq = [[row["question"], row["answer"]] for row in csv.DictReader(file)]
    book = openpyxl.load_workbook(EXAMPLES / "school-exercises.xlsx")
    exercises = [
        [str(cell) for cell in row if cell]
        for sheet in book.worksheets
        for row in sheet.iter_rows(values_only=True)
    ]
    assert _named(scanner, faq) == set(), "places of an invented town and its clinic"
    pupils = {"Anna", "Ida", "Mia", "Paul", "Sara", "Tom"}
    assert _named(scanner, exercises) == pupils | {
        "Charles Darwin", "Christopher Columbus", "George Washington", "Hammurabi",
        "Isaac Newton", "James Watt", "Johannes Gutenberg", "King Harold", "King John",
        "Martin Luther", "Napoleon", "Nelson Mandela", "Odoacer", "Romulus Augustulus", "William",
    }  # fmt: skip


def _named(scanner: Scanner, rows: list[list[str]]) -> set[str]:
    return {
        text[span.start : span.end]
        for row in rows
        for text, spans in zip(row, scanner.scan(row), strict=True)
        for span in spans
        if span.kind is Kind.NAME
    }


def test_the_question_says_what_the_answer_holds(scanner: Scanner) -> None:
    turns = ["What is her date of birth?", "12 March 1954"]
    assert [list(spans) for spans in scanner.scan(turns)] == [[], [(0, 13, Kind.BIRTH_DATE)]]
    turns = ["Thyra Blomqvist is on the ward.", "Tell Blomqvist to wait."]
    assert len(scanner.scan(turns)[1]) == 1, "what was sure once is found again"


def test_a_pattern_of_the_site_cannot_hold_a_scan_up() -> None:
    slow = SitePattern(r"(a|a)*(b|b)*(a+)+$", Kind.OTHER)
    scanner = Scanner([slow, SitePattern(r"PX\d{4}", Kind.STUDENT_ID)])
    text = "a" * 5000 + "c PX1234"
    assert found(scanner, text) == [("PX1234", "student_id")]
    assert scanner.num_given_up == 1


def test_a_model_of_the_site_adds_what_it_finds() -> None:
    def recognize(texts: object) -> list[list[tuple[int, int, str]]]:
        assert texts == ["the tall one from bed four"]
        return [[(4, 12, "name")]]

    assert found(Scanner(recognizer=recognize), "the tall one from bed four") == [
        ("tall one", "name")
    ]


def test_the_invented_people_have_names_that_the_rules_do_not_know() -> None:
    known = {name.lower() for name in GIVEN_NAMES | SURNAMES}
    met = set()
    for path in (PEOPLE, HELD_OUT):
        for row in measure.load(path):
            for turn, start, end, kind in row["key"]:
                if kind == "name":
                    words = re.split(r"[ ,.-]+", row["turns"][turn][start:end].lower())
                    met |= {word for word in words if word in known and len(word) > 1}
    assert met == set()
    assert {kind.value for kind in Kind} - {"other"} == set(KINDS.values())


def test_the_rules_are_as_good_as_the_docs_say() -> None:
    scores = measure.measure(measure.load())
    assert measure.structured(scores) >= 0.99
    assert scores["name", "all"].recall >= 0.96
    assert scores["name", "all"].precision >= 0.95
    held_out = measure.measure(measure.load(HELD_OUT))
    assert measure.structured(held_out) >= 0.99
    for code in ("en", "de", "fr", "es", "nl"):
        assert held_out["name", code].recall >= 0.90, code
    assert held_out["name", "all"].precision >= 0.90
    kept = measure.measure(kept_back())
    for code in ("en", "de", "fr", "es", "nl"):
        assert kept["name", code].recall >= 0.90, code
    assert kept["name", "all"].precision >= 0.88


def test_a_language_is_told_by_its_small_words() -> None:
    for code, text in (
        ("en", "Where is the ward?"), ("de", "Wo ist die Station?"), ("fr", "Où est le service ?"),
        ("es", "¿Dónde está la planta?"), ("nl", "Waar is de afdeling?"),
    ):  # fmt: skip
        assert passage.language(text) == code
    assert passage.language("4711") is None
