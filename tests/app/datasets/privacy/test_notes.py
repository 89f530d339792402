"""Names in the ways clinics note them, in five languages: no sentence tells that they are names."""

import pytest

from app.datasets.privacy.findings import Kind
from app.datasets.privacy.scanner import Scanner


@pytest.fixture(scope="module")
def scanner() -> Scanner:
    return Scanner()


def names(scanner: Scanner, text: str) -> list[str]:
    return [text[s.start : s.end] for s in scanner.scan([text])[0] if s.kind is Kind.NAME]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Pat. Schulze-Wenk, 45 J., klagt über Husten.", "Schulze-Wenk"),
        ("Pt. Obermoser", "Obermoser"),
        ("Pt Obermoser c/o chest pain since Monday.", "Obermoser"),
        ("Pt: Okonkwo, admitted yesterday.", "Okonkwo"),
        ("La pte Kerguélen a de la fièvre.", "Kerguélen"),
        ("Pac. Urrutia, 45 años, refiere dolor.", "Urrutia"),
        ("Pt. van der Hoogstraten heeft koorts.", "van der Hoogstraten"),
        ("OBERMOSER, KARLHEINZ * 01.02.1950", "OBERMOSER, KARLHEINZ"),
        ("Obermoser, Karlheinz, geb. am 01.02.1950, kam.", "Obermoser, Karlheinz"),
        ("OBERMOSER, KARLHEINZ 01.02.1950", "OBERMOSER, KARLHEINZ"),
        ("OKONKWO, Chidinma (DOB: 01/02/1950) was admitted.", "OKONKWO, Chidinma"),
        ("KERGUÉLEN, SOIZIC née le 01/02/1950", "KERGUÉLEN, SOIZIC"),
        ("URRUTIA, IDOIA F. Nac. 01/02/1950", "URRUTIA, IDOIA"),
        ("VAN DER HOOGSTRATEN, JORINDE geb. 01-02-1950", "VAN DER HOOGSTRATEN, JORINDE"),
        ("Zimmer 12: Wachtel, Bett 2: Hofreiter", "Wachtel|Hofreiter"),
        ("Zi. 12: Obermoser, Hofreiter und Kranich", "Obermoser|Hofreiter|Kranich"),
        ("Room 4: Okonkwo, bed 2: Brandt", "Okonkwo|Brandt"),
        ("Room 4 bed 2: Okonkwo needs a new drip.", "Okonkwo"),
        ("Chambre 12 : Kerguélen, lit 2 : Moreau", "Kerguélen|Moreau"),
        ("Hab. 12 Etxebarria, cama 2: Urrutia", "Etxebarria|Urrutia"),
        ("Kamer 3: Hoogstraten, bed 2: Terpstra", "Hoogstraten|Terpstra"),
        ("Stanza 3: Mastrangeli, letto 2: Quattrocchi", "Mastrangeli|Quattrocchi"),
        ("Bitte Obermoser zurückrufen.", "Obermoser"),
        ("Bitte um 9 Uhr Obermoser wecken.", "Obermoser"),
        ("Please call Okonkwo back.", "Okonkwo"),
        ("Please remind Okonkwo and Thandiwe to drink.", "Okonkwo|Thandiwe"),
        ("Prévenir Kerguélen du changement.", "Kerguélen"),
        ("Avisar a Urrutia del cambio.", "Urrutia"),
        ("Hoogstraten terugbellen voor twaalf uur.", "Hoogstraten"),
        ("Richiamare Mastrangeli domani.", "Mastrangeli"),
        ("Call Thandiwe at the desk.", "Thandiwe"),
    ],
)
def test_who_is_noted_is_found(scanner: Scanner, text: str, expected: str) -> None:
    assert names(scanner, text) == expected.split("|")


@pytest.mark.parametrize(
    "text",
    [
        "Pat. klagt über Husten. Pat. Aufklärung erfolgt.",
        "Pt Education: how to use the inhaler.",
        "Berlin, Montag, 12.03.2024",
        "Labor, Blutbild 01.02.2024: unauffällig.",
        "Zimmer 12: Röntgen, Zimmer 13: Physiotherapie",
        "Zimmer 5: EKG, Bett 2: Verbandwechsel, Bett 3: Entlassung",
        "Room 4: Physiotherapy, room 5: Blood Tests. Room 12 is on the left.",
        "Lit 2 : Nettoyage. Chambre 3 : Pansement.",
        "Exercise 12: Newton's laws. Room 5: Geography.",
        "Bitte Hausarzt zurückrufen. Bitte Apotheke anrufen.",
        "Bitte im Labor anrufen. Bitte in Tübingen anrufen.",
        "Please call Reception back. Call Poison Control at once.",
        "Merci de rappeler le secrétariat.",
        "Bitte [Name 12] zurückrufen, und [Name 3] bitte wecken.",
    ],
)
def test_what_is_noted_of_nobody_is_no_name(scanner: Scanner, text: str) -> None:
    assert names(scanner, text) == []
