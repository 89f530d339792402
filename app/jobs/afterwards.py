"""What comes after training: the new adapter answers test questions, in a time said beforehand."""

from app.core import settings
from app.core.sentences import counted
from app.jobs.forecast import DurationRange

# Of the time that training was to take, so much.
_SHARE = 0.2
_LEAST_SECONDS, _MOST_SECONDS = 120.0, 900.0


def evaluation_seconds(planned_seconds: float | None) -> float:
    """Return how long a job's adapter may answer test questions.

    Args:
        planned_seconds: What training was expected to take; None: nobody could say.
    """
    return min(max(_SHARE * (planned_seconds or 0), _LEAST_SECONDS), _MOST_SECONDS)


def sentence(num_test: int, planned_seconds: float | None) -> str:
    """Say what comes after training; empty where nothing does.

    Args:
        num_test: Rows to test on.
        planned_seconds: As for `evaluation_seconds`.
    """
    chosen = settings.get()
    if not chosen.evaluate_after_training or not num_test:
        return ""
    return counted(
        min(num_test, chosen.evaluation_questions),
        "Afterwards it answers 1 test question.",
        "Afterwards it answers up to {n} test questions, about {minutes} min.",
        minutes=round(evaluation_seconds(planned_seconds) / 60),
    )


def with_evaluation(
    duration: DurationRange | None, planned_seconds: float | None
) -> DurationRange | None:
    """Return how long a job keeps its device, its evaluation included; few questions take less."""
    if duration is None or not settings.get().evaluate_after_training:
        return duration
    seconds = evaluation_seconds(planned_seconds)
    return DurationRange(duration.low, duration.usual + seconds, duration.high + seconds)
