"""Every status that people can meet has one word, and a dot that the style knows."""

from typing import get_args

import pytest

from app.core.models import JobStatus, ModelStatus, VersionStatus
from app.core.status_words import Dot, of_status


@pytest.mark.parametrize("status", [*JobStatus, *VersionStatus, *ModelStatus])
def test_every_status_has_a_word(status: str) -> None:
    known = of_status(status)
    assert known.word
    assert known.word[0].isupper()
    assert known.dot in get_args(Dot)


def test_a_job_that_is_over_is_called_finished() -> None:
    assert of_status(JobStatus.SUCCEEDED).word == "Finished"
