"""Texts in the encodings of western Europe are read in their own, or a person is asked to look."""

from pathlib import Path

import pytest

from app.datasets.proposals import propose
from app.datasets.readers.inspections import Inspection, ReadAs
from app.datasets.readers.reading import inspect

TEXTS = {
    "German": "Frage;Antwort\nWie viel darf ein Kind am Tag nehmen?;Höchstens 600 mg.\n"
    "Wann ist die Sprechstunde geöffnet?;Von 8 bis 12 Uhr, außer mittwochs.\n"
    "Was tun bei Fieber über 39 °C?;Die Ärztin rufen und viel trinken.\n",
    "German, one letter": "Frage;Antwort\nWas hilft gegen den Schmerz?;Die Wunde kühlen.\n"
    "Wann?;Wenn das nicht reicht, den Arzt rufen.\n",
    "German, capitals": "FRAGE;ANTWORT\nWas ist das und was wird dann?;HÖCHSTENS ÜBER NACHT\n",
    "French": "question;réponse\nQuelle est la dose pour un enfant ?;À répéter après six heures.\n"
    "Que faire en cas de fièvre ?;Appeler l'infirmière. Le médecin décide.\n",
    "Spanish": "pregunta;respuesta\n¿Cuándo debo tomar la medicación?;Por la mañana.\n",
    "Italian": "domanda;risposta\nQuando è aperto?;Alle 8, perché il medico è in corsia con la "
    "terapia che può essere data.\n",
    "Portuguese": "pergunta;resposta\nQuando devo tomar a medicação?;De manhã, com um copo.\n",
    "Dutch": "vraag;antwoord\nWat is de dosis voor een patiënt?;Het is één tablet, niet meer.\n",
    "Swedish": "fråga;svar\nHur mycket får patienten?;Högst tre gånger om dagen, det är säkert.\n",
    "Danish": "spørgsmål;svar\nHvor meget må man få?;Højst tre gange, og det er ikke på recept.\n",
    "English": "question;answer\nWhat is the name of the clinic?;The Café in the hall, 5 µg.\n",
}


def read(folder: Path, content: bytes) -> Inspection:
    path = folder / "file"
    path.write_bytes(content)
    return inspect(path, ReadAs(), lambda rows: None)


@pytest.mark.parametrize("encoding", ["cp1252", "cp850", "cp437", "mac_roman", "iso8859-15"])
@pytest.mark.parametrize("language", TEXTS)
def test_a_western_text_is_read_in_its_own_encoding(
    language: str, encoding: str, tmp_path: Path
) -> None:
    text = TEXTS[language]
    try:
        content = text.encode(encoding)
    except UnicodeEncodeError:
        pytest.skip("this encoding has not all of its letters")
    found = read(tmp_path, content)
    shown = ";".join(str(cell) for row in found.preview for cell in row.values.values())
    assert shown == ";".join(line for line in text.splitlines()[1:])
    assert found.encoding_is_guess
    assert not found.encoding_is_doubtful
    assert propose(found).is_sure


def test_where_two_encodings_fit_a_person_looks(tmp_path: Path) -> None:
    found = read(tmp_path, "Frage;Antwort\nKönig?;Röhre.\nGrößer?;Länge.\n".encode("cp850"))
    assert found.encoding_is_doubtful
    assert not propose(found).is_sure
    assert "Another encoding fits as well, so please do look." in found.warnings[0]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        (
            "cp1250",
            "pytanie;odpowiedź\nJak się to robi?;To jest łatwe, należy pić wodę i nie z łóżka",
        ),
        ("cp1251", "вопрос;ответ\nСколько раз в день?;Три раза в день после еды, не больше."),
        ("cp1253", "ερώτηση;απάντηση\nΠόσο συχνά;Τρεις φορές την ημέρα μετά το φαγητό."),
        ("cp932", "質問;答え\nどのくらい飲みますか;毎日三回、食後に飲んでください。"),
    ],
)
def test_texts_of_elsewhere_are_not_taken_for_western_ones(
    encoding: str, text: str, tmp_path: Path
) -> None:
    found = read(tmp_path, (text + "\n").encode(encoding))
    assert found.preview[0].values == dict(
        zip(text.splitlines()[0].split(";"), text.splitlines()[1].split(";"), strict=True)
    )


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("iso8859-2", "pytanie;odpowiedź\nJak często?;Pięć mg, żółć i łóżko"),
        ("iso8859-7", "ερώτηση;απάντηση\nΠόσο συχνά;Τρεις φορές την ημέρα"),
        ("iso8859-9", "soru;cevap\nKaç kez?;Günde üç kez, yemekten sonra, ılık suyla"),
    ],
)
def test_a_person_may_choose_the_encodings_of_iso(encoding: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes((text + "\n").encode(encoding))
    found = inspect(path, ReadAs(encoding=encoding), lambda rows: None)
    assert list(found.preview[0].values.values()) == text.splitlines()[1].split(";")
