"""Words for question and answer in the languages of those who write the sheets."""

import pytest

from app.datasets.proposals import propose
from app.datasets.readers.inspections import Inspection

HEADERS = {
    "English": ("Question", "Answer"),
    "German": ("FRAGE", "Antwort:"),
    "French": ("Question", "Réponse"),
    "Spanish": ("Pregunta", "Respuesta"),
    "Italian": ("Domanda", "Risposta"),
    "Portuguese": ("Pergunta", "Resposta"),
    "Dutch": ("Vraag", "Antwoord"),
    "Swedish": ("Fråga", "Svar"),
    "Danish": ("Spørgsmål", "Svar"),
    "Norwegian": ("Spørsmål", "Svar"),
    "Finnish": ("Kysymys", "Vastaus"),
    "Polish": ("Pytanie", "Odpowiedź"),
    "Czech": ("Otázka", "Odpověď"),
    "Romanian": ("Întrebare", "Răspuns"),
    "Hungarian": ("Kérdés", "Válasz"),
    "Turkish": ("Soru", "Yanıt"),
    "Greek": ("Ερώτηση", "Απάντηση"),
    "Russian": ("Вопрос", "Ответ"),
    "Ukrainian": ("Питання", "Відповідь"),
    "Bulgarian": ("Въпрос", "Отговор"),
    "Arabic": ("سؤال", "جواب"),
    "Hebrew": ("שאלה", "תשובה"),
    "Hindi": ("प्रश्न", "उत्तर"),
    "Chinese": ("问题", "回答"),
    "Japanese": ("質問", "回答"),
    "Korean": ("질문", "답변"),
    "Vietnamese": ("Câu hỏi", "Câu trả lời"),
    "Indonesian": ("Pertanyaan", "Jawaban"),
}


@pytest.mark.parametrize("language", HEADERS)
def test_question_and_answer_are_known_in_every_language(language: str) -> None:
    question, answer = HEADERS[language]
    # The answer first: the order of the columns must not be what decides.
    found = Inspection.model_validate(
        {
            "format": "csv",
            "place": "line",
            "columns": [answer, question],
            "num_rows": 1,
            "preview": [{"number": 2, "values": {question: "Some words.", answer: "Some?"}}],
        }
    )
    proposal = propose(found)
    assert proposal.mapping.column_roles == {question: "question", answer: "answer"}
    assert proposal.is_sure


@pytest.mark.parametrize(
    ("value", "role"),
    [
        ([["Hi", "Hello"]], "history"),
        ('[["Hi", "Hello"]]', "history"),
        ("Asthma", "ignore"),
        (["Asthma"], "ignore"),
        ("[NAME] had asthma", "ignore"),
    ],
)
def test_a_history_of_turns_is_told_from_a_patients(value: object, role: str) -> None:
    values = {"instruction": "And now?", "output": "Rest.", "history": value}
    found = Inspection.model_validate(
        {
            "format": "json",
            "place": "row",
            "columns": list(values),
            "num_rows": 2,
            "preview": [
                {"number": 1, "values": values},
                {"number": 2, "values": values | {"history": [] if role == "history" else ""}},
            ],
        }
    )
    proposal = propose(found)
    assert proposal.is_sure
    assert proposal.mapping.column_roles == {
        "instruction": "question", "output": "answer", "history": role
    }  # fmt: skip
