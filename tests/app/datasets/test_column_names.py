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


def found_of(values: dict[str, str]) -> Inspection:
    return Inspection.model_validate(
        {
            "format": "csv",
            "place": "line",
            "columns": list(values),
            "num_rows": 1,
            "preview": [{"number": 2, "values": values}],
        }
    )


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Patientenfrage", "Musterantwort"),
        ("Aufgabenstellung", "Ergebnis"),
        ("Fragestellung", "Lösung"),
        ("Befund", "Zusammenfassung"),
        ("Énoncé", "Correction"),
        ("Consigne", "Corrigé"),
        ("Enunciado", "Solución"),
        ("Report", "Summary"),
    ],
)
def test_names_go_before_lengths(question: str, answer: str) -> None:
    # The question is the longer text, and the answer has the question mark.
    proposal = propose(found_of({answer: "Five mg?", question: "Give the dose for a child. " * 5}))
    assert proposal.mapping.column_roles == {question: "question", answer: "answer"}
    assert not proposal.is_sure
    assert "by its name" in proposal.why.lower() or "by their names" in proposal.why.lower()


def test_a_name_for_what_is_right_is_proposed_beside_a_known_question() -> None:
    question, answer = "Give the dose for a child. " * 5, "Five mg?"
    proposal = propose(found_of({"Musterlösung": answer, "Frage": question}))
    assert proposal.mapping.column_roles == {"Frage": "question", "Musterlösung": "answer"}
    assert not proposal.is_sure


def test_of_names_that_may_mean_answers_the_right_one_is_proposed() -> None:
    # None of the names is known, and the first two end like an answer, too.
    values = {
        "Aufgabenstellung": "Give the dose. " * 5, "Schülerlösung": "Six mg.",
        "Falschantwort": "Nine mg.", "Musterlösung": "Five mg.",
    }  # fmt: skip
    found = propose(found_of(values)).mapping.column_roles
    assert (found["Aufgabenstellung"], found["Musterlösung"]) == ("question", "answer")
    assert {found["Schülerlösung"], found["Falschantwort"]} == {"ignore"}


def test_the_answer_of_a_pupil_is_not_the_one_that_is_learned() -> None:
    values = {"Frage": "Was ist 0?", "Schülerantwort": "pupil", "Musterlösung": "teacher"}
    assert propose(found_of(values)).mapping.column_roles == {
        "Frage": "question", "Schülerantwort": "ignore", "Musterlösung": "answer"
    }  # fmt: skip


def test_what_lengths_alone_say_is_said_to_be_so() -> None:
    proposal = propose(found_of({"Eins": "A longer text of many words.", "Zwei": "Short text"}))
    assert not proposal.is_sure
    assert "since its texts are shorter than those of “Eins”" in proposal.why


@pytest.mark.parametrize(
    ("question", "context", "answer"),
    [
        ("Question", "Context", "Answer"),
        ("Frage", "Kontext", "Antwort"),
        ("Question", "Contexte", "Réponse"),
        ("Pregunta", "Contexto", "Respuesta"),
        ("Domanda", "Contesto", "Risposta"),
        ("Vraag", "Context", "Antwoord"),
    ],
)
def test_a_context_belongs_to_the_question(question: str, context: str, answer: str) -> None:
    proposal = propose(found_of({question: "How much?", context: "A child.", answer: "Five mg."}))
    assert proposal.mapping.column_roles == {
        question: "question", context: "question", answer: "answer"
    }  # fmt: skip
    assert f"“{context}” is added to the question." in proposal.why
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
