"""Of several columns of answers the one with the right ones is proposed, and a person looks."""

import pytest

from app.datasets.proposals import Proposal, propose
from app.datasets.readers.inspections import Inspection


def proposed(columns: list[str], cells: dict[str, str] | None = None) -> Proposal:
    values = {name: f"Some words of {name}, all of them" for name in columns} | (cells or {})
    return propose(
        Inspection.model_validate(
            {
                "format": "csv",
                "place": "line",
                "columns": columns,
                "num_rows": 1,
                "preview": [{"number": 2, "values": values}],
            }
        )
    )


def roles(proposal: Proposal) -> dict[str, str]:
    return {name: role for name, role in proposal.mapping.column_roles.items() if role != "ignore"}


@pytest.mark.parametrize(
    ("columns", "right"),
    [
        (["question", "bad_answer", "good_answer"], "good_answer"),
        (["Question", "Student answer", "Model answer"], "Model answer"),
        (["Question", "Pupil's answer", "Teacher's answer"], "Teacher's answer"),
        (["question", "answer_old", "answer_new"], "answer_new"),
        (["question", "draft_answer", "final_answer"], "final_answer"),
        (["question", "originalAnswer", "correctedAnswer"], "correctedAnswer"),
        (["Frage", "Antwort alt", "Antwort neu"], "Antwort neu"),
        (["Frage", "Schülerantwort", "Musterlösung"], "Musterlösung"),
        (["Question", "Mauvaise réponse", "Bonne réponse"], "Bonne réponse"),
        (["Pregunta", "Respuesta del alumno", "Respuesta correcta"], "Respuesta correcta"),
        (["prompt", "response", "expected"], "expected"),
        (["input", "output", "target"], "target"),
        (["prompt", "completion", "ideal"], "ideal"),
        (["question", "prediction", "ground_truth"], "ground_truth"),
        (["question", "answer", "corrected_answer"], "corrected_answer"),
        (["instruction", "output", "expected_output"], "expected_output"),
        (["question", "chatgpt_answers", "human_answers"], "human_answers"),
    ],
)
@pytest.mark.parametrize("is_turned", [False, True])
def test_the_right_answer_is_proposed_and_a_person_looks(
    columns: list[str], right: str, is_turned: bool
) -> None:
    question, *answers = columns
    proposal = proposed([question, *(answers[::-1] if is_turned else answers)])
    assert roles(proposal) == {question: "question", right: "answer"}
    assert not proposal.is_sure


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Student answer", "By its name, “Student answer” may have first tries"),
        ("answer_old", "please check that they are right"),
        ("draft reply", "By its name, “draft reply” may have first tries"),
        ("predicted_answer", "may have first tries"),
    ],
)
def test_a_first_try_alone_is_for_a_person(name: str, said: str) -> None:
    proposal = proposed(["question", name])
    assert roles(proposal) == {"question": "question", name: "answer"}
    assert said in proposal.why
    assert not proposal.is_sure


@pytest.mark.parametrize("name", ["bad_answer", "rejected response", "Antwort falsch"])
def test_wrong_answers_alone_are_not_proposed(name: str) -> None:
    proposal = proposed(["question", name])
    assert roles(proposal) == {"question": "question"}
    assert f"By its name, “{name}” has wrong answers" in proposal.why
    assert not proposal.is_sure


def test_a_plain_answer_beside_worse_ones_stays_plain() -> None:
    proposal = proposed(["question", "answer", "old_answer"])
    assert roles(proposal) == {"question": "question", "answer": "answer"}
    assert "By its name, “old_answer” has first tries, old answers" in proposal.why
    assert proposal.is_sure


def test_a_reference_beside_what_a_model_said_is_for_a_person() -> None:
    proposal = proposed(["prompt", "response", "reference"])
    assert roles(proposal) == {"prompt": "question", "response": "answer"}
    assert "“reference” may have the right answers" in proposal.why
    assert not proposal.is_sure
    assert proposed(["question", "answer", "reference"]).is_sure


def test_a_verdict_or_a_figure_is_no_better_answer() -> None:
    assert proposed(["question", "answer", "final_answer"], {"final_answer": "42"}).is_sure
    proposal = proposed(["question", "answer", "correct_answer_id"])
    assert roles(proposal) == {"question": "question", "answer": "answer"}
